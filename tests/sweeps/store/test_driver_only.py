"""What the driver hands to Tune pickles, for Tune pickles it."""

import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import yaml
from ray import cloudpickle, tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from fairsweep import sweeps
from fairsweep.sweeps.execution import remote_states, run, stop_requests
from fairsweep.sweeps.runtime import cluster, launch, nodes
from fairsweep.sweeps.search import scheduler, undefined_values
from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.views import progress

MODULES = (launch, nodes, progress, remote_states, scheduler, stop_requests, undefined_values)
SEARCH = {"algorithm": "tpe", "samples": 3, "startup_trials": 2, "objectives": [{"max": "accuracy"}]}
HALVING = {"kind": "asha", "objectives": [{"max": "accuracy"}]}


@pytest.fixture
def handed_over(mapping, monkeypatch):
    """What a run hands to Tune; nothing is started."""

    def run_it(**sections):
        taken = []

        class Tuner:
            def __init__(self, trainable, *, tune_config, run_config):
                first = tune_config.search_alg.suggest("first")
                taken.append([trainable, first, tune_config, run_config])

            def fit(self):
                return None

        monkeypatch.setattr(run, "connected", lambda address, **_: nullcontext())
        monkeypatch.setattr(cluster, "check_nodes", lambda *_: None)
        monkeypatch.setattr(launch.tune, "Tuner", Tuner)
        mapping["imbalance"]["share"] = 0.7
        mapping["learners"] = [
            {"name": "tuned", "kind": "sgd", "epochs": 1, "optimizer": {"lr": {"uniform": [0.1, 0.2]}}}
        ]
        mapping["seeds"] = 1
        Sweep.from_mapping(mapping | sections).run(quiet=True)
        (objects,) = taken
        return objects

    return run_it


@pytest.mark.parametrize(
    "sections",
    [
        {"search": {"algorithm": "random", "samples": 2}},
        {"search": {"algorithm": "sobol", "samples": 2}, "scheduler": HALVING},
        {"search": SEARCH},
        {"search": SEARCH | {"constraints": ["epsilon <= 3"]}, "scheduler": HALVING},
    ],
    ids=["random", "sobol and asha", "tpe", "tpe and asha"],
)
def test_all_that_a_run_hands_to_tune_pickles(handed_over, sections):
    trainable, first, tune_config, run_config = handed_over(**sections)
    names = {type(callback.inner).__name__ for callback in run_config.callbacks}
    assert names >= {"Progress", "StopRequests", "NodeWatch"}
    assert ("UndefinedValues" in names) == (tune_config.scheduler is not None) == ("scheduler" in sections)
    assert first["task"].config.trial == first["trial"]
    for one in [*run_config.callbacks, tune_config.search_alg, tune_config.scheduler, first, trainable]:
        cloudpickle.dumps(one)


def test_every_class_of_ours_that_tune_gets_stays_in_the_driver():
    kinds = (tune.Callback, Searcher, TrialScheduler, tune.Stopper)
    found = {
        one
        for module in MODULES
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, kinds) and one.__module__.startswith(sweeps.__name__)
    }
    assert {one.__name__ for one in found} >= {"_Handover", "NodeWatch", "Progress", "RemoteStates", "Verdicts"}
    assert all(issubclass(one, DriverOnly) for one in found)


@pytest.mark.timeout(300)
def test_a_guided_search_runs_from_the_command_line(mapping, tmp_path, ray_address):
    folder = tmp_path / "a folder"
    folder.mkdir()
    mapping["imbalance"]["share"] = 0.7
    mapping["learners"] = [
        {"name": "tuned", "kind": "sgd", "epochs": 1, "batch_size": 24, "optimizer": {"lr": {"uniform": [0.1, 0.2]}}}
    ]
    mapping |= {"seeds": 1, "search": SEARCH, "output": str(folder / "out")}
    mapping["resources"] = {"max_concurrent": 1}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(mapping))
    found = subprocess.run(
        [sys.executable, "-P", "-m", "fairsweep.sweeps", "run", "sweep.yaml"],
        cwd=folder,
        env=os.environ | {"RAY_ADDRESS": ray_address},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "a search over 3 settings" in found.stderr
    assert len(list((folder / "out" / "trials").iterdir())) == 3
    assert "Best setting" in found.stdout
