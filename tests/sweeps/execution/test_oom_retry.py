"""Out of GPU memory: once more, with twice the part of a GPU. Whole runs: test_driver_contract.py."""

import pytest

from fairsweep.sweeps.execution.oom_retry import with_more_gpu
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.adapter import TrialTask


@pytest.fixture
def queued(mapping, toy, tmp_path):
    planned = expand(Sweep.from_mapping(mapping), toy)[:5]
    return planned, Ledger(tmp_path / "out").queue(planned)


def task_of(planned, entry, **shape):
    return TrialTask(planned.config, entry.folder, run=1, **shape)


@pytest.mark.parametrize(
    ("gpu", "state", "grown"),
    [
        (0.25, {"state": "failed", "error": "OutOfMemoryError: 2 GiB"}, 0.5),
        (0.7, {"state": "failed", "error": "RayTaskError(OutOfMemoryError): 2 GiB"}, 1.0),
        (1.0, {"state": "failed", "error": "OutOfMemoryError: x"}, None),
        (0.25, {"state": "failed", "error": "ValueError: y"}, None),
        (0.25, {"state": "done"}, None),
    ],
)
def test_only_what_lacked_memory_and_can_get_more_runs_again(queued, gpu, state, grown):
    (planned, *_), entries = queued
    entry = entries[planned.trial]
    entry.file.mark(state)
    found = with_more_gpu(task_of(planned, entry, gpu=gpu), entry)
    if grown is None:
        assert found is None
        assert entry.file.read().state == state["state"]
    else:
        again, task = found
        assert (task.gpu, task.run, again.state.run) == (grown, 2, 2)
        assert entry.file.read().state == "queued"


def test_parts_of_inner_workers_grow_too(queued):
    (planned, *_), entries = queued
    entry = entries[planned.trial]
    entry.file.mark({"state": "failed", "error": "RayTaskError(OutOfMemoryError): 2 GiB"})
    _, grown = with_more_gpu(task_of(planned, entry, workers=2, worker_gpu=0.25), entry)
    assert (grown.gpu, grown.worker_gpu) == (0, 0.5)


def test_parts_of_shards_grow_where_their_workers_read_them(mapping, toy, tmp_path):
    shards = {"name": "forgetful", "kind": "sisa", "epochs": 1, "shard_resources": {"cpu": 0.5, "gpu": 0.25}}
    planned = expand(Sweep.from_mapping(mapping | {"learners": [shards]}), toy)[0]
    entry = Ledger(tmp_path / "out").queue([planned])[planned.trial]
    entry.file.mark({"state": "failed", "error": "RayTaskError(OutOfMemoryError): 2 GiB"})
    task = task_of(planned, entry, workers=2, worker_gpu=0.25)
    assert task.shares_gpu
    _, grown = with_more_gpu(task, entry)
    assert (grown.worker_gpu, grown.config.learner.shard_resources.gpu) == (0.5, 0.5)
    assert grown.config.trial == planned.trial
