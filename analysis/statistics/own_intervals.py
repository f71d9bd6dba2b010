"""Intervals of scores that are biased in samples, and so have bounds of their own in the place of resamples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.metrics.disparities import BASES, Disparity
from fairsweep.analysis.metrics.probabilities import ProbabilityScore
from fairsweep.analysis.metrics.rates import Bools, Floats, divide
from fairsweep.analysis.statistics.intervals import normal_quantile

Codes = npt.NDArray[np.int64]


def is_biased(row: ProbabilityScore | Disparity) -> bool:
    """Return whether a score has an interval of its own, or a disparity is of such scores."""
    bases = [BASES[name] for name in row.rates] if isinstance(row, Disparity) else [row]
    return any(isinstance(base, ProbabilityScore) and base.bounds is not None for base in bases)


def own_bounds(
    name: str, log_p: Floats, label: Codes, groups: Codes, count: int, of_whom: Codes | None, confidence: float
) -> Floats:
    """Return lower bound, upper bound and the value of an ideal model of each group, float64 [3, G].

    Args:
        name: of a score with an interval of its own.
        log_p: log-probabilities, float64 [N, K].
        label: int64 [N].
        groups: code of each example's group, int64 [N].
        count: number of groups.
        of_whom: the person that each example is of, int64 [N]; None takes examples as independent.
        confidence: of each interval.
    """
    base = BASES[name]
    if not isinstance(base, ProbabilityScore) or base.bounds is None:
        raise TypeError(f"a score must have an interval of its own, but {name} has none")
    found = np.full((3, count), np.nan)
    for code in np.unique(groups):
        mine = groups == code
        people = None if of_whom is None else of_whom[mine]
        found[:, code] = base.bounds(log_p[mine], label[mine], normal_quantile(confidence), people)
    return found


def bounds_of_biased(
    row: Disparity,
    log_p: Floats,
    label: Codes,
    groups: Codes,
    exists: Bools,
    of_whom: Codes | None,
    confidence: float,
) -> tuple[float, float]:
    """Return the bounds of a disparity of a biased score, from those of all groups at once.

    Resamples of groups of different sizes are biased by different amounts. NaN where the whole is compared with.

    Args:
        row: the disparity.
        log_p: see `own_bounds`.
        label: see `own_bounds`.
        groups: see `own_bounds`.
        exists: which groups take part, bool [G].
        of_whom: see `own_bounds`.
        confidence: of the whole.
    """
    number = int(exists.sum())
    if number < 2 or row.statistic not in ("difference", "ratio", "highest"):
        return float("nan"), float("nan")
    level = 1 - (1 - confidence) / number
    low, high, _ = own_bounds(row.rates[0], log_p, label, groups, len(exists), of_whom, level)[:, exists]
    if row.statistic == "difference":
        pairs = ~np.eye(number, dtype=np.bool_)
        return max(0.0, float((low[:, None] - high)[pairs].max())), float((high[:, None] - low)[pairs].max())
    if row.statistic == "ratio":
        most = float(divide(high.min(), low.max()))
        return float(divide(low.min(), high.max())), most if most < 1 else 1.0
    return float(low.max()), float(high.max())
