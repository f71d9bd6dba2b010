"""Intervals from resamples of the values of all groups: of each value, and of a disparity between them.

A percentile interval of the largest of several differences misses 0 when the groups are equal. So every disparity is
bounded through its parts (pairs of groups, groups and the whole, single groups), each at the Bonferroni level of all.
"""

from __future__ import annotations

import hashlib
from statistics import NormalDist

import numpy as np

from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.metrics.rates import Bools, Floats

_LEAST_BEYOND = 5


def keyed_generator(*key: object) -> np.random.Generator:
    """Return a generator that depends on its key and on nothing else."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def value_bounds(draws: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the interval of each value over the first axis; draws in which a value is undefined are left out.

    Percentiles, or where fewer than five draws would lie beyond one a normal interval with the draws' mean and
    deviation, and whichever of the two is wider.

    Args:
        draws: float64 [B, ...].
        confidence: of each interval.

    Returns:
        Two float64 arrays [...], NaN where no draw is defined.
    """
    tail = (1 - confidence) / 2
    known = np.isfinite(draws)
    filled = np.where(known.any(0), np.where(known, draws, np.nan), 0)
    low, high = np.nanquantile(filled, [tail, 1 - tail], axis=0)
    if tail * len(draws) < _LEAST_BEYOND:
        half = NormalDist().inv_cdf(1 - tail) * np.nanstd(filled, axis=0)
        middle = np.nanmean(filled, axis=0)
        low, high = np.minimum(low, middle - half), np.maximum(high, middle + half)
    there = known.any(0)
    return np.where(there, low, np.nan), np.where(there, high, np.nan)


def disparity_bounds(
    values: Floats, overall: Floats, exists: Bools, row: Disparity, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the simultaneous interval of a disparity.

    Args:
        values: resampled values of each group, float64 [B, R, G], one row per of ``row.rates``.
        overall: of all examples together, float64 [B, R].
        exists: bool [G], which groups count.
        row: the disparity; of a variance between groups no draw is unbiased, so it has no interval here.
        confidence: of the whole.
    """
    groups = np.flatnonzero(exists)
    if len(groups) < 2 or row.statistic == "variance":
        return float("nan"), float("nan")
    inside = values[..., groups]
    first, second = np.triu_indices(len(groups), 1)
    parts = len(first) if row.statistic in ("difference", "ratio") else len(groups)
    level = 1 - (1 - confidence) / max(1, values.shape[1] * parts)
    if row.statistic == "difference":
        lows, highs = _distances(*value_bounds(inside[..., first] - inside[..., second], level))
    elif row.statistic == "ratio":
        lows, highs = _ratios(inside, level)
    elif row.statistic in ("lowest", "highest"):
        low, high = value_bounds(inside, level)
        extreme = np.min if row.statistic == "lowest" else np.max
        lows, highs = extreme(low, -1), extreme(high, -1)
    elif row.statistic == "overall_ratio":
        with np.errstate(divide="ignore", invalid="ignore"):
            quotients = inside / overall[..., None]
        low, high = value_bounds(np.where(np.isfinite(quotients), quotients, np.nan), level)
        with np.errstate(divide="ignore"):
            lows = np.minimum(low, 1 / high).min(-1)
            highs = np.where(high < 1, high, np.where(low > 1, 1 / low, 1.0)).min(-1)
    else:
        sign = -1.0 if row.statistic == "above_overall" else 1.0
        low, high = value_bounds(sign * (overall[..., None] - inside), level)
        lows, highs = _distances(low, high) if row.statistic == "from_overall" else (low.max(-1), high.max(-1))
    if row.combination == "mean":
        return float(lows.mean()), float(highs.mean())
    if row.is_ratio:
        return float(lows.min()), float(highs.min())
    return float(lows.max()), float(highs.max())


def _distances(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Return the bounds of the largest absolute value of several numbers with bounds [R, P]: two float64 arrays [R]."""
    return np.maximum(np.maximum(low, -high).max(-1), 0), np.maximum(high, -low).max(-1)


def _ratios(inside: Floats, level: float) -> tuple[Floats, Floats]:
    """Return the bounds of the smallest over the largest value, float64 [B, R, G] -> two float64 arrays [R]."""
    first, second = np.triu_indices(inside.shape[-1], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        forth, back = inside[..., first] / inside[..., second], inside[..., second] / inside[..., first]
    low, high = value_bounds(np.where(np.isfinite(forth), forth, np.nan), level)
    low2, high2 = value_bounds(np.where(np.isfinite(back), back, np.nan), level)
    lows, highs = np.minimum(low, low2).min(-1), np.minimum(np.maximum(high, 0), np.maximum(high2, 0)).min(-1)
    return np.clip(lows, 0, 1), np.clip(highs, 0, 1)
