"""Intervals of scores that are biased in samples, and so have bounds of their own in the place of resamples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.metrics.disparities import BASES, Base, Disparity
from fairsweep.analysis.metrics.probabilities import ProbabilityScore
from fairsweep.analysis.metrics.rates import Bools, Floats, divide
from fairsweep.analysis.statistics.intervals import normal_quantile, subtract

Codes = npt.NDArray[np.int64]


def is_biased(row: Base | Disparity) -> bool:
    """Return whether a score has an interval of its own, or a disparity is of such scores."""
    bases = [BASES[name] for name in row.rates] if isinstance(row, Disparity) else [row]
    return any(isinstance(base, ProbabilityScore) and base.bounds is not None for base in bases)


def own_bounds(
    name: str, log_p: Floats, label: Codes, groups: Codes, count: int, of_whom: Codes | None, confidence: float
) -> Floats:
    """Return value, lower bound, upper bound and the value of an ideal model of each group, float64 [4, G].

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
    found = np.full((4, count), np.nan)
    for code in np.unique(groups):
        mine = groups == code
        people = None if of_whom is None else of_whom[mine]
        found[0, code] = base.values(log_p[mine], label[mine], np.ones((1, int(mine.sum()))), people)[0]
        found[1:, code] = base.bounds(log_p[mine], label[mine], normal_quantile(confidence), people)
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
    """Return the bounds of a disparity of a score with an interval of its own, from those of the groups.

    Resamples of groups of different sizes are biased by different amounts. A difference has those of all pairs, joined
    from the distances of the groups' values to their bounds (Zou & Donner 2008); as in `simultaneous_intervals` the
    bound towards equality holds for all pairs at once, and the other for one. NaN where the whole is compared with.

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

    def at_once(comparisons: int) -> Floats:
        level = 1 - (1 - confidence) / comparisons
        return own_bounds(row.rates[0], log_p, label, groups, len(exists), of_whom, level)[:3, exists]

    if row.statistic == "difference":
        first, second = np.triu_indices(number, 1)
        (low, high), (low_of_one, high_of_one) = (
            subtract(*(tuple(at_once(comparisons)[:, at]) for at in (first, second))) for comparisons in (len(first), 1)
        )
        return max(0.0, float(np.maximum(low, -high).max())), float(np.maximum(high_of_one, -low_of_one).max())
    _, low, high = at_once(number)
    if row.statistic == "ratio":
        most = float(divide(high.min(), low.max()))
        return float(divide(low.min(), high.max())), most if most < 1 else 1.0
    return float(low.max()), float(at_once(1)[2].max())
