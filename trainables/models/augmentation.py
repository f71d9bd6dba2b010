"""Random changes of the training images, on the training device, each a function of (key, step, id).

A batch is changed as a whole, each example by parameters of its own. The formulas are those of torchvision's v2
transforms, which take one parameter for a whole batch. Nothing is drawn from a generator with a state: the numbers of
an example follow from its id, so that they are the same from every feed, after a restart, and in every batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.datasets.selection.randomness import derive, priorities
from fairsweep.trainables.layers.views import view_keys
from fairsweep.trainables.models.warping import blurred, noised, warped

_FIELD_BITS = 15  # of the 64 bits that each example draws, every decision takes a field of its own
# Weights of red, green and blue in grey (ITU-R BT.601), as torchvision has them.
_GREY = (0.2989, 0.587, 0.114)


class AugmentationConfig(BaseModel):
    """Which random changes training images go through; none by default. Never those that are evaluated.

    Each example of a batch is changed once. For a private learner the changed example is still one example: its
    gradient is clipped as a whole, and nothing here looks at other examples, so the guarantee is untouched. Every group
    is changed alike. Changes come in the order of the fields; crop comes before flip.

    Attributes:
        flip: Mirror left to right with probability 1/2. Not for digits or text.
        crop: Shift by up to this many pixels in each direction; the border is filled by reflection.
        rotation: Turn by up to this many degrees in each direction; borders of this and the next two are filled by
            reflection.
        scale: Smallest and largest magnification.
        shear: Shear along x and y by up to this many degrees in each direction.
        brightness: Add a number in [-brightness, brightness] to all pixels; 1 is half of the full range.
        contrast: Multiply the difference from the image's mean by a number in [1 - contrast, 1 + contrast].
        saturation: Multiply the difference from grey by a number in [1 - saturation, 1 + saturation]; images without
            colour stay as they are, here and under hue.
        hue: Turn the hue by a number in [-hue, hue]; 1 is the full circle.
        blur: Blur by a Gaussian of a standard deviation of up to this many pixels.
        noise: Standard deviation of Gaussian noise on each pixel and channel; 1 is half of the full range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: bool = False
    crop: int = Field(default=0, ge=0)
    rotation: float = Field(default=0.0, ge=0, le=180)
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = Field(default=0.0, ge=0, lt=45)
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    saturation: float = Field(default=0.0, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)
    blur: float = Field(default=0.0, ge=0, le=8)
    noise: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> AugmentationConfig:
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, but got {[low, high]}; write [0.9, 1.1]")
        return self

    @property
    def active(self) -> bool:
        """True if any change is asked for."""
        return self.flip or self.crop > 0 or self.warps or self.changes_values

    @property
    def warps(self) -> bool:
        """True if images are turned, scaled or sheared."""
        return self.rotation > 0 or self.shear > 0 or self.scale != (1.0, 1.0)

    @property
    def changes_values(self) -> bool:
        """True if values may leave their range."""
        return any((self.brightness, self.contrast, self.saturation, self.hue, self.blur, self.noise))

    def check_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Check that images are large enough.

        Args:
            image_shape: (height, width, channels).

        Raises:
            ValueError: If ``crop`` or the reach of ``blur`` is not smaller than the images.
        """
        height, width, _ = image_shape
        for name, reach in (("crop", self.crop), ("the reach of blur", blur_radius(self.blur))):
            if reach >= min(height, width):
                raise ValueError(
                    f"{name} must be smaller than the images, but got {reach} for images of {height} x {width} pixels"
                )


def blur_radius(blur: float) -> int:
    """How many pixels to each side a blur reads: two standard deviations of its strongest."""
    return math.ceil(2 * blur)


def augment(
    inputs_BCHW: torch.Tensor, config: AugmentationConfig, key: bytes, step: int, ids: np.ndarray
) -> torch.Tensor:
    """Change a batch of training images.

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
        ValueError: If ``crop`` or the reach of ``blur`` is not smaller than the images.
    """
    if not config.active or len(ids) == 0:
        return inputs_BCHW
    channels, height, width = inputs_BCHW.shape[1:]
    config.check_shape((height, width, channels))
    step_key = derive(key, "augmentation", step)
    words = priorities(step_key, "example", ids)
    if config.crop > 0:
        inputs_BCHW = _shift(inputs_BCHW, config.crop, _fraction(words, 0), _fraction(words, 1))
    if config.flip:
        mirrored = torch.from_numpy((words >> np.uint64(63)).astype(bool)).to(inputs_BCHW.device)
        inputs_BCHW = torch.where(mirrored[:, None, None, None], inputs_BCHW.flip(3), inputs_BCHW)
    if config.warps:
        inputs_BCHW = _warp(inputs_BCHW, config, priorities(step_key, "affine", ids))
    if config.contrast > 0:
        factor = _per_example(1 + config.contrast * _either_way(words, 2), inputs_BCHW)
        mean = inputs_BCHW.mean(dim=(1, 2, 3), keepdim=True)
        inputs_BCHW = (inputs_BCHW - mean) * factor + mean
    if config.brightness > 0:
        inputs_BCHW = inputs_BCHW + _per_example(config.brightness * _either_way(words, 3), inputs_BCHW)
    if (config.saturation > 0 or config.hue > 0) and channels == 3:
        inputs_BCHW = _colour(inputs_BCHW, config, priorities(step_key, "colour", ids))
    if config.blur > 0:
        sigma = config.blur * _fraction(priorities(step_key, "blur", ids), 0)
        inputs_BCHW = blurred(inputs_BCHW, sigma, blur_radius(config.blur))
    if config.noise > 0:
        inputs_BCHW = noised(inputs_BCHW, config.noise, priorities(step_key, "noise", ids))
    return inputs_BCHW.clamp(-1, 1) if config.changes_values else inputs_BCHW


def augmented_views(
    inputs_BCHW: torch.Tensor, config: AugmentationConfig, key: bytes, step: int, ids: np.ndarray, views: int
) -> torch.Tensor:
    """Change each image of a batch several times, each time by draws of its own; see `augment`.

    Returns:
        float32 [B V, C, H, W]: the views of an example one after the other, of which the first is what `augment` gives.
    """
    each = [augment(inputs_BCHW, config, own, step, ids) for own in view_keys(key, views)]
    return each[0] if views == 1 else torch.stack(each, dim=1).flatten(0, 1)


def _warp(inputs_BCHW: torch.Tensor, config: AugmentationConfig, words: np.ndarray) -> torch.Tensor:
    low, high = config.scale
    return warped(
        inputs_BCHW,
        angle=config.rotation * _either_way(words, 0),
        scale=low + (high - low) * _fraction(words, 1),
        shear_x=config.shear * _either_way(words, 2),
        shear_y=config.shear * _either_way(words, 3),
    )


def _colour(inputs_BCHW: torch.Tensor, config: AugmentationConfig, words: np.ndarray) -> torch.Tensor:
    """Change saturation, then hue."""
    if config.saturation > 0:
        factor = _per_example(1 + config.saturation * _either_way(words, 0), inputs_BCHW)
        weights = inputs_BCHW.new_tensor(_GREY)[:, None, None]
        grey = ((inputs_BCHW + 1) * weights).sum(dim=1, keepdim=True) - 1
        inputs_BCHW = (grey + (inputs_BCHW - grey) * factor).clamp(-1, 1)
    if config.hue > 0:
        turn = _per_example(config.hue * _either_way(words, 1), inputs_BCHW)
        inputs_BCHW = _turn_hue(inputs_BCHW.clamp(-1, 1), turn)
    return inputs_BCHW


def _turn_hue(inputs_BCHW: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Add to the hue of hue, saturation and value; a turn of 1 is the full circle.

    References:
        Smith 1978, "Color gamut transform pairs" (HSV); the inverse in the closed form f(n) = v - v s max(0, min(k, 4
        - k, 1)) with k = (n + 6 h) mod 6 for n = 5, 3, 1.
    """
    red, green, blue = ((inputs_BCHW + 1) / 2).unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sixth = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixth = (sixth + 6 * turn[:, 0]) % 6
    parts = []
    for corner in (5, 3, 1):
        place = (corner + sixth) % 6
        parts.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(parts, dim=1) * 2 - 1


def _fraction(words: np.ndarray, field: int) -> np.ndarray:
    """Read one field of the drawn words as float64 [B] in [0, 1)."""
    bits = (words >> np.uint64(field * _FIELD_BITS)) & np.uint64(2**_FIELD_BITS - 1)
    fraction: np.ndarray = bits.astype(np.float64) / 2**_FIELD_BITS
    return fraction


def _either_way(words: np.ndarray, field: int) -> np.ndarray:
    """Read one field of the drawn words as float64 [B] in [-1, 1)."""
    both: np.ndarray = 2 * _fraction(words, field) - 1
    return both


def _per_example(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Move float64 [B] to the device as [B, 1, 1, 1]."""
    return torch.from_numpy(values).to(device=like.device, dtype=like.dtype)[:, None, None, None]


def _shift(inputs_BCHW: torch.Tensor, crop: int, across: np.ndarray, down: np.ndarray) -> torch.Tensor:
    """Cuts a window of the original size out of each reflected image, at offsets drawn from 0 … 2 crop."""
    batch, _, height, width = inputs_BCHW.shape
    padded = torch.nn.functional.pad(inputs_BCHW, (crop,) * 4, mode="reflect")
    device = inputs_BCHW.device
    top = torch.from_numpy((down * (2 * crop + 1)).astype(np.int64)).to(device)
    left = torch.from_numpy((across * (2 * crop + 1)).astype(np.int64)).to(device)
    rows = (top[:, None] + torch.arange(height, device=device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width, device=device))[:, None, None, :]
    example = torch.arange(batch, device=device)[:, None, None, None]
    channel = torch.arange(inputs_BCHW.shape[1], device=device)[None, :, None, None]
    return padded[example, channel, rows, columns]
