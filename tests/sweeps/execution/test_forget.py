"""The command that forgets: trials of a sweep, erasure of what depends on the examples."""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from fairsweep import analysis
from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.file_names import PLACEMENT
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.records.learner_records import read_placement
from fairsweep.analysis.records.prediction_records import read_examples, read_predictions, write_examples
from fairsweep.analysis.records.training_records import read_training
from fairsweep.datasets.feeds.machine_copy import cache_root
from fairsweep.datasets.preparation.erasure import next_version, write_without
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared
from fairsweep.sweeps.copies.mirror import Mirror
from fairsweep.sweeps.execution.erasing import pixels_of
from fairsweep.sweeps.execution.forget import forget_ids
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.store.trace_search import TraceSearch
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.trial.forgetting import forget
from fairsweep.trainables.trial.trial import Trial

LARGE = 10**8
"""Ids from here on are searched for in every file, whatever its format."""


@pytest.fixture
def output(mapping, toy_path, tmp_path):
    """A sweep's output folder with a trial that can forget, one that cannot, and a dataset of its own."""
    toy = PreparedDataset.open(toy_path)
    examples = toy.examples().set_column(0, "id", pa.array(LARGE + 7919 * toy.ids))
    # Pixels of its own: other tests' copies of the toy lie in the cache that is searched.
    images = 255 - np.concatenate([toy.shard_images(number) for number in range(len(toy.info.shards))])
    attributes = toy.info.attributes
    write_prepared(tmp_path / "data", name="toy", attributes=attributes, examples=examples, images=images)
    mapping["dataset"]["path"] = str(tmp_path / "data")
    mapping["imbalance"]["share"] = 0.5
    inner = {"kind": "sgd", "batch_size": 16}
    mapping["learners"] = [
        {"name": "forgetful", "kind": "sisa", "shards": 2, "slices": 2, "epochs": 1, "inner": inner},
        {"name": "plain", "kind": "sgd", "epochs": 1},
    ]
    mapping["seeds"] = 1
    plan = check_sweep(Sweep.from_mapping(mapping))
    out = tmp_path / "out"
    for trial in plan.trials:
        Trial(trial.config, out / "trials" / trial.folder_name).run()
    write_examples(out / "examples.parquet", plan.dataset.examples())
    return out


def folder_of(output, name):
    return next((output / "trials").glob(f"{name}*"))


def trained_on(output):
    return read_placement(folder_of(output, "forgetful") / PLACEMENT).column("id").to_numpy()


def test_a_sweep_forgets_where_it_can_and_says_what_it_cost(output, tmp_path):
    ids = trained_on(output)[[2, 9]]
    (tmp_path / "ids.csv").write_text("id\n" + "\n".join(map(str, ids)) + "\n")
    said = []
    done = forget_ids(output, tmp_path / "ids.csv", say=said.append)
    assert [d.served.deleted for d in done.forgotten] == [2]
    assert "forgot 2" in said[0]
    assert "% of a full retraining" in said[0]
    again = forget_ids(folder_of(output, "forgetful"), tmp_path / "ids.csv", say=said.append)
    assert again.forgotten[0].served is None
    assert "nothing to do" in said[1]


def test_unknown_ids_and_trials_that_cannot_forget_are_refused(output, tmp_path):
    (tmp_path / "ids").write_text("1\n2\n")
    with pytest.raises(SweepError, match="1, 2"):
        forget_ids(output, tmp_path / "ids")
    with pytest.raises(SweepError, match="1, 2"):
        forget_ids(folder_of(output, "forgetful"), tmp_path / "ids")
    with pytest.raises(SweepError, match="trained by 'sgd'"):
        forget_ids(folder_of(output, "plain"), tmp_path / "ids")
    with pytest.raises(SweepError, match="folder of a trial or of a sweep"):
        forget_ids(tmp_path, tmp_path / "ids")


def test_erasure_leaves_no_trace_and_names_who_still_has_one(output, tmp_path):
    ids = trained_on(output)[[2, 9, 30]]
    trial = folder_of(output, "forgetful")
    (tmp_path / "ids").write_text("\n".join(map(str, ids)))
    former = PreparedDataset.open(tmp_path / "data")
    assert (cache_root() / "resident" / f"{former.info.content_hash}.npy").exists()
    erased = forget_ids(output, tmp_path / "ids", erase=True).erasure
    assert erased.dataset == tmp_path / "data-v2"
    now = PreparedDataset.open(erased.dataset)
    assert not np.isin(ids, now.ids).any()
    assert len(now) == len(former) - 3
    assert not (cache_root() / "resident" / f"{former.info.content_hash}.npy").exists()
    assert [name.partition("_")[0] for name in erased.others] == ["plain"]
    assert not np.isin(ids, read_examples(output / "examples.parquet").column("id").to_numpy()).any()
    assert not np.isin(ids, read_predictions(trial / "predictions.parquet").column("id").to_numpy()).any()
    placed = read_placement(trial / PLACEMENT).to_pandas()
    assert not np.isin(ids, placed["id"]).any()
    assert (placed["deleted"] == (placed["id"] < 0)).all()
    assert not (trial / "requests.key").exists()
    assert read_json(trial / "erased.json")["dataset"]["content_hash"] == now.info.content_hash
    assert erased.traces.found == {}
    assert erased.traces.files > 20


def test_nothing_that_is_left_tells_an_adversary_who_was_erased(output, tmp_path):
    """Who knows every id that may have been erased, and tries them; and what models told that saw the examples."""
    trial, ids = folder_of(output, "forgetful"), trained_on(output)[[2, 9, 30]]
    everybody = np.sort(trained_on(output))
    before = read_json(trial / "data.json")
    for name in ("report.html", ".analysis-cache.arrow", "tracking/files/metrics.csv"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(f"who: {ids[0]}")
    search = TraceSearch(ids, pixels_of(PreparedDataset.open(tmp_path / "data"), ids), before["hashes"].values())
    found = search.search([output, tmp_path / "data"]).found
    assert {"placement.parquet", "predictions.parquet", "examples.parquet", "data.json", "report.html"} <= {
        path.name for path in found
    }
    assert any("pixels" in what for what in found.values())
    forget_ids(output, ids.tolist(), erase=True)
    assert search.search([output, tmp_path / "data-v2"]).found == {}
    left = np.setdiff1d(everybody, ids)
    kept = [path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()]
    for candidates in (everybody, np.append(left, ids[0]), ids):
        guess = hashlib.blake2b(np.sort(candidates).astype("<i8").tobytes(), digest_size=16)
        assert not any(guess.hexdigest().encode() in content or guess.digest() in content for content in kept)
    after = read_json(trial / "data.json")
    assert after["size"] == before["size"] - 3 == sum(row["count"] for row in after["counts"])
    (last,) = set(read_cells(trial / "cells.parquet").table.column("iteration").to_pylist())
    assert last == read_json(trial / "state.json")["iteration"] == 3
    assert len(read_training(trial / "training.parquet")) == 0
    others = [read_json(folder / "data.json")["hashes"] for folder in (trial, folder_of(output, "plain"))]
    assert others[0] == others[1]  # trials that have their sets in common are still known by them
    assert others[0] != before["hashes"]
    results = analysis.load(output)
    assert results.rates(["accuracy"], by=["tone"])["n"].min() > 0
    assert set(results.training()["trial"]) == {folder_of(output, "plain").name}


def test_a_mirror_is_brought_up_to_what_was_erased_and_searched_too(output, tmp_path):
    ids = trained_on(output)[[2, 9]]
    dataset = PreparedDataset.open(tmp_path / "data")
    where = {"name": "toy", "path": str(dataset.path), "content_hash": dataset.info.content_hash}
    sweep = {"mirror": {"to": str(tmp_path / "mirror")}, "tracking": {"wandb": True}}
    content = {"format_version": 1, "name": "toy", "trials": 2, "dataset": where, "sweep": sweep}
    write_json(output / "sweep.json", content)
    assert Mirror(output, str(tmp_path / "mirror"), print).copy()
    search = TraceSearch(ids)
    assert search.search([tmp_path / "mirror"]).found
    (tmp_path / "ids").write_text("\n".join(map(str, ids)))
    program = "from fairsweep.sweeps.cli.app import main; main()"
    command = [sys.executable, "-c", program, "forget", str(output), "--ids", str(tmp_path / "ids"), "--erase"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.splitlines()
    assert search.search([tmp_path / "mirror"]).found == {}
    assert f"brought the mirror {tmp_path / 'mirror'} up to date" in said
    assert any("no trace was found" in line and str(tmp_path / "mirror") in line for line in said)
    assert any(line.startswith("not searched: what was sent to a server of wandb") for line in said)


def test_a_trial_goes_on_forgetting_after_an_erasure(output, tmp_path):
    ids = trained_on(output)
    (tmp_path / "ids").write_text("\n".join(map(str, ids[[2, 9, 30]])))
    other = shutil.copytree(folder_of(output, "forgetful"), tmp_path / "other")
    forget_ids(output, tmp_path / "ids")
    forget_ids(output, tmp_path / "ids", erase=True)
    kept = shutil.move(tmp_path / "data", tmp_path / "kept")  # for this trial the images are really gone
    trial = folder_of(output, "forgetful")
    forget(trial, ids[[50]])
    assert read_json(trial / "cost.json")["requests"][-1]["deleted"] == 1
    shutil.copytree(kept, tmp_path / "data")
    forget(other, ids[[2, 9, 30, 50]])
    expected = torch.load(other / "weights.pt", weights_only=True)
    for name, value in torch.load(trial / "weights.pt", weights_only=True).items():
        assert torch.equal(value, expected[name]), name


def test_a_new_version_keeps_everything_else(toy, tmp_path):
    gone = toy.ids[[0, 5, 700]]
    info = write_without(toy, gone, tmp_path / "toy-v2")
    now = PreparedDataset.open(tmp_path / "toy-v2")
    kept = ~np.isin(toy.ids, gone)
    np.testing.assert_array_equal(now.ids, toy.ids[kept])
    np.testing.assert_array_equal(now.codes("tone"), toy.codes("tone")[kept])
    images = np.concatenate([toy.shard_images(n) for n in range(len(toy.info.shards))])
    after = np.concatenate([now.shard_images(n) for n in range(len(now.info.shards))])
    np.testing.assert_array_equal(after, images[kept])
    assert info.version.endswith("3 erased")
    assert next_version(tmp_path / "toy") == tmp_path / "toy-v3"
    with pytest.raises(ValueError, match="not in dataset"):
        write_without(toy, np.array([1]), tmp_path / "x")
