"""Long (tidy) tables of rates and disparities: one row per evaluation, group and metric, with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.extensions import ExtensionArray

from fairsweep.analysis.metrics.catalogue import Metric
from fairsweep.analysis.metrics.disparities import Disparity, disparity_of, present, stacked_quotients
from fairsweep.analysis.metrics.rates import RATES, Bools, Counts, Floats, Rate, divide, quotients
from fairsweep.analysis.metrics.scores import Score
from fairsweep.analysis.records.counts import JOINT, CountArray
from fairsweep.analysis.results.people import PeopleOfGroups
from fairsweep.analysis.results.score_frames import METHOD, score_columns, score_disparity_columns
from fairsweep.analysis.statistics.intervals import normal_quantile, stratified_wilson, wilson
from fairsweep.analysis.statistics.simultaneous_intervals import null_disparity, simultaneous

TIDY_COLUMNS = (
    "learner",
    "series",
    "level",
    "group",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "replicate",
    "setting",
    "trial",
    "sweep",
    "share",
    "level_value",
    "epsilon",
    "iteration",
    "split",
    "attribute",
    "n_min",
    "interval",
    "expected_if_equal",
    "baseline",
)
"""Columns of every tidy table; the ids in the middle, where a notebook cuts a wide table.

``n`` is the denominator and ``n_min`` the smallest group's. ``interval`` names the method. ``expected_if_equal`` is the
disparity that equal groups of these sizes would show by chance, NaN for rates. ``baseline`` names the learner that was
subtracted, empty for plain values.
``sweep`` is the name of the sweep in which the trial stands.
"""

P = ParamSpec("P")
R = TypeVar("R")


def renamed(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function raise a TypeError with the new name for renamed arguments (`former="new"`)."""

    def with_errors(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for former in new_names.keys() & kwargs.keys():
                raise TypeError(f"{function.__name__}() has no argument {former}=: it is now {new_names[former]}=")
            return function(*args, **kwargs)

        return call

    return with_errors


_OF_TRIAL = ("learner", "series", "setting", "replicate", "share", "level", "level_value", "epsilon", "sweep")


def rate_rows(
    counts: CountArray, metrics: Sequence[Metric], confidence: float, people: PeopleOfGroups | None = None
) -> pd.DataFrame:
    """Return the rates of each group with Wilson intervals, and scores with bootstrap intervals.

    ``n`` and ``n_min`` are a rate's denominator; of a score ``n_min`` is the smallest count that it rests on. Where
    ``people`` are known, intervals are of as many independent images as those of the people are worth.
    """
    quantile = normal_quantile(confidence)
    parts = []
    for metric in metrics:
        if isinstance(metric.row, Score):
            parts.append(
                _long(
                    counts,
                    counts.groups,
                    metric.name,
                    score_columns(counts, metric, confidence, people),
                    _named(METHOD, people),
                )
            )
            continue
        if not isinstance(metric.row, Rate):
            raise TypeError(f"{metric.name} must be a rate, but is a disparity")
        above, below = quotients(counts.values, metric.row, metric.positive)
        share = 1.0 if people is None else people.shares(metric.row, metric.positive)
        low, high = wilson(above * share, below * share, quantile)
        columns = {"value": divide(above, below), "low": low, "high": high, "n": below, "n_min": below}
        parts.append(_long(counts, counts.groups, metric.name, columns, _named("Wilson", people)))
    return _joined(parts)


def mean_rows(
    counts: CountArray,
    metrics: Sequence[Metric],
    confidence: float,
    over: str,
    strata: int,
    people: PeopleOfGroups | None = None,
) -> pd.DataFrame:
    """Return the means of rates over the last attribute of a grouping; the column ``attribute`` says so.

    Args:
        counts: count arrays by (groups..., stratum).
        metrics: rates.
        confidence: of the intervals.
        over: name of the last attribute.
        strata: how many values it has.
        people: of the groups and strata; None takes images as independent.
    """
    groups = _groups_without_stratum(counts, strata)
    rest = counts.attribute.removesuffix(over).removesuffix(JOINT)
    named = replace(counts, attribute=f"{rest}, mean over {over}".removeprefix(", "))
    parts = [
        _long(
            named,
            groups,
            metric.name,
            _mean_over_columns(counts, metric, strata, confidence, people),
            _named("stratified Wilson", people),
        )
        for metric in metrics
    ]
    return _joined(parts)


def _mean_over_columns(
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


def _groups_without_stratum(counts: CountArray, strata: int) -> Sequence[str]:
    """Return the names of the groups of the first attributes: ``white`` of ``white & 0-2``."""
    names = [name.rsplit(JOINT, 1)[0] if JOINT in name else "all" for name in counts.groups]
    return names[::strata]


def disparity_rows(
    counts: CountArray,
    metrics: Sequence[Metric],
    confidence: float,
    *,
    expected_if_equal: bool,
    seed: int,
    ranked: Bools | None = None,
    people: PeopleOfGroups | None = None,
) -> pd.DataFrame:
    """Return the disparities with simultaneous intervals.

    ``n`` sums the denominators, ``n_min`` is the smallest group's; of the groups those take part that are ``ranked``,
    bool [G] (None: all). ``people``: see `rate_rows`.
    """
    if ranked is not None:
        counts = replace(counts, values=np.where(ranked[:, None, None], counts.values, 0))
    exists = present(counts.values)
    parts = []
    for metric in metrics:
        row = metric.row
        if not isinstance(row, Disparity):
            raise TypeError(f"{metric.name} must be a disparity, but is a rate")
        if not row.of_rates:
            found = score_disparity_columns(
                counts, metric, confidence, expected_if_equal=expected_if_equal, people=people
            )
            found = {name: values[:, None] for name, values in found.items()}
            parts.append(_long(counts, (counts.attribute,), metric.name, found, _named(METHOD, people)))
            continue
        above, below = stacked_quotients(counts.values, row, metric.positive)
        worth = _worth(above, below, row, metric.positive, people)
        low, high = simultaneous(*worth, exists, row, confidence)
        by_luck = null_disparity(*worth, exists, row, seed=seed) if expected_if_equal else np.full(len(low), np.nan)
        smallest = np.where(exists[:, None], below, np.iinfo(np.int64).max).min((-2, -1))
        columns: dict[str, npt.NDArray[Any]] = {
            "value": disparity_of(above, below, exists, row),
            "low": low,
            "high": high,
            "n": below.sum(-1).min(-1),
            "n_min": np.where(exists.any(-1), smallest, 0),
            "expected_if_equal": by_luck,
        }
        columns = {name: values[:, None] for name, values in columns.items()}
        parts.append(_long(counts, (counts.attribute,), metric.name, columns, _named("simultaneous", people)))
    return _joined(parts)


def _named(method: str, people: PeopleOfGroups | None) -> str:
    """Return the name of an interval's method, which says what was sampled where that is not images."""
    return method if people is None else f"{method}, people"


def _worth(
    above: Counts, below: Counts, row: Disparity, positive: int | None, people: PeopleOfGroups | None
) -> tuple[Floats | Counts, Floats | Counts]:
    """Return the counts of as many independent images, [E, R, G] each.

    Where groups are compared with all examples together, the shares are those of the group that is worth least: others
    would move the rate of all.
    """
    if people is None:
        return above, below
    shares = np.stack([people.shares(RATES[name], positive) for name in row.rates], -2)
    if row.overall != "not used":
        shares = np.broadcast_to(np.nanmin(shares, axis=-1, keepdims=True), shares.shape)
    shares = np.nan_to_num(shares, nan=1.0)
    return above * shares, below * shares


def with_trials(rows: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of the trials and put all columns in their order."""
    place = pd.Index(trials["trial"]).get_indexer
    trial = rows["trial"]
    if isinstance(trial.dtype, pd.CategoricalDtype):
        position = place(trial.cat.categories)[trial.cat.codes.to_numpy()]
    else:
        position = place(pd.Index(trial))
    # Texts are taken from one short column each: written out one by one they would take longer than all numbers.
    columns = {name: trials[name].array.take(position) for name in ("trial", *_OF_TRIAL)}
    columns |= {name: rows[name].array for name in rows.columns if name not in columns}
    columns["baseline"] = _repeated([""], np.zeros(len(rows), np.int64))
    return pd.DataFrame({name: columns[name] for name in TIDY_COLUMNS}, copy=False)


def _long(
    counts: CountArray,
    groups: Sequence[str],
    metric: str,
    columns: Mapping[str, npt.NDArray[Any]],
    interval: str,
) -> pd.DataFrame:
    """Return one row for each evaluation and group from columns of the shape [E, G]."""
    size, width = len(counts.evaluations), len(groups)
    number, names = pd.factorize(counts.evaluations.trial)
    once = np.zeros(size * width, np.int64)
    head = {
        "trial": pd.Categorical.from_codes(np.repeat(number, width), pd.Index(names)),
        "iteration": np.repeat(counts.evaluations.iteration, width),
        "split": _repeated([counts.evaluations.split], once),
        "attribute": _repeated([counts.attribute], once),
        "group": _repeated(groups, np.tile(np.arange(width), size)),
        "metric": _repeated([metric], once),
    }
    body = {name: values.reshape(-1) for name, values in columns.items()}
    return pd.DataFrame({**head, **body, "interval": _repeated([interval], once)}, copy=False)


def _repeated(texts: Sequence[str], places: npt.NDArray[np.int64]) -> ExtensionArray:
    """Return a column of texts from a few distinct ones."""
    return pd.array(list(texts), dtype="str").take(places)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    joined = pd.concat(parts, ignore_index=True)
    if "expected_if_equal" not in joined:
        joined["expected_if_equal"] = np.nan
    return joined
