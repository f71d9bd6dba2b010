"""Caps on GPU memory, with a fake CUDA: what is asked of torch, in the trial, in reused actors and in inner workers."""

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from fairsweep.trainables import adapter
from fairsweep.trainables.adapter import SweepTrainable, TrialTask
from fairsweep.trainables.learning.gpu_memory import (
    GPU_PARTS,
    PeakMemory,
    assigned_gpus,
    cap_gpu_memory,
    gpu_part,
    peak_memory,
)
from fairsweep.trainables.trial.state import TrialStateFile


@pytest.fixture
def cuda(monkeypatch):
    """A CUDA with two devices that does nothing but remember its caps."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: asked.append((device, share))
    )
    return asked


@pytest.mark.parametrize(("gpus", "share"), [(0.25, 0.25), (0.9, 0.9), (1, 1.0), (2, 1.0), (0, 1.0)])
def test_a_part_of_a_gpu_is_a_cap_on_its_memory(cuda, gpus, share):
    cap_gpu_memory(gpus)
    assert cuda == [(0, share), (1, share)]


def test_without_cuda_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *_: pytest.fail("there is no CUDA"))
    cap_gpu_memory(0.5)


class Ending:
    """A trial that ends at once."""

    def iterate(self):
        return {"done": 1.0}

    def close(self):
        return


@pytest.fixture
def tasks(make_config, sgd, tmp_path):
    parts = {"quarter": 0.25, "whole": 1.0, "half": 0.5}
    return {name: TrialTask(make_config(sgd), tmp_path / name, run=1, gpu=gpu) for name, gpu in parts.items()}


def test_an_actor_caps_anew_for_each_trial_that_it_runs(cuda, tasks, monkeypatch):
    monkeypatch.setattr(TrialTask, "open", lambda _: Ending())
    monkeypatch.setattr(adapter, "assigned_gpus", lambda: None)

    actor = SweepTrainable({"task": tasks["quarter"]})
    actor.train()
    for name in ("whole", "half"):
        actor.reset({"task": tasks[name]})
        actor.train()
    assert [share for device, share in cuda if device == 0] == [0.25, 1.0, 0.5]


def test_what_ray_has_assigned_counts(cuda, tasks, monkeypatch):
    monkeypatch.setattr(TrialTask, "open", lambda _: Ending())
    monkeypatch.setattr(adapter, "assigned_gpus", lambda: 0.75)

    SweepTrainable({"task": tasks["quarter"]}).train()
    assert cuda[0] == (0, 0.75)


def test_out_of_memory_ends_the_trial_and_the_actor_goes_on(tasks, monkeypatch):
    """Tune would start it again with the same part of the GPU."""

    def out_of_memory(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(TrialTask, "open", out_of_memory)

    actor = SweepTrainable({"task": tasks["quarter"]})
    result = actor.train()
    assert (result["done"], result["failed"]) == (True, 1.0)
    monkeypatch.setattr(TrialTask, "open", lambda _: Ending())
    actor.reset({"task": tasks["half"]})
    assert actor.train()["failed"] == 0.0


@ray.remote
class Asked:
    def gpus(self):
        return assigned_gpus()


def test_ray_says_how_much_of_a_gpu_a_worker_has(ray_session):
    assert assigned_gpus() is None  # the driver is no worker
    group = placement_group([{"CPU": 0.1}, {"CPU": 0.1, "GPU": 0.25}])
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=1)
    actor = Asked.options(num_cpus=0.1, num_gpus=0.25, scheduling_strategy=place).remote()
    assert ray.get(actor.gpus.remote()) == 0.25
    assert ray.get(Asked.options(num_cpus=0.1).remote().gpus.remote()) == 0.0
    remove_placement_group(group)


def test_the_state_says_on_which_machine_an_attempt_ran(tmp_path):
    file = TrialStateFile(tmp_path)
    file.queue("a")
    file.begin("a", node="0123")
    assert file.read().node == "0123"


@pytest.mark.parametrize(
    ("peak", "part"),
    [(1, 0.0625), (5, 0.1), (8, 0.125), (10, 0.2), (21, 0.3333), (33, 0.5), (34, 1.0), (79, 1.0)],
)
def test_the_smallest_part_that_is_enough(peak, part):
    assert PeakMemory(peak - 1, 1, 84).part == part
    assert PeakMemory(peak, 0, 0).part is None


@given(needed=st.integers(0, 2 * 10**11), total=st.integers(10**9, 2 * 10**11))
def test_a_part_leaves_room_is_the_smallest_and_adds_up_to_no_more_than_one(needed, total):
    part = gpu_part(needed, total)
    shares = round(1 / part)
    assert part in GPU_PARTS
    assert 1 - 1e-3 < shares * part <= 1
    assert part == round(part, 4)  # Ray's steps
    if part < 1:
        assert part * total >= 1.25 * needed
        assert shares * needed <= total
    smaller = [p for p in GPU_PARTS if p < part]
    assert all(p * total < 1.25 * needed for p in smaller)


@given(needed=st.integers(0, 10**11), more=st.integers(0, 10**11), total=st.integers(10**9, 2 * 10**11))
def test_who_needs_more_gets_no_less(needed, more, total):
    assert gpu_part(needed + more, total) >= gpu_part(needed, total)
    assert gpu_part(needed, total + more) <= gpu_part(needed, total)


def test_the_peak_is_measured_anew_each_time(cuda, monkeypatch):
    """All but 20 of 84 bytes are free at the end; torch still holds 12 of them, so that CUDA itself has 8."""
    held = [100]
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: held.clear())
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: max(held))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 12)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (64, 84))
    with peak_memory("cuda") as found:
        held += [3, 19, 12]
    assert (found.peak_bytes, found.context_bytes, found.total_bytes) == (19, 8, 84)
    assert (found.needed_bytes, found.part) == (27, 0.5)
    with peak_memory("cpu") as found:
        held += [50]
    assert found.part is None
