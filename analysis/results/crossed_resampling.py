"""Metrics of several trials under the same resamples of their test images, and their means over replicates.

Every trial of a sweep sees the same test images, so each resample draws images (whole people, where there are any) once
for all trials. What is concluded from that is in `fairsweep.analysis.statistics.crossed_bounds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairsweep.analysis.metrics.catalogue import Metric, resolve
from fairsweep.analysis.metrics.disparities import BASES, Disparity, combine, disparity, stacked_scores, value_of
from fairsweep.analysis.metrics.probabilities import ProbabilityScore
from fairsweep.analysis.metrics.rates import RATES, Bools, Floats, divide
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.outcomes import Codes, Outcomes, group_codes, read_outcomes, users
from fairsweep.analysis.results.people import person_weights, resampled_cells
from fairsweep.analysis.results.sweep_frames import DONE, At, SweepFrames
from fairsweep.analysis.statistics.bootstrap_draws import keyed_generator
from fairsweep.analysis.statistics.crossed_bounds import (
    Columns,
    DisparityParts,
    Drawn,
    SharedRate,
    mean_disparity,
    mean_of_drawn,
    mean_rate,
    shared_rate,
)
from fairsweep.analysis.statistics.effective_sample_size import units_of
from fairsweep.analysis.statistics.own_intervals import is_biased
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds

DRAWS = 1000
"""Resamples of the images."""


def id_weights(
    strata: Codes, draws: int, generator: np.random.Generator, clusters: Codes | None = None
) -> npt.NDArray[np.float64]:
    """Return how often each image is drawn in each resample, the same for all trials.

    Args:
        strata: codes within which the evaluation set fixes the counts, int64 [N].
        draws: number of resamples.
        generator: source of the draws.
        clusters: the user of each image, int64 [N]: users are then drawn whole, over all strata.

    Returns:
        float64 [draws, N].
    """
    weights = np.zeros((draws, len(strata)))
    if clusters is not None:
        return person_weights(clusters, draws, generator)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        weights[:, rows] = generator.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), draws)
    return weights


def crossed_means(
    results: SweepFrames,
    asked: pd.DataFrame,
    metrics: Sequence[Metric],
    *,
    by: Sequence[str] = (),
    split: str = "test",
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> pd.DataFrame | None:
    """Return the means over the replicates of each setting, with intervals that know the shared test images.

    Args:
        results: the sweep.
        asked: columns ``trial``, ``iteration`` and ``setting``; one iteration of each trial.
        metrics: rates, scores and disparities. Those whose trials have bounds of their own, for samples bias them, are
            left out: nothing is known of what such bounds share.
        by: attributes whose intersections are the groups.
        split: ``test`` or ``validation``.
        confidence: of the intervals.
        draws: number of resamples, of metrics that are no quotients of counts.

    Returns:
        Columns ``setting``, ``metric``, ``group`` and those of `fairsweep.analysis.statistics.crossed_bounds.Columns`;
        None where the trials saw different images, or groups are not recorded by id.

    References:
        Owen 2007, doi 10.1214/07-AOAS122: resampling both factors is mildly conservative.
    """
    chosen = [metric for metric in metrics if not is_biased(metric.row)]
    outcomes = read_outcomes(results, split, asked, probabilities=any(not metric.of_cells for metric in chosen))
    groups = None if outcomes is None else group_codes(results, outcomes, by)
    if outcomes is None or groups is None or not chosen:
        return None
    every = results.evaluations(split=split, states=None)
    mine = every.at(np.isin(every.trial.astype(str), asked["trial"].astype(str)))
    ranked = results.group_sizes(by, mine) >= results.min_group_size
    shared = _Shared(outcomes, groups, len(results.classes), ranked, users(results, outcomes), confidence)
    resampled = None
    if not all(_is_quotient(metric) for metric in chosen):
        resampled = shared.resampled(draws, keyed_generator("crossed", 0, split))
    rows = {trial: place for (trial, _), place in outcomes.row.items()}
    table = results.trials.astype({"trial": str}).set_index("trial")[["data_seed", "train_seed"]]
    names = {True: list(results.all_cells.group_names(by)), False: [JOINT.join(by)]}
    parts = []
    for setting, part in asked[asked["trial"].isin(list(rows))].groupby("setting", sort=False):
        places = [rows[str(trial)] for trial in part["trial"]]
        drawn_seeds = table.reindex(part["trial"].astype(str)).to_numpy(np.float64, na_value=np.nan)
        seeds = ReplicateSeeds.of(drawn_seeds[:, 0], drawn_seeds[:, 1])
        for metric in chosen:
            if resampled is None or _is_quotient(metric):
                found = shared.mean(places, metric, seeds)
            else:
                drawn = [resampled.drawn(place, metric) for place in places]
                generator = keyed_generator("replicates", setting, metric.name)
                found = mean_of_drawn(drawn, confidence, generator, shared.step(metric), seeds)
            unit = "" if shared.clusters is None else ", people"
            head = {"setting": setting, "metric": metric.name, "group": names[not isinstance(metric.row, Disparity)]}
            parts.append(pd.DataFrame(head | found).assign(interval=f"{found['interval']}{unit}"))
    return pd.concat(parts, ignore_index=True) if parts else None


def resample(
    results: SweepFrames,
    metric: str,
    trials: Sequence[str],
    *,
    by: str | Sequence[str] = (),
    split: str = "test",
    at: At = "last",
    states: Sequence[str] | None = DONE,
    positive: str | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Floats] | None:
    """Return one metric of some trials under the same resamples of the images.

    Args:
        results: the sweep.
        metric: a name in `METRICS`.
        trials: names of trials.
        by: the groups.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.
        positive: the positive class.
        draws: number of resamples.
        seed: of the draws.

    Returns:
        For each trial float64 [draws, P]: one column per group, or one for a disparity. None where predictions of all
        these trials on the same images, or their groups by id, are not recorded.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    found = resolve(metric, results.classes, positive)
    evaluations = results.evaluations(split=split, at=at, states=states)
    asked = pd.DataFrame({"trial": list(evaluations.trial), "iteration": evaluations.iteration})
    asked = asked[asked["trial"].isin(list(trials))]
    outcomes = read_outcomes(results, split, asked, probabilities=not found.of_cells)
    groups = None if outcomes is None else group_codes(results, outcomes, names)
    if outcomes is None or groups is None or len(outcomes.row) < len(asked):
        return None
    strata = groups * len(results.classes) + outcomes.label
    weights = id_weights(strata, draws, keyed_generator("crossed", seed, split), users(results, outcomes))
    count = len(results.all_cells.group_names(names))
    ranked = results.group_sizes(names, evaluations) >= results.min_group_size
    table = _Resampled(outcomes, weights, groups, count, len(results.classes), ranked, users(results, outcomes))
    return {trial: table.drawn(place, found).draws for (trial, _), place in outcomes.row.items()}


@dataclass(frozen=True)
class _Shared:
    """Predictions of several trainings on the same images."""

    outcomes: Outcomes
    groups: Codes
    classes: int
    ranked: Bools
    clusters: Codes | None
    confidence: float

    def mean(self, places: Sequence[int], metric: Metric, seeds: ReplicateSeeds) -> Columns:
        """Return the mean over some trainings of a rate, or of a disparity of rates."""
        row = metric.row
        if not isinstance(row, Disparity):
            (rate,) = self._rates(places, metric, np.ones(len(self.groups), np.bool_))
            return mean_rate(rate, self.confidence, seeds)
        exists = (np.bincount(self.groups, minlength=len(self.ranked)) > 0) & self.ranked
        rates = list(self._rates(places, metric, exists[self.groups]))
        return mean_disparity(rates, exists, row, self.confidence, seeds)

    def _rates(self, places: Sequence[int], metric: Metric, chosen: Bools) -> Iterator[SharedRate]:
        """Yield each rate behind a metric, on some of the images."""
        groups, label = self.groups[chosen], self.outcomes.label[chosen]
        whom = None if self.clusters is None else self.clusters[chosen]
        predicted = self.outcomes.prediction[places][:, chosen]
        code = -1 if metric.positive is None else metric.positive
        units = units_of(metric, groups, len(self.ranked), label, self.classes, whom)
        for name, unit in zip(_bases_of(metric), units, strict=True):
            tables = RATES[name].numerator(self.classes, code), RATES[name].denominator(self.classes, code)
            above, below = (np.asarray(table)[label, predicted].astype(np.bool_) for table in tables)
            yield shared_rate(above, below, groups, label, unit, whom)

    def step(self, metric: Metric) -> Floats:
        """Return the resolution of a score's values, float64 [P]."""
        sizes = np.bincount(self.groups, minlength=len(self.ranked))
        if not isinstance(metric.row, Disparity):
            return divide(1.0, sizes)
        return np.array([divide(1.0, sizes.min(where=self.ranked & (sizes > 0), initial=sizes.max()))])

    def resampled(self, draws: int, generator: np.random.Generator) -> _Resampled:
        """Return the same under resamples of the images."""
        strata = self.groups * self.classes + self.outcomes.label
        weights = id_weights(strata, draws, generator, self.clusters)
        return _Resampled(
            self.outcomes, weights, self.groups, len(self.ranked), self.classes, self.ranked, self.clusters
        )


@dataclass(frozen=True)
class _Resampled:
    """All evaluations under the same resamples of the images."""

    outcomes: Outcomes
    weights: Floats
    groups: Codes
    count: int
    classes: int
    ranked: Bools
    clusters: Codes | None = None

    def drawn(self, at: int, metric: Metric) -> Drawn:
        """Return a metric of one evaluation."""
        row = metric.row
        exists = (np.bincount(self.groups, minlength=self.count) > 0) & self.ranked
        if metric.of_cells:
            weights = np.concatenate([np.ones((1, len(self.groups))), self.weights])
            cells = resampled_cells(self.outcomes, at, weights, self.groups, self.count, self.classes)
            if isinstance(row, Disparity):
                cells = np.where(self.ranked[:, None, None], cells, 0)
                by_group, whole = stacked_scores(cells, row, metric.positive)
                found = disparity(cells, row, metric.positive)[:, None]
                return Drawn(found[0], found[1:], DisparityParts(by_group[1:], whole[1:], row))
            if isinstance(row, ProbabilityScore):
                raise TypeError(f"{metric.name} is no metric of cells")
            by_group = value_of(cells, row, metric.positive)
            return Drawn(by_group[0], by_group[1:])
        rates = _bases_of(metric)
        value = np.stack([self._predicted(at, name, np.ones((1, len(self.groups)))) for name in rates], -2)
        drawn = np.stack([self._predicted(at, name, self.weights) for name in rates], -2)
        if not isinstance(row, Disparity):
            return Drawn(value[0, 0, :-1], drawn[:, 0, :-1])
        value, drawn = (np.where(np.append(exists, True), v, np.nan) for v in (value, drawn))
        every = np.broadcast_to(exists, (len(drawn), self.count))
        one, many = (combine(v[..., :-1], v[..., -1], every[: len(v)], row) for v in (value, drawn))
        return Drawn(one, many[:, None], DisparityParts(drawn[..., :-1], drawn[..., -1], row))

    def _predicted(self, at: int, name: str, weights: Floats) -> Floats:
        """Return a score of predictions for each group and, last, for all: float64 [B, G + 1]."""
        base = BASES[name]
        if not isinstance(base, ProbabilityScore) or self.outcomes.log_probabilities is None:
            raise TypeError(f"{name} is no score of predictions")
        log_p, label = self.outcomes.log_probabilities[at].astype(np.float64), self.outcomes.label
        masks = [*(self.groups == code for code in range(self.count)), np.ones(len(label), np.bool_)]
        whom = self.clusters
        chosen = [(log_p[m], label[m], weights[:, m], None if whom is None else whom[m]) for m in masks]
        return np.stack([base.values(*one) for one in chosen], -1)


def _bases_of(metric: Metric) -> tuple[str, ...]:
    return metric.row.rates if isinstance(metric.row, Disparity) else (metric.row.name,)


def _is_quotient(metric: Metric) -> bool:
    """Return whether a metric is a rate, or a disparity of rates."""
    return all(name in RATES for name in _bases_of(metric))
