"""Wilson intervals at an effective sample size, for mean rates of several trainings on the same images.

Outcomes of one image in several trainings err together, as answers of one household in a survey do: the images (or
users) are the units that were sampled, the trainings' outcomes are observations within them. So the interval is that
of survey statistics: Wilson's at an effective sample size, which is lessened for a variance that few units tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from fairsweep.analysis.metrics.catalogue import Metric
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.metrics.rates import RATES, Counts, Floats, Rate, divide
from fairsweep.analysis.results.outcomes import Codes
from fairsweep.analysis.statistics.bootstrap_draws import disparity_bounds
from fairsweep.analysis.statistics.intervals import normal_quantile, wilson
from fairsweep.analysis.statistics.simultaneous_intervals import simultaneous


@dataclass(frozen=True)
class SamplingUnits:
    """Sampling units behind a rate of P groups.

    Attributes:
        images: images that its denominator can hold, int64 [P].
        sampled: images, or users where these are drawn whole, int64 [P].
        df: ``sampled`` less the strata within which they are drawn, int64 [P].
    """

    images: Counts
    sampled: Counts
    df: Counts


def units_of(
    metric: Metric, groups: Codes, count: int, label: Codes, classes: int, clusters: Codes | None = None
) -> tuple[SamplingUnits, ...]:
    """Return the units behind a rate, or behind each rate of a disparity; none for any other metric.

    Args:
        metric: the metric.
        groups: code of each image's group, int64 [N].
        count: number of groups.
        label: code of each image's label, int64 [N]; images are drawn within group and label.
        classes: number of classes.
        clusters: the user of each image, int64 [N]: users are drawn whole, and not within strata.
    """
    names = metric.row.rates if isinstance(metric.row, Disparity) else (metric.row.name,)
    if not all(name in RATES for name in names):
        return ()
    return tuple(
        _units_of_rate(RATES[name], metric.positive, groups, count, label, classes, clusters) for name in names
    )


def _units_of_rate(
    row: Rate, positive: int | None, groups: Codes, count: int, label: Codes, classes: int, clusters: Codes | None
) -> SamplingUnits:
    counted = np.asarray(row.denominator(classes, positive or 0).any(1))
    inside = counted[label]
    images = np.bincount(groups[inside], minlength=count)
    if clusters is None:
        strata = np.bincount(np.unique(groups[inside] * classes + label[inside]) // classes, minlength=count)
        return SamplingUnits(images, images, images - strata)
    pairs = np.unique(np.stack([groups[inside], clusters[inside]]), axis=1)[0]
    users = np.bincount(pairs, minlength=count)
    return SamplingUnits(images, users, users - 1)


def effective_counts(
    rate: Floats,
    of_images: Floats,
    of_both: Floats | None,
    units: SamplingUnits,
    replicates: int,
    confidence: float = 0.95,
) -> Floats:
    """Return the number of independent images that a mean rate over replicates is worth, float64 [P].

    Resamples of n units from one stratum spread by (n - 1)/n too little, those of R replicates by (R - 1)/R; both are
    corrected. The effective sample size is that of a binomial with this variance, at most the observations, times the
    squared ratio of Student's quantiles for the observations and for the degrees of freedom of the variance. Those are
    of the units, or Satterthwaite's of both parts where they are fewer.

    Args:
        rate: means over replicates, float64 [P].
        of_images: variance over resamples of the images, float64 [P].
        of_both: variance over resamples of images and replicates; None leaves replicates out.
        units: behind the rate.
        replicates: how many.
        confidence: of the intervals.

    References:
        Korn & Graubard 1998, Survey Methodology 24(2), 193-201 (effective sample size and its degrees of freedom: units
        less strata); Franco et al. 2019, doi 10.1093/jssam/smy019 (in Wilson's interval); Satterthwaite 1946,
        doi 10.2307/3002019.
    """
    first = of_images * divide(units.sampled, units.df)
    df = units.df.astype(np.float64)
    variance = first
    if of_both is not None:
        second = np.maximum(of_both - of_images, 0) * replicates / (replicates - 1)
        variance = first + second
        parts = divide(np.square(first), df) + np.square(second) / (replicates - 1)
        df = np.fmin(df, divide(np.square(variance), parts))
    observations = (units.images * replicates).astype(np.float64)
    effective = divide(rate * (1 - rate), variance)
    known = np.isfinite(effective) & (effective > 0) & (df > 0)
    ratio = _quantile(observations - 1, confidence) / _quantile(df, confidence)
    # Without any variance: at a rate of 0 or 1 each image (or person) counts once.
    found = np.where(known, np.minimum(effective, observations) * np.square(ratio), units.sampled)
    return np.where(np.isfinite(rate), found, 0)


def rate_bounds(
    rate: Floats,
    of_images: Floats,
    of_both: Floats | None,
    units: SamplingUnits,
    replicates: int,
    confidence: float = 0.95,
) -> tuple[Floats, Floats]:
    """Return the bounds of a mean rate over replicates, float64 [P] each: Wilson's at the `effective_counts`."""
    effective = effective_counts(rate, of_images, of_both, units, replicates, confidence)
    return wilson(rate * effective, effective, normal_quantile(confidence))


def disparity_bounds_of_rates(
    rates: Floats,
    draws: Floats,
    units: Sequence[SamplingUnits],
    row: Disparity,
    replicates: int,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the simultaneous interval of a disparity of mean rates, from exact bounds at the `effective_counts`.

    Args:
        rates: means over replicates of each group, float64 [R, G], one row per of ``row.rates``.
        draws: the same in resamples of the images, float64 [B, R, G].
        units: behind each rate, [R].
        row: the disparity.
        replicates: how many.
        confidence: of the whole.
    """
    exists = np.asarray(np.isfinite(rates).any(0))
    variances = np.where(np.isfinite(draws), draws, rates).var(0)
    found = zip(rates, variances, units, strict=True)
    counts = np.stack([effective_counts(r, v, None, u, replicates, confidence) for r, v, u in found])
    if row.overall != "not used":
        # One share for all groups: others would move the rate of all examples.
        images = np.stack([one.images for one in units])
        counts = images * np.nanmin(divide(counts, images), axis=-1, keepdims=True)
    above = np.nan_to_num(rates) * counts
    low, high = simultaneous(above[None], counts[None], exists[None], row, confidence)
    return float(low[0]), float(high[0])


@dataclass(frozen=True)
class DisparityParts:
    """What a disparity is made of: the values of each group, float64 [R, G], and their resamples.

    Attributes:
        value: of each group.
        draws: float64 [B, R, G].
        overall: resampled values of all examples, float64 [B, R].
        row: the disparity.
    """

    value: Floats
    draws: Floats
    overall: Floats
    row: Disparity

    def bounds(self, units: Sequence[SamplingUnits], replicates: int, confidence: float) -> tuple[float, float]:
        """Return the simultaneous interval by the images: of rates by what they are worth, else by percentiles."""
        if units:
            return disparity_bounds_of_rates(self.value, self.draws, units, self.row, replicates, confidence)
        exists = np.asarray(np.isfinite(self.draws).any((0, 1)))
        return disparity_bounds(self.draws, self.overall, exists, self.row, confidence)


def _quantile(df: npt.ArrayLike, confidence: float) -> Floats:
    return np.asarray(stats.t.ppf(0.5 + confidence / 2, np.maximum(df, 1)), np.float64)
