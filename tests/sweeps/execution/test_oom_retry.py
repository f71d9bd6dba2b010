"""Out of GPU memory: once more, with twice the part of a GPU, in the same run."""

import dataclasses
import json

import pytest
import ray
import torch

from fairsweep.sweeps.execution import tasks
from fairsweep.sweeps.execution.oom_retry import with_more_gpu
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.learning.gpu_memory import assigned_gpus


@dataclasses.dataclass(frozen=True)
class HungryTask(TrialTask):
    """Takes more memory in its second iteration than a quarter of a GPU has; writes down every attempt."""

    def open(self):
        trial = super().open()
        gpus = assigned_gpus()
        with (self.folder / "attempts.log").open("a") as log:
            log.write(json.dumps({"gpus": gpus}) + "\n")
        step = trial._learner.step

        def hungry_step():
            if trial.iteration == 1 and gpus < 0.5:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return step()

        trial._learner.step = hungry_step
        return trial


@pytest.fixture
def queued(mapping, toy, tmp_path):
    planned = expand(Sweep.from_mapping(mapping), toy)[:5]
    return planned, Ledger(tmp_path / "out").queue(planned)


def test_only_what_lacked_memory_and_can_get_more_runs_again(queued):
    planned, entries = queued
    gpus = (0.25, 0.7, 1.0, 0.25, 0.25)
    errors = (
        "OutOfMemoryError: 2 GiB",
        "RayTaskError(OutOfMemoryError): 2 GiB",
        "OutOfMemoryError: x",
        "ValueError: y",
    )
    made = {
        t.trial: TrialTask(t.config, entries[t.trial].folder, run=1, gpu=gpu)
        for t, gpu in zip(planned, gpus, strict=True)
    }
    for trial, error in zip(planned, errors, strict=False):
        entries[trial.trial].file.mark({"state": "failed", "error": error})
    entries[planned[4].trial].file.mark({"state": "done"})
    said = []
    again = with_more_gpu(made, entries, said.append)
    assert {trial: task.gpu for trial, task in again.items()} == {planned[0].trial: 0.5, planned[1].trial: 1.0}
    assert {task.run for task in again.values()} == {2}
    assert said == ["2 trials ran out of GPU memory: retrying with twice the share of a GPU (gpu=0.5, 1)"]
    states = [entries[trial.trial].file.read().state for trial in planned]
    assert states == ["queued", "queued", "failed", "failed", "done"]


def test_parts_of_inner_workers_grow_too(queued):
    planned, entries = queued
    trial = planned[0].trial
    entries[trial].file.mark({"state": "failed", "error": "RayTaskError(OutOfMemoryError): 2 GiB"})
    task = TrialTask(planned[0].config, entries[trial].folder, run=1, workers=2, worker_gpu=0.25)
    (grown,) = with_more_gpu({trial: task}, entries, lambda _: None).values()
    assert (grown.gpu, grown.worker_gpu) == (0, 0.5)


def test_parts_of_shards_grow_where_their_workers_read_them(mapping, toy, tmp_path):
    shards = {"name": "forgetful", "kind": "sisa", "epochs": 1, "shard_resources": {"cpu": 0.5, "gpu": 0.25}}
    planned = expand(Sweep.from_mapping(mapping | {"learners": [shards]}), toy)[0]
    entries = Ledger(tmp_path / "out").queue([planned])
    entries[planned.trial].file.mark({"state": "failed", "error": "RayTaskError(OutOfMemoryError): 2 GiB"})
    task = TrialTask(planned.config, entries[planned.trial].folder, run=1, workers=2, worker_gpu=0.25)
    (grown,) = with_more_gpu({planned.trial: task}, entries, lambda _: None).values()
    assert (grown.worker_gpu, grown.config.learner.shard_resources.gpu) == (0.5, 0.5)
    assert grown.config.trial == planned.trial


def test_a_sweep_gives_more_of_the_gpu_to_what_lacked_memory(mapping, tmp_path, monkeypatch, ray_session, capsys):
    """Ray hands out logical GPUs here; the error is raised by the trial as CUDA would raise it."""
    assert ray.cluster_resources()["GPU"] == 2
    monkeypatch.setattr(tasks, "TrialTask", HungryTask)
    mapping["learners"] = [{"name": "tuned", "kind": "sgd", "epochs": 3, "batch_size": 24}]
    mapping |= {"seeds": 1, "resources": {"cpu": 0.5, "gpu": 0.25, "max_concurrent": 1}}
    monkeypatch.setattr("fairsweep.sweeps.execution.run.check_resources", lambda *_: None)  # this machine has no GPU
    results = Sweep.from_mapping(mapping).run()
    assert set(results.trials["state"]) == {"done"}
    assert "2 trials ran out of GPU memory: retrying" in capsys.readouterr().err
    for path in (tmp_path / "out").glob("trials/*/attempts.log"):
        assert [json.loads(line)["gpus"] for line in path.read_text().splitlines()] == [0.25, 0.5]
