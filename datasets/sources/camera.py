"""Turns a scene of reflectances into a photograph: light, exposure, noise of the sensor, tone curve.

Nothing here knows an attribute. Dark surfaces reflect less light, so that in a dim room their signal lies nearer to the
noise of the sensor, as with real cameras: that, and no rule of ours, makes dark tones harder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Photons that a full pixel holds, and the noise of reading one out, as a share of full: a small, cheap sensor.
_FULL_WELL = 1500.0
_READ_NOISE = 0.006


@dataclass(frozen=True)
class Shot:
    """How one photograph is taken.

    Attributes:
        exposure: Light that reaches the sensor; 1 is a bright room, .2 a dim one.
        compensation: How far the camera brightens a dim picture afterwards, in [0, 1]; it brightens the noise with it.
        warmth: Colour of the light: above 0 redder, below 0 bluer.
        blur: Weight of the neighbouring pixels, in [0, .25).
    """

    exposure: float
    compensation: float
    warmth: float
    blur: float

    @classmethod
    def draw(cls, random: np.random.Generator) -> Shot:
        """Draws the light of one photograph."""
        return cls(
            exposure=float(np.exp(random.uniform(np.log(0.25), np.log(1.1)))),
            compensation=random.uniform(0.35, 0.75),
            warmth=random.normal(0, 0.06),
            blur=random.uniform(0.0, 0.14),
        )

    def take(self, scene: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.uint8]:
        """Take the photograph.

        Args:
            scene: float32 [H, W, 3], light from each point under full exposure, in [0, ~1.3].
            random: Draws the sensor's noise.

        Returns:
            uint8 [H, W, 3].
        """
        signal = _soften(scene, self.blur) * np.float32(self.exposure)
        signal = signal * np.array([1 + self.warmth, 1, 1 - self.warmth], dtype=np.float32)
        # Shot noise grows with the root of the signal, read noise does not: dark areas lose their contrast first.
        deviation = np.sqrt(_READ_NOISE**2 + np.maximum(signal, 0) / _FULL_WELL)
        signal = signal + deviation * random.standard_normal(signal.shape, dtype=np.float32)
        signal = signal * np.float32(self.exposure**-self.compensation)
        # The sRGB curve's plain power form; what is brighter than white is clipped.
        picture: NDArray[np.uint8] = np.rint(np.clip(signal, 0, 1) ** np.float32(1 / 2.2) * 255).astype(np.uint8)
        return picture


def _soften(scene: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Mixes each pixel with its four neighbours (edges repeated)."""
    padded = np.pad(scene, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return (1 - 2 * weight) * scene + (weight / 2) * around
