"""A search with two objectives, killed with SIGKILL and resumed, ends with the Pareto front of one that ran through.

Real processes: the driver, its Ray and its workers. Only processes that a test has started are ever killed, by id.
"""

import json
import signal
import subprocess
import sys
import time

import optuna
import psutil
import pytest

from fairsweep.sweeps.cli.preparation import prepare_dataset
from fairsweep.sweeps.search.storage import JOURNAL, open_storage
from fairsweep.sweeps.store.ledger import Ledger

pytestmark = pytest.mark.slow

DRIVER = """
import json, sys
from pathlib import Path
from fairsweep.sweeps.sweep import Sweep
if __name__ == "__main__":
    Sweep.from_mapping(json.loads(Path(sys.argv[1]).read_text())).run(quiet=True)
"""
SWEEP = {
    "name": "front",
    "dataset": {"label": "smiling", "groups": ["tone"]},
    "imbalance": {"attribute": "tone", "majority": "light", "share": 0.8, "size": 160},
    "model": {"name": "linear"},
    "learners": [
        {
            "name": "private",
            "kind": "dpsgd",
            "epochs": 4,
            "batch_size": 32,
            "noise_multiplier": {"loguniform": [0.6, 4.0]},
            "optimizer": {"name": "sgd", "lr": {"loguniform": [0.02, 2.0]}},
            "performance": {"gradient_mode": "hooks"},
        },
        {"name": "tuned", "kind": "sgd", "epochs": {"randint": [1, 5]}, "batch_size": 32},
    ],
    "search": {
        "algorithm": "tpe",
        "samples": 14,
        "startup_trials": 4,
        "objectives": [{"max": "accuracy"}, {"min": "equalized_odds_difference by tone"}],
        "constraints": ["epsilon <= 30"],
    },
    "checkpoints": {"every": 1, "seconds": 0},
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Drawn faces, few and small."""
    folder = tmp_path_factory.mktemp("data") / "faces"
    prepare_dataset("faces", folder, options={"count": "960", "size": "16"}, max_damaged=0.0)
    return folder


class Driver:
    """A search in a process of its own, in ``FOLDER/out``."""

    def __init__(self, folder, sweep):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        (folder / "driver.py").write_text(DRIVER)
        (folder / "sweep.json").write_text(json.dumps(sweep | {"output": str(folder / "out")}))
        with (folder / "driver.log").open("a") as log:
            command = [sys.executable, str(folder / "driver.py"), str(folder / "sweep.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)

    def finish(self):
        assert self.process.wait(timeout=900) == 0, (self.folder / "driver.log").read_text()[-3000:]

    def kill_when(self, condition):
        """Kill the driver and all of its processes once something holds."""
        deadline = time.monotonic() + 300
        while not condition():
            assert self.process.poll() is None, (self.folder / "driver.log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for member in family:
            if member.is_running():
                try:
                    member.kill()
                except psutil.NoSuchProcess:
                    continue


def study_of(folder):
    storage = open_storage(None, folder / "out")
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def done(folder):
    return {t: e.state for t, e in Ledger(folder / "out").entries().items() if e.state.ended}


def lines(folder):
    path = folder / "out" / JOURNAL
    return path.read_bytes().count(b"\n") if path.exists() else 0


def running(folder):
    """Whether a trial is in the middle of its training."""
    states = [entry.state for entry in Ledger(folder / "out").entries().values()]
    return any(state.state == "running" and state.iteration > 0 for state in states)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_killed_search_has_the_front_of_the_undisturbed_one(faces, tmp_path, at_once):
    sweep = json.loads(json.dumps(SWEEP))
    sweep["dataset"]["path"] = str(faces)
    sweep["resources"] = {"max_concurrent": at_once}
    Driver(tmp_path / "whole", sweep).finish()
    killed = tmp_path / "killed"
    # Once in the middle of a training, once right after something was written into the storage.
    Driver(killed, sweep).kill_when(lambda: len(done(killed)) >= 3 and running(killed))
    before = done(killed)
    written = lines(killed)
    Driver(killed, sweep).kill_when(lambda: lines(killed) > written + 12)
    assert {trial: state for trial, state in done(killed).items() if trial in before} == before
    Driver(killed, sweep).finish()
    assert {trial: state for trial, state in done(killed).items() if trial in before} == before

    undisturbed, resumed = study_of(tmp_path / "whole"), study_of(killed)
    assert len(resumed.trials) == len(undisturbed.trials) == 14
    assert [t.params for t in resumed.trials] == [t.params for t in undisturbed.trials]
    assert [t.values for t in resumed.trials] == [t.values for t in undisturbed.trials]
    assert [t.constraints for t in resumed.trials] == [t.constraints for t in undisturbed.trials]
    assert [t.number for t in resumed.best_trials] == [t.number for t in undisturbed.best_trials]
    assert resumed.best_trials
    assert set(done(killed)) == set(done(tmp_path / "whole"))
