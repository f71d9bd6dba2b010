"""A sweep that is killed with SIGKILL, again and again, ends with the numbers of one that ran through.

Real processes: the driver, its Ray and its workers. Only processes that a test has started are ever killed, by id.
"""

import json
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.trial.trial import Trial

# Runs a sweep whose trials take their time. Where a file named "pause" says so, the worker that next has a newer
# checkpoint on the disk and the older one still beside it stops there, says so, and waits to be killed.
DRIVER = """
import dataclasses, json, signal, sys, time
from pathlib import Path
from fairsweep.sweeps.execution import tasks
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.adapter import TrialTask

@dataclasses.dataclass(frozen=True)
class SlowTask(TrialTask):
    def open(self):
        trial = super().open()
        work = self.folder.parents[2]
        step, delete = trial._learner.step, trial._checkpoints.delete_superseded

        def slow_step():
            time.sleep(float((work / "slow").read_text()))
            return step()

        def pausing_delete():
            if (work / "pause").exists() and len(trial._checkpoints.iterations()) > 1:
                (work / "paused").touch()
                time.sleep(600)
            delete()

        trial._learner.step, trial._checkpoints.delete_superseded = slow_step, pausing_delete
        return trial

tasks.TrialTask = SlowTask
if __name__ == "__main__":
    # A shell starts its background jobs with SIGINT ignored, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Sweep.from_mapping(json.loads(Path(sys.argv[1]).read_text())).run(quiet=True)
"""


class Driver:
    """A sweep in a process of its own.

    Args:
        work: folder of the script, the sweep and the output.
    """

    def __init__(self, work):
        self.work = work
        with (work / "driver.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, work / "driver.py", work / "sweep.json"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=work,
            )

    def wait_for(self, condition, seconds=180):
        """Wait until something holds or the driver has ended; returns whether it holds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        pytest.fail(f"nothing happened for {seconds} s: {(self.work / 'driver.log').read_text()[-2000:]}")

    def kill(self, *, alone):
        """Kill the driver; alone, its workers live on until Ray notices, else they are killed in the same moment."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if not alone:
            for member in family:
                end(member)
        return family

    def finish(self):
        """Wait for the end of the sweep."""
        assert self.process.wait(timeout=1200) == 0, (self.work / "driver.log").read_text()[-3000:]


def end(process):
    # psutil compares the start time too, so a number that was given to another process is left alone.
    if process.is_running():
        try:
            process.kill()
        except psutil.NoSuchProcess:
            return


@pytest.fixture
def work(mapping, tmp_path):
    """A folder with a sweep of eight trials, four of them private."""
    mapping["learners"] = [
        mapping["learners"][0] | {"epochs": 10},
        {"name": "tuned", "kind": "sgd", "epochs": 10, "batch_size": 24},
    ]
    mapping["checkpoints"] = {"every": 1, "seconds": 0, "keep": 1}
    mapping["resources"] = {"cpu": 1}
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "sweep.json").write_text(json.dumps(mapping))
    return tmp_path


@pytest.fixture
def in_turn(work):
    """The same, with one trial at a time: in one worker, for each is a process that imports torch."""
    mapping = json.loads((work / "sweep.json").read_text())
    (work / "sweep.json").write_text(json.dumps(mapping | {"resources": {"max_concurrent": 1}}))
    return work


def records(folder):
    """The numbers of every trial, by hash."""
    return {
        trial: read_cells(entry.folder / "cells.parquet").table
        for trial, entry in Ledger(folder).entries().items()
        if entry.state.state == "done"
    }


def finished(work):
    """The whole state of every trial that is done."""
    entries = Ledger(work / "out").entries().values()
    return {e.state.trial: e.state for e in entries if e.state.state == "done"}


def survive(work, toy, kills, seed):
    """Kill and resume, then let the sweep end; returns how many kills hit a sweep with something running."""
    rng = random.Random(seed)
    mapping = json.loads((work / "sweep.json").read_text())
    hits, families, done = 0, [], {}
    for number, kind in enumerate(kills):
        (work / "paused").unlink(missing_ok=True)
        (work / "slow").write_text("0.1")
        (work / "pause").touch() if kind == "checkpoint" else (work / "pause").unlink(missing_ok=True)
        driver = Driver(work)
        ledger = Ledger(work / "out")
        runs = {t: e.state.attempt for t, e in ledger.entries().items()}

        def progressed(ledger=ledger, runs=runs):
            entries = ledger.entries().items()
            return any(e.state.state == "running" and e.state.attempt > runs.get(t, 0) + 1 for t, e in entries)

        if kind == "start":
            time.sleep(rng.uniform(0, 8))
        elif kind == "checkpoint":
            driver.wait_for((work / "paused").exists)
        elif driver.wait_for(progressed):
            time.sleep(rng.uniform(0, 1.5))
        if driver.process.poll() is not None:
            break  # all trials were done before the moment came
        families += driver.kill(alone=number % 2 == 0)
        hits += progressed()
        # What was done stays as it was, to the letter.
        assert {trial: state for trial, state in finished(work).items() if trial in done} == done
        done = finished(work)
    for name in ("pause", "paused"):
        (work / name).unlink(missing_ok=True)
    (work / "slow").write_text("0")
    Driver(work).finish()
    assert {trial: state for trial, state in finished(work).items() if trial in done} == done
    for member in families:
        end(member)
    trials = expand(Sweep.from_mapping(mapping), toy)
    found = records(work / "out")
    assert set(found) == {t.trial for t in trials}
    for trial in trials:
        alone = Trial(trial.config, work / "alone" / trial.trial).run()
        assert found[trial.trial] == read_cells(alone / "cells.parquet").table, trial.label
        (folder,) = [e.folder for e in Ledger(work / "out").entries().values() if e.state.trial == trial.trial]
        assert not (folder / "checkpoints").exists()
    return hits


@pytest.mark.timeout(1800)
def test_a_killed_sweep_ends_as_if_it_had_run_through(in_turn, toy):
    assert survive(in_turn, toy, ["any", "checkpoint"], seed=1) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_sweep_that_streams_ends_as_if_it_had_run_through(work, toy):
    """The trials that run alone afterwards, to compare with, take the resident feed."""
    mapping = json.loads((work / "sweep.json").read_text())
    mapping["feed"] = {"kind": "stream", "memory_bytes": 64 * 40, "scratch_dir": str(work / "scratch")}
    mapping["imbalance"]["share"] = 0.9
    (work / "sweep.json").write_text(json.dumps(mapping | {"seeds": 1}))
    assert survive(work, toy, ["any"], seed=1) == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_sweep_survives_twenty_kills(work, toy):
    kills = ["start", "any", "checkpoint", "any"] * 5
    hits = survive(work, toy, kills, seed=2)
    assert hits >= 10


@pytest.mark.parametrize("request_to_stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_stops_and_says_how_to_go_on(in_turn, request_to_stop):
    (in_turn / "slow").write_text("0.2")
    driver = Driver(in_turn)
    driver.wait_for(lambda: any(e.state.iteration >= 1 for e in Ledger(in_turn / "out").entries().values()))
    driver.process.send_signal(request_to_stop)
    assert driver.process.wait(timeout=300) != 0
    assert "resume with: fairsweep resume" in (in_turn / "driver.log").read_text()
    states = {e.state.state for e in Ledger(in_turn / "out").entries().values()}
    assert "stopped" in states
    assert states <= {"stopped", "done"}


def test_two_sweeps_at_once(in_turn, mapping):
    (in_turn / "slow").write_text("5")  # it shall still run when the other one is done
    first = Driver(in_turn)
    first.wait_for((in_turn / "out" / "sweep.json").exists)
    second = subprocess.run(
        [sys.executable, in_turn / "driver.py", in_turn / "sweep.json"],
        capture_output=True,
        text=True,
        cwd=in_turn,
        check=False,
    )
    assert second.returncode != 0
    assert "in use by another running sweep" in second.stderr
    other = in_turn / "other"
    other.mkdir()
    (other / "driver.py").write_text(DRIVER)
    (other / "slow").write_text("0")
    small = mapping | {"output": str(other / "out"), "seeds": 1, "learners": [{"kind": "sgd", "epochs": 1}]}
    small["resources"] = {"max_concurrent": 1}
    (other / "sweep.json").write_text(json.dumps(small))
    Driver(other).finish()
    assert len(finished(other)) == 2
    assert first.process.poll() is None
    first.kill(alone=False)


def test_a_worker_of_a_killed_driver_writes_nothing_once_its_trial_is_queued_anew(in_turn, toy):
    """The workers of a killed driver live on for a moment; a new driver shuts them out at once."""
    (in_turn / "slow").write_text("0.05")
    driver = Driver(in_turn)
    ledger = Ledger(in_turn / "out")
    driver.wait_for(lambda: any(e.state.iteration >= 1 for e in ledger.entries().values()))
    family = driver.kill(alone=True)
    trials = expand(Sweep.from_mapping(json.loads((in_turn / "sweep.json").read_text())), toy)
    queued = ledger.queue(ledger.missing(trials))
    before = {
        p: p.read_bytes() for e in queued.values() for p in e.folder.rglob("*") if p.is_file() and p.suffix != ".tmp"
    }
    time.sleep(1.0)
    for member in family:
        end(member)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_ray_does_not_outlive_a_killed_driver(in_turn):
    (in_turn / "slow").write_text("0.2")
    driver = Driver(in_turn)
    driver.wait_for(lambda: any(e.state.iteration >= 1 for e in Ledger(in_turn / "out").entries().values()))
    family = driver.kill(alone=True)
    _, alive = psutil.wait_procs(family, timeout=300)
    for member in alive:
        end(member)
    assert not [member for member in alive if "ray::" in " ".join(member.cmdline() or [])]
