"""Model-selection criteria of benchmarks, by the names that their papers give them.

Each is a function of a sweep that returns one number per setting (validation means over replicates), higher is better,
so that ``max_worst_group_accuracy(results, by="tone").idxmax()`` is the setting that it selects. A setting for which
the criterion is undefined is NaN and never selected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairsweep.analysis.inference.selection import distance_to_ideal, pareto_front
from fairsweep.analysis.results.replicates import average

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults

By = str | Sequence[str]


def _mean(results: SweepResults, metric: str, by: By, *, between: bool) -> pd.Series[float]:
    """Return the validation mean of a metric for each setting."""
    if between:
        frame = results.disparities([metric], by=by, split="validation", expected_if_equal=False)
    else:
        frame = results.rates([metric], by=(), split="validation")
    means = average(frame)
    return pd.Series(means["value"].to_numpy(np.float64), index=means["setting"].astype(str), name=metric)


def _of_all(metric: str, sign: float = 1.0) -> Callable[..., pd.Series[float]]:
    return lambda results, by=(): sign * _mean(results, metric, by, between=False)


def _of_groups(metric: str) -> Callable[..., pd.Series[float]]:
    return lambda results, by: _mean(results, metric, by, between=True)


def by_group(results: SweepResults, metric: str, by: By) -> pd.DataFrame:
    """Return the validation means of a metric: settings x groups, without those that are too small to be ranked."""
    means = average(results.rates([metric], by=by, split="validation"))
    means = means[~means["group"].isin(list(results.small_groups(by, split="validation")))]
    return means.assign(setting=means["setting"].astype(str)).pivot(index="setting", columns="group", values="value")


def minimax_pareto(results: SweepResults, by: By, metric: str = "auc") -> pd.Series[float]:
    """Return the worst group's value among settings on the groups' Pareto front; NaN off it.

    References:
        Martinez et al. 2020, arXiv 2011.01821; as a criterion of selection Zong et al. 2023, arXiv 2210.01725, 3.3.
    """
    values = by_group(results, metric, by)
    renamed = values.set_axis([f"validation {metric}[{group}]" for group in values.columns], axis=1)
    front = pareto_front(renamed, list(renamed.columns))
    return values.min(axis=1, skipna=False).where(front).rename("minimax_pareto")


def distance_to_optimal(results: SweepResults, by: By, metric: str = "auc") -> pd.Series[float]:
    """Return minus the distance of the groups' values from the best of each over all settings.

    References:
        Zong et al. 2023, arXiv 2210.01725, section 3.3 (DTO).
    """
    values = by_group(results, metric, by)
    renamed = values.set_axis([f"validation {metric}[{group}]" for group in values.columns], axis=1)
    distances = distance_to_ideal(renamed, list(renamed.columns))
    return pd.Series(-distances, index=values.index, name="distance_to_optimal")


SUBPOPBENCH: Mapping[str, Callable[..., pd.Series[float]]] = {
    "max_average_accuracy": _of_all("accuracy"),
    "max_worst_group_accuracy": _of_groups("worst_group_accuracy"),
    "max_worst_class_accuracy": _of_all("worst_class_accuracy"),
    "max_balanced_accuracy": _of_all("balanced_accuracy"),
    "max_macro_f1": _of_all("macro_f1"),
    "max_macro_precision": _of_all("macro_precision"),
    "max_auc": _of_all("auc"),
    "min_class_difference": _of_all("class_accuracy_differences", -1.0),
}
"""Criteria of SubpopBench (Yang et al. 2023, arXiv 2302.12254, section 5.2); those without a group need none."""

MEDFAIR: Mapping[str, Callable[..., pd.Series[float]]] = {
    "overall": _of_all("auc"),
    "minimax_pareto": partial(minimax_pareto, metric="auc"),
    "distance_to_optimal": partial(distance_to_optimal, metric="auc"),
}
"""Criteria of MEDFAIR (Zong et al. 2023, arXiv 2210.01725, section 3.3)."""
