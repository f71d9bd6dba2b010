"""Sweeps over folds, hold-outs and another dataset, from the file to the report."""

import numpy as np
import pyarrow as pa
import pytest

from fairsweep import analysis
from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.prediction_records import read_examples
from fairsweep.analysis.report.report_content import collect
from fairsweep.datasets.storage.prepared import write_prepared
from fairsweep.sweeps.copies.resuming import resume_sweep
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

ONE = [{"name": "plain", "kind": "sgd", "epochs": 1, "batch_size": 32}]


@pytest.fixture
def small(mapping):
    return mapping | {"learners": ONE, "seeds": 1, "imbalance": None, "resources": {"max_concurrent": 1}}


@pytest.fixture(scope="module")
def other_path(toy, tmp_path_factory):
    """The toy dataset with its images upside down, under the same ids."""
    images = np.concatenate([toy.shard_images(number) for number in range(len(toy.info.shards))])[:, ::-1]
    folder = tmp_path_factory.mktemp("other") / "other"
    return write_prepared(
        folder, name="other", attributes=list(toy.info.attributes), examples=toy.examples(), images=images.copy()
    )


def test_folds_are_a_dimension_and_the_report_says_what_they_share(small, mapping, tmp_path, toy, ray_session):
    small["split"] = {"kind": "folds", "folds": 2}
    small["learners"] = [mapping["learners"][0] | {"epochs": 1}, mapping["learners"][1]]
    results = Sweep.from_mapping(small).run(quiet=True)
    assert sorted(results.trials["series"]) == [f"{name}, fold={k}" for name in ("matched", "private") for k in (0, 1)]
    ids = results.predictions().to_pandas().query("split == 'test'").groupby("trial")["id"].agg(set)
    tested = [set(part) for name, part in sorted(ids.items()) if name.startswith("private")]
    assert not tested[0] & tested[1]
    assert tested[0] | tested[1] == set(toy.ids.tolist())
    # Each is compared with the twin of its own fold, image by image: the interval knows that both saw the same ones.
    difference = results.frame(["accuracy"], by="tone", baseline="twin")
    assert set(difference["trial"]) == {name for name in ids.index if name.startswith("private")}
    assert set(difference["interval"]) == {"paired"}
    content = collect(results)
    assert "the held-out images of one fold train the others" in " ".join(content.findings.caveats)
    assert content.findings.test_images.startswith("Test images of one trial")
    assert {path.name.rsplit("-", 1)[0] for path in (tmp_path / "out" / "trials").iterdir()} == {
        f"{name}_fold{k}_s0" for name in ("matched", "private") for k in (0, 1)
    }


def test_another_dataset_is_tested_on_and_joined_by_id(small, other_path, tmp_path, monkeypatch, ray_session):
    monkeypatch.chdir(other_path.parent)
    small["evaluation"] = {"dataset": "other"}
    Sweep.from_mapping(small).run(quiet=True)
    out = tmp_path / "out"
    stored = read_json(out / "sweep.json")["dataset"]["evaluation"]
    assert (stored["name"], stored["path"]) == ("other", str(other_path))
    results = analysis.load(out)
    examples = read_examples(out / "examples.parquet").to_pandas().set_index("id")
    assert examples.index.is_unique
    test = results.predictions().to_pandas().query("split == 'test'")
    joined = examples.loc[test["id"]]
    assert (test["id"] < 0).all()
    assert (joined["smiling"].to_numpy() == test["label"].to_numpy()).all()
    assert "Models were trained on toy and tested on another data set, other." in collect(results).findings.caveats
    # It resumes from its folder alone, from elsewhere, and the folder takes no sweep with another test set.
    monkeypatch.chdir(tmp_path)
    sweep, _ = resume_sweep(out)
    run_sweep(sweep, quiet=True)
    with pytest.raises(SweepError, match="holds results on another dataset"):
        Sweep.from_mapping(small | {"evaluation": {}}).run(quiet=True)


def refused(mapping, **fields):
    with pytest.raises(SweepError) as caught:
        check_sweep(Sweep.from_mapping(mapping | fields))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"kind": "folds"}, "split: folds is required"),
        ({"kind": "folds", "folds": 3, "fold": {"grid": [0, 3]}}, "fold must be in [0, 3), but got fold=3"),
        ({"kind": "fold"}, "split.kind: there is no split of kind 'fold': did you mean 'folds'?"),
        ({"folds": 3}, "a split needs a kind (official, folds, hold_out, rest)"),
        ({"kind": "hold_out", "tests": 0.2}, "split.tests: unknown key 'tests': did you mean 'test'?"),
        ({"kind": "hold_out", "stratify": ["tine"]}, "did you mean 'tone'?"),
        ({"kind": "rest"}, "evaluation: {balance: [...], per_cell: 9}"),
    ],
)
def test_a_wrong_split_is_refused_with_its_place(small, split, words):
    assert words in refused(small, split=split)


def test_a_set_of_one_label_is_refused(small):
    keep = {"attribute": "smiling", "keep": {"yes": 0}}
    message = refused(small, imbalance=keep)
    assert message.startswith("imbalance: the training set must have examples of at least two values of the label")
    assert "smiling = no" in message
    one = {"attribute": "smiling", "majority": "yes", "share": 1.0, "size": 50}
    assert "but all 50 have smiling = yes" in refused(small, imbalance=one)


def test_a_dataset_with_nothing_to_test_on_is_refused_with_the_remedy(small, toy, tmp_path):
    folder = tmp_path / "undivided"
    images = np.concatenate([toy.shard_images(number) for number in range(len(toy.info.shards))])
    examples = toy.examples().to_pandas().assign(split="train")
    write_prepared(
        folder,
        name="undivided",
        attributes=list(toy.info.attributes),
        examples=pa.Table.from_pandas(examples, preserve_index=False),
        images=images,
    )
    small["dataset"]["path"] = str(folder)
    assert "split: {kind: hold_out}" in refused(small)
    for split in ({"kind": "hold_out"}, {"kind": "folds", "folds": 5}):
        plan = check_sweep(Sweep.from_mapping(small | {"split": split}))
        assert len(plan.trials) == (5 if split["kind"] == "folds" else 1)
    balanced = {"balance": ["tone", "smiling"], "per_cell": 9, "extra_random": 63}
    plan = check_sweep(Sweep.from_mapping(small | {"split": {"kind": "rest"}, "evaluation": balanced}))
    assert set(plan.sizes.values()) == {960 - 99 - round(0.1 * (960 - 99))}
    assert plan.evaluated == 99 + 86


def test_every_fold_is_meant_where_none_is_named(small, toy):
    named = small | {"split": {"kind": "folds", "folds": 3, "fold": {"grid": [0, 1, 2]}}}
    unnamed = small | {"split": {"kind": "folds", "folds": 3}}
    one, two = ([t.trial for t in expand(Sweep.from_mapping(content), toy)] for content in (named, unnamed))
    assert one == two
    assert len(one) == 3
