"""Trials on Ray Tune: fractions of GPUs, mixed shapes, retries, failures, and what Tune is told."""

import dataclasses
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.runtime import launch as launch_module
from fairsweep.sweeps.runtime.launch import connected, run_trials
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.trial import Trial

EVERY = CheckpointPolicy(seconds=0)  # a checkpoint after each iteration
GPUS = 2  # of the session's Ray


class Watcher(tune.Callback):
    """Looks at Tune's and at Ray's own state while trials run."""

    def __init__(self):
        self.running = 0
        self.gpus_held = 0.0
        self.alive = 0
        self.workers = {}
        self.lost = []

    def on_trial_start(self, iteration, trials, trial, **info):
        self.running = max(self.running, sum(t.status == "RUNNING" for t in trials) + 1)

    def on_step_end(self, iteration, trials, **info):
        self.gpus_held = max(self.gpus_held, GPUS - ray.available_resources().get("GPU", 0))

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.workers.setdefault(trial.last_result["pid"], []).append(trial.config["trial"])

    def on_trial_error(self, iteration, trials, trial, **info):
        self.lost.append(trial.config["trial"])


class Meeting:
    """A trial that ends once so many trials have been seen side by side, or after a while."""

    def __init__(self, folder, size):
        self.folder, self.size, self.steps = folder, size, 0

    def iterate(self):
        (self.folder.parent / f"{self.folder.name}.here").touch()
        time.sleep(0.3)
        self.steps += 1
        here = len(list(self.folder.parent.glob("*.here")))
        if here >= self.size:
            (self.folder.parent / f"{here}.met").touch()
        done = any(self.folder.parent.glob("*.met")) or self.steps > 200
        return {"iteration": self.steps, "done": float(done)}

    def close(self):
        (self.folder.parent / f"{self.folder.name}.here").unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class MeetingTask(TrialTask):
    size: int = 1

    def open(self):
        return Meeting(self.folder, self.size)


@dataclasses.dataclass(frozen=True)
class DyingTask(TrialTask):
    """A trial whose worker process dies in the middle of its third iteration, once or whenever it gets there."""

    once: bool = True

    def open(self):
        trial = super().open()
        marker, step = self.folder / "died", trial._learner.step

        def dying_step():
            if trial.iteration == 2 and not (self.once and marker.exists()):
                marker.write_text("")
                os._exit(9)
            return step()

        trial._learner.step = dying_step
        return trial


@pytest.fixture
def launch(toy, mapping, tmp_path, ray_session):
    """Runs the trials of some learners and returns the watcher, the final states and the folders, by label."""

    def run(learners, *, kinds=None, seeds=1, retries=0, resources=None, **fields):
        content = mapping | {"learners": learners, "seeds": seeds, "imbalance": None}
        trials = expand(Sweep.from_mapping(content | ({"resources": resources} if resources else {})), toy)
        queued = Ledger(tmp_path / "out").queue(trials)
        tasks = {}
        for t in trials:
            kind, more = (kinds or {}).get(t.config.learner.name, (TrialTask, {}))
            shape = {"cpu": t.resources.cpu, "gpu": t.resources.gpu}
            tasks[t.trial] = kind(
                t.config, queued[t.trial].folder, run=1, report_seconds=0, checkpoints=EVERY, **shape, **more
            )
        watcher = Watcher()
        left, over = list(tasks.items()), {}
        run_trials(
            lambda: left.pop(0) if left else None,
            over.__setitem__,
            output=tmp_path / "out",
            retries=retries,
            max_concurrent=fields.get("max_concurrent"),
            callbacks=[watcher],
        )
        assert over.keys() == tasks.keys()
        assert {trial for trial, given_up in over.items() if given_up} == set(watcher.lost)
        watcher.labels = {t.trial: t.label for t in trials}
        states = {t.label: queued[t.trial].file.read() for t in trials}
        return watcher, states, {t.label: queued[t.trial].folder for t in trials}

    return run


def plain(name="plain", **fields):
    return {"name": name, "kind": "sgd", "epochs": 2, "batch_size": 32} | fields


def test_no_step_of_tune_goes_through_all_trials(launch, monkeypatch):
    def fail(*_):
        raise AssertionError("it looks at each trial of the run")

    monkeypatch.setattr(FIFOScheduler, "choose_trial_to_run", fail)
    _, states, _ = launch([{"name": "tuned", "kind": "sgd", "epochs": 1}], seeds=3)
    assert {state.state for state in states.values()} == {"done"}


def test_fractions_of_a_gpu_are_shared(launch, tmp_path):
    """The trials wait for each other: that many do run at the same time, and no more."""
    watcher, _, folders = launch(
        [plain()],
        kinds={"plain": (MeetingTask, {"size": 4})},
        seeds={"data": 1, "train": 4},
        resources={"cpu": 0.2, "gpu": 0.5},
    )
    assert watcher.gpus_held == pytest.approx(GPUS)
    assert watcher.running == 4 == len(folders)
    assert (tmp_path / "out" / "trials" / "4.met").exists()


def test_no_more_trials_run_than_resources_and_the_limit_allow(launch):
    watcher, _, _ = launch(
        [plain()], kinds={"plain": (MeetingTask, {"size": 2})}, seeds=4, resources={"cpu": 0.2, "gpu": 0.9}
    )
    assert watcher.running == 2
    watcher, _, _ = launch(
        [plain(epochs=3)], kinds={"plain": (MeetingTask, {})}, seeds=2, resources={"cpu": 0.2}, max_concurrent=1
    )
    assert watcher.running == 1


@pytest.fixture
def mixed(launch):
    """One run of everything, in turn: two shapes of resources, a learner that diverges, workers that die."""
    return launch(
        [
            plain("small", resources={"cpu": 0.5}, optimizer={"name": "sgd", "lr": {"grid": [0.1, 0.2]}}),
            plain("large", epochs=3),
            plain("diverging", optimizer={"name": "sgd", "lr": 1e30, "weight_decay": 1e10}),
            plain("dying", epochs=4),
            plain("doomed", epochs=5),
        ],
        kinds={"dying": (DyingTask, {}), "doomed": (DyingTask, {"once": False})},
        retries=1,
        max_concurrent=1,  # each worker is a process that takes seconds to start
    )


def test_a_mixed_sweep_with_failures_goes_its_way(mixed, tmp_path, toy, mapping):
    watcher, states, folders = mixed
    by_learner = {}
    for label, state in states.items():
        by_learner.setdefault(re.split("[_-]", label)[0], []).append(state)
    assert {name: {state.state for state in found} for name, found in by_learner.items()} == {
        "small": {"done"},
        "large": {"done"},
        "diverging": {"failed"},
        "dying": {"done"},
        "doomed": {"running"},  # the driver says the rest
    }
    # Actors are reused, within one shape of resources only, until they die.
    assert len(watcher.workers) == 3
    for trials in watcher.workers.values():
        assert len({watcher.labels[trial].startswith("small") for trial in trials}) == 1
    # What would fail again is not tried again; what died is, from its checkpoint, once.
    assert {state.attempt for state in by_learner["diverging"]} == {2}  # queued, started
    assert all(state.error.startswith("DivergedError") for state in by_learner["diverging"])
    assert {state.attempt for state in by_learner["dying"]} == {3}
    assert {watcher.labels[trial].split("_")[0] for trial in watcher.lost} == {"doomed"}
    config = next(
        t.config
        for t in expand(
            Sweep.from_mapping(mapping | {"learners": [plain(epochs=4)], "imbalance": None, "seeds": 1}), toy
        )
    )
    alone = Trial(config, tmp_path / "alone").run()
    assert read_cells(folders["dying_s0"] / "cells.parquet").table == read_cells(alone / "cells.parquet").table
    # Tune keeps no copy of our numbers, and none of the trials.
    (experiment,) = (tmp_path / "out" / ".tune").rglob("experiment_state-*.json")
    assert json.loads(experiment.read_text())["trial_data"] == []
    files = [path for path in (tmp_path / "out" / ".tune").rglob("*") if path.is_file()]
    assert not [path for path in files if path.name in ("progress.csv", "result.json") or "tfevents" in path.name]
    for path in files:
        assert path.stat().st_size < 500_000, path
        assert b"TrialKeys" not in path.read_bytes()


def test_without_an_address_no_cluster_of_somebody_else_is_joined(monkeypatch):
    asked = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    with connected(None):
        assert asked["address"] == "local"
    monkeypatch.setattr("fairsweep.sweeps.runtime.launch.check_address", lambda address: asked.update(checked=address))
    with connected("ray://there:10001"):
        assert asked["checked"] == "ray://there:10001"
        assert asked["address"] == "ray://there:10001"


def test_a_submitted_job_keeps_its_own_runtime_environment(monkeypatch):
    asked = {}
    job = {"runtime_env": {"working_dir": "gcs://files.zip", "env_vars": {"OMP_NUM_THREADS": "4"}}}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options["runtime_env"]))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("fairsweep.sweeps.runtime.head_monitor.monitored_head", lambda *_: nullcontext())
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    with connected("auto"):
        assert set(asked) == {"env_vars"}
        assert asked["env_vars"]["MKL_NUM_THREADS"] == "1"
        assert "OMP_NUM_THREADS" not in asked["env_vars"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variables are glibc's")
def test_workers_keep_the_memory_that_steps_give_back(monkeypatch):
    asked = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options["runtime_env"]["env_vars"]))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    with connected(None):
        pass
    steps = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, size = ctypes.c_void_p, 24 * 2**20
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    address = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    libc.memset(address, 1, ctypes.c_size_t(size))
    libc.free(address)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    command = [sys.executable, "-c", steps]
    answer = subprocess.run(command, env=os.environ | asked, check=True, capture_output=True, text=True)
    pages = 24 * 2**20 // resource.getpagesize()
    assert pages / 2**9 <= int(answer.stdout) < 2 * pages  # once, not at every step


def test_an_interpreter_whose_path_has_a_space_is_quoted_for_ray(monkeypatch):
    """Ray starts workers by a shell; it waited for them for ever."""
    monkeypatch.setattr(sys, "executable", "/a folder/.venv/bin/python")
    assert launch_module._interpreter() == {"py_executable": "'/a folder/.venv/bin/python'"}
    monkeypatch.setattr(sys, "executable", "/folder/.venv/bin/python")
    assert launch_module._interpreter() == {}
