"""Means of rates over the values of a second attribute: each race's accuracy averaged over age bins, say.

Each value counts the same, however many images it has. That removes differences between groups in the second attribute
from a comparison of the first, and is what benchmarks with a balanced test set print.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.counts import JOINT, CountArray
from fairsweep.analysis.intervals import normal_quantile, wilson
from fairsweep.analysis.metrics import Metric
from fairsweep.analysis.rates import Floats, Rate, divide, quotients

INTERVAL = "Wilson, joined over strata"


def mean_over_columns(
    counts: CountArray, metric: Metric, strata: int, confidence: float
) -> dict[str, npt.NDArray[np.float64] | npt.NDArray[np.int64]]:
    """The mean of a rate over the last attribute of a grouping.

    The distances of the single Wilson bounds add in squares, for the strata hold different images. A stratum without
    examples in every group does not exist; one that is empty in some group leaves that group's mean undefined.

    Args:
        counts: count arrays by (groups..., stratum).
        metric: a rate.
        strata: how many values the last attribute has.
        confidence: of the interval.

    Returns:
        ``value``, ``low``, ``high``, ``n`` (all strata) and ``n_min`` (the smallest stratum), each [E, G].

    References:
        Zou & Donner 2008, doi 10.1002/sim.3095, equation (4), for sums of more than two.
    """
    row = metric.row
    if not isinstance(row, Rate):
        raise TypeError(f"a mean over strata must be of a rate, but {metric.name} is none; take rates")
    size, groups = counts.values.shape[:2]
    shape = (size, groups // strata, strata)
    above, below = (part.reshape(shape) for part in quotients(counts.values, row, metric.positive))
    exists = below.any((0, 1)) if size else np.zeros(strata, np.bool_)
    above, below = above[..., exists], below[..., exists]
    rate = divide(above, below)
    low, high = wilson(above, below, normal_quantile(confidence))
    count = max(1, int(exists.sum()))
    value = rate.mean(-1) if exists.any() else np.full(shape[:2], np.nan)
    return {
        "value": value,
        "low": np.maximum(value - _norm(rate - low) / count, 0),
        "high": np.minimum(value + _norm(high - rate) / count, 1),
        "n": below.sum(-1),
        "n_min": below.min(-1) if exists.any() else below.sum(-1),
    }


def _norm(distances: Floats) -> Floats:
    return np.asarray(np.sqrt(np.square(distances).sum(-1)))


def groups_without_stratum(counts: CountArray, strata: int) -> Sequence[str]:
    """Names of the groups of the first attributes: ``white`` of ``white & 0-2``."""
    names = [name.rsplit(JOINT, 1)[0] if JOINT in name else "all" for name in counts.groups]
    return names[::strata]
