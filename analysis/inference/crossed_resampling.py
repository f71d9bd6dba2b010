"""Means over replicates by crossed resampling: of replicates and of test images at once.

Every trial of a sweep sees the same test images, so each resample draws images (whole users, where there are any) once
for all trials, and replicates anew for each setting. With fewer than ten replicates a resample of replicates
is too narrow, and the replicates' part is a t interval that is added to the images' part in quadrature; of rates and
their disparities it always is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairsweep.analysis.inference.effective_sample_size import (
    DisparityParts,
    SamplingUnits,
    disparity_bounds_of_rates,
    rate_bounds,
    units_of,
)
from fairsweep.analysis.metrics.catalogue import Metric, resolve
from fairsweep.analysis.metrics.disparities import BASES, Disparity, combine, disparity, stacked_scores, value_of
from fairsweep.analysis.metrics.probabilities import ProbabilityScore
from fairsweep.analysis.metrics.rates import Bools, Floats, divide
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.frames import renamed
from fairsweep.analysis.results.outcomes import Codes, Outcomes, group_codes, read_outcomes, users
from fairsweep.analysis.results.people import person_weights, resampled_cells
from fairsweep.analysis.statistics.bootstrap_draws import disparity_bounds, keyed_generator, value_bounds
from fairsweep.analysis.statistics.intervals import replicate_mean, widen
from fairsweep.analysis.statistics.own_intervals import bounds_of_biased, is_biased, own_bounds

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

FEW = 10
"""Minimum number of replicates to resample; fewer get a t interval."""

_NO_WIDTH = 1e-12

CROSSED_COLUMNS = (
    "learner",
    "series",
    "level",
    "level_value",
    "split",
    "attribute",
    "group",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "replicates",
    "std",
    "images_std",
    "interval",
    "baseline",
    "setting",
)


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


@renamed(against="baseline")
def crossed_frame(
    results: SweepResults,
    metrics: Sequence[str],
    *,
    by: str | Sequence[str] = (),
    baseline: str | None = None,
    split: str = "test",
    at: At = "last",
    states: Sequence[str] | None = ("done",),
    positive: str | None = None,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the means over the replicates of each setting, with intervals that know the shared test images.

    Args:
        results: the sweep, with predictions.
        metrics: names in `METRICS`: rates, scores and disparities, of cells and of predictions.
        by: the groups; empty for all examples together.
        baseline: ``"twin"`` or a learner: differences from the paired trial, under the same images.
        split: ``test`` or ``validation``.
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.
        positive: the positive class; default the second of two.
        confidence: of the intervals.
        draws: number of resamples.
        seed: of the draws.

    Returns:
        The columns `CROSSED_COLUMNS`; ``std`` is that between replicates, ``images_std`` that of the mean
        between resamples of the images alone. Bounds are NaN where one replicate gives every resample the same value.

    Raises:
        ValueError: if the trials saw different images, or groups are not recorded by id.

    References:
        Owen 2007, doi 10.1214/07-AOAS122: resampling both factors is mildly conservative.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    chosen = [resolve(name, results.classes, positive) for name in metrics]
    evaluations = results.evaluations(split=split, at=at, states=states)
    asked = pd.DataFrame({"trial": list(evaluations.trial), "iteration": evaluations.iteration})
    predicted = any(not metric.of_cells for metric in chosen)
    outcomes = read_outcomes(results, split, asked, probabilities=predicted)
    groups = None if outcomes is None else group_codes(results, outcomes, names)
    if outcomes is None or groups is None:
        raise ValueError(
            "crossed resampling needs predictions of all trials on the same images, with their groups in "
            "examples.parquet; take SweepResults.frame and average instead"
        )
    labels = results.all_cells.group_names(names)
    strata, clusters = groups * len(results.classes) + outcomes.label, users(results, outcomes)
    weights = id_weights(strata, draws, keyed_generator("crossed", seed, split), clusters)
    rows = {trial: place for (trial, _), place in outcomes.row.items()}
    ranked = results.group_sizes(names, evaluations) >= results.min_group_size
    table = _Resampled(outcomes, weights, groups, len(labels), len(results.classes), ranked, clusters)
    values = {(trial, m.name): table.values(place, m, confidence) for trial, place in rows.items() for m in chosen}
    if baseline is not None:
        pairs = results.pairs(baseline).pairs.set_index("trial")["baseline_trial"].to_dict()
        paired = {trial: pairs[trial] for trial in rows if pairs.get(trial) in rows}
        values = {
            (t, m.name): values[t, m.name].minus(values[other, m.name]) for t, other in paired.items() for m in chosen
        }
        rows = {trial: rows[trial] for trial in paired}
    sizes = np.bincount(groups, minlength=len(labels))
    about = (groups, len(labels), outcomes.label, len(results.classes), clusters)
    behind = {m.name: units_of(m, *about) if baseline is None else () for m in chosen}
    trials = results.trials[results.trials["trial"].isin(list(rows))]
    attribute = JOINT.join(names)
    parts = []
    for name, setting in trials.groupby("setting", sort=False):
        for metric in chosen:
            drawn = [values[trial, metric.name] for trial in setting["trial"]]
            generator = keyed_generator("replicates", seed, name, metric.name)
            of_groups = not isinstance(metric.row, Disparity)
            step = divide(1.0, sizes if of_groups else sizes.min(keepdims=True, where=ranked, initial=sizes.max()))
            part = _setting_columns(drawn, confidence, generator, behind[metric.name], step)
            least, most = metric.range if baseline is None else (-(width := np.diff(metric.range)[0]), width)
            part["low"], part["high"] = np.maximum(part["low"], least), np.minimum(part["high"], most)
            part["group"] = list(labels) if of_groups else [attribute]
            part["n"] = sizes.tolist() if of_groups else [int(sizes.sum())]
            head = {name: setting[name].iloc[0] for name in ("learner", "series", "setting", "level", "level_value")}
            parts.append(pd.DataFrame(head | part).assign(metric=metric.name))
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(CROSSED_COLUMNS))
    return frame.assign(split=split, attribute=attribute, baseline=baseline or "")[list(CROSSED_COLUMNS)]


def resample(
    results: SweepResults,
    metric: str,
    trials: Sequence[str],
    *,
    by: str | Sequence[str] = (),
    split: str = "test",
    at: At = "last",
    positive: str | None = None,
    draws: int = 1000,
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
        positive: the positive class.
        draws: number of resamples.
        seed: of the draws.

    Returns:
        For each trial float64 [draws, P]: one column per group, or one for a disparity. None where predictions of all
        these trials on the same images, or their groups by id, are not recorded.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    found = resolve(metric, results.classes, positive)
    evaluations = results.evaluations(split=split, at=at)
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
    table = _Resampled(outcomes, weights, groups, count, len(results.classes), ranked)
    return {trial: table.values(place, found, 0.95).draws for (trial, _), place in outcomes.row.items()}


@dataclass(frozen=True)
class _Drawn:
    """One metric of one trial: its values, their resamples, and for a disparity its own bounds.

    Attributes:
        value: float64 [P], of the groups or of one disparity.
        draws: float64 [B, P].
        bounds: lower and upper bound, float64 [2, P]; None where percentiles of the draws do.
        parts: of a disparity what it is made of.
    """

    value: Floats
    draws: Floats
    bounds: Floats | None = None
    parts: DisparityParts | None = None

    def minus(self, other: _Drawn) -> _Drawn:
        """Return the difference from another trial under the same images; what two maxima share in bias cancels."""
        return _Drawn(self.value - other.value, self.draws - other.draws)


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

    def values(self, at: int, metric: Metric, confidence: float) -> _Drawn:
        """Return a metric of one evaluation."""
        row = metric.row
        rates = row.rates if isinstance(row, Disparity) else (row.name,)
        if metric.of_cells:
            weights = np.concatenate([np.ones((1, len(self.groups))), self.weights])
            cells = resampled_cells(self.outcomes, at, weights, self.groups, self.count, self.classes)
            if isinstance(row, Disparity):
                cells = np.where(self.ranked[:, None, None], cells, 0)
                by_group, whole = stacked_scores(cells, row, metric.positive)
                bounds = disparity_bounds(by_group[1:], whole[1:], self._exists, row, confidence)
                found = disparity(cells, row, metric.positive)[:, None]
                parts = DisparityParts(by_group[0], by_group[1:], whole[1:], row)
                return _Drawn(found[0], found[1:], np.array(bounds)[:, None], parts)
            if isinstance(row, ProbabilityScore):
                raise TypeError(f"{metric.name} is no metric of cells")
            by_group = value_of(cells, row, metric.positive)
            return _Drawn(by_group[0], by_group[1:])
        value = np.stack([self._predicted(at, name, np.ones((1, len(self.groups)))) for name in rates], -2)
        drawn = np.stack([self._predicted(at, name, self.weights) for name in rates], -2)
        log_p = self.outcomes.log_probabilities
        given = (np.empty(0) if log_p is None else log_p[at].astype(np.float64), self.outcomes.label, self.groups)
        if not isinstance(row, Disparity):
            plain = isinstance(row, ProbabilityScore) and not is_biased(row)
            own = None if plain else own_bounds(row.name, *given, self.count, self.clusters, confidence)[1:3]
            return _Drawn(value[0, 0, :-1], drawn[:, 0, :-1], own)
        value, drawn = (np.where(np.append(self._exists, True), v, np.nan) for v in (value, drawn))
        exists = np.broadcast_to(self._exists, (len(drawn), self.count))
        one, many = (combine(v[..., :-1], v[..., -1], exists[: len(v)], row) for v in (value, drawn))
        bounds = disparity_bounds(drawn[..., :-1], drawn[..., -1], self._exists, row, confidence)
        if is_biased(row):
            own = np.array(bounds_of_biased(row, *given, self._exists, self.clusters, confidence))[:, None]
            return _Drawn(one, many[:, None], own)
        parts = DisparityParts(value[0, :, :-1], drawn[..., :-1], drawn[..., -1], row)
        return _Drawn(one, many[:, None], np.array(bounds)[:, None], parts)

    @property
    def _exists(self) -> Bools:
        return (np.bincount(self.groups, minlength=self.count) > 0) & self.ranked

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


def _setting_columns(
    drawn: Sequence[_Drawn],
    confidence: float,
    generator: np.random.Generator,
    units: Sequence[SamplingUnits] = (),
    step: Floats | float = 0.0,
) -> dict[str, Any]:
    """Return the columns of one setting and metric, one entry per group: means over its replicates.

    ``units`` are those behind a rate, or behind each rate of a disparity: percentiles of a few images are too narrow,
    and 9 right of 9 have none, so these have the intervals of `fairsweep.analysis.inference.effective_sample_size`.
    ``step`` is the resolution of the values, float64 [P].
    """
    values = np.stack([one.value for one in drawn], -1)
    mean = replicate_mean(values, confidence, step)
    draws = np.stack([one.draws for one in drawn], -1)
    images = _known_mean(draws, np.ones((len(draws), len(drawn))))
    bounds = [one.bounds for one in drawn if one.bounds is not None]
    if len(bounds) == len(drawn):
        low, high = _disparity_of_means(drawn, mean.mean, units, confidence)
        low, high = widen(mean.mean, low, high, mean.half_width)
        method = "bounds over images, joined with t over replicates"
    elif units:
        variance = np.asarray(np.where(np.isfinite(images), images, mean.mean).var(0), np.float64)
        low, high = rate_bounds(mean.mean, variance, units[0], len(drawn), confidence)
        low, high = widen(mean.mean, np.minimum(low, mean.mean), np.maximum(high, mean.mean), mean.half_width)
        method = "Wilson at the effective sample size, joined with t over replicates"
    elif len(drawn) >= FEW:
        chosen = generator.multinomial(len(drawn), np.full(len(drawn), 1 / len(drawn)), len(draws))
        low, high = value_bounds(_known_mean(draws, chosen), confidence)
        method = "crossed resampling"
    else:
        low, high = value_bounds(images, confidence)
        low, high = widen(mean.mean, np.minimum(low, mean.mean), np.maximum(high, mean.mean), mean.half_width)
        method = "images resampled, joined with t over replicates"
    # Trainings that score alike on every image, in every resample, are not certain to: what is left is the smallest
    # step of a value over the replicates, and of one replicate nothing.
    flat = high - low < _NO_WIDTH
    low, high = np.where(flat, mean.mean - mean.half_width, low), np.where(flat, mean.mean + mean.half_width, high)
    undefined = ~np.isfinite(mean.mean)
    known = np.isfinite(images).any(0)
    return {
        "value": mean.mean,
        "low": np.where(undefined, np.nan, low),
        "high": np.where(undefined, np.nan, high),
        "replicates": mean.replicates,
        "std": mean.standard_deviation,
        "images_std": np.where(known, np.nanstd(np.where(known, images, 0), axis=0), np.nan),
        "interval": method if len(drawn) > 1 else "images resampled; one replicate",
    }


def _disparity_of_means(
    drawn: Sequence[_Drawn], value: Floats, units: Sequence[SamplingUnits], confidence: float
) -> tuple[Floats, Floats]:
    """Return the bounds, by the images, of the mean over replicates of a disparity: two float64 arrays [1].

    The mean of largest gaps, ``value``, is at least the largest gap of the means, so that gap's lower bound is one; it
    is larger by what trainings differ, so that the other bound lies as far from it as that gap's own. For a ratio and
    a lowest value it is the other way round. Of other metrics than rates, the far bound is the mean of the trials'.
    """
    parts = [one.parts for one in drawn if one.parts is not None]
    if len(parts) < len(drawn):
        single = np.mean([one.bounds for one in drawn if one.bounds is not None], axis=0)
        return single[0], single[1]
    row = parts[0].row
    means = replace(
        parts[0],
        value=np.mean([part.value for part in parts], axis=0),
        draws=np.mean([part.draws for part in parts], axis=0),
        overall=np.mean([part.overall for part in parts], axis=0),
    )
    if units:
        found, low, high = disparity_bounds_of_rates(means.value, means.draws, units, row, len(parts), confidence)
        if row.falls:
            return value - (found - low), np.maximum(value, high)
        return np.minimum(value, low), value + (high - found)
    bounds = np.array([part.bounds(confidence) for part in parts]).mean(0)
    low, high = means.bounds(confidence)
    if row.falls:
        return bounds[:1], np.array([high])
    return np.array([low]), bounds[1:]


def _known_mean(draws: Floats, weights: npt.NDArray[Any]) -> Floats:
    """Weighted mean over replicates of the values that are defined: float64 [B, P, R], [B, R] -> float64 [B, P]."""
    known = np.isfinite(draws)
    chosen = np.where(known, weights[:, None, :], 0)
    return divide((np.where(known, draws, 0) * chosen).sum(-1), chosen.sum(-1))
