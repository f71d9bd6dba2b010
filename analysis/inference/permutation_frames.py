"""Permutation tests of disparities: p-values under the hypothesis that groups do not matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import Metric, resolve
from fairsweep.analysis.metrics.disparities import Disparity, disparity
from fairsweep.analysis.records.counts import CountArray
from fairsweep.analysis.results.people import has_people
from fairsweep.analysis.statistics.bootstrap_draws import keyed_generator
from fairsweep.analysis.statistics.permutation import held_fixed, p_value, permuted_cells

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

_COLUMNS = (
    "trial",
    "iteration",
    "attribute",
    "metric",
    "value",
    "expected_if_equal",
    "null_high",
    "p_value",
    "permuted",
)
_WORDS = {"label": "within labels", "prediction": "within predictions", "nothing": "among all examples"}


def permutation_frame(
    results: SweepResults,
    metrics: Sequence[str],
    *,
    by: str | Sequence[str],
    split: str = "test",
    at: At = "last",
    states: Sequence[str] | None = ("done",),
    positive: str | None = None,
    draws: int = 1999,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the disparities of cells with a permutation p-value, for each trial.

    Groups are permuted among examples that are alike: within labels for rates of one label (TPR, FPR, equalised odds,
    balanced accuracy), within predictions for predictive values, among all examples for the rest. The p-value knows the
    test images only: it is about this model, not about the method that trained it.

    Args:
        results: the sweep.
        metrics: disparities of cells.
        by: the groups.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.
        positive: the positive class; default the second of two.
        draws: number of permutations; the smallest p-value is 1 / (1 + draws).
        seed: of the permutations; those of a trial depend on its name, iteration and the metric alone.

    Returns:
        Columns ``trial``, ``iteration``, ``attribute``, ``metric``, ``value``, ``expected_if_equal``
        (its mean over permutations), ``null_high`` (their 95% quantile, of a ratio or lowest value the 5% one),
        ``p_value``, ``permuted``.

    Raises:
        ValueError: if a metric is no disparity of cells, or people have several images: these cannot be exchanged.
    """
    if has_people(results, split):
        raise ValueError(
            "examples of a permutation test must be independent, but people have several images here; take the "
            "intervals of SweepResults.disparities, which resample people"
        )
    counts = results.counts(by, split=split, at=at, states=states)
    ranked = results.group_sizes(by, counts.evaluations) >= results.min_group_size
    counts = replace(counts, values=np.where(ranked[:, None, None], counts.values, 0))
    chosen = [resolve(name, results.classes, positive) for name in metrics]
    rows = [row for metric in chosen for row in _rows(counts, metric, draws, seed)]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _rows(counts: CountArray, metric: Metric, draws: int, seed: int) -> Iterator[tuple[object, ...]]:
    """Yield the test of one disparity for each evaluation."""
    row, evaluations = metric.row, counts.evaluations
    if not isinstance(row, Disparity) or not row.of_cells:
        raise ValueError(f"a permutation test is for disparities of cells, but got {metric.name!r}")
    given, quantile = held_fixed(row), 0.05 if row.falls else 0.95
    observed = disparity(counts.values, row, metric.positive)
    for i, (trial, iteration) in enumerate(zip(evaluations.trial, evaluations.iteration, strict=True)):
        generator = keyed_generator("permutation", seed, trial, int(iteration), evaluations.split, metric.name)
        drawn = disparity(permuted_cells(counts.values[i], given, draws, generator), row, metric.positive)
        known = drawn[np.isfinite(drawn)]
        mean, end = (float(known.mean()), float(np.quantile(known, quantile))) if len(known) else (np.nan, np.nan)
        head = (trial, int(iteration), counts.attribute, metric.name, float(observed[i]))
        yield (*head, mean, end, p_value(float(observed[i]), drawn, row), _WORDS[given])
