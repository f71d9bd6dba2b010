"""Probability that a run of one learner outperforms a run of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.statistics.intervals import normal_quantile, wilson
from fairsweep.analysis.statistics.variance_components import ROUNDING, ReplicateSeeds

THRESHOLD = 0.75
"""Probability from which the reference calls an improvement meaningful."""


@dataclass(frozen=True)
class Superiority:
    """P(A > B), with its interval.

    Attributes:
        probability: share of the pairs in which A is larger, ties counted as one half.
        low: lower bound.
        high: upper bound.
        pairs: number of pairs.
    """

    probability: float
    low: float
    high: float
    pairs: int

    @property
    def is_meaningful(self) -> bool:
        """Return whether A is larger more often than not, and `THRESHOLD` is not excluded."""
        return self.low > 0.5 and self.high > THRESHOLD

    def reversed(self) -> Superiority:
        """Return P(B > A)."""
        return Superiority(1 - self.probability, 1 - self.high, 1 - self.low, self.pairs)


def superiority(
    differences: npt.ArrayLike, seeds: ReplicateSeeds | None = None, confidence: float = 0.95
) -> Superiority:
    """Return P(A > B) from differences A - B of runs paired by seed.

    The interval is Wilson's: the reference's percentile bootstrap of three pairs that agree has no width. Pairs that
    share seeds are not independent: crossed ones count as many as the rarer kind of seed has values.

    Args:
        differences: one for each pair, float [k]; NaN entries are left out.
        seeds: of the pairs; None takes them as independent.
        confidence: of the interval.

    References:
        Bouthillier et al. 2021, arXiv 2103.03098, section 4.

    >>> found = superiority([0.02, 0.01, -0.01, 0.03, 0.0])
    >>> found.probability, round(found.low, 2), round(found.high, 2)
    (0.7, 0.3, 0.93)
    """
    values = np.asarray(differences, np.float64)
    known = values[np.isfinite(values)]
    if not len(known):
        return Superiority(float("nan"), float("nan"), float("nan"), 0)
    share = float(((known > ROUNDING) + 0.5 * (np.abs(known) <= ROUNDING)).mean())
    independent = len(known)
    if seeds is not None and seeds.design == "crossed":
        independent = min(len(np.unique(seeds.data)), len(np.unique(seeds.training)))
    low, high = wilson(share * independent, independent, normal_quantile(confidence))
    return Superiority(share, float(low), float(high), len(known))
