"""Bootstrap intervals for every metric of a sweep, by resampling the cells of each trial's evaluation.

Wilson and simultaneous intervals are the default elsewhere: they are as good and need no draws. The bootstrap uses that
a balanced evaluation set fixes the counts of groups and labels, and takes any metric; people with several images are
drawn whole. It covers the sampling of test
images only, as those do; `average` adds what differs between replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import Metric, resolve
from fairsweep.analysis.metrics.disparities import Disparity, present, stacked_scores, value_of
from fairsweep.analysis.metrics.probabilities import ProbabilityScore
from fairsweep.analysis.metrics.rates import Bools, Counts, Floats
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.people import People
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import DONE, FrameOptions
from fairsweep.analysis.statistics.bootstrap_draws import disparity_bounds, keyed_generator, value_bounds
from fairsweep.analysis.statistics.intervals import Strata, bootstrap_draws

_METHOD = "bootstrap of cells"


def bootstrap_frame(
    results: SweepResults,
    metrics: Sequence[str] | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
    **choice: Unpack[FrameOptions],
) -> pd.DataFrame:
    """Return `SweepResults.frame` with bootstrap intervals in the place of Wilson's and the simultaneous ones.

    Rates and scores get percentile intervals. That of a largest difference would miss 0 when the groups are equal, so
    disparities are bounded through their parts, each at the Bonferroni level: see
    `fairsweep.analysis.statistics.bootstrap_draws`. A variance between groups and what needs predictions keep
    the intervals that they have.

    Args:
        results: the sweep.
        metrics: as in `SweepResults.frame`.
        draws: resamples of each evaluation.
        seed: of the draws; those of a trial depend on its name and on nothing else.
        choice: the keywords of `SweepResults.rates`.
    """
    frame = results.frame(metrics, **choice).reset_index(drop=True)
    confidence, positive = choice.get("confidence", 0.95), choice.get("positive")
    low, high = frame["low"].to_numpy(np.float64, copy=True), frame["high"].to_numpy(np.float64, copy=True)
    interval = frame["interval"].to_numpy(object, copy=True)
    split, at, states = choice.get("split", "test"), choice.get("at", "last"), choice.get("states", DONE)
    attributes = frame["attribute"].unique().tolist()
    asked = [name for attribute in attributes if attribute for name in attribute.split(JOINT)]
    of_finest = tuple(dict.fromkeys((*results.groups, *(name for name in asked if name != results.label))))
    finest = results.counts(of_finest, split=split, at=at, states=states)
    ranked = {
        name: results.group_sizes(name.split(JOINT) if name else (), finest.evaluations) >= results.min_group_size
        for name in attributes
    }
    people = People.of(results, finest.evaluations)
    strata = {folder.name: _strata(results, of_finest, folder.config or {}) for folder in results.folders}
    chosen = [resolve(name, results.classes, positive) for name in frame["metric"].unique().tolist()]
    chosen = [metric for metric in chosen if metric.of_cells and not _is_variance(metric)]
    blocks = frame.groupby(["trial", "iteration", "attribute", "metric"], sort=False).indices
    for i, (trial, iteration) in enumerate(zip(finest.evaluations.trial, finest.evaluations.iteration, strict=True)):
        generator = keyed_generator("bootstrap", seed, trial, iteration)
        resampled = bootstrap_draws(finest.values[i], strata=strata[str(trial)], generator=generator, draws=draws)
        for attribute in attributes:
            names = attribute.split(JOINT) if attribute else []
            whole = None if people is None else people.of_groups(names).resampled(i, draws, generator)
            cells = _grouped(results, of_finest, resampled, names) if whole is None else whole
            for metric in chosen:
                rows = blocks.get((trial, iteration, attribute, metric.name))
                if rows is not None:
                    low[rows], high[rows] = _bounds(cells, metric, confidence, ranked[attribute])
                    interval[rows] = _METHOD
    undefined = ~np.isfinite(frame["value"].to_numpy(np.float64))
    frame["low"], frame["high"] = np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)
    return frame.assign(interval=interval)


def _is_variance(metric: Metric) -> bool:
    return isinstance(metric.row, Disparity) and metric.row.statistic == "variance"


def _bounds(cells: Counts, metric: Metric, confidence: float, ranked: Bools) -> tuple[Floats, Floats]:
    """Bounds of a rate or score for each group, float64 [G], or of a disparity, float64 [1]; from [draws, G, K, K]."""
    row = metric.row
    if not isinstance(row, Disparity):
        if isinstance(row, ProbabilityScore):
            raise TypeError(f"{metric.name} must be of cells, but is of predictions")
        return value_bounds(value_of(cells, row, metric.positive), confidence)
    cells = np.where(ranked[:, None, None], cells, 0)
    values, overall = stacked_scores(cells, row, metric.positive)
    low, high = disparity_bounds(values, overall, np.asarray(present(cells).any(0)), row, confidence)
    return np.array([low]), np.array([high])


def _grouped(results: SweepResults, finest: Sequence[str], resampled: Counts, names: Sequence[str]) -> Counts:
    """Return the cells of the finest groups, [draws, all groups, K, K], summed to the groups of one grouping."""
    draws, _, classes, _ = resampled.shape
    cells = resampled.reshape(draws, *(len(results.vocabulary(name).values) for name in finest), classes, classes)
    axes = {name: 1 + i for i, name in enumerate(finest)}
    label, prediction = len(finest) + 1, len(finest) + 2
    if results.label in names and results.label not in finest:
        cells = np.einsum("...lp,lg->...glp", cells, np.eye(classes, dtype=np.int64))
        axes[results.label], label, prediction = label, label + 1, prediction + 1
    summed = np.einsum(cells, list(range(cells.ndim)), [0, *(axes[name] for name in names), label, prediction])
    return np.asarray(summed.reshape(draws, -1, classes, classes))


def _strata(results: SweepResults, groups: Sequence[str], config: Mapping[str, Any]) -> Strata:
    """Return what the trial's test set holds fixed, as far as the recorded groups tell."""
    balance = set((config.get("evaluation") or {}).get("balance") or ())
    if not set(groups) <= balance:
        return "none"
    return "group and label" if results.label in balance else "group"
