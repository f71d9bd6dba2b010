"""Gaussian noise, keyed by a secret, a run and a step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from fairsweep.datasets.selection.randomness import derive, generator


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

        On the CPU NumPy's Philox generator has a 128-bit key. torch's CPU generator would keep 32 bits of its seed, few
        enough to try them all. On CUDA torch's Philox generator keeps 64 bits.

        Args:
            size: How many, P.
            step: Position of the step.
            device: Where they are wanted.

        Returns:
            float32 [P], independent N(0, 1).
        """
        if device.type == "cuda":
            seed = int.from_bytes(derive(self.secret, "noise", self.run, step)[:8], "little")
            philox = torch.Generator(device=device).manual_seed(seed)
            return torch.randn(size, generator=philox, device=device)
        philox_on_cpu = generator(self.secret, "noise", self.run, step)
        return torch.from_numpy(philox_on_cpu.standard_normal(size, dtype="float32")).to(device)
