"""Wilson intervals at an effective sample size, for mean rates of several trainings on the same images.

Outcomes of one image in several trainings err together, as answers of one household in a survey do: the images (or
users) are the units that were sampled, the trainings' outcomes are observations within them. So the interval is that
of survey statistics: Wilson's at an effective sample size, which is lessened for a variance that few units tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from fairsweep.analysis.metrics.catalogue import Metric
from fairsweep.analysis.metrics.rates import Counts, Floats, Rate, divide
from fairsweep.analysis.results.outcomes import Codes
from fairsweep.analysis.statistics.intervals import normal_quantile, wilson


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
) -> SamplingUnits | None:
    """Return the units behind a rate; None for any other metric.

    Args:
        metric: the metric.
        groups: code of each image's group, int64 [N].
        count: number of groups.
        label: code of each image's label, int64 [N]; images are drawn within group and label.
        classes: number of classes.
        clusters: the user of each image, int64 [N]: users are drawn whole, and not within strata.
    """
    if not isinstance(metric.row, Rate):
        return None
    counted = np.asarray(metric.row.denominator(classes, metric.positive or 0).any(1))
    inside = counted[label]
    images = np.bincount(groups[inside], minlength=count)
    if clusters is None:
        strata = np.bincount(np.unique(groups[inside] * classes + label[inside]) // classes, minlength=count)
        return SamplingUnits(images, images, images - strata)
    pairs = np.unique(np.stack([groups[inside], clusters[inside]]), axis=1)[0]
    users = np.bincount(pairs, minlength=count)
    return SamplingUnits(images, users, users - 1)


def rate_bounds(
    rate: Floats,
    of_images: Floats,
    of_both: Floats | None,
    units: SamplingUnits,
    replicates: int,
    confidence: float = 0.95,
) -> tuple[Floats, Floats]:
    """Return the bounds of a mean rate over replicates.

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

    Returns:
        Two float64 arrays [P], NaN where the rate is undefined.

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
    effective = np.where(known, np.minimum(effective, observations) * np.square(ratio), units.images)
    return wilson(rate * effective, np.where(np.isfinite(rate), effective, 0), normal_quantile(confidence))


def _quantile(df: npt.ArrayLike, confidence: float) -> Floats:
    return np.asarray(stats.t.ppf(0.5 + confidence / 2, np.maximum(df, 1)), np.float64)
