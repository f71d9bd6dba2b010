import json

import pytest

from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.trial.state import StaleAttemptError
from fairsweep.trainables.trial.trial import Trial


@pytest.fixture
def trials(mapping, toy):
    return expand(Sweep.from_mapping(mapping), toy)


def test_all_trials_of_a_new_folder_are_missing(trials, tmp_path):
    assert Ledger(tmp_path).missing(trials) == list(trials)
    assert not (tmp_path / "trials").exists()


def test_only_done_trials_count(trials, tmp_path):
    ledger = Ledger(tmp_path)
    queued = ledger.queue(trials[:5])
    states = ["done", "failed", "stopped", "running", "queued"]
    for trial, state in zip(trials, states, strict=False):
        queued[trial.trial].file.mark({"state": state})
    assert ledger.missing(trials) == list(trials[1:])


@pytest.mark.parametrize(("by", "ended"), [("scheduler", True), ("stopper", True), ("user", False)])
def test_only_a_trial_that_the_user_stopped_goes_on(trials, tmp_path, by, ended):
    ledger = Ledger(tmp_path)
    entry = ledger.queue(trials[:1])[trials[0].trial]
    entry.file.mark({"state": "stopped", "by": by})
    assert ledger.missing(trials[:1]) == ([] if ended else [trials[0]])
    if ended:
        with pytest.raises(ValueError, match="is stopped and its records are in"):
            entry.file.begin(trials[0].trial, run=entry.state.run)


def test_whoever_is_queued_again_was_stopped_by_nobody(trials, tmp_path):
    ledger = Ledger(tmp_path)
    queued = ledger.queue(trials[:1])
    ledger.close(queued, unfinished="stopped", cause="stopped by the user")
    closed = ledger.entries()[trials[0].trial].state
    assert (closed.state, closed.by, closed.reason) == ("stopped", "user", "stopped by the user")
    assert ledger.queue(trials[:1])[trials[0].trial].state.by is None


def test_a_trial_keeps_its_folder_whatever_the_file_calls_it(trials, mapping, toy, tmp_path):
    ledger = Ledger(tmp_path)
    folder = ledger.queue(trials[:1])[trials[0].trial].folder
    mapping["learners"][0]["name"] = "renamed"
    mapping["learners"][1]["twin_of"] = "renamed"
    renamed = expand(Sweep.from_mapping(mapping), toy)[0]
    assert renamed.folder_name != trials[0].folder_name
    assert ledger.queue([renamed])[renamed.trial].folder == folder
    assert len(list((tmp_path / "trials").iterdir())) == 1


def test_queueing_shuts_out_the_workers_of_an_earlier_driver(trials, tmp_path):
    ledger = Ledger(tmp_path)
    entry = ledger.queue(trials[:1])[trials[0].trial]
    worker = entry.file.begin(trials[0].trial, run=entry.state.run)
    again = ledger.queue(trials[:1])[trials[0].trial]
    assert again.state.run == entry.state.run + 1
    with pytest.raises(StaleAttemptError):
        worker.update(iteration=1)


def test_names_of_done_trials_follow_the_sweep_file(mapping, toy, tmp_path):
    mapping["learners"] = [{"name": "old", "kind": "sgd", "epochs": 1}]
    (trial, *_) = expand(Sweep.from_mapping(mapping), toy)
    folder = Trial(trial.config, tmp_path / "trials" / trial.folder_name).run()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "000001.pt").write_bytes(b"left by a kill")
    mapping["learners"][0]["name"] = "new"
    Ledger(tmp_path).tidy(expand(Sweep.from_mapping(mapping), toy))
    assert json.loads((folder / "config.json").read_text())["learner"]["name"] == "new"
    assert not (folder / "checkpoints").exists()


def test_closing_marks_what_neither_finished_nor_failed(trials, tmp_path):
    ledger = Ledger(tmp_path)
    queued = ledger.queue(trials[:4])
    for trial, state in zip(trials, ["done", "failed", "running"], strict=False):
        queued[trial.trial].file.mark({"state": state, "error": "its own"})
    ledger.close(queued, unfinished="stopped", cause="unused")
    states = [ledger.entries()[trial.trial].state for trial in trials[:4]]
    assert [state.state for state in states] == ["done", "failed", "stopped", "stopped"]
    assert states[1].error == "its own"


def test_a_trial_whose_state_is_damaged_waits_until_it_is_named(trials, tmp_path):
    ledger = Ledger(tmp_path)
    entry = ledger.queue(trials[:1])[trials[0].trial]
    entry.file.mark({"run": 7, "attempt": 9})
    damaged = (entry.folder / "state.json").read_text().replace("queued", "queuex")
    (entry.folder / "state.json").write_text(damaged)
    (lost,) = ledger.damaged()
    assert lost.is_of(trials[0].trial)
    assert "state.json" in lost.cause
    assert ledger.missing(trials) == list(trials[1:])
    assert ledger.missing(trials, [lost.trial]) == [trials[0]]
    anew = ledger.queue(trials[:1])[trials[0].trial]
    # The numbers go on, so that no worker of before can write.
    assert (anew.folder, anew.state.run, anew.state.attempt) == (entry.folder, 8, 10)
    assert [path.read_text() for path in tmp_path.glob(".set-aside/*/state.json")] == [damaged]
