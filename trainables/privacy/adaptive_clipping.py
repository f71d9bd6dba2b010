"""Adaptive clipping: a norm that follows a quantile of the update norms, estimated from noisy counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# The norm is post-processing of noisy counts, so bounds cost nothing; they keep noise from driving it out of floats.
_SMALLEST, _LARGEST = 1e-6, 1e6


@dataclass
class AdaptiveNorm:
    """The clipping norm of the coming round.

    A client that joins tells whether its update's norm was at most S. Told as +1/2 or -1/2, it changes the sum by at
    most 1/2, and an absent client counts 0.

    Attributes:
        l2_clip_norm: S, positive.
        quantile: The share of clients whose updates shall be at most S, in (0, 1).
        learning_rate: Positive.
        expected_cohort: The constant by which counts are divided.

    References:
        Andrew et al. 2021, arXiv 1905.03871, algorithm 1 and section 2.2 (geometric updates).
    """

    l2_clip_norm: float
    quantile: float
    learning_rate: float
    expected_cohort: float

    def count(self, norms_C: np.ndarray) -> float:
        """Return the sum over clients of +1/2 (norm at most S) or -1/2 (larger, or not a number)."""
        below = np.asarray(norms_C) <= self.l2_clip_norm
        return float((below - 0.5).sum())

    def learn(self, noised_count: float) -> None:
        """Move S by a count to which noise has been added."""
        share_below = noised_count / self.expected_cohort + 0.5
        moved = self.l2_clip_norm * math.exp(-self.learning_rate * max(-50.0, min(50.0, share_below - self.quantile)))
        self.l2_clip_norm = min(_LARGEST, max(_SMALLEST, moved))
