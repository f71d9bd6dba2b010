"""How much of a GPU's memory a process may take: as much as its trial has of the GPU."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

# A longer training fragments memory more than a few steps do, and CUDA takes some for itself in each process.
_RESERVE = 1.25
_MOST_PARTS = 16


@dataclass
class PeakMemory:
    """The most memory that torch held on a GPU for some time.

    Attributes:
        peak_bytes: what it held; 0 until the end, and without a GPU.
        total_bytes: what the GPU has; 0 without one.
    """

    peak_bytes: int = 0
    total_bytes: int = 0

    @property
    def part(self) -> float | None:
        """The smallest part 1/n of the GPU that is enough, a quarter more than the peak; None without a GPU.

        >>> PeakMemory(3 * 10**9, 80 * 10**9).part, PeakMemory(50 * 10**9, 80 * 10**9).part
        (0.0625, 1.0)
        """
        if not self.total_bytes:
            return None
        parts = self.total_bytes / (_RESERVE * max(1, self.peak_bytes))
        # Ray counts in steps of 1/10,000.
        return math.floor(10_000 / max(1, min(_MOST_PARTS, int(parts)))) / 10_000


@contextmanager
def peak_memory(device: str) -> Iterator[PeakMemory]:
    """Measure what torch holds at most on a device for the time of a context; nothing on a CPU."""
    found = PeakMemory()
    if not device.startswith("cuda"):
        yield found
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield found
    found.peak_bytes = int(torch.cuda.max_memory_reserved())
    found.total_bytes = int(torch.cuda.mem_get_info()[1])


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
