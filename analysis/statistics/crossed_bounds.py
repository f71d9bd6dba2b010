"""Means over trainings that share their test images: bounds by both sources of error, joined in quadrature.

Images are sampled once for all trainings, and so is their error. Of rates its variance is known exactly: each image
moves a mean rate by its mean contribution over the trainings. Of other metrics resamples tell it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from fairsweep.analysis.metrics.disparities import Disparity, disparity_of
from fairsweep.analysis.metrics.rates import Bools, Counts, Floats, divide
from fairsweep.analysis.statistics.bootstrap_draws import disparity_bounds, value_bounds
from fairsweep.analysis.statistics.effective_sample_size import (
    Codes,
    SamplingUnits,
    disparity_bounds_of_rates,
    rate_bounds,
)
from fairsweep.analysis.statistics.intervals import ReplicateMean, replicate_mean, widen
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds, mean_over_seeds

FEW = 10
"""Minimum number of replicates to resample; fewer get a t interval."""

_NO_WIDTH = 1e-12

Columns = dict[str, Any]
"""``value``, ``low``, ``high``, ``images_low`` and ``images_high`` (by the images alone), ``replicates``, ``std``
and ``interval`` (the method)."""


@dataclass(frozen=True)
class SharedRate:
    """A rate of T trainings in each of G groups of the same images.

    Attributes:
        above: numerators, int64 [T, G].
        below: denominators, int64 [T, G].
        variance: of the mean over the trainings, by the sampling of images, float64 [G].
        units: behind the rate.
    """

    above: Counts
    below: Counts
    variance: Floats
    units: SamplingUnits

    @property
    def values(self) -> Floats:
        """Return the rates, float64 [G, T]."""
        return divide(self.above, self.below).T


def shared_rate(
    above: Bools, below: Bools, groups: Codes, label: Codes, units: SamplingUnits, clusters: Codes | None = None
) -> SharedRate:
    """Return a rate with the variance that resamples without end of the images (or people) would show.

    A quotient moves by ``(a - rate b) / sum of b`` for each image (to the first order where its denominator is not
    fixed by the labels). Images are drawn within group and label, people whole.

    Args:
        above: whether each image counts in the numerator of each training, bool [T, N].
        below: whether it counts in the denominator, bool [T, N].
        groups: code of each image's group, int64 [N].
        label: of each image, int64 [N].
        units: of the rate.
        clusters: the person of each image, int64 [N]; None takes images as independent.

    References:
        Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 22 (the infinitesimal jackknife); of people
        as clusters: Korn & Graubard 1998, Survey Methodology 24(2), 193-201.
    """
    count = len(units.images)
    over, under = (np.stack([np.bincount(groups[one], minlength=count) for one in part]) for part in (above, below))
    rate, known = divide(over, under), under > 0
    weight = np.where(known, divide(1.0, under * np.maximum(known.sum(0), 1)), 0.0)
    moved = np.zeros(len(groups))
    for i, one in enumerate(np.where(known, rate, 0.0)):
        moved += (above[i] - one[groups] * below[i]) * weight[i][groups]
    key = groups * (int(label.max(initial=0)) + 1) + label
    if clusters is not None:
        key = groups * (int(clusters.max(initial=0)) + 1) + clusters
    _, first, unit, sizes = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    total = np.bincount(unit, moved, len(first))
    spread: Floats = np.square(total)
    if clusters is None:
        spread = np.bincount(unit, np.square(moved), len(first)) - spread / sizes
    return SharedRate(over, under, np.bincount(groups[first], np.maximum(spread, 0), count).astype(np.float64), units)


def mean_rate(rate: SharedRate, confidence: float, seeds: ReplicateSeeds | None = None) -> Columns:
    """Return the mean over the trainings of a rate, one entry per group; ``seeds`` as in `mean_disparity`."""
    mean = _mean_of(rate.values, confidence, divide(1.0, rate.below.min(0)), seeds)
    low, high = rate_bounds(mean.mean, rate.variance, rate.units, rate.below.shape[0], confidence)
    bounds = np.minimum(low, mean.mean), np.maximum(high, mean.mean)
    return _columns(mean, bounds, "Wilson at the effective sample size")


def mean_disparity(
    rates: Sequence[SharedRate], exists: Bools, row: Disparity, confidence: float, seeds: ReplicateSeeds | None = None
) -> Columns:
    """Return the mean over the trainings of a disparity of rates, one entry.

    The mean of largest gaps is at least the largest gap of the means, so that gap's lower bound is one; it
    is larger by what trainings differ, so that the other bound lies as far from it as that gap's own. For a ratio and
    a lowest value it is the other way round.

    Args:
        rates: behind the disparity, of the groups that take part; others have no images.
        exists: which groups take part, bool [G].
        row: the disparity.
        confidence: of the whole.
        seeds: of the trainings; None takes them as independent.
    """
    above, below = (np.stack(parts, 1) for parts in ([r.above for r in rates], [r.below for r in rates]))
    values = disparity_of(above, below, np.broadcast_to(exists, (len(above), len(exists))), row)
    smallest = below[..., exists].min(initial=np.iinfo(np.int64).max)
    mean = _mean_of(values[None], confidence, np.array([divide(1.0, smallest)]), seeds)
    value = mean.mean
    means = np.stack([replicate_mean(rate.values).mean for rate in rates])
    variances = np.stack([rate.variance for rate in rates])
    units = [rate.units for rate in rates]
    found, low, high = disparity_bounds_of_rates(means, variances, units, row, len(above), confidence)
    if row.falls:
        bounds = value - (found - low), np.maximum(value, high)
    else:
        bounds = np.minimum(value, low), value + (high - found)
    return _columns(mean, bounds, "bounds over images")


@dataclass(frozen=True)
class DisparityParts:
    """What a disparity is made of: the values of each group, float64 [R, G], and their resamples.

    Attributes:
        draws: float64 [B, R, G].
        overall: resampled values of all examples, float64 [B, R].
        row: the disparity.
    """

    draws: Floats
    overall: Floats
    row: Disparity

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Return the simultaneous interval by the images, from percentiles."""
        exists = np.asarray(np.isfinite(self.draws).any((0, 1)))
        return disparity_bounds(self.draws, self.overall, exists, self.row, confidence)


@dataclass(frozen=True)
class Drawn:
    """One metric of one training: its values, their resamples, and for a disparity what it is made of.

    Attributes:
        value: float64 [P], of the groups or of one disparity.
        draws: float64 [B, P].
        parts: of a disparity.
    """

    value: Floats
    draws: Floats
    parts: DisparityParts | None = None


def mean_of_drawn(
    drawn: Sequence[Drawn],
    confidence: float,
    generator: np.random.Generator,
    step: Floats | float = 0.0,
    seeds: ReplicateSeeds | None = None,
) -> Columns:
    """Return the mean over the trainings of a metric that is resampled, one entry per group.

    Args:
        drawn: of each training, under the same resamples of the images.
        confidence: of each interval.
        generator: of resamples of the trainings, of which there are some from `FEW` on.
        step: resolution of the values, float64 [P].
        seeds: see `mean_disparity`; crossed ones are not resampled.
    """
    mean = _mean_of(np.stack([one.value for one in drawn], -1), confidence, step, seeds)
    draws = np.stack([one.draws for one in drawn], -1)
    images = _known_mean(draws, np.ones((len(draws), len(drawn))))
    parts = [one.parts for one in drawn if one.parts is not None]
    if parts:
        return _columns(mean, _bounds_of_parts(parts, confidence), "bounds over images")
    low, high = value_bounds(images, confidence)
    found = _columns(mean, (np.fmin(low, mean.mean), np.fmax(high, mean.mean)), "images resampled")
    if len(drawn) >= FEW and (seeds is None or seeds.design != "crossed"):
        chosen = generator.multinomial(len(drawn), np.full(len(drawn), 1 / len(drawn)), len(draws))
        low, high = value_bounds(_known_mean(draws, chosen), confidence)
        # Trainings that score alike on every image, in every resample, are not certain to.
        flat = high - low < _NO_WIDTH
        both = np.where(flat, found["low"], low), np.where(flat, found["high"], high)
        found |= {"low": both[0], "high": both[1], "interval": "images and replicates resampled"}
    return found


def _bounds_of_parts(parts: Sequence[DisparityParts], confidence: float) -> tuple[Floats, Floats]:
    """Return the bounds, by the images, of the mean of a disparity: two float64 arrays [1]; see `mean_disparity`.

    Of other metrics than rates, the far bound is the mean of the trainings'.
    """
    means = replace(
        parts[0],
        draws=np.mean([part.draws for part in parts], axis=0),
        overall=np.mean([part.overall for part in parts], axis=0),
    )
    each, (low, high) = np.array([part.bounds(confidence) for part in parts]).mean(0), means.bounds(confidence)
    return (each[:1], np.array([high])) if means.row.falls else (np.array([low]), each[1:])


def _mean_of(values: Floats, confidence: float, step: Floats | float, seeds: ReplicateSeeds | None) -> ReplicateMean:
    """Return the mean over trainings, float64 [P, T], whose t interval knows which of them share a seed."""
    plain = replicate_mean(values, confidence, step)
    if seeds is None or seeds.design != "crossed":
        return plain
    half = plain.half_width.copy()
    for place in np.flatnonzero(np.isfinite(values).all(-1)):
        found = mean_over_seeds(values[place], seeds)
        if found.variance > 0 and found.df > 0:
            half[place] = max(half[place], stats.t.ppf(0.5 + confidence / 2, found.df) * np.sqrt(found.variance))
    return replace(plain, half_width=half)


def _columns(mean: ReplicateMean, bounds: tuple[Floats, Floats], method: str) -> Columns:
    known = np.isfinite(mean.mean)
    images_low, images_high = (np.where(known, bound, np.nan) for bound in bounds)
    low, high = widen(mean.mean, images_low, images_high, mean.half_width)
    return {
        "value": mean.mean,
        "low": low,
        "high": high,
        "images_low": images_low,
        "images_high": images_high,
        "replicates": mean.replicates,
        "std": mean.standard_deviation,
        "interval": f"{method}, joined with t over replicates",
    }


def _known_mean(draws: Floats, weights: npt.NDArray[Any]) -> Floats:
    """Weighted mean over replicates of the values that are defined: float64 [B, P, R], [B, R] -> float64 [B, P]."""
    known = np.isfinite(draws)
    chosen = np.where(known, weights[:, None, :], 0)
    return divide((np.where(known, draws, 0) * chosen).sum(-1), chosen.sum(-1))
