"""Means of rates over the values of a second attribute: each race's accuracy averaged over age bins, say.

Each value counts the same, however many images it has. That removes differences between groups in the second attribute
from a comparison of the first, and is what benchmarks with a balanced test set print.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.metrics.catalogue import Metric
from fairsweep.analysis.metrics.rates import Counts, Floats, Rate, divide, quotients
from fairsweep.analysis.records.counts import JOINT, CountArray
from fairsweep.analysis.results.people import PeopleOfGroups
from fairsweep.analysis.statistics.intervals import normal_quantile, wilson

INTERVAL = "stratified Wilson"


def mean_over_columns(
    counts: CountArray, metric: Metric, strata: int, confidence: float, people: PeopleOfGroups | None = None
) -> dict[str, npt.NDArray[np.float64] | npt.NDArray[np.int64]]:
    """Return the mean of a rate over the last attribute of a grouping.

    The interval is Wilson's at the effective sample size, see `stratified_wilson`. A stratum without examples in every
    group does not exist; one that is empty in some group leaves that group's mean undefined.

    Args:
        counts: count arrays by (groups..., stratum).
        metric: a rate.
        strata: how many values the last attribute has.
        confidence: of the interval.
        people: of the groups and strata; None takes images as independent.

    Returns:
        ``value``, ``low``, ``high``, ``n`` (all strata) and ``n_min`` (the smallest stratum), each [E, G].

    References:
        Korn & Graubard 1998, Survey Methodology 24(2), for intervals at an effective sample size.
    """
    row = metric.row
    if not isinstance(row, Rate):
        raise TypeError(f"a mean over strata must be of a rate, but {metric.name} is none; take rates")
    size, groups = counts.values.shape[:2]
    shape = (size, groups // strata, strata)
    above, below = (part.reshape(shape) for part in quotients(counts.values, row, metric.positive))
    exists = below.any((0, 1)) if size else np.zeros(strata, np.bool_)
    above, below = above[..., exists], below[..., exists]
    value = divide(above, below).mean(-1) if exists.any() else np.full(shape[:2], np.nan)
    share = np.ones(shape) if people is None else people.shares(row, metric.positive).reshape(shape)
    low, high = stratified_wilson(above * share[..., exists], below * share[..., exists], confidence)
    return {
        "value": value,
        "low": low,
        "high": high,
        "n": below.sum(-1),
        "n_min": below.min(-1) if exists.any() else below.sum(-1),
    }


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


def groups_without_stratum(counts: CountArray, strata: int) -> Sequence[str]:
    """Return the names of the groups of the first attributes: ``white`` of ``white & 0-2``."""
    names = [name.rsplit(JOINT, 1)[0] if JOINT in name else "all" for name in counts.groups]
    return names[::strata]
