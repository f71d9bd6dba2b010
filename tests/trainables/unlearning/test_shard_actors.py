"""Shards on Ray: the same weights bit for bit with any number of workers, also when a worker is killed."""

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.unlearning.shard_actors import ActorPool, ShardWorker, ShardWorkerError, make_pool
from fairsweep.trainables.unlearning.shards import SequentialPool, ShardWork, SliceJob
from fairsweep.trainables.unlearning.sisa import SLICES, Sisa
from fairsweep.trainables.unlearning.sisa_config import SisaConfig, inner_of
from fairsweep.trainables.unlearning.slice_store import FolderStore


def config(epochs=2, **fields):
    inner = {"kind": "sgd", "batch_size": 8, "optimizer": {"lr": 0.1, "momentum": 0.9}}
    shape = {"shards": 4, "slices": 2, "epochs": epochs, "inner": inner, "shard_resources": {"cpu": 0.25}}
    return SisaConfig.model_validate(shape | fields)


@pytest.fixture
def task(make_config, tmp_path):
    """A trial's task, whose images another process can open."""
    trial = Trial(make_config(config().model_dump(mode="json")), tmp_path / "trial")
    yield trial._learner._task
    trial.close()


@pytest.fixture
def groups(ray_session):
    """Makes placement groups with bundles for the trial and its workers."""
    from ray.util import placement_group, remove_placement_group

    made = []

    def make(workers):
        group = placement_group([{"CPU": 0.25}] * (1 + workers))
        assert group.wait(60)
        made.append(group)
        return group

    yield make
    for group in made:
        remove_placement_group(group)


def on_ray(given, task, folder, group):
    def make(config, task, store):
        return ActorPool(task, inner_of(config, task.size), store, config.shard_resources, group)

    return Sisa(given, replace(task, folder=folder), make_pool=make)


def sequential(given, task, folder=None):
    return Sisa(given, replace(task, folder=folder))


def finish(learner):
    while learner.iteration < learner.iterations:
        learner.step()
    return learner


def assert_equal(one, other):
    theirs = other.weights()
    for name, value in one.weights().items():
        assert torch.equal(value, theirs[name]), name


def test_a_worker_that_does_not_reach_the_trials_folder_sends_its_slices_back(task, tmp_path):
    places = (np.arange(20), np.arange(40))
    jobs = tuple(SliceJob(f"slice{n}", 0, n, positions, np.empty(0, np.int64), 0) for n, positions in enumerate(places))
    (tmp_path / "probe").touch()
    inner = inner_of(config(), task.size)
    near = ShardWorker(task, inner, str(tmp_path / "near"), str(tmp_path / "probe"), 1, False)
    far = ShardWorker(task, inner, str(tmp_path / "far"), str(tmp_path / "elsewhere"), 1, False)
    assert near.train(ShardWork(jobs, None)) == []
    sent = far.train(ShardWork(jobs, None))
    assert [trained.name for trained in sent] == ["slice0", "slice1"]
    assert not (tmp_path / "far").exists()
    for trained in sent:
        kept = FolderStore(tmp_path / "near").get(trained.name)
        assert all(torch.equal(value, trained.weights[name]) for name, value in kept.weights.items())


@pytest.mark.slow  # each worker is a process that imports torch
@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_weights_of_none(task, groups, tmp_path, workers):
    given = config(requests={"count": 4, "batch": 2})
    alone = finish(sequential(given, task))
    spread = finish(on_ray(given, task, tmp_path / "ray", groups(workers)))
    try:
        assert_equal(spread, alone)
        assert len(spread._pool.pids()) == min(workers, 4)
        assert os.getpid() not in spread._pool.pids()
        assert [r.work.examples for r in spread.served] == [r.work.examples for r in alone.served]
    finally:
        spread.close()
    spread.close()


def test_a_worker_that_is_killed_in_a_request_is_replaced_and_goes_on_from_its_last_slice(task, groups, tmp_path):
    given = config(epochs=60, shards=1, slices=3)
    alone, spread = finish(sequential(given, task)), finish(on_ray(given, task, tmp_path, groups(1)))
    placed, ids = spread.placement, spread.population.ids
    asked = ids[placed.slice == 0][:3]
    alone.forget(asked)
    folder = tmp_path / SLICES
    known, killed = set(folder.glob("*.json")), []

    def kill_after_the_first_slice():
        while not set(folder.glob("*.json")) - known:
            time.sleep(0.002)
        killed.extend(pids)
        os.kill(pids[0], signal.SIGKILL)

    pids = spread._pool.pids()
    watcher = threading.Thread(target=kill_after_the_first_slice)
    watcher.start()
    spread.forget(asked)
    watcher.join()
    try:
        assert killed
        assert spread._pool.pids() != killed
        assert_equal(spread, alone)
    finally:
        spread.close()


@pytest.mark.slow
def test_a_worker_that_dies_again_and_again_ends_the_trial(task, groups, tmp_path, monkeypatch):
    learner = on_ray(config(), task, tmp_path, groups(1))
    pool = learner._pool
    start = pool._worker

    def doomed(bundle):
        worker = start(bundle)
        os.kill(pool.pids()[0], signal.SIGKILL)
        return worker

    monkeypatch.setattr(pool, "_worker", doomed)
    with pytest.raises(ShardWorkerError, match=r"(?s)died 3 times.*shard_resources\.workers"):
        learner.step()
    pool._workers.clear()


def test_without_bundles_or_a_folder_shards_are_trained_one_after_the_other(task, tmp_path):
    inner = config()
    pool = make_pool(inner, task, FolderStore(tmp_path))
    assert isinstance(pool, SequentialPool)
    learner = sequential(config(), task)
    learner.step()
    job = learner._chain(0)[0]
    assert ShardWork((job,), None).examples == len(job.positions)
    assert np.isin(job.positions, np.arange(task.size)).all()
