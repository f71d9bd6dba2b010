import io
import json
import os

import pytest
from rich.console import Console
from typer.testing import CliRunner

import fairsweep.analysis.records.trial_folder as trial_folder
from fairsweep.analysis.records.files import write_json
from fairsweep.sweeps.cli.app import app
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.views.watch import WatchedSweep, watch

NOW = 1_000_000.0


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Writes state files of a sweep of five trials, of which four exist."""
    monkeypatch.setattr("fairsweep.sweeps.views.watch.time.time", lambda: NOW)
    write_json(tmp_path / "sweep.json", {"name": "faces", "trials": 5})

    def state(name, state, iteration=0, **more):
        content = {
            "trial": name[-8:] * 8,
            "state": state,
            "iteration": iteration,
            "iterations": 10,
            "run": 1,
            "attempt": 2,
        }
        content |= {"updated": NOW - 5, "seconds": 20.0, "metrics": {"accuracy": 0.9, "worst_group": 0.75}} | more
        (tmp_path / "trials" / name).mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / "trials" / name / "state.json", content)

    state("dpsgd-eps3_s0-aaaaaaaa", "running", 5, metrics={"accuracy": 0.8, "steps": 10})
    state("dpsgd-eps3_s1-bbbbbbbb", "done", 10, metrics={"accuracy": 0.9, "epsilon": 2.5})
    state("plain_s0-cccccccc", "failed", 3, error="OSError: no space left")
    state("plain_s1-dddddddd", "stopped", 4, by="user")
    return tmp_path, state


def shown(folder, width=110):
    console = Console(file=io.StringIO(), width=width)
    watch(folder, console, once=True)
    return console.file.getvalue()


def test_a_sweep_is_shown_from_its_folder_alone(sweep):
    folder, _ = sweep
    text = shown(folder)
    assert "▸ dpsgd-eps3_s0" in text
    assert "25 s" in text  # 20 s of training until 5 s ago
    assert "2.50" in text
    assert "1 failed: OSError: no space left (plain_s0)" in text
    assert "1 queued" in text
    assert "2/5 trials" in text
    assert shown(folder.as_uri()) == text


def test_watching_ends_with_the_sweep(sweep):
    folder, state = sweep
    console = Console(file=io.StringIO(), width=110)
    looks = []

    def go_on(seconds):
        looks.append(seconds)
        for name in ("dpsgd-eps3_s0-aaaaaaaa", "plain_s1-dddddddd", "plain_s2-eeeeeeee"):
            state(name, "done", 10)

    watch(folder, console, once=False, seconds=3.0, sleep=go_on)
    assert looks == [3.0]
    text = console.file.getvalue()
    assert "[5/5] plain_s2: validation accuracy 90.0%" in text
    assert "plain_s0 failed: OSError" in text


def watched(folder, sleep):
    console = Console(file=io.StringIO(), width=110)
    watch(folder, console, once=False, sleep=sleep)
    return console.file.getvalue()


def test_watching_ends_with_the_driver(sweep):
    folder, state = sweep
    driver = OutputFolder.at(folder).held()
    driver.__enter__()
    looks = []

    def go_on(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            state("dpsgd-eps3_s0-aaaaaaaa", "stopped", 6, by="user")
            driver.__exit__(None, None, None)

    text = watched(folder, go_on)
    assert len(looks) == 3
    assert text.splitlines()[-1] == (
        f"no driver is running: 2 of 5 trials have ended; resume with: fairsweep resume {folder}"
    )


def test_one_look_at_what_a_killed_driver_left_says_that_nothing_runs(sweep):
    """Its trials are still `running` in their files, with an estimate of the time that they would take."""
    folder, _ = sweep
    with OutputFolder.at(folder).held():
        assert "no driver" not in shown(folder)
    assert "no driver is running: 2 of 5 trials have ended; resume with" in shown(folder)


def test_a_driver_that_ends_with_its_last_trial_leaves_nothing_to_resume(sweep):
    folder, state = sweep
    with OutputFolder.at(folder).held():
        pass

    def end(_):
        for name in ("dpsgd-eps3_s0-aaaaaaaa", "plain_s1-dddddddd", "plain_s2-eeeeeeee"):
            state(name, "done", 10)

    assert "resume" not in watched(folder, end)


def test_watching_an_output_elsewhere_ends_when_its_driver_says_no_more(sweep, tmp_path, monkeypatch):
    folder, _ = sweep
    monkeypatch.setenv("FAIRSWEEP_CACHE", str(tmp_path / "cache"))
    uri = folder.as_uri()
    write_json(folder / "sweep.json", {"name": "faces", "trials": 5, "sweep": {"output": uri}})
    claim = folder / ".driver.json"
    claim.write_text(json.dumps({"host": "another", "process": os.getpid(), "at": NOW - 20}))
    looks = []

    def pass_by(seconds):
        looks.append(seconds)
        if len(looks) == 2:  # it was killed: its last word grows old
            monkeypatch.setattr("fairsweep.sweeps.views.watch.time.time", lambda: NOW + 600)

    assert f"resume with: fairsweep resume {uri}" in watched(uri, pass_by)
    assert len(looks) == 2


def test_a_mirror_cannot_tell_whether_a_driver_is_at_work(sweep):
    folder, _ = sweep
    assert WatchedSweep(folder).has_driver() is None
    write_json(folder / "sweep.json", {"name": "faces", "trials": 5, "sweep": {"output": "s3://bucket/runs/faces"}})
    assert WatchedSweep(folder).has_driver() is None


def test_only_changed_states_are_read_again(sweep, monkeypatch):
    folder, state = sweep
    board = WatchedSweep(folder)
    read = []
    original = trial_folder.read_state

    def noting(path, *rest):
        read.append(path.split("/")[-2])
        return original(path, *rest)

    monkeypatch.setattr(trial_folder, "read_state", noting)
    board.refresh()
    assert read == []
    state("dpsgd-eps3_s0-aaaaaaaa", "running", 6)
    board.refresh()
    assert read == ["dpsgd-eps3_s0-aaaaaaaa"]
    assert board.rows["aaaaaaaa" * 8].metrics["iteration"] == 6


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(SweepError, match="is not a sweep folder"):
        WatchedSweep(tmp_path)
    with pytest.raises(SweepError, match="is not a sweep folder"):
        WatchedSweep(tmp_path / "nowhere")


def test_track_sends_what_is_missing(sweep, tmp_path):
    folder, _ = sweep
    write_json(folder / "sweep.json", {"name": "faces", "trials": 5, "sweep": {"tracking": {"files": {}}}})
    for name in ("dpsgd-eps3_s1-bbbbbbbb", "plain_s0-cccccccc"):
        write_json(folder / "trials" / name / "config.json", {"learner": {"name": "plain"}, "setting": "x"})
    done = CliRunner().invoke(app, ["track", str(folder)])
    assert done.exit_code == 0, done.output
    assert "files: all sent" in done.output
    assert (folder / "tracking/files/plain_s0-cccccccc/summary.json").exists()
    write_json(folder / "sweep.json", {"name": "faces", "sweep": {}})
    with pytest.raises(SweepError, match="has no trackers"):
        CliRunner().invoke(app, ["track", str(folder)], catch_exceptions=False, standalone_mode=False)


def test_the_learner_is_the_one_of_the_config_whatever_the_folder_is_called(sweep):
    folder, state = sweep
    for learner, end in (("dp_sgd", "1"), ("dp-fed", "2")):
        state(f"{learner}_s0-{end * 8}", "running", 5)
        write_json(folder / "trials" / f"{learner}_s0-{end * 8}" / "config.json", {"learner": {"name": learner}})
    rows = WatchedSweep(folder).rows
    assert [rows[end * 64].learner for end in "12"] == ["dp_sgd", "dp-fed"]
    assert [rows[end * 64].label for end in "12"] == ["dp_sgd_s0", "dp-fed_s0"]
