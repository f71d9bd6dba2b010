"""Conversion of stored images to model inputs."""

from __future__ import annotations

import numpy as np
import torch

# Constants, never computed from the training set: statistics of the data would leak past a privacy guarantee and
# survive a deletion.
MEAN = 0.5
STD = 0.5


def to_device(images_BHWC: np.ndarray, device: torch.device) -> torch.Tensor:
    """Move a batch of stored images to the training device.

    Args:
        images_BHWC: uint8 [B, H, W, C] in [0, 255]; or features of a frozen body, float32 [B, …].
        device: Where training happens. Bytes are moved, not floats: a quarter of the traffic.

    Returns:
        uint8 [B, C, H, W] on the device, contiguous; features as they are.
    """
    moved = torch.from_numpy(np.ascontiguousarray(images_BHWC)).to(device)
    if moved.is_floating_point():
        return moved
    return moved.permute(0, 3, 1, 2).contiguous()


def normalise(images_BCHW: torch.Tensor) -> torch.Tensor:
    """Map uint8 [B, C, H, W] in [0, 255] to float32 in [-1, 1]: (x / 255 - MEAN) / STD; features stay as they are."""
    if images_BCHW.is_floating_point():
        return images_BCHW
    offset = torch.tensor(-MEAN / STD, device=images_BCHW.device)
    return torch.add(offset, images_BCHW, alpha=1 / (255 * STD))  # one pass: converts, scales and shifts
