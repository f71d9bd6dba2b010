"""Intervals for one number: a rate, a difference of two rates, a mean over replicates, any statistic of cells.

All functions are vectorised over leading axes. A lower and an upper bound are NaN where the number is undefined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from fairsweep.analysis.metrics.rates import Counts, Floats, divide

NORMAL_95 = 1.959963984540054
"""Two-sided 95% quantile of the standard normal distribution."""

Estimate: TypeAlias = tuple[Floats, Floats, Floats]
"""A value and its lower and upper bound."""

Strata = Literal["group and label", "group", "none"]

_EQUAL = 1e-12
"""Deviations below it are rounding errors."""

_LEAST = 1e-9
"""Parameter of a distribution in the place of 0, whose quantile is not used."""


def normal_quantile(confidence: float) -> float:
    """Return the two-sided normal quantile.

    >>> round(normal_quantile(0.95), 2)
    1.96
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, but got {confidence=}")
    return float(-special.ndtri((1 - confidence) / 2))


def wilson(above: npt.ArrayLike, below: npt.ArrayLike, quantile: npt.ArrayLike = NORMAL_95) -> tuple[Floats, Floats]:
    """Return Wilson's score interval for a proportion.

    Its coverage oscillates with the true rate. At 95% it averages 95.5% for 9 images, 95.3% for 63 and 95.0% for
    2,000 over all rates; for 9 images it falls to 83% at rates within 2% of 0 or 1.

    Args:
        above: successes, integers [...].
        below: trials, integers [...].
        quantile: two-sided normal quantile, broadcast against them.

    Returns:
        Lower and upper bounds, float64 [...] in [0, 1]; NaN where ``below`` is 0.

    References:
        Wilson 1927; Brown, Cai & DasGupta 2001, doi 10.1214/ss/1009213286, equation (4).

    >>> [round(float(bound), 3) for bound in wilson(9, 9)]
    [0.701, 1.0]
    """
    n = np.asarray(below, np.float64)
    rate = divide(above, n)
    z2 = np.square(np.asarray(quantile, np.float64))
    scale = divide(1.0, 1 + divide(z2, n))
    centre = (rate + divide(z2, 2 * n)) * scale
    half = np.sqrt(z2 * (divide(rate * (1 - rate), n) + divide(z2, 4 * n * n))) * scale
    low = np.where(rate == 0, 0.0, np.clip(centre - half, 0, 1))
    high = np.where(rate == 1, 1.0, np.clip(centre + half, 0, 1))
    return low, high


def exact(above: npt.ArrayLike, below: npt.ArrayLike, tail: npt.ArrayLike = 0.025) -> tuple[Floats, Floats]:
    """Return the exact interval for a proportion.

    It never misses the truth more often than it says, and is wider for it.

    Args:
        above: successes, [...]; effective counts need not be integers.
        below: trials, [...].
        tail: probability of missing on either side.

    Returns:
        Lower and upper bounds, float64 [...] in [0, 1]; NaN where ``below`` is 0.

    References:
        Clopper & Pearson 1934, doi 10.1093/biomet/26.4.404.

    >>> [round(float(bound), 3) for bound in exact(9, 9)]
    [0.664, 1.0]
    """
    sides = (above, below, tail)
    k, n, miss = np.broadcast_arrays(*(np.asarray(side, np.float64) for side in sides))
    low = np.where(k > 0, special.betaincinv(np.maximum(k, _LEAST), n - k + 1, miss), 0.0)
    high = np.where(k < n, special.betaincinv(k + 1, np.maximum(n - k, _LEAST), 1 - miss), 1.0)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def stratified_wilson(above: Counts | Floats, below: Counts | Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return the interval for the mean of several independent proportions, [..., S] -> two float64 arrays [...].

    Wilson's interval at the effective sample size: as many images as would give one proportion of that mean the
    variance that the strata give it. Each stratum's own variance takes its rate as (x + 1) / (n + 2), so that 9 of 9
    has one too. At 95% it was found to cover 94.3% to 95.2% for seven strata of 9 images, with rates from .3 to 1.
    """
    if not below.shape[-1]:
        return np.full(below.shape[:-1], np.nan), np.full(below.shape[:-1], np.nan)
    shrunk = divide(above + 1, below + 2)
    variance = divide(divide(shrunk * (1 - shrunk), below).mean(-1), below.shape[-1])
    middle = shrunk.mean(-1)
    effective = divide(middle * (1 - middle), variance)
    return wilson(divide(above, below).mean(-1) * effective, effective, normal_quantile(confidence))


def subtract(first: Estimate, second: Estimate, correlation: npt.ArrayLike = 0.0) -> tuple[Floats, Floats]:
    """Return an interval for the difference of two numbers that have intervals, first minus second.

    Each bound adds in quadrature the distances of the two single bounds that push the difference the same way, less
    what the two errors share. For independent proportions with Wilson bounds this is Newcombe's interval: it stays in
    [-1, 1], has a width also where both rates are 0 or 1, and covers 92.6% to 98% at 95% for two groups of 9 images,
    nearer to 95% for larger ones. With exact bounds it is wider.

    Args:
        first: (value, low, high), float64 [...] each.
        second: the same of the other number.
        correlation: of the two errors, in [-1, 1].

    References:
        Newcombe 1998, method 10 both in doi 10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I
        (independent) and in doi 10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C (paired).

    >>> one, other = (56 / 70, *wilson(56, 70)), (48 / 80, *wilson(48, 80))
    >>> [round(float(bound), 4) for bound in subtract(one, other)]
    [0.0524, 0.3339]
    """
    (p, p_low, p_high), (q, q_low, q_high) = first, second
    shared = 2 * np.asarray(correlation, np.float64)
    down = np.square(p - p_low) + np.square(q_high - q) - shared * (p - p_low) * (q_high - q)
    up = np.square(p_high - p) + np.square(q - q_low) - shared * (p_high - p) * (q - q_low)
    return p - q - np.sqrt(np.maximum(down, 0)), p - q + np.sqrt(np.maximum(up, 0))


@dataclass(frozen=True)
class ReplicateMean:
    """Mean over replicates and its t interval.

    Attributes:
        mean: float64 [...].
        half_width: of the interval, float64 [...]; NaN with fewer than two replicates: one draw says nothing about
            how much draws differ.
        standard_deviation: between replicates, float64 [...]; NaN likewise.
        replicates: int64 [...], how many have a value.
    """

    mean: Floats
    half_width: Floats
    standard_deviation: Floats
    replicates: Counts


def replicate_mean(values: npt.ArrayLike, confidence: float = 0.95, resolution: npt.ArrayLike = 0.0) -> ReplicateMean:
    """Return the mean of the last axis with Student's t interval; NaN entries are replicates without a value.

    Args:
        values: float [..., R].
        confidence: of the interval.
        resolution: the smallest step of a value, float [...]: 1/n for a rate of n images. Trainings that score equal
            differ by less than that, which is not nothing: their interval takes the deviation of a uniform error of
            one step.

    >>> round(float(replicate_mean([0.71, 0.74, 0.73]).half_width), 3)
    0.038
    >>> round(float(replicate_mean([0.9, 0.9], resolution=0.01).half_width), 3)
    0.026
    """
    array = np.asarray(values, np.float64)
    known = np.isfinite(array)
    count = known.sum(-1)
    mean = divide(np.where(known, array, 0).sum(-1), count)
    squares = np.where(known, np.square(array - mean[..., None]), 0).sum(-1)
    deviation = np.sqrt(divide(squares, np.where(count >= 2, count - 1, 0)))
    quantile = stats.t.ppf(0.5 + confidence / 2, np.maximum(count - 1, 1))
    step = np.nan_to_num(np.asarray(resolution, np.float64), posinf=0.0) / np.sqrt(12)
    spread = np.where(deviation < _EQUAL, step, deviation)
    half_width = quantile * spread / np.sqrt(np.maximum(count, 1))
    return ReplicateMean(mean, half_width, deviation, count)


def widen(value: Floats, low: Floats, high: Floats, half_width: Floats) -> tuple[Floats, Floats]:
    """Join an interval with a second, independent source of error that has a symmetric half width.

    The distances to each bound add in quadrature. Where the half width is NaN (one replicate) the interval is returned
    as it is: the second component is unknown, and callers state this.

    References:
        Zou & Donner 2008, doi 10.1002/sim.3095 (method of variance estimates recovery).
    """
    extra = np.nan_to_num(half_width, nan=0.0)
    return value - np.hypot(value - low, extra), value + np.hypot(high - value, extra)


def mean_of_bounds(bounds: Floats, cut: npt.ArrayLike) -> Floats:
    """Return the mean over the last axis of bounds, and their median where some stand at ``cut``.

    A bound that is cut at what a value can be does not say how far beyond it would lie: with one trial of ten above 0,
    the mean of lower bounds of a gap would be, and would exclude 0 though nine trials do not.

    Args:
        bounds: float [..., R]; NaN entries are replicates without one.
        cut: float [...]; NaN where bounds are not cut.

    >>> mean_of_bounds(np.array([[0.0, 0.0, 0.03], [0.1, 0.2, 0.6]]), 0.0).round(3).tolist()
    [0.0, 0.3]
    """
    known = np.asarray(~np.isnan(bounds).all(-1))
    filled = np.where(known[..., None], bounds, 0)
    is_cut = (filled == np.asarray(cut)[..., None]).any(-1)
    found = np.where(is_cut, np.nanmedian(filled, -1), np.nanmean(filled, -1))
    return np.where(known, found, np.nan)


@dataclass(frozen=True)
class Bootstrap:
    """What a bootstrap of the cells of one evaluation found.

    Attributes:
        value: of the cells as they are.
        low: lower percentile bound.
        high: upper percentile bound.
        standard_error: standard deviation over the resamples.
        undefined: in how many resamples the statistic was NaN; they are left out of the bounds.
        draws: number of resamples.
    """

    value: float
    low: float
    high: float
    standard_error: float
    undefined: int
    draws: int


def bootstrap_cells(
    cells: Counts,
    statistic: Callable[[Counts], Floats],
    *,
    strata: Strata,
    generator: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Bootstrap:
    """Bootstrap any statistic of the cells of one evaluation.

    Counts are drawn from a multinomial within each stratum, which for statistics of counts is exactly the bootstrap of
    the examples. Not for a maximum over groups, whose percentile interval misses 0 when the groups are equal: see
    `fairsweep.analysis.statistics.simultaneous_intervals`.

    Args:
        cells: int64 [G, K, K], group x true label x prediction.
        statistic: int64 [draws, G, K, K] -> float64 [draws].
        strata: what the evaluation set fixes: the count of each group and label (a balanced set), of each group, or
            only the total (a natural split).
        generator: source of the draws.
        draws: number of resamples.
        confidence: of the percentile interval.

    References:
        Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    resampled = bootstrap_draws(cells, strata=strata, generator=generator, draws=draws)
    values = np.asarray(statistic(resampled))
    known = values[np.isfinite(values)]
    value = float(np.asarray(statistic(cells[None]))[0])
    undefined = draws - len(known)
    if not len(known):
        return Bootstrap(value, np.nan, np.nan, np.nan, undefined, draws)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Bootstrap(value, float(low), float(high), float(known.std(ddof=1)), undefined, draws)


def bootstrap_draws(cells: Counts, *, strata: Strata, generator: np.random.Generator, draws: int) -> Counts:
    """Return resampled cells: int64 [G, K, K] -> int64 [draws, G, K, K]; arguments as in `bootstrap_cells`."""
    groups, classes, _ = cells.shape
    rows = {"group and label": groups * classes, "group": groups, "none": 1}[strata]
    flat = cells.reshape(rows, -1)
    kept = np.flatnonzero(flat.sum(1) > 0)
    totals = flat[kept].sum(1)
    resampled = np.zeros((draws, *flat.shape), np.int64)
    resampled[:, kept] = generator.multinomial(totals, flat[kept] / totals[:, None], size=(draws, len(kept)))
    return resampled.reshape(draws, groups, classes, classes)
