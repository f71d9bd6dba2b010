"""Gaussian noise, keyed by a secret, a run and a step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from fairsweep.datasets.selection.randomness import generator


@dataclass(frozen=True)
class GaussianNoise:
    """Independent normal noise for every step of one run of one trial.

    Nothing is stored between steps: a resumed trial draws for a step what the uninterrupted one would have drawn. The
    numbers are 32-bit floats from a cryptographically keyed counter-based generator. Attacks on the gaps between
    floating-point numbers (Mironov 2012) are outside the guarantee.

    Attributes:
        std: Standard deviation, at least 0: noise multiplier times clipping norm.
        secret: 32 bytes, the trial's secret.
        run: Number of the run under this secret.
    """

    std: float
    secret: bytes = field(repr=False)
    run: int = 0

    def add_to(self, total: torch.Tensor, step: int) -> None:
        """Add the noise of one step.

        Args:
            total: float32 [P], contiguous; changed in place.
            step: Position of the step, at least 0.
        """
        if self.std == 0:
            return
        total.add_(self.draw(total.numel(), step, total.device), alpha=self.std)

    def draw(self, size: int, step: int, device: torch.device) -> torch.Tensor:
        """Draws the standard normal numbers of a step.

        NumPy's Philox generator has a key of 128 bits. Torch's own keep 32 bits of their seed on the CPU and 64 on
        CUDA, few enough to try them all, so that the numbers are drawn on the CPU and moved; they are the same for
        every device.

        Args:
            size: How many, P.
            step: Position of the step.
            device: Where they are wanted.

        Returns:
            float32 [P], independent N(0, 1).
        """
        drawn = generator(self.secret, "noise", self.run, step).standard_normal(size, dtype="float32")
        return torch.from_numpy(drawn).to(device)
