"""What a sweep survives, each fault with real processes; afterwards nothing finished is lost and nothing has run twice.

Every start and every end of a trial is written down by its worker. Only processes that a test has started are killed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.trial.checkpoint import CheckpointFolder
from fairsweep.trainables.trial.trial import Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
EPOCHS = 8
DRIVER = """
import dataclasses, json, os, sys, time
from pathlib import Path
from fairsweep.sweeps.execution import tasks
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.adapter import TrialTask

@dataclasses.dataclass(frozen=True)
class LoggedTask(TrialTask):
    work: str = ""

    def open(self):
        trial = super().open()
        work = Path(os.environ["FAULTS_WORK"])

        def log(event):
            with (work / "log.jsonl").open("a") as file:
                line = {"event": event, "trial": self.config.trial, "pid": os.getpid(), "iteration": trial.iteration}
                file.write(json.dumps(line | {"time": time.time()}) + "\\n")

        log("start")
        step, finish = trial._learner.step, trial._finish

        def slow_step():
            time.sleep(float((work / "slow").read_text()))
            if trial.iteration == 3 and (work / "hog").exists():
                (work / "hog").unlink()
                log("hog")
                held = bytearray(int((work / "hog_bytes").read_text()))
                held[::4096] = b"x" * len(held[::4096])
                time.sleep(60)
            return step()

        def logged_finish(*arguments):
            finish(*arguments)
            log("end")

        trial._learner.step, trial._finish = slow_step, logged_finish
        return trial

tasks.TrialTask = LoggedTask
if __name__ == "__main__":
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    from fairsweep.sweeps.runtime import launch
    launch._HANDED_ON = (*launch._HANDED_ON, "FAULTS_WORK")
    Sweep.from_mapping(json.loads(Path(sys.argv[1]).read_text())).run(quiet=True)
"""


class Faults:
    """A sweep in processes of its own, and what it wrote down.

    Args:
        work: folder of the script, the sweep and the log.
        output: folder of the results.
    """

    def __init__(self, work, output):
        self.work, self.output = work, output

    def start(self, **environment):
        with (self.work / "driver.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, self.work / "driver.py", self.work / "sweep.json"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.work,
                env=os.environ | {"FAULTS_WORK": str(self.work)} | environment,
            )

    def finish(self, process):
        assert process.wait(timeout=1500) == 0, (self.work / "driver.log").read_text()[-3000:]

    def events(self, name):
        path = self.work / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] == name]

    def entries(self):
        return Ledger(self.output).entries()

    def wait_for(self, condition, process, seconds=600):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None:
            if found := condition():
                return found
            time.sleep(0.05)
        return pytest.fail(f"it did not come to that: {(self.work / 'driver.log').read_text()[-3000:]}")

    def progressed(self, iteration=2):
        """Trials that run and have a checkpoint that far."""
        return [e for e in self.entries().values() if e.state.state == "running" and e.state.iteration >= iteration]


def kill_family(process):
    """Kill a driver and all that it has started."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for member in family:
        if member.is_running():
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
    psutil.wait_procs(family, timeout=60)


@pytest.fixture
def faults(mapping, tmp_path):
    mapping["learners"] = [
        mapping["learners"][0] | {"epochs": EPOCHS},
        {"name": "tuned", "kind": "sgd", "epochs": EPOCHS, "batch_size": 24},
    ]
    mapping["imbalance"]["share"] = 0.9
    mapping["checkpoints"] = {"every": 1, "seconds": 0, "keep": 2}
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "sweep.json").write_text(json.dumps(mapping))
    (tmp_path / "slow").write_text("0.3")
    return Faults(tmp_path, tmp_path / "out")


@pytest.fixture
def whole(toy, tmp_path, capsys):
    """Checks a sweep that has ended: every trial done, none of them twice, the numbers of an undisturbed one."""

    def check(faults, *, recovered_from=None, lost=0):
        sweep = Sweep.from_mapping(json.loads((faults.work / "sweep.json").read_text()))
        trials, entries = expand(sweep, toy), faults.entries()
        assert {t.trial: entries[t.trial].state.state for t in trials} == {t.trial: "done" for t in trials}
        ends = Counter(event["trial"] for event in faults.events("end"))
        assert ends == Counter(dict.fromkeys((t.trial for t in trials), 1))
        for trial in trials:
            alone = Trial(trial.config, tmp_path / "alone" / trial.trial).run()
            found = read_cells(entries[trial.trial].folder / "cells.parquet").table
            assert found == read_cells(alone / "cells.parquet").table, trial.label
        starts = len(faults.events("start"))
        with capsys.disabled():
            line = f"\n{len(trials)} trials, {starts} starts, {sum(ends.values())} ends, {lost} finished ones lost"
            sys.stdout.write(line if recovered_from is None else f"{line}, back after {recovered_from:.1f} s")

    return check


def test_a_driver_that_is_killed_three_times(faults, whole):
    done, recovery, killed = {}, [], None
    for _ in range(3):
        process = faults.start()
        starts = len(faults.events("start"))
        faults.wait_for(lambda starts=starts: len(faults.events("start")) > starts and faults.progressed(), process)
        if killed is not None:
            recovery.append(faults.events("start")[starts]["time"] - killed)
        kill_family(process)
        killed = time.time()
        now = {trial: entry.state for trial, entry in faults.entries().items() if entry.state.state == "done"}
        assert {trial: now[trial] for trial in done} == done
        done = now
    (faults.work / "slow").write_text("0")
    faults.finish(faults.start())
    assert {trial: faults.entries()[trial].state for trial in done} == done
    whole(faults, recovered_from=max(recovery))


def test_a_worker_that_is_killed(faults, whole):
    process = faults.start()
    folder = faults.wait_for(faults.progressed, process)[0].folder
    trial = next(trial for trial, entry in faults.entries().items() if entry.folder == folder)
    (victim,) = [event for event in faults.events("start") if event["trial"] == trial]
    psutil.Process(victim["pid"]).kill()
    killed = time.time()

    def back():
        return [e for e in faults.events("start") if e["trial"] == victim["trial"] and e["time"] > killed]

    (again,) = faults.wait_for(back, process)[:1]
    assert again["iteration"] > 0  # from its checkpoint
    (faults.work / "slow").write_text("0")
    faults.finish(process)
    whole(faults, recovered_from=again["time"] - killed)


def test_a_worker_that_ray_kills_for_its_memory(faults, whole):
    """Ray's memory monitor, told to act a little above what the machine uses now; the worker takes more than that."""
    memory = psutil.virtual_memory()
    hog = int(0.3 * memory.total)
    if memory.available < 2 * hog:
        pytest.skip("the machine has too little free memory to take some away for a moment")
    (faults.work / "hog").touch()
    (faults.work / "hog_bytes").write_text(str(hog))
    threshold = (memory.total - memory.available) / memory.total + 0.22  # Ray and its workers take some themselves
    process = faults.start(RAY_memory_usage_threshold=f"{threshold:.3f}", RAY_memory_monitor_refresh_ms="100")
    (hogged,) = faults.wait_for(lambda: faults.events("hog"), process)[:1]

    def back():
        return [e for e in faults.events("start") if e["trial"] == hogged["trial"] and e["time"] > hogged["time"]]

    (again,) = faults.wait_for(back, process)[:1]
    assert again["pid"] != hogged["pid"]
    faults.wait_for(lambda: not psutil.pid_exists(hogged["pid"]), process)
    (faults.work / "slow").write_text("0")
    faults.finish(process)
    whole(faults, recovered_from=again["time"] - hogged["time"])


def test_a_checkpoint_that_is_cut_short(faults, whole):
    """The newest of each trial is cut while nobody looks: the one before is taken."""
    process = faults.start()
    faults.wait_for(lambda: faults.progressed(3), process)
    kill_family(process)
    fallen_back = {}
    for trial, entry in faults.entries().items():
        folder = CheckpointFolder(entry.folder / "checkpoints")
        if len(iterations := folder.iterations()) == 2:
            path = folder.folder / f"{iterations[0]:06d}.pt"
            path.write_bytes(path.read_bytes()[:-100])
            fallen_back[trial] = iterations[1]
    assert fallen_back
    starts = len(faults.events("start"))
    (faults.work / "slow").write_text("0")
    faults.finish(faults.start())
    resumed = {event["trial"]: event["iteration"] for event in faults.events("start")[starts:]}
    assert {trial: resumed[trial] for trial in fallen_back} == fallen_back
    whole(faults)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(path):
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_disk_that_fills_up(faults, whole, small_disk):
    mapping = json.loads((faults.work / "sweep.json").read_text()) | {"output": str(small_disk / "out")}
    (faults.work / "sweep.json").write_text(json.dumps(mapping))
    faults.output = small_disk / "out"
    process = faults.start()
    faults.wait_for(faults.progressed, process)
    done = {trial: e.state for trial, e in faults.entries().items() if e.state.state == "done"}
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="space"):
        fill(ballast)
    assert process.wait(timeout=1500) != 0
    said = (faults.work / "driver.log").read_text()
    assert "is full; free some space and resume with: fairsweep resume" in said
    ballast.unlink()
    began = time.time()
    (faults.work / "slow").write_text("0")
    faults.finish(faults.start())
    entries = faults.entries()
    assert {trial: entries[trial].state for trial in done} == done
    whole(faults, recovered_from=min(e["time"] for e in faults.events("start") if e["time"] > began) - began)
