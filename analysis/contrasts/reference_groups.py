"""Signed gaps and quotients of each group against a reference group, as Aequitas and AIF360 report them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict, Unpack

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.rates import Floats, divide
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At
from fairsweep.analysis.statistics.intervals import Estimate, subtract


class RateOptions(TypedDict, total=False):
    """Keywords of `SweepResults.rates` that are passed on."""

    split: str
    at: At
    states: Sequence[str] | None
    positive: str | None
    confidence: float


Form = Literal["difference", "ratio"]
_OF_GROUP = ("value", "low", "high")


def reference_frame(
    results: SweepResults,
    metrics: Sequence[str],
    *,
    by: str | Sequence[str],
    reference: str,
    form: Form = "difference",
    **choice: Unpack[RateOptions],
) -> pd.DataFrame:
    """Return each group's value minus that of a reference group, or over it; the sign says who is worse off.

    Args:
        results: the sweep.
        metrics: rates and scores, of one group each.
        by: an attribute, or several for their intersections.
        reference: the group that the others are set against, as in the column ``group``.
        form: ``difference`` or ``ratio``.
        choice: further keywords of `SweepResults.rates`.

    Returns:
        A tidy table without the rows of the reference; ``metric`` ends in ``_minus_REFERENCE`` or ``_over_REFERENCE``.
        The groups' images differ, so their intervals are joined as of independent numbers; they cover the sampling of
        test images only.

    Raises:
        ValueError: if there is no such group, or a metric compares groups itself.

    References:
        Saleiro et al. 2018, arXiv 1811.05577 (disparity to a reference group). Intervals: Newcombe 1998 for
        differences; Donner & Zou 2012, doi 10.1177/0962280210383082, for quotients (MOVER-R).
    """
    if form not in ("difference", "ratio"):
        raise ValueError(f"form must be 'difference' or 'ratio', but got {form!r}")
    frame = results.rates(list(metrics), by=by, **choice)
    frame = frame.assign(trial=frame["trial"].astype(str))
    groups = list(dict.fromkeys(frame["group"]))
    if reference not in groups:
        attribute = by if isinstance(by, str) else JOINT.join(by)
        raise ValueError(f"reference must be one of the groups of {attribute}, {groups}, but got {reference!r}")
    keys = ["trial", "iteration", "metric"]
    theirs = frame[frame["group"] == reference].set_index(keys)[[*_OF_GROUP, "n_min"]]
    mine = frame[frame["group"] != reference].reset_index(drop=True)
    both = mine[keys].merge(theirs, left_on=keys, right_index=True, how="left")
    one, other = (_estimate(part) for part in (mine, both))
    value, low, high = _difference(one, other) if form == "difference" else _ratio(one, other)
    word = "minus" if form == "difference" else "over"
    smallest = np.minimum(mine["n_min"].to_numpy(), both["n_min"].to_numpy())
    named = mine.assign(metric=mine["metric"] + f"_{word}_{reference}", interval=f"{form} of independent groups")
    return named.assign(value=value, low=low, high=high, n_min=smallest)


def _estimate(part: pd.DataFrame) -> Estimate:
    value, low, high = (part[name].to_numpy(np.float64) for name in _OF_GROUP)
    return value, low, high


def _difference(one: Estimate, other: Estimate) -> Estimate:
    low, high = subtract(one, other)
    return one[0] - other[0], low, high


def _ratio(one: Estimate, other: Estimate) -> Estimate:
    """Return the quotient of two independent numbers with its interval; the upper bound may be infinite."""
    (p, low_p, high_p), (q, low_q, high_q) = one, other
    low = _root(p * q, low_p * (2 * p - low_p), high_q * (2 * q - high_q), -1.0)
    high = _root(p * q, high_p * (2 * p - high_p), low_q * (2 * q - low_q), 1.0)
    undefined = np.isnan(p) | ~(q > 0)
    value = divide(p, q)
    low, high = np.where(np.isfinite(low), np.clip(low, 0, value), 0.0), np.where(np.isnan(high), np.inf, high)
    value, low, high = (np.where(undefined, np.nan, bound) for bound in (value, low, np.maximum(high, value)))
    return value, low, high


def _root(product: Floats, above: Floats, below: Floats, sign: float) -> Floats:
    """Return the root of MOVER-R's quadratic equation, NaN where it is unbounded."""
    inside = np.sqrt(np.maximum(np.square(product) - above * below, 0))
    return np.where(below > 0, divide(product + sign * inside, below), np.nan)
