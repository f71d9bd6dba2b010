"""Conversion of stored images to model inputs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

# Constants, never computed from the training set: statistics of the data would leak past a privacy guarantee and
# survive a deletion.
MEAN = 0.5
STD = 0.5
Item = TypeVar("Item")


class _End:
    """Stands behind the last item."""


_END = _End()


def ahead(batches: Iterator[Item], device: torch.device) -> Iterator[Item]:
    """Give batches in their order; on a GPU the next one is read while it works on the one before.

    On a CPU the thread would take its time from the training.
    """
    return one_ahead(batches) if device.type == "cuda" else batches


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Give items in their order; a thread takes the next one while the one before is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, _END)
        while not isinstance(item := coming.result(), _End):
            coming = thread.submit(next, items, _END)
            yield item


def to_device(images_BHWC: np.ndarray, device: torch.device) -> torch.Tensor:
    """Move a batch of stored images to the training device.

    Args:
        images_BHWC: uint8 [B, H, W, C] in [0, 255]; or features of a frozen body, float32 [B, …].
        device: Where training happens. Bytes are moved, not floats: a quarter of the traffic.

    Returns:
        uint8 [B, C, H, W] on the device, contiguous; features as they are.
    """
    moved = torch.from_numpy(np.ascontiguousarray(images_BHWC))
    if device.type == "cuda":  # from pinned memory the copy runs beside what this process does next
        moved = moved.pin_memory()
    moved = moved.to(device, non_blocking=True)
    if moved.is_floating_point():
        return moved
    return moved.permute(0, 3, 1, 2).contiguous()


def normalise(images_BCHW: torch.Tensor) -> torch.Tensor:
    """Map uint8 [B, C, H, W] in [0, 255] to float32 in [-1, 1]: (x / 255 - MEAN) / STD; features stay as they are."""
    if images_BCHW.is_floating_point():
        return images_BCHW
    offset = torch.tensor(-MEAN / STD, device=images_BCHW.device)
    return torch.add(offset, images_BCHW, alpha=1 / (255 * STD))  # one pass: converts, scales and shifts
