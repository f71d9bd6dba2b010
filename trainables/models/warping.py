"""Affine maps, blur and noise for a batch of images, with parameters for each example.

Every output pixel is computed from its own example alone and by the same operations whatever the batch holds, so that
leaving one example out changes no other's image by a single bit.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from fairsweep.trainables.layers.word_mixing import mixed

_WORD = 2**32 - 1


def warped(
    inputs_BCHW: torch.Tensor, *, angle: np.ndarray, scale: np.ndarray, shear_x: np.ndarray, shear_y: np.ndarray
) -> torch.Tensor:
    """Return the turns, scales and shears images around their centres; bilinear, borders filled by reflection.

    Args:
        inputs_BCHW: float32 [B, C, H, W].
        angle: Degrees, float64 [B]; as torchvision counts them.
        scale: Magnification > 0, float64 [B].
        shear_x: Degrees, float64 [B].
        shear_y: Degrees, float64 [B].

    Returns:
        float32 [B, C, H, W].

    References:
        torchvision's `v2.functional.affine` without translation: output (x, y) shows input M^-1 (x, y), M = rotation ·
        shear · scale.
    """
    height, width = inputs_BCHW.shape[2:]
    turn, along_x, along_y = (np.deg2rad(degrees) for degrees in (angle, shear_x, shear_y))
    # Rotation times shear, in the notation of torchvision's `_get_inverse_affine_matrix`.
    a = np.cos(turn - along_y) / np.cos(along_y)
    b = -np.cos(turn - along_y) * np.tan(along_x) / np.cos(along_y) - np.sin(turn)
    c = np.sin(turn - along_y) / np.cos(along_y)
    d = -np.sin(turn - along_y) * np.tan(along_x) / np.cos(along_y) + np.cos(turn)
    inverse = np.stack([d, -b, -c, a], axis=1).reshape(-1, 2, 2) / scale[:, None, None]
    device = inputs_BCHW.device
    matrix = torch.from_numpy(inverse).to(device=device, dtype=inputs_BCHW.dtype)
    # Pixel centres, counted from the centre of the image.
    x = torch.arange(width, device=device, dtype=inputs_BCHW.dtype) + 0.5 - width / 2
    y = (torch.arange(height, device=device, dtype=inputs_BCHW.dtype) + 0.5 - height / 2)[:, None]
    across = matrix[:, 0, 0, None, None] * x + matrix[:, 0, 1, None, None] * y
    down = matrix[:, 1, 0, None, None] * x + matrix[:, 1, 1, None, None] * y
    grid = torch.stack([across / (width / 2), down / (height / 2)], dim=-1)
    return F.grid_sample(inputs_BCHW, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def blurred(inputs_BCHW: torch.Tensor, sigma: np.ndarray, radius: int) -> torch.Tensor:
    """Blurs images by Gaussians.

    Args:
        inputs_BCHW: float32 [B, C, H, W].
        sigma: Standard deviation in pixels, >= 0, float64 [B]; 0 changes nothing.
        radius: Pixels to each side that are read, >= 1, smaller than the images; borders are filled by reflection.

    Returns:
        float32 [B, C, H, W].
    """
    height, width = inputs_BCHW.shape[2:]
    places = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (places / np.maximum(sigma, 1e-3)[:, None]) ** 2)
    kernel = torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).to(inputs_BCHW)[:, :, None, None, None]
    padded = F.pad(inputs_BCHW, (radius, radius, 0, 0), mode="reflect")
    across = sum(kernel[:, place] * padded[..., place : place + width] for place in range(len(places)))
    padded = F.pad(torch.as_tensor(across), (0, 0, radius, radius), mode="reflect")
    down = sum(kernel[:, place] * padded[..., place : place + height, :] for place in range(len(places)))
    return torch.as_tensor(down)


def noised(inputs_BCHW: torch.Tensor, deviation: float, words: np.ndarray) -> torch.Tensor:
    """Add Gaussian noise that follows from one word an example.

    Args:
        inputs_BCHW: float32 [B, C, H, W].
        deviation: Standard deviation.
        words: uint64 [B], random; equal words give equal noise.

    References:
        Box and Muller 1958 (two normal numbers of two uniform ones), here of two words that a counter-based hash makes
        of the example's word and the place of the pair.
    """
    shape = inputs_BCHW.shape
    size = math.prod(shape[1:])
    halves = np.stack([words & np.uint64(_WORD), words >> np.uint64(32)]).astype(np.uint32).view(np.int32)
    low, high = torch.from_numpy(halves).to(inputs_BCHW.device)[:, :, None]
    counter = torch.arange((size + 1) // 2, device=inputs_BCHW.device, dtype=torch.int32)
    first = mixed(mixed(counter + low).bitwise_xor_(high))
    second = mixed(first + high)
    # Both in (0, 1): 24 bits, and half a step from either end.
    uniform, turn = (
        word.bitwise_right_shift_(8).bitwise_and_(2**24 - 1).to(inputs_BCHW.dtype).add_(0.5).div_(2**24)
        for word in (first, second)
    )
    radius = uniform.log_().mul_(-2).sqrt_().mul_(deviation)
    angle = turn.mul_(2 * math.pi)
    noise = torch.cat([angle.cos().mul_(radius), angle.sin().mul_(radius)], dim=1)
    return inputs_BCHW + noise[:, :size].reshape(shape)
