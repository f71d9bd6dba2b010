"""The cap on a process's GPU memory: the same share as its trial has of the GPU."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

# A longer training fragments memory more than a few steps do, and meets larger Poisson batches.
RESERVE = 1.25
# How many trials may share a GPU. Ray counts in steps of 1/10,000: 0.3333 three times is no more than a whole one.
_SHARED_BY = (16, 10, 8, 5, 4, 3, 2)
GPU_PARTS = (*(10_000 // count / 10_000 for count in _SHARED_BY), 1.0)


def gpu_part(needed_bytes: int, total_bytes: int) -> float:
    """Return the smallest of `GPU_PARTS` that is a quarter more than what is needed; a whole GPU if none is.

    Args:
        needed_bytes: what a process takes of a GPU's memory at most.
        total_bytes: what the GPU has.

    >>> gpu_part(3 * 10**9, 80 * 10**9), gpu_part(10 * 10**9, 80 * 10**9), gpu_part(70 * 10**9, 80 * 10**9)
    (0.0625, 0.2, 1.0)
    """
    return next((part for part in GPU_PARTS if part * total_bytes >= RESERVE * needed_bytes), 1.0)


def part_text(part: float) -> str:
    """Return a part of a GPU as people say it.

    >>> part_text(0.3333), part_text(0.0625), part_text(1.0)
    ('1/3 of a GPU', '1/16 of a GPU', 'a whole GPU')
    """
    return "a whole GPU" if part == 1 else f"1/{round(1 / part)} of a GPU"


@dataclass
class PeakMemory:
    """The most memory that a process held on a GPU for some time.

    Attributes:
        peak_bytes: what torch held; 0 until the end, and without a GPU.
        context_bytes: what is taken beside it: the CUDA context and kernels, and whatever other programs hold there.
        total_bytes: what the GPU has; 0 without one.
    """

    peak_bytes: int = 0
    context_bytes: int = 0
    total_bytes: int = 0

    @property
    def needed_bytes(self) -> int:
        """All that it took. What CUDA takes is not capped, but each process takes it anew."""
        return self.peak_bytes + self.context_bytes

    @property
    def part(self) -> float | None:
        """The part of the GPU that is enough, see `gpu_part`; None without a GPU."""
        return gpu_part(self.needed_bytes, self.total_bytes) if self.total_bytes else None


@contextmanager
def peak_memory(device: str) -> Iterator[PeakMemory]:
    """Measure what this process holds at most on a device for the time of a context; nothing on a CPU."""
    found = PeakMemory()
    if not device.startswith("cuda"):
        yield found
        return
    gc.collect()  # a learner before this one may still hold its tensors in a cycle
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield found
    torch.cuda.synchronize()
    found.peak_bytes = int(torch.cuda.max_memory_reserved())
    free, total = torch.cuda.mem_get_info()
    found.context_bytes = max(0, int(total - free) - int(torch.cuda.memory_reserved()))
    found.total_bytes = int(total)


def assigned_gpus() -> float | None:
    """GPUs that Ray has given to this process, fractions too; None outside of Ray's workers."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return None
    # In a placement group the names carry the group, and each amount is listed once with and once without the bundle.
    amounts = ray.get_runtime_context().get_assigned_resources()
    return max((float(amount) for name, amount in amounts.items() if name.split("_group_")[0] == "GPU"), default=0.0)


def cap_gpu_memory(gpus: float) -> None:
    """Let torch's allocator take no more than a share of each GPU that this process sees; 1 lifts an earlier cap.

    What CUDA itself takes in each process (its context, some hundred MB) comes on top and is not capped.

    Args:
        gpus: reserved GPUs; from 1 on, and for 0, there is no cap.
    """
    if not torch.cuda.is_available():
        return
    share = gpus if 0 < gpus < 1 else 1.0
    torch.cuda.empty_cache()  # what an earlier trial of this process held is no part of this one's share
    for device in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(share, device)
