"""Worth of images that are not independent: those of one person err together, so that they count as fewer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from fairsweep.analysis.metrics.rates import Bools, Floats, divide

Codes = npt.NDArray[np.int64]


def effective_share(above: Bools, below: Bools, groups: Codes, clusters: Codes, count: int) -> Floats:
    """Return by what the counts of a rate are multiplied to be those of as many independent images.

    The variance of the rate is that between clusters (linearised, for a quotient of two sums); the effective sample
    size is that of a binomial with this variance, at most the number of images, lessened for a variance that few
    clusters tell. A rate of 0 or 1 shows no variance: there each cluster counts as one image.

    Args:
        above: whether an image counts above the line, bool [N].
        below: whether it counts below it, bool [N].
        groups: code of each image's group, int64 [N].
        clusters: the person that each image is of, int64 [N].
        count: number of groups.

    Returns:
        float64 [G] in (0, 1]; NaN for groups without images.

    References:
        Kish 1965, Survey Sampling, section 8.2 (design effect); Korn & Graubard 1998, Survey Methodology 24(2), 193-201
        (effective sample size of few clusters).

    >>> same = np.repeat([True, True, False, True], 10)
    >>> everyone, one = np.ones(40, bool), np.zeros(40, int)
    >>> effective_share(same, everyone, one, np.repeat(np.arange(4), 10), 1).round(2).tolist()
    [0.03]
    """
    inside = np.flatnonzero(below)
    group, hit = groups[inside], above[inside].astype(np.float64)
    images = np.bincount(group, minlength=count)
    rate = divide(np.bincount(group, hit, minlength=count), images)
    pairs, place = np.unique(np.stack([group, clusters[inside]]), axis=1, return_inverse=True)
    units = np.bincount(pairs[0], minlength=count)
    errors = np.bincount(place.reshape(-1), hit - rate[group], minlength=pairs.shape[1])
    squares = np.bincount(pairs[0], np.square(errors), minlength=count)
    deviation = divide(squares * divide(units, units - 1), images * rate * (1 - rate))
    varies = (deviation > 0) & (units > 1)
    share = np.where(varies, np.minimum(divide(1.0, deviation), 1), divide(units, images))
    few = stats.t.ppf(0.975, np.maximum(images - 1, 1)) / stats.t.ppf(0.975, np.maximum(units - 1, 1))
    return np.where(varies, share * np.square(few), share)
