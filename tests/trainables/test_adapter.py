import dataclasses
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import ray
import torch
from ray import tune

from fairsweep import analysis
from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.trainables.adapter import SweepTrainable, TrialTask
from fairsweep.trainables.trial.state import TrialStateFile
from fairsweep.trainables.trial.trial import Trial


class Given(SweepTrainable):
    """The trainable; the class knows the task of each name."""

    tasks = None

    def __init__(self, config):
        super().__init__({"task": self.tasks[config["trial"]]})

    def reset(self, config):
        return super().reset({"task": self.tasks[config["trial"]]})


def numbers(folder):
    training = pq.read_table(folder / "training.parquet").drop_columns("seconds")
    weights = torch.load(folder / "weights.pt", weights_only=True)
    return (
        read_cells(folder / "cells.parquet").table.to_pylist(),
        pq.read_table(folder / "predictions.parquet").to_pylist(),
        json.dumps(training.to_pylist()),
        {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
    )


@pytest.fixture
def trainable(make_config, sgd, dpsgd, tmp_path, monkeypatch):
    """A class with three trials: private, plain, and one that cannot learn."""
    configs = {
        "private": make_config(dpsgd),
        "plain": make_config(sgd),
        "diverging": make_config(sgd | {"optimizer": {"name": "sgd", "lr": 1e30, "weight_decay": 1e10}}),
    }
    tasks = {
        name: TrialTask(config, tmp_path / name, run=TrialStateFile(tmp_path / name).queue(config.trial).run, cpu=0.2)
        for name, config in configs.items()
    }
    monkeypatch.setattr(Given, "tasks", tasks)
    return Given


def to_the_end(trainable):
    while True:
        result = trainable.train()
        if result["done"]:
            return result


def test_one_actor_runs_trials_one_after_another_as_fresh_ones_would(trainable, tmp_path, monkeypatch):
    alone = {}
    for name, task in trainable.tasks.items():
        if name != "diverging":
            alone[name] = numbers(Trial(task.config, tmp_path / "alone" / name).run())
    actor = trainable({"trial": "diverging"})
    assert to_the_end(actor)["failed"] == 1
    for name in ("private", "plain"):
        assert actor.reset({"trial": name})
        assert to_the_end(actor)["failed"] == 0
        assert numbers(tmp_path / name) == alone[name]
    actor.stop()


def test_an_actor_in_a_process_of_its_own_reused_equals_fresh(trainable, ray_session, tmp_path):
    """Bit for bit, with real worker processes."""
    tasks = dict(trainable.tasks)

    @ray.remote(num_cpus=0.5)
    class Worker:
        def __init__(self, tasks):
            self.tasks, self.current = tasks, None

        def run(self, name, reuse):
            if reuse:
                assert self.current.reset({"task": self.tasks[name]})
            else:
                self.current = SweepTrainable({"task": self.tasks[name]})
            while not self.current.train()["done"]:
                pass
            return True

    reused = Worker.remote(tasks)
    ray.get([reused.run.remote("plain", False), reused.run.remote("private", True)])
    config = tasks["private"].config
    fresh_folder = tmp_path / "fresh"
    run = TrialStateFile(fresh_folder).queue(config.trial).run
    fresh = Worker.remote({"private": TrialTask(config, fresh_folder, run=run, cpu=0.2)})
    ray.get(fresh.run.remote("private", False))
    assert numbers(fresh_folder) == numbers(tmp_path / "private")


def test_a_trial_that_fails_for_good_says_why_and_frees_its_actor(trainable, tmp_path):
    actor = trainable({"trial": "diverging"})
    result = to_the_end(actor)
    assert (result["done"], result["failed"]) == (True, 1)
    assert TrialStateFile(tmp_path / "diverging").read().error.startswith("DivergedError")
    assert actor._trial is None
    actor.stop()


def test_an_actor_that_never_steps_takes_no_trial_over(trainable, tmp_path):
    """Tune makes actors that it drops again when a reused one becomes free."""
    working = trainable({"trial": "plain"})
    working._current = dataclasses.replace(working._current, report_seconds=0.0)
    working.train()
    dropped = trainable({"trial": "plain"})
    assert working.train()["failed"] == 0
    dropped.stop()
    assert working.train()["done"]
    working.stop()


def test_an_error_of_the_machine_goes_on_to_tune(trainable, tmp_path, monkeypatch):
    actor = trainable({"trial": "plain"})

    def fail():
        raise OSError("no space left on device")

    monkeypatch.setattr(actor._opened()._learner, "step", fail)
    with pytest.raises(OSError, match="no space left"):
        actor.train()
    assert TrialStateFile(tmp_path / "plain").read().error == "OSError: no space left on device"
    actor.stop()


def test_tunes_own_checkpoints_hold_the_state(trainable, tmp_path):
    first = trainable({"trial": "private"})
    first._current = dataclasses.replace(first._current, report_seconds=0.0)
    first.train()
    (tmp_path / "tune").mkdir()
    first.save_checkpoint(str(tmp_path / "tune"))
    state = torch.load(tmp_path / "tune" / "state.pt", weights_only=True)
    assert state["learner"]["iteration"] == 1
    first.train()
    first.load_checkpoint(str(tmp_path / "tune"))
    assert first._trial.iteration == 1
    first.stop()


def test_short_iterations_are_reported_together(trainable):
    actor = trainable({"trial": "plain"})
    actor._current = dataclasses.replace(actor._current, report_seconds=60.0)
    result = actor.train()
    assert result["iteration"] == 3
    assert result["done"]
    actor.stop()


def test_threads_follow_the_cpus():
    from fairsweep.trainables.adapter import use_threads

    before = torch.get_num_threads()
    try:
        for cpus, threads in [(0.2, 1), (1, 1), (2, 2), (1.9, 1)]:
            use_threads(cpus)
            assert torch.get_num_threads() == threads
    finally:
        use_threads(before)


def test_every_pool_of_threads_in_a_worker_follows_the_cpus():
    """In a process with the environment of a worker: torch and its OpenMP, MKL, numpy's BLAS, Arrow."""
    program = """
import json, sys
import numpy, pyarrow, torch
from threadpoolctl import threadpool_info
from fairsweep.trainables.adapter import use_threads
found = []
for cpus in (0.5, 1, 2):
    use_threads(cpus)
    pools = [(pool["user_api"], pool["num_threads"]) for pool in threadpool_info()]
    mkl = [line for line in torch.__config__.parallel_info().splitlines() if "mkl_get_max_threads" in line]
    found.append({"torch": torch.get_num_threads(), "arrow": pyarrow.cpu_count(), "pools": pools, "mkl": mkl})
print(json.dumps(found))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=300
    )
    half, one, two = json.loads(answer.stdout)
    assert half == one
    assert (one["torch"], one["arrow"]) == (1, 1)
    assert {threads for _, threads in one["pools"]} == {1}
    assert all(line.endswith(" 1") for line in one["mkl"])
    assert (two["torch"], two["arrow"]) == (2, 2)
    assert ["openmp", 2] in two["pools"]
    assert all(threads <= 2 for _, threads in two["pools"])


def test_a_tuner_of_ones_own_describes_its_trials(ray_session, toy, sgd, tmp_path):
    """A learning rate is a dimension of Tune's; another trial follows in the same actor; records load as a sweep's."""
    config = {
        "dataset": str(toy.path),
        "label": "smiling",
        "groups": ["tone"],
        "output": str(tmp_path / "my runs"),
        "model": {"name": "linear"},
        "learner": sgd | {"epochs": 2, "optimizer": {"name": "sgd", "lr": tune.grid_search([1e-6, 0.1])}},
    }
    tuner = tune.Tuner(
        SweepTrainable,
        param_space=config,
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", reuse_actors=True, max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0),
    )
    best = tuner.fit().get_best_result()
    assert best.config["learner"]["optimizer"]["lr"] == 0.1
    results = analysis.load(tmp_path / "my runs")
    assert list(results.trials["state"]) == ["done", "done"]
    rates = results.rates(["accuracy"], by="tone", split="validation")
    assert (rates["n"] > 0).all()
    assert best.metrics["iteration"] == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": None}, "lacks label"),
        ({"output": "runs/own"}, "absolute path"),
        ({"label": "smilling"}, "did you mean 'smiling'"),
        ({"learners": {}}, "learners"),
    ],
)
def test_a_config_that_describes_no_trial_is_refused(toy, sgd, tmp_path, change, said):
    config = {"dataset": str(toy.path), "label": "smiling", "groups": ["tone"], "output": str(tmp_path), "learner": sgd}
    config = {name: value for name, value in (config | change).items() if value is not None}
    with pytest.raises(ValueError, match=said):
        TrialTask.of(config)
