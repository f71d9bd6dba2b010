"""How much of a GPU's memory a process may take: as much as its trial has of the GPU."""

import sys

import torch


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
