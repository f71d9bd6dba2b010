import io
import json
import shutil
import stat
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.files import RecordError, read_json
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.prepared import write_prepared
from fairsweep.trainables.learning.evaluation import DivergedError
from fairsweep.trainables.trial import trial as trial_module
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.state import StaleAttemptError, TrialStateFile
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.trial.trial_config import DatasetReference
from fairsweep.trainables.trial.trial_secret import trial_secret

EVERY = CheckpointPolicy(seconds=0)  # a checkpoint after each iteration
IMBALANCE = {"attribute": "tone", "majority": "light", "share": 0.8, "size": 60}
FILES = {
    "cells.parquet",
    "config.json",
    "data.json",
    "predictions.parquet",
    "privacy.json",
    "state.json",
    "training.parquet",
    "weights.pt",
    ".lock",
}


def content(folder):
    """Everything that a finished trial recorded, times aside."""
    training = pq.read_table(folder / "training.parquet").drop_columns("seconds")
    weights = torch.load(folder / "weights.pt", weights_only=True)
    return (
        read_cells(folder / "cells.parquet").table.to_pylist(),
        pq.read_table(folder / "predictions.parquet").to_pylist(),
        json.dumps(training.to_pylist()),  # text: NaN equals NaN there
        {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
        {name: value for name, value in read_json(folder / "data.json").items() if name != "hashes"},
        (folder / "privacy.json").read_text() if (folder / "privacy.json").exists() else None,
    )


@pytest.fixture(scope="module")
def private(make_config, dpsgd):
    return make_config(dpsgd, imbalance=IMBALANCE, evaluation={"balance": ["tone", "smiling"]})


@pytest.fixture(scope="module")
def finished(private, tmp_path_factory):
    return Trial(private, tmp_path_factory.mktemp("trial")).run()


def test_a_finished_trial_leaves_the_records_and_nothing_else(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    state = TrialStateFile(finished).read()
    assert (state.state, state.iteration, state.iterations, state.error) == ("done", 3, 3, None)
    assert state.metrics["epsilon"] == read_json(finished / "privacy.json")["epsilon"]["pld"]
    assert state.examples == sum(pq.read_table(finished / "training.parquet")["examples"].to_pylist()) > 0
    assert state.host_peak_bytes > 2**24
    assert state.device_peak_bytes is None


def test_cells_agree_with_predictions(finished, toy):
    cells = read_cells(finished / "cells.parquet").table.to_pandas()
    predictions = pq.read_table(finished / "predictions.parquet").to_pandas()
    assert sorted(cells["iteration"].unique()) == [1, 2, 3]
    for split in ("validation", "test"):
        shown = predictions[(predictions["split"] == split) & (predictions["iteration"] == 3)]
        tone = toy.codes("tone")[toy.rows_of(shown["id"].to_numpy())]
        counted = shown.assign(tone=tone).groupby(["tone", "label", "prediction"]).size()
        recorded = cells[(cells["split"] == split) & (cells["iteration"] == 3)]
        assert counted.to_dict() == recorded.set_index(["tone", "label", "prediction"])["count"].to_dict()
        best = np.stack(shown["log_probabilities"].to_list()).argmax(axis=1)
        assert (best == shown["prediction"]).all()
        assert (toy.codes("smiling")[toy.rows_of(shown["id"].to_numpy())] == shown["label"]).all()


def test_log_probabilities_are_normalised(finished):
    values = np.stack(pq.read_table(finished / "predictions.parquet")["log_probabilities"].to_pylist())
    np.testing.assert_allclose(np.exp(values).sum(axis=1), 1, atol=1e-5)


def test_predictions_hold_the_last_and_the_best_evaluation(finished):
    predictions = pq.read_table(finished / "predictions.parquet").to_pandas()
    cells = read_cells(finished / "cells.parquet").table.to_pandas()
    validation = cells[cells["split"] == "validation"]
    right = validation[validation["label"] == validation["prediction"]].groupby("iteration")["count"].sum()
    best = int(right.idxmax())  # the first of equals
    assert set(predictions["iteration"]) == {best, 3}
    for _, part in predictions.groupby("iteration"):
        assert set(part["split"]) == {"train", "validation", "test"}


def test_data_json_says_what_was_trained_on(finished, toy):
    data = read_json(finished / "data.json")
    assert data["size"] == sum(row["count"] for row in data["counts"]) == 60
    assert {(row["tone"], row["label"]): row["count"] for row in data["counts"]} == {
        (0, 0): 24,
        (0, 1): 24,
        (1, 0): 6,
        (1, 1): 6,
    }
    assert data["minority"] == {"attribute": "tone", "values": ["dark"], "count": 12}
    assert "hashes" not in data  # they compare the trials of one sweep, under its key


def test_evaluation_sets_are_the_same_at_every_level_and_seed(make_config, sgd, tmp_path):
    hashes = []
    for number, (share, seed) in enumerate([(0.5, 0), (0.9, 0), (0.9, 3)]):
        config = make_config(
            sgd | {"epochs": 1}, imbalance=IMBALANCE | {"share": share}, seeds={"data": seed, "train": seed}
        )
        hashes.append(read_json(Trial(config, tmp_path / "trials" / str(number)).run() / "data.json")["hashes"])
    assert len({h["training"] for h in hashes}) == 3
    assert len({h["validation"] for h in hashes}) == len({h["test"] for h in hashes}) == 1


@pytest.mark.parametrize("kind", ["sgd", "dpsgd"])
@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_restored_trial_equals_an_uninterrupted_one_bit_for_bit(kind, stop_after, make_config, sgd, dpsgd, tmp_path):
    config = make_config({"sgd": sgd, "dpsgd": dpsgd}[kind], imbalance=IMBALANCE)
    whole = Trial(config, tmp_path / "whole").run()
    stopped = Trial(config, tmp_path / "stopped", checkpoints=EVERY)
    for _ in range(stop_after):
        stopped.iterate()
    stopped.close()
    resumed = Trial(config, tmp_path / "stopped")
    assert resumed.iteration == stop_after
    resumed.run()
    one, other = (TrialStateFile(tmp_path / name).read() for name in ("whole", "stopped"))
    assert one.examples == other.examples
    assert content(tmp_path / "stopped") == content(whole)


class Killed(BaseException):
    """Stands for a kill: nothing after it runs, no handler of errors sees it."""


@pytest.mark.parametrize("moment", range(1, 40))
def test_a_kill_at_any_write_changes_nothing(moment, private, finished, tmp_path, monkeypatch):
    """The process ends before the n-th change on disk; what is resumed ends with the same records."""
    from pathlib import Path

    changes = {"left": moment}

    def counted(original):
        def change(*arguments, **keywords):
            changes["left"] -= 1
            if changes["left"] == 0:
                raise Killed
            return original(*arguments, **keywords)

        return change

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        try:
            Trial(private, tmp_path, checkpoints=EVERY).run()
        except Killed:
            pass
        else:
            assert changes["left"] > 0
    if TrialStateFile(tmp_path).read() is None or TrialStateFile(tmp_path).read().state != "done":
        Trial(private, tmp_path).run()
    trial_module.clean_up(tmp_path)
    assert content(tmp_path) == content(finished)
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".tmp"} == FILES


def test_there_is_no_generator_state_in_a_checkpoint(private, tmp_path):
    trial = Trial(private, tmp_path, checkpoints=EVERY)
    trial.iterate()
    path = next((tmp_path / "checkpoints").glob("*.pt"))
    state = torch.load(path, weights_only=True)
    numpy_state = np.random.MT19937(0).state["state"]["key"].nbytes
    sizes = {torch.get_rng_state().numel(), numpy_state, 16}

    def walk(value, where):
        assert "rng" not in where.lower()
        assert "generator" not in where.lower()
        assert "secret" not in where.lower()
        if isinstance(value, torch.Tensor):
            assert value.dtype != torch.uint8 or value.numel() not in sizes, where
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{where}.{key}")
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                walk(item, f"{where}[{index}]")

    walk(state, "")
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        raw = b"".join(archive.read(name) for name in archive.namelist())
    assert torch.get_rng_state().numpy().tobytes()[:64] not in raw
    for word in (b"mt19937", b"philox", b"MT19937", b"Philox"):
        assert word not in raw


def test_a_trial_neither_reads_nor_changes_the_global_generators(private, finished, tmp_path):
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002 - the global generator is what is watched
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert content(Trial(private, tmp_path).run()) == content(finished)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_a_checkpoint_without_its_records_is_not_used(private, finished, tmp_path):
    trial = Trial(private, tmp_path, checkpoints=EVERY)
    trial.iterate()
    trial.iterate()
    (tmp_path / "cells.parquet").unlink()
    resumed = Trial(private, tmp_path)
    assert resumed.iteration == 0
    assert content(resumed.run()) == content(finished)


def test_checkpoints_follow_the_policy(private, tmp_path):
    trial = Trial(private, tmp_path, checkpoints=CheckpointPolicy(every=2, seconds=0, keep=1, keep_final_weights=False))
    trial.iterate()
    assert not (tmp_path / "checkpoints").exists()
    trial.iterate()
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.pt")] == ["000002.pt"]
    trial.run()
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "weights.pt").exists()


def test_short_iterations_are_checkpointed_together(private, finished, tmp_path, monkeypatch):
    now = {"seconds": 0.0}
    monkeypatch.setattr(trial_module.time, "monotonic", lambda: now["seconds"])
    trial = Trial(private, tmp_path, checkpoints=CheckpointPolicy(seconds=2.0))
    trial.iterate()
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "cells.parquet").exists()
    now["seconds"] += 2.0
    trial.iterate()
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.pt")] == ["000002.pt"]
    assert set(read_cells(tmp_path / "cells.parquet").table["iteration"].to_pylist()) == {1, 2}
    assert TrialStateFile(tmp_path).read().iteration == 2
    trial.run()
    assert content(tmp_path) == content(finished)


def test_a_trial_that_is_done_is_not_done_again(private, finished):
    with pytest.raises(ValueError, match="is done"):
        Trial(private, finished)


def test_a_superseded_worker_writes_nothing_more(private, tmp_path):
    old = Trial(private, tmp_path, checkpoints=EVERY)
    old.iterate()
    TrialStateFile(tmp_path).queue(private.trial)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(StaleAttemptError):
        old.run()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_diverged_trial_fails_with_its_cause(make_config, sgd, tmp_path):
    config = make_config(sgd | {"optimizer": {"name": "sgd", "lr": 1e30, "weight_decay": 1e10}})
    with pytest.raises(DivergedError, match="lower the learning rate"):
        Trial(config, tmp_path).run()
    state = TrialStateFile(tmp_path).read()
    assert state.state == "failed"
    assert state.error.startswith("DivergedError")
    assert "Traceback" in state.traceback


def test_what_a_trial_did_before_it_diverged_is_kept(make_config, sgd, tmp_path):
    trial = Trial(make_config(sgd), tmp_path)
    trial.iterate()
    trial._learner._network.model[-1].weight.data.fill_(float("nan"))
    with pytest.raises(DivergedError):
        trial.iterate()
    assert set(read_cells(tmp_path / "cells.parquet").table["iteration"].to_pylist()) == {1}


def test_release_mode_leaves_out_what_is_private_and_erases_its_secret(make_config, dpsgd, tmp_path):
    config = make_config(dpsgd, mode="release")
    trial = Trial(config, tmp_path, checkpoints=EVERY)
    secret = tmp_path / "secret.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    first = secret.read_bytes()
    metrics = trial.iterate()
    assert metrics["loss"] is None
    trial.close()
    resumed = Trial(config, tmp_path)
    assert secret.read_bytes() == first
    resumed.run()
    assert not secret.exists()
    training = pq.read_table(tmp_path / "training.parquet").to_pylist()
    expected = read_json(tmp_path / "privacy.json")["population"]
    assert all(row["loss"] is row["seconds"] is row["diagnostics"] is None for row in training)
    assert read_json(tmp_path / "data.json")["counts"] is None
    state = TrialStateFile(tmp_path).read()
    assert (state.timed, state.seconds, state.updated, state.metrics["seconds"]) == (False, None, None, None)
    assert state.host_peak_bytes is state.device_peak_bytes is None
    assert abs(sum(row["examples"] for row in training) - 3 * expected) < expected / 2
    assert "train" not in set(pq.read_table(tmp_path / "predictions.parquet")["split"].to_pylist())
    assert first.hex() not in " ".join(p.read_bytes().hex() for p in tmp_path.rglob("*") if p.is_file())
    Trial(config, tmp_path / "again")
    assert (tmp_path / "again" / "secret.key").read_bytes() != first


def secret_of(config, folder):
    return trial_secret(folder, mode=config.mode, key=config.key, trial=config.trial)


def test_no_flipped_bit_of_a_secret_is_silent(make_config, dpsgd, tmp_path):
    config = make_config(dpsgd, mode="release")
    Trial(config, tmp_path, checkpoints=EVERY).close()
    path = tmp_path / "secret.key"
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        path.write_bytes((int.from_bytes(whole) ^ 1 << bit).to_bytes(len(whole)))
        with pytest.raises(RecordError, match=r"secret\.key is damaged.*delete it and resume the sweep"):
            secret_of(config, tmp_path)
    with pytest.raises(RecordError, match=r"secret\.key is damaged"):
        Trial(config, tmp_path)
    path.write_bytes(whole[:32])  # as earlier versions wrote it
    assert secret_of(config, tmp_path) == whole[:32]


def test_no_two_trials_share_a_secret(make_config, dpsgd, tmp_path):
    variants = [dpsgd, dpsgd | {"noise_multiplier": 2.0}, dpsgd | {"noise_multiplier": 0}]
    configs = [make_config(learner, seeds={"data": s, "train": s}) for learner in variants for s in range(3)]
    configs += [make_config(dpsgd, key=1)]
    assert len({secret_of(config, tmp_path) for config in configs}) == len(configs)
    assert secret_of(configs[0], tmp_path) == secret_of(configs[0], tmp_path / "elsewhere")


def test_a_changed_dataset_is_refused(make_config, sgd, toy, tmp_path):
    reference = make_config(sgd).dataset
    other = DatasetReference(**(reference.model_dump() | {"content_hash": "0" * 40}))
    with pytest.raises(DatasetError, match="changed since"):
        Trial(make_config(sgd, dataset=other), tmp_path)
    assert TrialStateFile(tmp_path).read().state == "failed"


def test_a_dataset_prepared_anew_in_place_is_seen(make_config, sgd, toy, tmp_path):
    images = np.zeros((len(toy), 8, 8, 1), np.uint8)
    folder = tmp_path / "data"
    write_prepared(folder, name="toy", attributes=list(toy.info.attributes), examples=toy.examples(), images=images)
    reference = make_config(sgd).dataset.model_dump() | {"path": folder}
    with pytest.raises(DatasetError, match="changed since"):
        Trial(make_config(sgd, dataset=reference), tmp_path / "trial")


@pytest.mark.parametrize(
    ("file", "goes_on"),
    [
        ("checkpoints/000002.pt", 1),
        ("checkpoints/000002.json", 1),
        ("cells.parquet", 0),
        ("training.parquet", 0),
        ("config.json", 2),
        ("data.json", 2),
    ],
)
def test_a_resume_goes_back_to_what_is_whole_and_says_so(private, finished, tmp_path, file, goes_on):
    keep = CheckpointPolicy(seconds=0, keep=2)
    trial = Trial(private, tmp_path, checkpoints=keep)
    for _ in range(2):
        trial.iterate()
    trial.close()
    whole = bytearray((tmp_path / file).read_bytes())
    whole[len(whole) // 2] ^= 4
    (tmp_path / file).write_bytes(whole)
    resumed = Trial(private, tmp_path, checkpoints=keep)
    assert resumed.iteration == goes_on
    recovered = TrialStateFile(tmp_path).read().recovered
    if goes_on == 2:
        assert recovered is None
    else:
        damaged = file if "/" not in file else "checkpoints/000002.pt"
        assert recovered == f"damaged {damaged}: went on from iteration {goes_on}"
    resumed.run()
    assert content(tmp_path) == content(finished)


def test_foreign_files_beside_checkpoints_neither_fail_a_trial_nor_are_read(private, finished, tmp_path):
    trial = Trial(private, tmp_path, checkpoints=EVERY)
    trial.iterate()
    for name in (".DS_Store", ".nfs00000001", "desktop.ini", "000003 (1).pt", "000003 (1).json", "x.json"):
        (tmp_path / "checkpoints" / name).write_text("x")
    for folder in (tmp_path, tmp_path / "checkpoints"):
        (folder / f".weights.pt.{'0' * 32}.tmp").write_text("half")
    trial.close()
    Trial(private, tmp_path, checkpoints=EVERY).run()
    assert content(tmp_path) == content(finished)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_release_that_begins_anew_under_another_secret_is_charged_for_both(make_config, dpsgd, tmp_path):
    """Secret and checkpoints are lost; what was trained may be known to somebody, and the new noise is fresh."""
    config = make_config(dpsgd, mode="release")
    Trial(config, tmp_path / "whole").run()
    for name, gone in (("secret", ()), ("both", ("checkpoints",))):
        begun = Trial(config, tmp_path / name)
        begun.iterate()
        begun.close()
        (tmp_path / name / "secret.key").unlink()
        for folder in gone:
            shutil.rmtree(tmp_path / name / folder, ignore_errors=True)
        Trial(config, tmp_path / name).run()
        once, twice = (read_json(tmp_path / folder / "privacy.json") for folder in ("whole", name))
        assert twice["epsilon"]["pld"] > once["epsilon"]["pld"]
        assert "1 earlier start of this training, whose secret is lost, is charged" in twice["assumptions"][-1]
        assert twice["steps"] == once["steps"]
        assert len(read_json(tmp_path / name / "state.json")["secrets"]) == 2


def test_a_trial_that_is_set_aside_keeps_the_count_of_its_secrets(make_config, dpsgd, tmp_path):
    Trial(make_config(dpsgd, mode="release"), tmp_path / "trial").close()
    state = tmp_path / "trial" / "state.json"
    (known,) = read_json(state)["secrets"]
    state.write_bytes(state.read_bytes().replace(b'"attempt"', b'"attempd"'))
    salvaged = TrialStateFile(tmp_path / "trial").salvaged("hash")
    assert set(salvaged.secrets) == {known}
    assert TrialStateFile(tmp_path / "anew").queue("hash", salvaged).secrets == salvaged.secrets
