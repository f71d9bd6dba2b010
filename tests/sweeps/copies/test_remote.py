"""Outputs on another file system: what trials publish, what the driver knows, and going on elsewhere."""

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairsweep import analysis
from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.files import write_json
from fairsweep.datasets.storage.location import Location
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.cli.app import app
from fairsweep.sweeps.copies.mirror import sweep_files
from fairsweep.sweeps.copies.publishing import TrialPublisher
from fairsweep.sweeps.copies.remote_output import RemoteOutput, fetch_remote
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.store.folder_copy import FolderCopy
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.storage_uri import uri_of, working_folder
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.published_trial import PublishedTrial
from fairsweep.trainables.trial.state import StaleAttemptError, TrialStateFile
from fairsweep.trainables.trial.trial import Trial


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Moves this process to another node: one with a cache of its own, and nothing else in common."""

    def move(name):
        monkeypatch.setenv("FAIRSWEEP_CACHE", str(tmp_path / name))

    return move


@pytest.fixture
def task(mapping, toy, tmp_path):
    """A private trial of three iterations that is published after each."""
    trial = next(t for t in expand(Sweep.from_mapping(mapping), toy) if t.config.learner.name == "private")
    publisher = TrialPublisher((tmp_path / "bucket" / "runs").as_uri(), seconds=0)
    policy = CheckpointPolicy(seconds=0)
    return TrialTask(trial.config, tmp_path / "driver" / "private", run=1, publisher=publisher, checkpoints=policy)


@pytest.fixture
def often(monkeypatch):
    """Publications however long they take."""
    monkeypatch.setattr("fairsweep.sweeps.copies.publishing._LARGEST_SHARE", 1e9)


def published(tmp_path):
    return tmp_path / "bucket" / "runs" / "trials" / "private"


def undisturbed(task, tmp_path):
    return read_cells(Trial(task.config, tmp_path / "alone").run() / "cells.parquet").table


def test_a_trial_goes_on_on_another_node_from_what_was_published(task, node, often, tmp_path):
    node("a")
    first = task.open()
    assert isinstance(first, PublishedTrial)
    first.iterate()
    first.iterate()
    shutil.rmtree(tmp_path / "a")  # the node is gone
    node("b")
    second = task.open()
    assert second.iterate()["iteration"] == 3
    second.close()
    assert read_cells(published(tmp_path) / "cells.parquet").table == undisturbed(task, tmp_path)
    state = TrialStateFile(published(tmp_path)).read()
    assert (state.state, state.run, state.attempt) == ("done", 1, 3)
    assert not list((tmp_path / "b").rglob("state.json"))  # nothing stays on the node
    # A third worker, which does not know, finds the trial done.
    node("c")
    assert task.open().iterate()["done"]
    assert TrialStateFile(published(tmp_path)).read() == state


def test_a_worker_that_was_cut_off_publishes_nothing_once_another_has_begun(task, node, often, tmp_path):
    node("a")
    first = task.open()
    first.iterate()
    node("b")
    second = task.open()
    node("a")
    with pytest.raises(StaleAttemptError):
        first.iterate()
    node("b")
    while not second.iterate()["done"]:
        pass
    assert read_cells(published(tmp_path) / "cells.parquet").table == undisturbed(task, tmp_path)


def test_a_worker_of_an_earlier_driver_does_not_begin(task, node, tmp_path):
    import dataclasses

    node("a")
    dataclasses.replace(task, run=2).open()
    node("b")
    with pytest.raises(StaleAttemptError, match="queued again"):
        task.open()


def test_a_trial_that_ended_unpublished_is_published_and_not_done_again(task, node, tmp_path, monkeypatch):
    node("a")
    monkeypatch.setattr("fairsweep.sweeps.copies.publishing._WAIT_SECONDS", 0.0)
    first = task.open()
    (tmp_path / "bucket").rename(tmp_path / "away")
    (tmp_path / "bucket").touch()  # the file system is out of reach
    first.iterate()
    first.iterate()
    with pytest.raises(OSError, match="bucket"):
        first.iterate()
    first.close()
    (tmp_path / "bucket").unlink()
    (tmp_path / "away").rename(tmp_path / "bucket")
    second = task.open()
    assert second.iterate()["done"]
    second.close()
    assert TrialStateFile(published(tmp_path)).read().attempt == 2
    assert read_cells(published(tmp_path) / "cells.parquet").table == undisturbed(task, tmp_path)


def test_a_failure_is_published_with_its_cause(task, node, tmp_path, monkeypatch):
    node("a")
    trial = task.open()

    def fail():
        raise ValueError("no luck")

    monkeypatch.setattr(trial._trial._learner, "step", fail)
    with pytest.raises(ValueError, match="no luck"):
        trial.iterate()
    state = TrialStateFile(published(tmp_path)).read()
    assert (state.state, state.error) == ("failed", "ValueError: no luck")


def test_in_release_mode_a_running_trial_publishes_its_state_alone(task, node, often, tmp_path):
    import dataclasses

    config = task.config.model_copy(update={"mode": "release"})
    publisher = dataclasses.replace(task.publisher, ended_only=True)
    node("a")
    trial = dataclasses.replace(task, config=config, publisher=publisher).open()
    trial.iterate()
    assert list((tmp_path / "a").rglob("secret.key"))
    assert [p.name for p in published(tmp_path).iterdir() if not p.name.startswith(".")] == ["state.json"]
    while not trial.iterate()["done"]:
        pass
    assert (published(tmp_path) / "predictions.parquet").exists()
    assert not list((tmp_path / "bucket").rglob("secret.key"))


def test_the_driver_knows_what_was_published_and_says_what_it_changed(task, node, tmp_path):
    node("a")
    task.open()
    node("driver")
    folder = fetch_remote(task.publisher.uri)
    assert folder == working_folder(task.publisher.uri)
    (entry,) = Ledger(folder).entries().values()
    assert entry.state.state == "running"
    assert sorted(p.name for p in entry.folder.iterdir() if p.name[0] != ".") == ["config.json", "state.json"]
    entry.file.mark({"state": "stopped", "by": "user"})
    write_json(folder / "sweep.json", {"name": "toy"})
    RemoteOutput(task.publisher.uri).push()
    assert TrialStateFile(published(tmp_path)).read().state == "stopped"
    assert (published(tmp_path) / "checkpoints").parent.exists()
    node("elsewhere")
    assert (fetch_remote(task.publisher.uri) / "sweep.json").exists()


def test_only_what_was_published_since_is_read_again(tmp_path, node, monkeypatch):
    node("driver")
    uri = (tmp_path / "bucket" / "runs").as_uri()

    def publish(number, **state):
        (folder := tmp_path / "worker" / str(number)).mkdir(parents=True, exist_ok=True)
        content = {
            "trial": f"hash {number}",
            "state": "running",
            "run": 1,
            "attempt": 1,
            "iteration": 0,
            "iterations": 3,
        }
        write_json(folder / "state.json", content | state)
        FolderCopy(Location.of(f"{uri}/trials/{number}")).publish({"state.json": folder / "state.json"}, (1, 1))

    for number in range(6):
        publish(number)
    output, read, content = RemoteOutput(uri), [], Location.read
    monkeypatch.setattr(Location, "read", lambda place, file: read.append(place.root[-1]) or content(place, file))
    output.pull_states()
    assert sorted(set(read)) == list("012345")
    read.clear()
    output.pull_states()
    assert read == []
    publish(4, state="done")
    read.clear()
    output.pull_states()
    assert set(read) == {"4"}
    assert Ledger(output.folder).entries()["hash 4"].state.state == "done"


def test_the_folders_of_trials_are_not_looked_through_for_the_sweeps_own_files(tmp_path, monkeypatch):
    for name in ("sweep.json", "tracking/wandb.jsonl", "trials/a/state.json", ".tune/run/a/params.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    entered, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: entered.append(Path(path).name) or scandir(path))
    assert list(sweep_files(tmp_path)) == ["tracking/wandb.jsonl", "sweep.json"]
    assert set(entered) <= {tmp_path.name, "tracking"}


def test_a_trial_that_was_deleted_there_runs_again(task, node, tmp_path):
    node("a")
    trial = task.open()
    while not trial.iterate()["done"]:
        pass
    node("driver")
    assert len(Ledger(fetch_remote(task.publisher.uri)).entries()) == 1
    shutil.rmtree(published(tmp_path))
    assert not Ledger(fetch_remote(task.publisher.uri)).entries()


def test_one_driver_at_a_time(tmp_path, node, monkeypatch):
    node("a")
    uri = (tmp_path / "bucket" / "runs").as_uri()
    RemoteOutput(uri).claim()
    RemoteOutput(uri).claim()  # the same process may
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    with pytest.raises(SweepError, match="is in use by process"):
        RemoteOutput(uri).claim()
    RemoteOutput(uri).release()
    RemoteOutput(uri).claim()


def test_a_sweep_with_a_remote_output_from_start_to_end(mapping, toy, node, tmp_path, ray_session):
    uri = (tmp_path / "bucket" / "runs").as_uri()
    node("driver")
    mapping |= {"output": uri, "seeds": 1, "learners": [{"name": "plain", "kind": "sgd", "epochs": 2}]}
    mapping["resources"] = {"max_concurrent": 1}
    sweep = Sweep.from_mapping(mapping)
    assert sweep.remote == uri
    results = sweep.run(quiet=True)
    assert list(results.trials["state"]) == ["done", "done"]
    assert results.location.path == str(tmp_path / "bucket" / "runs")
    for trial in expand(sweep, toy):
        alone = Trial(trial.config, tmp_path / "alone" / trial.trial).run()
        there = tmp_path / "bucket" / "runs" / "trials" / trial.folder_name
        assert read_cells(there / "cells.parquet").table == read_cells(alone / "cells.parquet").table
    node("laptop")
    assert len(analysis.load(uri).trials) == 2
    answer = CliRunner().invoke(app, ["resume", uri])
    assert answer.exit_code == 0, answer.output
    assert "2 trials" in answer.output or "Report" in answer.output
    assert (tmp_path / "bucket" / "runs" / "report.html").exists()
    assert {e.state.attempt for e in Ledger(tmp_path / "bucket" / "runs").entries().values()} == {2}


def test_credentials_in_an_output_are_refused(mapping):
    with pytest.raises(SweepError, match="AWS_ACCESS_KEY_ID"):
        Sweep.from_mapping(mapping | {"output": "s3://key:word@bucket/x"})


def test_a_dataset_by_uri(mapping, toy_path, toy):
    mapping["dataset"]["path"] = toy_path.as_uri()
    trials = expand(Sweep.from_mapping(mapping), PreparedDataset.open(toy_path.as_uri()))
    plain = expand(Sweep.from_mapping(mapping | {"dataset": mapping["dataset"] | {"path": str(toy_path)}}), toy)
    assert [t.trial for t in trials] == [t.trial for t in plain]
    assert uri_of(trials[0].config.dataset.path) is not None
