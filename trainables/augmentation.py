"""Random changes of the training images, on the training device, each a function of (key, step, id)."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from fairsweep.datasets.randomness import derive, priorities

_FIELD_BITS = 15  # of the 64 bits that each example draws, every decision takes a field of its own


class AugmentationConfig(BaseModel):
    """Which random changes training images go through; none by default.

    Each example of a batch is changed once. For a private learner the changed example is still one example: its
    gradient is clipped as a whole, and nothing here looks at other examples, so the guarantee is untouched. Every group
    is changed alike.

    Attributes:
        flip: Mirror left to right with probability 1/2. Not for digits or text.
        crop: Shift by up to this many pixels in each direction; the border is filled by reflection.
        brightness: Add a number in [-brightness, brightness] to all pixels; 1 is half of the full range.
        contrast: Multiply the difference from the image's mean by a number in [1 - contrast, 1 + contrast].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: bool = False
    crop: int = Field(default=0, ge=0)
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, lt=1)

    @property
    def active(self) -> bool:
        """True if any change is asked for."""
        return self.flip or self.crop > 0 or self.brightness > 0 or self.contrast > 0


def augment(
    inputs_BCHW: torch.Tensor, config: AugmentationConfig, key: bytes, step: int, ids: np.ndarray
) -> torch.Tensor:
    """Changes a batch of training images.

    What happens to an example follows from the key, the step and its id. It depends neither on who else is in the batch
    nor on how the batch is split: leaving one example out changes no other example's image.

    Args:
        inputs_BCHW: float32 [B, C, H, W] in [-1, 1].
        config: Which changes.
        key: 32 bytes; the trial's ``train`` key.
        step: Position of the step.
        ids: int64 [B], the examples' ids.

    Returns:
        float32 [B, C, H, W]; the input itself if no change is asked for.

    Raises:
        ValueError: If ``crop`` is not smaller than the images.
    """
    if not config.active or len(ids) == 0:
        return inputs_BCHW
    words = priorities(derive(key, "augmentation", step), "example", ids)
    if config.crop > 0:
        inputs_BCHW = _shift(inputs_BCHW, config.crop, _fraction(words, 0), _fraction(words, 1))
    if config.flip:
        mirrored = torch.from_numpy((words >> np.uint64(63)).astype(bool)).to(inputs_BCHW.device)
        inputs_BCHW = torch.where(mirrored[:, None, None, None], inputs_BCHW.flip(3), inputs_BCHW)
    if config.contrast > 0:
        factor = _per_example(1 + config.contrast * (2 * _fraction(words, 2) - 1), inputs_BCHW)
        mean = inputs_BCHW.mean(dim=(1, 2, 3), keepdim=True)
        inputs_BCHW = (inputs_BCHW - mean) * factor + mean
    if config.brightness > 0:
        inputs_BCHW = inputs_BCHW + _per_example(config.brightness * (2 * _fraction(words, 3) - 1), inputs_BCHW)
    if config.contrast > 0 or config.brightness > 0:
        inputs_BCHW = inputs_BCHW.clamp(-1, 1)
    return inputs_BCHW


def _fraction(words: np.ndarray, field: int) -> np.ndarray:
    """Reads one field of the drawn words as float64 [B] in [0, 1)."""
    bits = (words >> np.uint64(field * _FIELD_BITS)) & np.uint64(2**_FIELD_BITS - 1)
    fraction: np.ndarray = bits.astype(np.float64) / 2**_FIELD_BITS
    return fraction


def _per_example(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Moves float64 [B] to the device as [B, 1, 1, 1]."""
    return torch.from_numpy(values).to(device=like.device, dtype=like.dtype)[:, None, None, None]


def _shift(inputs_BCHW: torch.Tensor, crop: int, across: np.ndarray, down: np.ndarray) -> torch.Tensor:
    """Cuts a window of the original size out of each reflected image, at offsets drawn from 0 … 2 crop."""
    batch, _, height, width = inputs_BCHW.shape
    if crop >= min(height, width):
        raise ValueError(
            f"crop must be smaller than the images, but got {crop=} for images of {height} x {width} pixels"
        )
    padded = torch.nn.functional.pad(inputs_BCHW, (crop,) * 4, mode="reflect")
    device = inputs_BCHW.device
    top = torch.from_numpy((down * (2 * crop + 1)).astype(np.int64)).to(device)
    left = torch.from_numpy((across * (2 * crop + 1)).astype(np.int64)).to(device)
    rows = (top[:, None] + torch.arange(height, device=device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width, device=device))[:, None, None, :]
    example = torch.arange(batch, device=device)[:, None, None, None]
    channel = torch.arange(inputs_BCHW.shape[1], device=device)[None, :, None, None]
    return padded[example, channel, rows, columns]
