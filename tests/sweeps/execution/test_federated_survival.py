"""A federated sweep killed in mid-round ends with the numbers of one that ran through."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.training_records import read_training
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.trial.trial import Trial

# Where a file named "pause" says so, the first worker in its sixth round stops when its clients have trained, before
# the server has taken their sum, says so, and waits to be killed.
DRIVER = """
import dataclasses, json, sys, time
from pathlib import Path
from fairsweep.sweeps.execution import tasks
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.adapter import TrialTask

@dataclasses.dataclass(frozen=True)
class PausingTask(TrialTask):
    def open(self):
        trial = super().open()
        work, learner = self.folder.parents[2], trial._learner
        train = learner._train

        def pausing_train(number, *arguments):
            sums = train(number, *arguments)
            if number == 5 and (work / "pause").exists():
                (work / "paused").touch()
                time.sleep(600)
            return sums

        learner._train = pausing_train
        return trial

tasks.TrialTask = PausingTask
if __name__ == "__main__":
    Sweep.from_mapping(json.loads(Path(sys.argv[1]).read_text())).run(quiet=True)
"""


def start(work):
    with (work / "driver.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, work / "driver.py", work / "sweep.json"],
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=work,
        )


def kill(process):
    """Kills the driver and all that it has started, and nothing else."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for member in family:
        if member.is_running():
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue


def training(folder):
    """The course of training, but for the time that it took."""
    return repr(read_training(folder / "training.parquet").drop_columns("seconds").to_pylist())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_kill_in_mid_round_changes_no_number(mapping, toy, tmp_path):
    learner = {
        "kind": "dpfedavg",
        "rounds": 9,
        "rounds_per_iteration": 2,
        "clients": {"partition": "dirichlet", "count": 12, "alpha": 0.5},
        "sampling_rate": 0.5,
        "local": {"batch_size": 8},
        "server": {"name": "adam", "lr": 0.01},
        "clipping": {"quantile": 0.5},
        "noise_multiplier": 1.0,
    }
    mapping["learners"] = [{"name": "federated", **learner}]
    mapping["checkpoints"] = {"every": 1, "seconds": 0, "keep": 1}
    mapping["resources"] = {"cpu": 1}
    mapping["seeds"] = 1
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "sweep.json").write_text(json.dumps(mapping))
    (tmp_path / "pause").touch()
    process = start(tmp_path)
    deadline = time.monotonic() + 300
    while not (tmp_path / "paused").exists():
        assert process.poll() is None, (tmp_path / "driver.log").read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kill(process)
    entries = Ledger(tmp_path / "out").entries().values()
    # Two iterations of two rounds are done, and so is the first round of the third.
    assert any(entry.state.iteration == 2 and (entry.folder / "checkpoints").exists() for entry in entries)
    (tmp_path / "pause").unlink()
    assert start(tmp_path).wait(timeout=900) == 0, (tmp_path / "driver.log").read_text()[-3000:]
    found = {entry.state.trial: entry for entry in Ledger(tmp_path / "out").entries().values()}
    trials = expand(Sweep.from_mapping(mapping), toy)
    assert set(found) == {trial.trial for trial in trials}
    assert max(entry.state.attempt for entry in found.values()) > 1
    for trial in trials:
        alone, folder = Trial(trial.config, tmp_path / "alone" / trial.trial).run(), found[trial.trial].folder
        assert read_cells(folder / "cells.parquet").table == read_cells(alone / "cells.parquet").table
        assert training(folder) == training(alone)
        assert read_json(folder / "privacy.json") == read_json(alone / "privacy.json")
