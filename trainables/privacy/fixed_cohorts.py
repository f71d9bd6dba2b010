"""Cohorts of fixed size, for training without privacy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.selection.randomness import generator


@dataclass(frozen=True)
class FixedCohorts:
    """A `Sampler` that draws the same number of clients for every round, without replacement.

    Attributes:
        n: Number of clients.
        cohort_size: How many join a round, in [1, n].
        steps: Number of rounds.
        key: 32 bytes.
    """

    n: int
    cohort_size: int
    steps: int
    key: bytes = field(repr=False)

    def positions(self, step: int) -> NDArray[np.int64]:
        """Return who joins a round, int64 [cohort_size], ascending."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step must be in [0, {self.steps}), but got {step=}")
        drawn = generator(self.key, "cohort", step).permutation(self.n)[: self.cohort_size]
        return np.sort(drawn).astype(np.int64)
