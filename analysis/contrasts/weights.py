"""Metrics in which examples count by weights: of survey designs, or towards another population than the test set's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import Metric, resolve
from fairsweep.analysis.metrics.disparities import BASES, Base, Disparity, combine, value_of
from fairsweep.analysis.metrics.probabilities import ProbabilityScore
from fairsweep.analysis.metrics.rates import Bools, Counts, Floats
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.frames import with_trials
from fairsweep.analysis.results.outcomes import Outcomes, group_codes, read_outcomes, users
from fairsweep.analysis.results.people import person_weights
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import DONE, At
from fairsweep.analysis.statistics.bootstrap_draws import disparity_bounds, keyed_generator, value_bounds
from fairsweep.analysis.statistics.own_intervals import is_biased

METHOD = "bootstrap of weighted examples, groups fixed"


def weighted_frame(
    results: SweepResults,
    metrics: Sequence[str],
    weights: pd.Series | Mapping[int, float],
    *,
    by: str | Sequence[str] = (),
    split: str = "test",
    at: At = "last",
    states: Sequence[str] | None = DONE,
    positive: str | None = None,
    confidence: float = 0.95,
    draws: int = 500,
) -> pd.DataFrame:
    """Return metrics in which each example counts as much as its weight says, as fairlearn's ``sample_weight``.

    Args:
        results: the sweep, with predictions.
        metrics: names in `METRICS`; a variance between groups has no weighted form.
        weights: of each example, by id; at least 0.
        by: an attribute or several; empty for all examples together.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.
        positive: the positive class; default the second of two.
        confidence: of the intervals.
        draws: resamples of the examples within the groups; an example keeps its weight.

    Returns:
        A tidy table; ``n`` and ``n_min`` are Kish's effective sample sizes, (sum of w)^2 / sum of w^2, rounded down.
        Calibration errors have no interval here: their resamples are biased.

    Raises:
        ValueError: if an example has no weight or one below 0, or a metric has no weighted form.

    References:
        Kish 1965, Survey Sampling, section 11.7.
    """
    chosen = [resolve(name, results.classes, positive) for name in metrics]
    wrong = [one.name for one in chosen if isinstance(one.row, Disparity) and one.row.statistic == "variance"]
    if wrong:
        raise ValueError(
            f"metrics must have a weighted form, but {wrong} have none: their sampling variance is of counts"
        )
    names = (by,) if isinstance(by, str) else tuple(by)
    known = pd.Series(weights, dtype=np.float64)
    evaluations = results.evaluations(split=split, at=at, states=states)
    rows: list[dict[str, Any]] = []
    for trial, iteration in zip(evaluations.trial, evaluations.iteration, strict=True):
        asked = pd.DataFrame({"trial": [trial], "iteration": [iteration]})
        outcomes = read_outcomes(results, split, asked, probabilities=any(not one.of_cells for one in chosen))
        codes = None if outcomes is None else group_codes(results, outcomes, names)
        if outcomes is None or codes is None:
            continue
        mine = known.reindex(outcomes.ids).to_numpy(np.float64)
        if not (mine >= 0).all():
            strange = int(outcomes.ids[~(mine >= 0)][0])
            raise ValueError(
                f"every example must have a weight of at least 0, but that of id {strange} is missing or less"
            )
        table = _Weighted(
            outcomes,
            codes,
            mine,
            results.all_cells.group_names(names),
            len(results.classes),
            JOINT.join(names),
            users(results, outcomes),
            results.group_sizes(names, evaluations) >= results.min_group_size,
        )
        generator = keyed_generator("weights", trial, int(iteration), split)
        head = {"trial": trial, "iteration": int(iteration), "split": split, "attribute": JOINT.join(names)}
        rows += [head | row for row in table.rows(chosen, draws, confidence, generator)]
    columns = ["trial", "iteration", "split", "attribute", "group", "metric", "value", "low", "high", "n", "n_min"]
    frame = pd.DataFrame(rows, columns=columns).assign(interval=METHOD, expected_if_equal=np.nan)
    return with_trials(frame, results.trials)


class _Weighted:
    """The weighted examples of one evaluation.

    Args:
        outcomes: of one evaluation.
        codes: group of each example, int64 [N].
        weights: float64 [N].
        groups: names of the groups.
        classes: how many.
        attribute: that the groups are of.
        of_whom: the person that each example is of, int64 [N]; None takes examples as independent.
        ranked: which groups are large enough for disparities, bool [G].
    """

    def __init__(
        self,
        outcomes: Outcomes,
        codes: Counts,
        weights: Floats,
        groups: Sequence[str],
        classes: int,
        attribute: str,
        of_whom: Counts | None,
        ranked: Bools,
    ) -> None:
        self._of_whom, self._ranked = of_whom, ranked
        self._outcomes, self._codes, self._weights = outcomes, codes, weights
        self._groups, self._classes, self._attribute = groups, classes, attribute
        self._place = outcomes.cells(0, codes, len(groups), classes)
        total, squares = (np.bincount(codes, w, len(groups)) for w in (weights, np.square(weights)))
        self._effective = np.floor(np.divide(total**2, squares, out=np.zeros(len(total)), where=squares > 0) + 1e-9)

    def rows(
        self, metrics: Sequence[Metric], draws: int, confidence: float, generator: np.random.Generator
    ) -> list[dict[str, Any]]:
        """Return the rows of all metrics."""
        drawn = self._drawn(draws, generator)
        once, often = self._weights[None], drawn * self._weights
        exists = (self._effective > 0) & self._ranked
        sizes = self._effective.astype(np.int64)
        found: list[dict[str, Any]] = []
        for metric in metrics:
            row = metric.row
            bases = [BASES[name] for name in row.rates] if isinstance(row, Disparity) else [row]
            parts = [[self._values(base, metric.positive, w) for base in bases] for w in (once, often)]
            (value, whole), (values, wholes) = (
                (np.stack([part[0] for part in side], -2), np.stack([part[1] for part in side], -1)) for side in parts
            )
            if isinstance(row, Disparity):
                one = float(combine(value, whole, exists[None], row)[0])
                known = np.isfinite(one)
                usable = known and not is_biased(row)
                low, high = disparity_bounds(values, wholes, exists, row, confidence) if usable else (np.nan, np.nan)
                numbers = {"value": one, "low": low, "high": high, "n": int(sizes.sum())}
                least = int(sizes[exists].min(initial=0)) if exists.any() else 0
                name = metric.name
                found.append({"group": self._attribute, "metric": name, **numbers, "n_min": least})
                continue
            bounds = np.array(value_bounds(values[:, 0], confidence))
            if isinstance(row, ProbabilityScore) and is_biased(row):
                bounds = np.full_like(bounds, np.nan)
            columns = zip(self._groups, value[0, 0], *bounds, sizes, sizes, strict=True)
            labels = ("group", "value", "low", "high", "n", "n_min")
            found += [{"metric": metric.name, **dict(zip(labels, one, strict=True))} for one in columns]
        return found

    def _drawn(self, draws: int, generator: np.random.Generator) -> Floats:
        """Return how often each example is drawn within its group, float64 [draws, N]; people whole, if known."""
        if self._of_whom is not None:
            return person_weights(self._of_whom, draws, generator)
        drawn = np.zeros((draws, len(self._codes)))
        for code in np.unique(self._codes):
            inside = np.flatnonzero(self._codes == code)
            drawn[:, inside] = generator.multinomial(len(inside), np.full(len(inside), 1 / len(inside)), size=draws)
        return drawn

    def _values(self, base: Base, positive: int | None, weights: Floats) -> tuple[Floats, Floats]:
        """Return a metric of each group, float64 [B, G], and of all, float64 [B], for weights [B, N]."""
        size = len(self._groups)
        if isinstance(base, ProbabilityScore):
            if self._outcomes.log_probabilities is None:
                raise TypeError(f"{base.name} needs log-probabilities")
            log_p, label = self._outcomes.log_probabilities[0].astype(np.float64), self._outcomes.label
            masks = [self._codes == code for code in range(size)]
            whom = self._of_whom
            people = [None if whom is None else whom[mask] for mask in masks]
            chosen = zip(masks, people, strict=True)
            each = [base.values(log_p[mask], label[mask], weights[:, mask], who) for mask, who in chosen]
            return np.stack(each, -1), base.values(log_p, label, weights, whom)
        cells = np.zeros((len(weights), size * self._classes**2))
        for place in np.unique(self._place):
            cells[:, place] = weights[:, self._place == place].sum(1)
        shaped: Any = cells.reshape(-1, size, self._classes, self._classes)  # weights stand where counts do
        return value_of(shaped, base, positive), value_of(shaped.sum(1), base, positive)
