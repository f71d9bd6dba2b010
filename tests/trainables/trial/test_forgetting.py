"""Forgetting on a trial that has ended: exact, all or nothing, one at a time, and logged."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from filelock import FileLock

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.file_names import COST, PLACEMENT
from fairsweep.analysis.records.files import RecordError, read_json
from fairsweep.analysis.records.learner_records import read_placement
from fairsweep.analysis.records.prediction_records import read_predictions
from fairsweep.datasets.preparation.erasure import write_without
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.trainables.trial import folder_transaction
from fairsweep.trainables.trial.erasure import erase_from_trial
from fairsweep.trainables.trial.folder_transaction import FolderTransaction, recover
from fairsweep.trainables.trial.forgetting import ForgettingError, forget
from fairsweep.trainables.trial.request_log import RequestLog
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.unlearning.known_examples import UnknownIdsError
from fairsweep.trainables.unlearning.sisa import SLICES
from fairsweep.trainables.unlearning.sisa_config import SisaConfig

INNER = {"kind": "sgd", "batch_size": 16, "optimizer": {"lr": 0.1, "momentum": 0.9}}
PRIVATE = {"kind": "dpsgd", "batch_size": 8, "noise_multiplier": 1.0, "performance": {"gradient_mode": "hooks"}}


def learner(**fields):
    given = {"shards": 2, "slices": 2, "epochs": 2, "inner": INNER, "strategy": "hash"}
    return SisaConfig.model_validate(given | fields).model_dump(mode="json")


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory):
    """A trial that served one request while it ran."""
    folder = tmp_path_factory.mktemp("done") / "trial"
    Trial(make_config(learner(requests={"count": 1})), folder).run()
    return folder


@pytest.fixture
def trial(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "trial")


def ids_of(folder, **where):
    table = read_placement(folder / PLACEMENT).to_pandas()
    for name, value in where.items():
        table = table[table[name] == value]
    return table["id"].to_numpy()


def weights(folder):
    return torch.load(folder / "weights.pt", weights_only=True)


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_the_new_model_is_that_of_a_trial_that_was_asked_at_once(trial, finished, tmp_path):
    """Forgetting one after another, and all at once, give the same weights and checkpoints."""
    asked = ids_of(trial, deleted=False)[[3, 40, 41]]
    before = weights(trial)
    other = shutil.copytree(finished, tmp_path / "other")
    done = forget(trial, asked[:2])
    assert (done.asked, done.before, done.served.deleted) == (2, 0, 2)
    forget(trial, asked[2:])
    forget(other, asked)
    assert_equal(weights(trial), weights(other))
    assert any(not torch.equal(value, before[name]) for name, value in weights(trial).items())
    assert {path.name for path in (trial / SLICES).iterdir()} == {path.name for path in (other / SLICES).iterdir()}


def test_ids_are_not_written_into_a_config_from_which_nobody_could_take_them(make_config, tmp_path):
    with pytest.raises(ValueError, match=r"no erasure could take them.*fairsweep forget SWEEP --ids FILE"):
        Trial(make_config(learner(requests={"ids": [3, 6]})), tmp_path / "trial")
    assert not (tmp_path / "trial" / "config.json").exists()


@pytest.mark.parametrize("imbalance", [None, {"attribute": "tone", "majority": "light", "share": 0.5, "size": 160}])
def test_the_guarantee_is_unconditional_just_where_it_says_so(make_config, toy, tmp_path, imbalance):
    """By training with and without: on a dataset that never had the example; a drawn set of a fixed size refills."""
    Trial(make_config(learner(slices=1), imbalance=imbalance), tmp_path / "with").run()
    asked = ids_of(tmp_path / "with")[[7]]
    forget(tmp_path / "with", asked)
    info = write_without(toy, asked, tmp_path / "data")
    without = make_config(learner(slices=1), imbalance=imbalance)
    reference = without.dataset.model_copy(update={"path": tmp_path / "data", "content_hash": info.content_hash})
    Trial(without.model_copy(update={"dataset": reference}), tmp_path / "without").run()
    one, other = weights(tmp_path / "with"), weights(tmp_path / "without")
    same = all(torch.equal(value, other[name]) for name, value in one.items())
    said = read_json(tmp_path / "with" / COST)["exactness"]
    assert same == said.startswith("Bit for bit, without conditions")
    assert same == (imbalance is None)
    assert same or "drawn by imbalance from all examples together" in said


def test_predictions_are_those_of_models_that_never_saw_who_asked_inside_the_trial(make_config, tmp_path):
    """The best model on the validation split may be one before the request: it is not the selected one any more."""
    given = learner(requests={"count": 4, "batch": 4}, epochs=1)
    Trial(make_config(given), tmp_path / "trial").run()
    gone = ids_of(tmp_path / "trial", deleted=True)
    predictions = read_predictions(tmp_path / "trial" / "predictions.parquet")
    assert len(gone) == 4
    assert not set(gone) & set(predictions.column("id").to_pylist())
    assert set(predictions.column("iteration").to_pylist()) == {3}
    assert "train" in set(predictions.column("split").to_pylist())


def test_a_trial_that_was_ended_early_forgets_too(make_config, tmp_path):
    """As one that never had the examples and was ended there: by a scheduler, with one slice left."""

    def ended(folder, config):
        begun = Trial(config, folder)
        for _ in range(2):
            begun.iterate()
        begun.end("others did better")
        begun.close()

    given = learner(slices=3, epochs=1)
    ended(tmp_path / "one", make_config(given))
    asked = ids_of(tmp_path / "one", slice=1)[:1]
    forget(tmp_path / "one", ids_of(tmp_path / "one", slice=3)[:1])  # nothing was trained on it
    assert read_json(tmp_path / "one" / COST)["requests"][0]["examples"] == 0
    done = forget(tmp_path / "one", asked)
    assert done.served.work.examples > 0
    state = read_json(tmp_path / "one" / "state.json")
    assert (state["state"], state["by"], state["iteration"]) == ("stopped", "scheduler", 4)
    dataset = PreparedDataset.open(make_config(given).dataset.path)
    info = write_without(dataset, ids_of(tmp_path / "one", deleted=True), tmp_path / "data")
    config = make_config(given)
    reference = config.dataset.model_copy(update={"path": tmp_path / "data", "content_hash": info.content_hash})
    ended(tmp_path / "other", config.model_copy(update={"dataset": reference}))
    assert_equal(weights(tmp_path / "one"), weights(tmp_path / "other"))


def test_a_crash_between_commit_and_purge_is_finished_by_whoever_comes_next(trial, toy, tmp_path, monkeypatch):
    """Checkpoints that saw the examples go, also where erasure is what comes next."""
    asked = ids_of(trial, deleted=False, slice=1)[:2]
    old = {path.name for path in (trial / SLICES).glob("*.pt")}

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(folder_transaction, "_wipe", die)
        with pytest.raises(KeyboardInterrupt):
            forget(trial, asked)
    assert old <= {path.name for path in (trial / SLICES).glob("*.pt")}
    info = write_without(toy, asked, tmp_path / "data-v2")
    erase_from_trial(trial, asked, tmp_path / "data-v2", info.content_hash)
    shard = ids_of(trial)
    left = {path.name for path in (trial / SLICES).glob("*.pt")}
    assert len(left) == len(old)
    assert left != old
    assert (shard < 0).sum() == 2


def test_records_follow(trial):
    asked = ids_of(trial, deleted=False, shard=1, slice=2)[:2]
    before = read_json(trial / COST)
    forget(trial, asked)
    after = read_json(trial / COST)
    assert after["requests"][:-1] == before["requests"]
    assert after["requests"][-1]["shards"] == [{"shard": 1, "from_slice": 2}]
    assert after["training"] == before["training"]
    iterations = read_cells(trial / "cells.parquet").table.column("iteration").to_pylist()
    assert max(iterations) == after["requests"][-1]["iteration"] == 4
    assert set(iterations) == {1, 2, 3, 4}
    predictions = read_predictions(trial / "predictions.parquet")
    assert set(predictions.column("iteration").to_pylist()) == {4}
    assert not set(asked) & set(predictions.column("id").to_pylist())
    assert read_json(trial / "state.json")["iteration"] == 4


def test_asking_twice_changes_nothing_and_unknown_ids_are_listed(trial):
    asked = ids_of(trial, deleted=False)[:2]
    forget(trial, asked)
    content = {path.name: path.read_bytes() for path in trial.iterdir() if path.is_file()}
    again = forget(trial, asked)
    assert (again.before, again.served) == (2, None)
    with pytest.raises(UnknownIdsError, match=r"2 are not: 1, 2;"):
        forget(trial, np.array([asked[0], 1, 2]))
    assert {path.name: path.read_bytes() for path in trial.iterdir() if path.is_file()} == content


def test_the_log_grows_and_names_nobody(trial, toy, tmp_path):
    asked = ids_of(trial, deleted=False)[:2]
    forget(trial, asked)
    log = RequestLog(trial)
    entries = log.entries()
    assert [(entry["event"], entry["number"]) for entry in entries] == [("asked", 1), ("done", 1)]
    assert entries[0]["ids"] == log.hashes(np.sort(asked))
    assert entries[1]["cost"]["deleted"] == 2
    path = trial / "requests.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": "as')
    log.append("asked", 2, ids=[])
    assert [entry["number"] for entry in log.entries()] == [1, 1, 2]
    known = log.hashes(asked)
    info = write_without(toy, asked, tmp_path / "data-v2")
    erase_from_trial(trial, asked, tmp_path / "data-v2", info.content_hash)
    assert not (trial / "requests.key").exists()
    assert log.hashes(asked) != known


def test_no_flipped_byte_of_the_log_or_its_key_is_silent(trial):
    asked = ids_of(trial, deleted=False)[:2]
    forget(trial, asked)
    log, path, key = RequestLog(trial), trial / "requests.jsonl", trial / "requests.key"
    path.write_bytes(path.read_bytes() + b'{"event": "as')  # a crash
    log.append("asked", 2, ids=[])
    entries, rng = log.entries(), np.random.default_rng(7)
    for file in (path, key):
        whole = file.read_bytes()
        for place in range(len(whole)) if file == key else rng.choice(len(whole), 400, replace=False):
            for other in (whole[place] ^ 1 << rng.integers(8), ord("\n")):
                file.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
                try:
                    found, said = (log.entries(), log.hashes(asked)), ""
                except RecordError as error:
                    found, said = None, str(error)
                assert str(file) in said or (found[0] == entries and found[1] == entries[0]["ids"]), (place, other)
        file.write_bytes(whole)
    path.write_bytes(path.read_bytes().replace(b'"asked"', b'"asced"', 1))
    with pytest.raises(RecordError, match=r"line 1 of .*put the file back from a copy, or write"):
        forget(trial, ids_of(trial, deleted=False)[:1])
    rest = path.read_bytes().split(b"\n", 1)[1]
    path.write_bytes(b'{"event": "lost", "number": 0}\n' + rest)
    assert [entry["event"] for entry in log.entries()] == ["lost", *(entry["event"] for entry in entries[1:])]
    assert forget(trial, ids_of(trial, deleted=False)[:1]).served.deleted == 1


def test_lines_and_keys_without_a_checksum_are_those_of_earlier_versions(trial):
    (trial / "requests.key").write_bytes(bytes(32))
    log = RequestLog(trial)
    (trial / "requests.jsonl").write_text('{"event": "asked", "number": 1, "time": 2.0, "ids": []}\n{"event": "do')
    log.append("done", 1)
    assert [(entry["event"], entry["number"]) for entry in log.entries()] == [("asked", 1), ("done", 1)]
    assert log.hashes(np.array([1])) == log.hashes(np.array([1]))
    assert (trial / "requests.key").read_bytes() == bytes(32)


def test_a_second_request_waits_or_is_told(trial):
    with FileLock(trial / "forget.lock"), pytest.raises(ForgettingError, match="another request runs"):
        forget(trial, ids_of(trial, deleted=False)[:1])


def test_a_kill_leaves_the_old_model_and_asking_again_does_what_it_would_have_done(trial, tmp_path):
    """Killed while it trains; each later step is in tests/sweeps/execution/test_interrupted_deletion.py."""
    other = shutil.copytree(trial, tmp_path / "other")
    asked = ids_of(trial, deleted=False)[[5, 60]]
    old = weights(trial)
    forget(other, asked)
    program = f"""
        import os, signal
        import numpy as np
        from pathlib import Path
        from fairsweep.trainables.unlearning import shards
        from fairsweep.trainables.trial.forgetting import forget
        calls, real = [0], shards.train_slice
        def deadly(*given, **named):
            calls[0] += 1
            if calls[0] == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **named)
        shards.train_slice = deadly
        forget(Path({str(trial)!r}), np.array({asked.tolist()}))
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=os.environ, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert_equal(weights(trial), old)
    assert forget(trial, asked).served.deleted == 2
    assert_equal(weights(trial), weights(other))
    assert [(entry["event"], entry["number"]) for entry in RequestLog(trial).entries()] == [("asked", 1), ("done", 1)]
    assert {p.name for p in (trial / SLICES).iterdir()} == {p.name for p in (other / SLICES).iterdir()}


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_trial_killed_in_the_middle_of_a_request_ends_as_if_it_had_run_through(make_config, tmp_path, seconds):
    """With a checkpoint after every iteration, and with none at all: slices that are there are not trained again."""
    config = make_config(learner(requests={"count": 4, "batch": 2}))
    Trial(config, tmp_path / "whole").run()
    (tmp_path / "config.json").write_text(config.model_dump_json())
    program = f"""
        import os, signal
        from pathlib import Path
        from fairsweep.trainables.unlearning import shards
        from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
        from fairsweep.trainables.trial.trial import Trial, TrialConfig
        calls, real = [0], shards.train_slice
        def deadly(*given):
            calls[0] += 1
            if calls[0] == 6:  # four for the first training; the first slice of the first request is done
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given)
        shards.train_slice = deadly
        config = TrialConfig.model_validate_json(Path({str(tmp_path / "config.json")!r}).read_text())
        Trial(config, {str(tmp_path / "killed")!r}, checkpoints=CheckpointPolicy(seconds={seconds})).run()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=os.environ, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL
    left = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed" / SLICES).glob("*.pt")}
    assert left
    Trial(config, tmp_path / "killed").run()
    assert_equal(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    ours, theirs = (read_json(tmp_path / name / COST) for name in ("killed", "whole"))
    assert [r["examples"] for r in ours["requests"]] == [r["examples"] for r in theirs["requests"]]
    assert ours["training"]["examples"] == theirs["training"]["examples"]
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed" / SLICES).glob("*.pt")}
    assert all(now[name] == moment for name, moment in left.items() if name in now)


def test_lost_checkpoints_are_trained_again(trial, tmp_path):
    other = shutil.copytree(trial, tmp_path / "other")
    for path in (trial / SLICES).glob("*.pt"):
        path.write_bytes(b"nothing")
    asked = ids_of(trial, deleted=False)[:1]
    forget(trial, asked)
    forget(other, asked)
    assert_equal(weights(trial), weights(other))


def test_a_private_trial_draws_noise_of_its_own_for_every_request(make_config, tmp_path):
    given = learner(inner=PRIVATE, strategy="random-balanced", epochs=1)
    Trial(make_config(given), tmp_path / "one").run()
    two = shutil.copytree(tmp_path / "one", tmp_path / "two")
    before = read_json(two / "privacy.json")
    asked = ids_of(two, shard=1, slice=1)[:1]
    RequestLog(two).append("asked", 1, ids=[])  # a request that was cut short took its run with it
    forget(tmp_path / "one", asked)
    forget(two, asked)
    after = read_json(two / "privacy.json")
    assert after["parts"][0]["epsilon"]["pld"] > before["parts"][0]["epsilon"]["pld"]
    assert after == read_json(tmp_path / "one" / "privacy.json")
    differing = {n for n, v in weights(two).items() if not torch.equal(v, weights(tmp_path / "one")[n])}
    assert differing == {name for name in weights(two) if name.startswith("shards.0.")}


def test_a_lost_checkpoint_is_charged_where_forgetting_trains_it_again(make_config, toy, tmp_path):
    """Of a release no secret is left: its first slice is trained again with fresh noise, which is charged."""
    given = learner(inner=PRIVATE, strategy="random-balanced", epochs=1, shards=1)
    Trial(make_config(given, mode="release"), tmp_path / "one").run()
    two = shutil.copytree(tmp_path / "one", tmp_path / "two")
    for path in (two / SLICES).glob("*-000-*.pt"):
        path.unlink()
    asked = ids_of(two, slice=2)[:1]
    forget(tmp_path / "one", asked)
    forget(two, asked)
    kept, lost = (read_json(tmp_path / name / "privacy.json") for name in ("one", "two"))
    assert lost["parts"][0]["epsilon"]["pld"] > kept["parts"][0]["epsilon"]["pld"]
    assert "Charged are 4 trainings" in " ".join(lost["assumptions"])
    recorded = read_json(two / "data.json")
    info = write_without(toy, asked, tmp_path / "data")
    erase_from_trial(two, asked, tmp_path / "data", info.content_hash)
    erased = read_json(two / "data.json")
    assert {name for name, value in erased.items() if value is None} >= {n for n, v in recorded.items() if v is None}


def test_a_private_trial_that_was_ended_early_stays_charged_for_its_plan(make_config, tmp_path):
    """Why it ended depends on private models: all that it could have trained is charged, also after a request."""
    config = make_config(learner(inner=PRIVATE, strategy="random-balanced", epochs=1, requests={"count": 1}))
    Trial(config, tmp_path / "whole").run()
    begun = Trial(config, tmp_path / "early")
    begun.iterate()
    begun.end("others did better")
    begun.close()
    whole, early = (read_json(tmp_path / name / "privacy.json") for name in ("whole", "early"))
    assert early["parts"] == whole["parts"]
    forget(tmp_path / "early", ids_of(tmp_path / "early", slice=1)[:1])
    after = read_json(tmp_path / "early" / "privacy.json")
    assert after["charged_steps"] == early["charged_steps"]
    assert after["epsilon"]["pld"] >= early["epsilon"]["pld"]
    assert sum(part["epsilon"]["pld"] for part in after["parts"]) > sum(p["epsilon"]["pld"] for p in early["parts"])


def test_who_cannot_forget_is_told_why(make_config, sgd, tmp_path):
    with pytest.raises(ForgettingError, match="must be the folder of a trial"):
        forget(tmp_path, np.array([1]))
    Trial(make_config(sgd), tmp_path / "sgd").run()
    with pytest.raises(ForgettingError, match="trained by 'sgd'"):
        forget(tmp_path / "sgd", np.array([1]))
    unfinished = Trial(make_config(learner()), tmp_path / "unfinished")
    unfinished.iterate()
    unfinished.close()
    with pytest.raises(ForgettingError, match="must have ended before"):
        forget(tmp_path / "unfinished", np.array([1]))


def test_a_transaction_is_all_or_nothing(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("old")
    begun = FolderTransaction(tmp_path)
    begun.stage("a").write_text("new")
    recover(tmp_path)
    assert (tmp_path / "a").read_text() == "old"
    begun = FolderTransaction(tmp_path)
    begun.stage("a").write_text("new")
    begun.stage("c").write_text("new")
    begun.remove("b")
    begun.commit()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]
    assert (tmp_path / "a").read_text() == "new"
