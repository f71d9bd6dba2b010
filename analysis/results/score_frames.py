"""Columns of tidy tables for scores, from cells and from predictions, with bootstrap intervals.

Groups keep their sizes in the bootstrap. Each evaluation has draws of its own, which depend on its trial and iteration
alone, so that its numbers do not depend on which other trials are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairsweep.analysis.metrics.catalogue import Metric
from fairsweep.analysis.metrics.disparities import (
    BASES,
    Disparity,
    combine,
    disparity,
    present,
    stacked_scores,
    value_of,
)
from fairsweep.analysis.metrics.probabilities import ProbabilityScore
from fairsweep.analysis.metrics.rates import Bools, Counts, Floats
from fairsweep.analysis.metrics.scores import Score
from fairsweep.analysis.records.counts import JOINT, CountArray, Evaluations
from fairsweep.analysis.results.outcomes import group_codes, read_outcomes, users
from fairsweep.analysis.results.people import PeopleOfGroups, person_weights
from fairsweep.analysis.results.sweep_records import SweepRecords
from fairsweep.analysis.statistics.bootstrap_draws import disparity_bounds, keyed_generator, value_bounds
from fairsweep.analysis.statistics.intervals import bootstrap_draws, normal_quantile, wilson
from fairsweep.analysis.statistics.own_intervals import bounds_of_biased, is_biased, own_bounds
from fairsweep.analysis.statistics.permutation import held_fixed, permuted_cells, permuted_groups

DRAWS = 500
"""Resamples of an evaluation behind an interval, and permutations behind the gap expected of equal groups."""

METHOD = "bootstrap, groups fixed"
Columns = dict[str, npt.NDArray[Any]]


def score_columns(
    counts: CountArray, metric: Metric, confidence: float, people: PeopleOfGroups | None = None
) -> Columns:
    """Return a score from cells for each group: ``value``, ``low``, ``high``, ``n``, ``n_min``, each [E, G]."""
    row = metric.row
    if not isinstance(row, Score):
        raise TypeError(f"{metric.name} must be a score of cells")
    bounds = [
        value_bounds(value_of(_resampled(counts, i, people), row, metric.positive), confidence)
        for i in range(_size(counts))
    ]
    support = row.support(counts.values, metric.positive)
    value = row.compute(counts.values, metric.positive)
    low, high = (np.array([bound[side] for bound in bounds]).reshape(value.shape) for side in (0, 1))
    undefined = np.isnan(value)
    return {
        "value": value,
        "low": np.where(undefined, np.nan, low),
        "high": np.where(undefined, np.nan, high),
        "n": counts.values.sum((-2, -1)),
        "n_min": support,
    }


def score_disparity_columns(
    counts: CountArray,
    metric: Metric,
    confidence: float,
    *,
    expected_if_equal: bool,
    people: PeopleOfGroups | None = None,
) -> Columns:
    """Return a disparity of scores from cells, one column each.

    The columns are ``value``, ``low``, ``high``, ``n``, ``n_min`` and ``expected_if_equal``, each [E]. The last is NaN
    where ``people`` are known: images of one person cannot be exchanged between groups.
    """
    row = _disparity(metric)
    exists = present(counts.values)
    value = disparity(counts.values, row, metric.positive)
    bounds = np.full((2, _size(counts)), np.nan)
    expected = np.full(_size(counts), np.nan)
    for i in np.flatnonzero(np.isfinite(value)).tolist():
        draws = stacked_scores(_resampled(counts, i, people), row, metric.positive)
        bounds[:, i] = disparity_bounds(*draws, exists[i], row, confidence)
        if expected_if_equal and people is None:
            generator = _generator("null", counts.evaluations, i)
            permuted = permuted_cells(counts.values[i], held_fixed(row), DRAWS, generator)
            expected[i] = _known_mean(disparity(permuted, row, metric.positive))
    bases = [base for base in (BASES[name] for name in row.rates) if isinstance(base, Score)]
    support = np.stack([base.support(counts.values, metric.positive) for base in bases], -2).min(-2)
    smallest = np.where(exists, support, np.iinfo(np.int64).max).min(-1)
    return {
        "value": value,
        "low": bounds[0],
        "high": bounds[1],
        "n": counts.values.sum((-3, -2, -1)),
        "n_min": np.where(exists.any(-1), smallest, 0),
        "expected_if_equal": expected,
    }


def prediction_rows(
    results: SweepRecords,
    metrics: Sequence[Metric],
    groupings: Sequence[Sequence[str]],
    evaluations: Evaluations,
    confidence: float,
    *,
    expected_if_equal: bool = True,
    ranked: Sequence[Bools] | None = None,
) -> list[pd.DataFrame]:
    """Return the rows of a tidy table for metrics that need predictions, without the columns of the trials.

    Evaluations without recorded predictions (all but the last and the selected one), and groupings by attributes that
    ``examples.parquet`` lacks, have no rows.

    Args:
        results: the sweep.
        metrics: scores of predictions, or disparities of such.
        groupings: attributes of each grouping; a disparity skips the empty one.
        evaluations: which ones.
        confidence: of the intervals.
        expected_if_equal: whether to permute the groups for what equal groups would show.
        ranked: of each grouping which groups take part in a disparity, bool [G]; None takes all.
    """
    rows: list[dict[str, Any]] = []
    for i, (trial, iteration) in enumerate(zip(evaluations.trial, evaluations.iteration, strict=True)):
        asked = pd.DataFrame({"trial": [trial], "iteration": [iteration]})
        outcomes = read_outcomes(results, evaluations.split, asked, probabilities=True)
        if outcomes is None or outcomes.log_probabilities is None:
            continue
        log_p = outcomes.log_probabilities[0].astype(np.float64)
        for place, names in enumerate(groupings):
            codes = group_codes(results, outcomes, names)
            if codes is None:
                continue
            groups = results.all_cells.group_names(names)
            table = _Table(log_p, outcomes.label, codes, len(groups), users(results, outcomes))
            head = {"trial": trial, "iteration": iteration, "split": evaluations.split}
            head["attribute"] = table.attribute = JOINT.join(names)
            seed = _generator("predictions", evaluations, i)
            exists = table.sizes > 0
            exists = exists if ranked is None else exists & ranked[place]
            rows += [
                head | row for row in _rows_of(table, metrics, groups, confidence, seed, expected_if_equal, exists)
            ]
    columns = ["trial", "iteration", "split", "attribute", "group", "metric", "value", "low", "high"]
    return [pd.DataFrame(rows, columns=[*columns, "n", "n_min", "interval", "expected_if_equal"])] if rows else []


class _Table:
    """Predictions of one evaluation with the group of each id, and their resamples within the groups.

    Args:
        log_p: float64 [N, K].
        label: int64 [N].
        codes: int64 [N].
        count: number of groups.
        of_whom: the person that each id is of, int64 [N], where they have several; None takes ids as independent.
    """

    def __init__(self, log_p: Floats, label: Counts, codes: Counts, count: int, of_whom: Counts | None = None) -> None:
        self.log_p, self.label, self.codes, self.count, self.of_whom = log_p, label, codes, count, of_whom
        self.attribute = ""
        self.sizes = np.bincount(codes, minlength=count)

    @property
    def method(self) -> str:
        """Return the name of the interval."""
        return f"{METHOD}{self.unit}"

    @property
    def unit(self) -> str:
        """Return what is sampled, if that is not images."""
        return "" if self.of_whom is None else ", people"

    def weights(self, draws: int, generator: np.random.Generator) -> Floats:
        """Return how often each id is drawn, float64 [draws, N]; people whole, where there are some."""
        if self.of_whom is not None:
            return person_weights(self.of_whom, draws, generator)
        weights = np.zeros((draws, len(self.codes)))
        for code in np.flatnonzero(self.sizes):
            size = int(self.sizes[code])
            weights[:, self.codes == code] = generator.multinomial(size, np.full(size, 1 / size), size=draws)
        return weights

    def by_group(self, base: ProbabilityScore, weights: Floats) -> Floats:
        """Return the values of each group, float64 [B, G], NaN for groups without examples."""
        values = np.full((len(weights), self.count), np.nan)
        for code in np.flatnonzero(self.sizes):
            inside = self.codes == code
            of_whom = None if self.of_whom is None else self.of_whom[inside]
            values[:, code] = base.values(self.log_p[inside], self.label[inside], weights[:, inside], of_whom)
        return values

    def whole(self, base: ProbabilityScore, weights: Floats) -> Floats:
        """Return the values of all examples together, float64 [B]."""
        return base.values(self.log_p, self.label, weights, self.of_whom)


def _rows_of(
    table: _Table,
    metrics: Sequence[Metric],
    groups: Sequence[str],
    confidence: float,
    generator: np.random.Generator,
    expected_if_equal: bool,
    exists: Bools,
) -> list[dict[str, Any]]:
    """Return every metric of one evaluation and grouping."""
    ones = np.ones((1, len(table.codes)))
    needed = {name for metric in metrics for name in _bases_of(metric)}
    bases = {name: base for name, base in BASES.items() if name in needed and isinstance(base, ProbabilityScore)}
    value = {name: table.by_group(base, ones)[0] for name, base in bases.items()}
    # A score with bounds of its own needs no resamples.
    weights = table.weights(0 if all(is_biased(base) for base in bases.values()) else DRAWS, generator)
    nothing = np.full((1, table.count), np.nan)
    draws = {name: nothing if is_biased(base) else table.by_group(base, weights) for name, base in bases.items()}
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        row = metric.row
        if isinstance(row, ProbabilityScore):
            columns = _columns_of(row, value[row.name], draws[row.name], table, confidence)
            rows += [
                {"group": group, "metric": metric.name} | {name: column[g] for name, column in columns.items()}
                for g, group in enumerate(groups)
            ]
            continue
        row = _disparity(metric)
        if len(groups) < 2:
            continue
        each = np.stack([value[name] for name in row.rates])
        overall = np.array([table.whole(bases[name], ones)[0] for name in row.rates])
        found = float(combine(each, overall, exists, row))
        known, low, high = bool(np.isfinite(found)), np.nan, np.nan
        if known and is_biased(row):
            given = table.log_p, table.label, table.codes, exists, table.of_whom
            low, high = bounds_of_biased(row, *given, confidence)
        elif known:
            overall_draws = np.stack([table.whole(bases[name], weights) for name in row.rates], -1)
            stacked = np.stack([draws[name] for name in row.rates], -2)
            low, high = disparity_bounds(stacked, overall_draws, exists, row, confidence)
        asked = expected_if_equal and known and table.of_whom is None
        drawn = permuted_disparity(table, row, exists, DRAWS, generator) if asked else np.empty(0)
        rows.append(
            {
                "group": table.attribute,
                "metric": metric.name,
                "value": found,
                "low": low,
                "high": high,
                "n": int(table.sizes[exists].sum()),
                "n_min": int(table.sizes[exists].min(initial=0)) if exists.any() else 0,
                "interval": table.method,
                "expected_if_equal": _known_mean(drawn),
            }
        )
    return rows


def permuted_disparity(
    table: _Table, row: Disparity, exists: Bools, draws: int, generator: np.random.Generator
) -> Floats:
    """Return a disparity of predictions after permutations of the groups, float64 [draws]."""
    bases = [base for base in (BASES[name] for name in row.rates) if isinstance(base, ProbabilityScore)]
    given = table.label if held_fixed(row) == "label" else None
    ones = np.ones((1, len(table.codes)))
    overall = np.array([table.whole(base, ones)[0] for base in bases])
    codes = permuted_groups(table.codes, given, draws, generator)
    values = np.full((draws, len(bases), table.count), np.nan)
    for code in np.flatnonzero(table.sizes):
        weights = (codes == code).astype(np.float64)
        values[..., code] = np.stack([table.whole(base, weights) for base in bases], -1)
    return combine(values, np.broadcast_to(overall, values.shape[:2]), np.broadcast_to(exists, values[:, 0].shape), row)


def _columns_of(
    row: ProbabilityScore, value: Floats, draws: Floats, table: _Table, confidence: float
) -> Mapping[str, Sequence[Any]]:
    sizes, is_share = table.sizes, row.proportion and table.of_whom is None
    null = np.full(len(value), np.nan)
    if is_share:
        low, high = wilson(np.rint(np.nan_to_num(value) * sizes), sizes, normal_quantile(confidence))
    elif is_biased(row):
        given = table.log_p, table.label, table.codes, table.count, table.of_whom
        _, low, high, null = own_bounds(row.name, *given, confidence)
    else:
        low, high = value_bounds(draws, confidence)
    undefined = np.isnan(value)
    method = "Wilson" if is_share else f"{row.interval}{table.unit}" if is_biased(row) else table.method
    low, high = np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)
    size = len(value)
    columns: dict[str, Sequence[Any]] = {"value": value.tolist(), "low": low.tolist(), "high": high.tolist()}
    more: dict[str, Sequence[Any]] = {"n": sizes.tolist(), "n_min": sizes.tolist(), "interval": [method] * size}
    return columns | more | {"expected_if_equal": null.tolist()}


def _bases_of(metric: Metric) -> tuple[str, ...]:
    return metric.row.rates if isinstance(metric.row, Disparity) else (metric.row.name,)


def _disparity(metric: Metric) -> Disparity:
    if not isinstance(metric.row, Disparity):
        raise TypeError(f"{metric.name} must be a disparity")
    return metric.row


def _size(counts: CountArray) -> int:
    return len(counts.evaluations)


def _generator(purpose: str, evaluations: Evaluations, i: int) -> np.random.Generator:
    return keyed_generator(purpose, evaluations.trial[i], int(evaluations.iteration[i]), evaluations.split)


def _resampled(counts: CountArray, i: int, people: PeopleOfGroups | None) -> Counts:
    generator = _generator("scores", counts.evaluations, i)
    drawn = None if people is None else people.resampled(i, DRAWS, generator)
    if drawn is not None:
        return drawn
    return bootstrap_draws(counts.values[i], strata="group", generator=generator, draws=DRAWS)


def _known_mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
