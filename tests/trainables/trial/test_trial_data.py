"""What a trial learns from and is tested on, under each way of dividing a dataset, and on another dataset."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.prediction_records import foreign_ids
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared
from fairsweep.datasets.storage.reading import StreamError
from fairsweep.trainables.trial.other_dataset import check_other, recorded_examples
from fairsweep.trainables.trial.state import TrialStateFile
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.trial.trial_data import TrialData

SMILING = Attribute(name="smiling", values=("no", "yes"))
TONE = Attribute(name="tone", values=("light", "dark"))


def write(folder, attributes=(SMILING, TONE), *, split="test", count=60, size=8, first=0, **columns):
    """A second dataset: other images under the ids of the first."""
    rng = np.random.default_rng(5)
    codes = {a.name: rng.integers(0, len(a.values), count).astype(np.int16) for a in attributes}
    examples = pa.table({"id": np.arange(count) * 3 + first, **codes, **columns, "split": [split] * count})
    images = rng.integers(0, 200, (count, size, size, 1), dtype=np.uint8)
    write_prepared(folder, name="other", attributes=list(attributes), examples=examples, images=images)
    return PreparedDataset.open(folder)


@pytest.fixture
def other(tmp_path):
    return write(tmp_path / "other")


@pytest.fixture
def elsewhere(make_config, sgd):
    """Makes the config of a trial that is tested on another dataset."""

    def make(other, **evaluation):
        block = {"dataset": other.path, **evaluation}
        return make_config(sgd | {"epochs": 1}, evaluation=block, test_content=other.info.content_hash)

    return make


def test_a_fold_is_learnt_from_and_tested_on_as_it_says(make_config, sgd, toy, tmp_path):
    folds, hashes = 3, []
    tested = []
    for fold in range(folds):
        config = make_config(
            sgd | {"epochs": 1},
            split={"kind": "folds", "folds": folds, "fold": fold},
            evaluation={"balance": ["tone", "smiling"], "per_cell": 20},
            imbalance={"attribute": "tone", "majority": "light", "share": 0.8, "size": 40},
        )
        folder = Trial(config, tmp_path / str(fold)).run()
        predictions = pq.read_table(folder / "predictions.parquet").to_pandas()
        parts = {split: set(part["id"]) for split, part in predictions.groupby("split")}
        assert not parts["train"] & parts["test"]
        assert not parts["validation"] & parts["test"]
        assert len(parts["test"]) == 80
        tested.append(parts["test"])
        assert read_json(folder / "config.json")["split"]["fold"] == fold
        hashes.append((config.setting, config.trial))
    assert not set.intersection(*tested)
    assert len({setting for setting, _ in hashes}) == folds  # a fold is a setting, as any dimension


def test_the_split_is_part_of_the_identity_and_the_official_one_changes_none(make_config, sgd):
    plain = make_config(sgd)
    assert make_config(sgd, split={"kind": "official"}).trial == plain.trial
    others = [
        make_config(sgd, split=split).trial
        for split in (
            {"kind": "folds", "folds": 3, "fold": 0},
            {"kind": "folds", "folds": 3, "fold": 1},
            {"kind": "folds", "folds": 4, "fold": 0},
            {"kind": "hold_out"},
            {"kind": "hold_out", "test": 0.3},
            {"kind": "rest"},
        )
    ]
    assert len({plain.trial, *others}) == 7
    one, two = (make_config(sgd, split={"kind": "hold_out"}, seeds={"data": s, "train": s}) for s in (0, 1))
    assert one.setting == two.setting


def test_a_hold_out_follows_the_data_seed_alone(make_config, sgd):
    tested = []
    for data, train in ((0, 0), (0, 1), (1, 0)):
        config = make_config(sgd, split={"kind": "hold_out"}, seeds={"data": data, "train": train})
        data_of_trial = TrialData.open(config, FeedChoice())
        assert len(data_of_trial.training) == 480 - 96 - 48
        tested.append(data_of_trial.evaluations["test"].ids.tolist())
        data_of_trial.close()
    assert tested[0] == tested[1] != tested[2]


def test_another_dataset_is_tested_on_under_ids_of_its_own(elsewhere, other, toy, tmp_path):
    config = elsewhere(other)
    folder = Trial(config, tmp_path / "trial").run()
    predictions = pq.read_table(folder / "predictions.parquet").to_pandas()
    test = predictions[predictions["split"] == "test"]
    assert sorted(foreign_ids(test["id"])) == other.ids.tolist()
    assert (test["id"] < 0).all()
    assert (predictions.loc[predictions["split"] != "test", "id"] >= 0).all()
    rows = other.rows_of(foreign_ids(test["id"]))
    assert (other.codes("smiling")[rows] == test["label"]).all()
    # The images are the other dataset's as well.
    data = TrialData.open(config, FeedChoice())
    chosen = data.evaluations["test"].rows
    assert (data.feeds["test"].images(chosen) == other.shard_images(0)[chosen]).all()
    data.close()


def test_the_identity_has_the_other_dataset_by_its_content(elsewhere, make_config, sgd, other, tmp_path):
    one = elsewhere(other)
    copy = write(tmp_path / "copy")
    assert elsewhere(copy).trial == one.trial
    assert elsewhere(copy, part="all").trial != one.trial
    assert make_config(sgd | {"epochs": 1}).trial != one.trial
    assert elsewhere(write(tmp_path / "different", first=1)).trial != one.trial
    with pytest.raises(ValueError, match="test_content must be given"):
        make_config(sgd, test_content="0")


def test_recorded_examples_tell_both_datasets_apart(toy, tmp_path):
    same = write(tmp_path / "users", (SMILING, TONE, Attribute(name="hat", values=("a",))), user=np.arange(60) // 2)
    table = recorded_examples(toy, same)
    assert len(table) == 480 + 60
    ids = table.column("id").to_numpy()
    assert len(set(ids.tolist())) == 540
    assert ids[480:].tolist() == (-1 - same.ids).tolist()
    assert table.column_names == toy.examples().column_names
    assert table.column("tone").to_numpy()[480:].tolist() == same.codes("tone").tolist()
    hats = recorded_examples(same, toy)
    assert hats.column("hat").null_count == 480
    assert hats.column("user").null_count == 480
    twice = recorded_examples(same, same).column("user").to_pylist()
    assert twice[:2] + twice[60:62] == [0, 0, -1, -1]


@pytest.mark.parametrize(
    ("attributes", "fields", "words"),
    [
        ((SMILING,), {}, "but has no attribute 'tone' (it has smiling)"),
        ((SMILING, TONE.model_copy(update={"values": ("dark", "light")})), {}, "[light, dark] in 'toy' and [dark,"),
        ((SMILING.model_copy(update={"values": ("no", "yes", "?")}), TONE), {}, "[no, yes] in 'toy' and [no, yes, ?]"),
        ((SMILING, TONE), {"size": 9}, "one shape, but those of 'toy' are [8, 8, 1] and those of 'other' are [9, 9"),
        ((SMILING, TONE), {"first": -3}, "ids must be at least 0 when another dataset is tested on"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_with_the_difference(toy, tmp_path, attributes, fields, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        check_other(toy, write(tmp_path / "unfit", attributes, **fields), "smiling", ("tone",))
    assert words in str(caught.value)


def test_another_dataset_without_a_test_split_may_be_tested_on_as_a_whole(elsewhere, tmp_path):
    undivided = write(tmp_path / "undivided", split="train")
    with pytest.raises(ValueError, match="no example in its test split: prepare it with one, or write part: all"):
        TrialData.open(elsewhere(undivided), FeedChoice())
    data = TrialData.open(elsewhere(undivided, part="all", balance=["tone"], per_cell=10), FeedChoice())
    assert len(data.evaluations["test"].ids) == 20
    data.close()


def test_a_stream_without_ray_is_refused_with_the_remedy(make_config, sgd, tmp_path, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(StreamError, match=r"needs a running Ray: .*ray.init\(\)"):
        Trial(make_config(sgd), tmp_path, feed=FeedChoice("stream"))
    assert TrialStateFile(tmp_path).read().error.startswith("StreamError")
