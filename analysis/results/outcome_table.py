"""Differences of a metric between trials paired by seed: one estimate and one interval, wherever they are shown.

Rates whose denominator depends on the label alone (accuracy, true positive rate, …) are sums over test images, which
the outcomes of all trials on the same images give exactly. Of other metrics each trial's value is known, and by
how much other test images would change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairsweep.analysis.metrics.catalogue import Metric, resolve
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.metrics.rates import Bools, Counts, Floats, Rate, divide, quotients
from fairsweep.analysis.records.counts import ALL, JOINT
from fairsweep.analysis.results.crossed_resampling import DRAWS, resample
from fairsweep.analysis.results.differences import difference_rows
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.outcomes import Codes, counted_by, group_codes, read_outcomes, users
from fairsweep.analysis.results.people import has_people, people_and_images
from fairsweep.analysis.results.sweep_frames import DONE, At, By, SweepFrames
from fairsweep.analysis.statistics.effects import Effect, effect_of_contributions, effect_of_resamples, effect_of_values
from fairsweep.analysis.statistics.intervals import NORMAL_95
from fairsweep.analysis.statistics.superiority import Superiority, superiority
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds

Seed = tuple[float, float]
_SEEDS = ["data_seed", "train_seed"]


class _Choice(TypedDict):
    by: tuple[str, ...]
    split: str
    at: At
    states: Sequence[str] | None
    positive: str | None


@dataclass(frozen=True)
class SharedImages:
    """What trials predicted on the same images, of those that the rate is about.

    Attributes:
        success: whether each counts in the numerator, bool [T, N].
        group: code of each image's group, int64 [N].
        strata: within which the evaluation set fixes the counts, int64 [N].
        clusters: the user of each image, int64 [N]; None without users.
    """

    success: Bools
    group: Codes
    strata: Codes
    clusters: Codes | None


@dataclass(frozen=True)
class OutcomeTable:
    """A rate of T trials in each of G groups, and on each image where all predicted the same ones.

    Attributes:
        trials: columns ``trial``, ``series``, ``level``, ``level_value``, ``data_seed``, ``train_seed``.
        groups: their names, [G].
        rates: float64 [T, G].
        counts: denominators, int64 [T, G].
        ranked: whether each group has enough examples to be compared, bool [G].
        images: None where predictions are missing, or of different images.
        people_per_image: 1 where images are independent, as far as the data says.
    """

    trials: pd.DataFrame
    groups: tuple[str, ...]
    rates: Floats
    counts: Counts
    ranked: Bools
    images: SharedImages | None
    people_per_image: float = 1.0

    @classmethod
    def of(
        cls,
        results: SweepFrames,
        by: By,
        metric: str = "accuracy",
        *,
        split: str = "test",
        at: At = "last",
        states: Sequence[str] | None = DONE,
        positive: str | None = None,
        trials: Sequence[str] | None = None,
    ) -> OutcomeTable:
        """Read the table of a sweep for some groups.

        Args:
            results: the sweep.
            by: an attribute, or several whose intersections are the groups.
            metric: a rate whose denominator depends on the label alone.
            split: see `SweepFrames.evaluations`.
            at: see `SweepFrames.evaluations`.
            states: see `SweepFrames.evaluations`.
            positive: the positive class; default the second of two.
            trials: names of those that are read; None reads all.
        """
        names = (by,) if isinstance(by, str) else tuple(by)
        resolved = resolve(metric, results.classes, positive)
        if not isinstance(resolved.row, Rate) or not resolved.row.given_label:
            raise TypeError(f"the metric must be a rate whose denominator depends on the label alone, but is {metric}")
        evaluations = results.evaluations(split=split, at=at, states=states)
        if trials is not None:
            evaluations = evaluations.at(np.isin(evaluations.trial.astype(str), list(trials)))
        counts = counted_by(results, evaluations, names)
        above, below = quotients(counts.values, resolved.row, resolved.positive)
        asked = pd.DataFrame({"trial": list(evaluations.trial), "iteration": evaluations.iteration})
        columns = ["series", "level", "level_value", *_SEEDS]
        table = asked[["trial"]].join(results.trials.set_index("trial")[columns], on="trial")
        images = _shared_images(results, names, split, asked, resolved)
        people, shown = people_and_images(results, split) if has_people(results, split) else (1, 1)
        ranked = results.group_sizes(names, evaluations) >= results.min_group_size
        return cls(table, counts.groups, divide(above, below), below, ranked, images, people / shown)

    def rows(self, series: str, level: object) -> Mapping[Seed, int]:
        """Return the trial of each pair of seeds of a series at a level, by text or number; none if one has several."""
        at = self.trials["level" if isinstance(level, str) else "level_value"] == level
        chosen = np.flatnonzero((at & (self.trials["series"].astype(str) == series)).to_numpy(np.bool_))
        seeds = self.trials[_SEEDS].to_numpy(np.float64, na_value=np.nan)[chosen]
        found = {(float(data), float(train)): int(row) for (data, train), row in zip(seeds, chosen, strict=True)}
        return found if len(found) == len(chosen) else {}

    def weights(self, group: str, *, others: float = 0.0) -> Floats:
        """Return one for a group and ``others`` for the mean of the others that are ranked, float64 [G]."""
        known = self.counts.max(0, initial=0)
        if group == ALL:
            return np.asarray(known / max(1, known.sum()), np.float64)
        mine = np.array([name == group for name in self.groups], np.bool_)
        rest = (known > 0) & self.ranked & ~mine
        return np.asarray(mine + others * rest / max(1, rest.sum()), np.float64)

    def effect(
        self, parts: Sequence[Mapping[Seed, int]], coefficients: Sequence[float], weights: Floats
    ) -> tuple[Effect, Superiority] | None:
        """Return a weighted sum of rates, paired by seed, and how often it is above 0.

        Args:
            parts: trials by seed (`rows`), one for each coefficient; seeds that one of them lacks are left out.
            coefficients: of the trials.
            weights: of the groups, float64 [G].

        Returns:
            None if no seed has all trials.
        """
        keys = sorted(set.intersection(*(set(part) for part in parts)))
        if not keys:
            return None
        rows = np.array([[part[key] for part in parts] for key in keys], np.int64)
        return self.effect_of_rows(rows, coefficients, weights)

    def effect_of_trials(
        self, trials: npt.ArrayLike, coefficients: npt.ArrayLike, weights: Floats
    ) -> tuple[Effect, Superiority]:
        """Return `effect` of named trials, [S, P]: a row for each seed, a column for each coefficient."""
        place = {str(name): i for i, name in enumerate(self.trials["trial"])}
        names = np.asarray(trials, object)
        return self.effect_of_rows(np.vectorize(place.__getitem__, otypes=[np.int64])(names), coefficients, weights)

    def effect_of_rows(self, rows: Codes, coefficients: npt.ArrayLike, weights: Floats) -> tuple[Effect, Superiority]:
        """Return `effect` of trials by their places, int64 [S, P]."""
        each = np.asarray(coefficients, np.float64)
        first = self.trials[_SEEDS].to_numpy(np.float64, na_value=np.nan)[rows[:, 0]]
        seeds = ReplicateSeeds.of(first[:, 0], first[:, 1])
        used = weights != 0
        counts = self.counts[rows][..., used]
        images = int(counts.min())
        values = np.tensordot(self.rates[rows][..., used] @ weights[used], each, ([-1], [0]))
        beats = superiority(values, seeds)
        if self.images is not None and images:
            return self._of_images(rows, each, weights, seeds, images), beats
        # Agresti and Coull's variance of each rate, as if the images of all trials were different ones; of people who
        # have several, each counts as one.
        units = counts * self.people_per_image
        rate = (self.rates[rows][..., used] * units + 2) / (units + 4)
        variances = np.square(weights[used]) * rate * (1 - rate) / (units + 4)
        of_images = float((variances.sum(-1) @ np.square(each)).mean())
        return effect_of_values(values, seeds, of_images=of_images, images=images), beats

    def _of_images(
        self, rows: Codes, coefficients: Floats, weights: Floats, seeds: ReplicateSeeds, images: int
    ) -> Effect:
        shared = self.images
        if shared is None:
            raise ValueError("the trials must have predicted the same images, but did not")
        sizes = np.bincount(shared.group, minlength=len(self.groups))
        each = divide(weights, sizes)[shared.group]
        contributions = np.tensordot(coefficients, shared.success[rows].astype(np.float64), ([0], [1])) * each
        used = weights != 0
        step = float(np.sqrt(np.square(weights[used] / sizes[used]).sum()) * np.abs(coefficients).max())
        chosen = each != 0
        return effect_of_contributions(
            contributions[:, chosen],
            shared.strata[chosen],
            seeds,
            clusters=None if shared.clusters is None else shared.clusters[chosen],
            weight=step,
            images=images,
        )


@dataclass(frozen=True)
class PairedMetric:
    """A metric of all trials, to be compared between trials that share seeds.

    Attributes:
        results: the sweep.
        attribute: of the groups, as in the column ``attribute``.
        outcomes: the outcomes on each image; None where the metric is no sum over images.
        frame: otherwise the tidy rows.
        most: the largest difference that there can be.
        draws: otherwise of each trial the values of each group (or of the disparity) under the same resamples of the
            images, float64 [B, P]; None where predictions are missing, or of different images.
        groups: what P stands for.
        step: 1 for a rate, which one image of n moves by 1/n; 0 for other metrics.
    """

    results: SweepFrames
    attribute: str
    outcomes: OutcomeTable | None
    frame: pd.DataFrame
    most: float
    draws: Mapping[str, Floats] | None = None
    groups: tuple[str, ...] = ()
    step: float = 0.0

    @classmethod
    def of(
        cls,
        results: SweepFrames,
        metric: str,
        by: By,
        *,
        split: str = "test",
        at: At = "last",
        states: Sequence[str] | None = DONE,
        positive: str | None = None,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> PairedMetric:
        """Read a metric of a sweep.

        Arguments are those of `SweepFrames.rates`, ``by`` empty for all examples together; and the number of resamples
        of the images, and their seed.
        """
        names = (by,) if isinstance(by, str) else tuple(by)
        resolved = resolve(metric, results.classes, positive)
        low, high = resolved.range
        if not is_of_images(results, metric, positive):
            is_gap = isinstance(resolved.row, Disparity)
            groups = (JOINT.join(names),) if is_gap else tuple(results.all_cells.group_names(names))
            choice: _Choice = {"by": names, "split": split, "at": at, "states": states, "positive": positive}
            frame = results.disparities([metric], **choice, expected_if_equal=False) if is_gap else None
            frame = results.rates([metric], **choice) if frame is None else frame
            trials = frame["trial"].astype(str).unique().tolist()
            drawn = resample(results, metric, trials, **choice, draws=draws, seed=seed)
            step = float(isinstance(resolved.row, Rate))
            return cls(results, JOINT.join(names), None, frame, high - low, drawn, groups, step)
        # The evaluation set fixes the counts of the groups also where all examples are taken together.
        groups = names or (design_of(results).attribute,)
        outcomes = OutcomeTable.of(results, groups, metric, split=split, at=at, states=states, positive=positive)
        return cls(results, JOINT.join(names), outcomes, pd.DataFrame(), high - low)

    def difference(self, group: str, pairs: pd.DataFrame) -> tuple[Effect, Superiority] | None:
        """Return the difference of the metric of pairs of trials, one pair for each seed.

        Args:
            group: as in the column ``group``.
            pairs: columns ``trial`` and ``baseline_trial``.

        Returns:
            The trial's value minus its baseline's; None where no pair has both.
        """
        if self.outcomes is not None:
            known = pairs[pairs.isin(set(self.outcomes.trials["trial"]))[["trial", "baseline_trial"]].all(axis=1)]
            if known.empty:
                return None
            names = known[["trial", "baseline_trial"]].to_numpy(object)
            return self.outcomes.effect_of_trials(names, (1.0, -1.0), self.outcomes.weights(group))
        rows = self.frame[self.frame["group"].astype(str) == group]
        rows = rows[rows["trial"].isin([*pairs["trial"], *pairs["baseline_trial"]])]
        named = pairs[["trial", "baseline_trial"]].assign(baseline="baseline")
        found = difference_rows(self.results, rows.assign(trial=rows["trial"].astype(str)), named)
        found = found[np.isfinite(found["value"].to_numpy(np.float64))]
        if found.empty:
            return None
        seeds = self.results.trials.set_index("trial")[_SEEDS].loc[found["trial"]].to_numpy(np.float64, na_value=np.nan)
        replicates = ReplicateSeeds.of(seeds[:, 0], seeds[:, 1])
        values = found["value"].to_numpy(np.float64)
        images = int(found["n_min"].min())
        if self.draws is not None:
            other = named.set_index("trial")["baseline_trial"].loc[found["trial"]]
            names = np.stack([found["trial"].to_numpy(object), other.to_numpy(object)], 1)
            effect = self._resampled(group, names, values, replicates, images)
        else:
            width = (found["high"] - found["low"]).to_numpy(np.float64) / 2 / NORMAL_95
            effect = effect_of_values(values, replicates, of_images=float(np.square(width).mean()), images=images)
        return effect, superiority(values, replicates)

    def _resampled(
        self, group: str, names: npt.NDArray[np.object_], values: Floats, seeds: ReplicateSeeds, images: int
    ) -> Effect:
        """Return the effect of pairs of trials, [S, 2], with the part of the images that all trials share."""
        drawn, place = self.draws or {}, self.groups.index(group)
        noise = np.stack([drawn[one][:, place] - drawn[other][:, place] for one, other in names.tolist()], 1)
        # A resample in which a group lacks the rate says nothing.
        noise = noise[np.isfinite(noise).all(1)]
        # Trainings that agree in every resample are not certain to: one image counts, as for a rate.
        step = self.step or float(np.ptp(noise, 0).max(initial=0) == 0)
        return effect_of_resamples(values, noise - noise.mean(0), seeds, weight=step / max(images, 1), images=images)


def is_of_images(results: SweepFrames, metric: str, positive: str | None = None) -> bool:
    """Return whether a metric is a mean over images whose number does not depend on the predictions."""
    row = resolve(metric, results.classes, positive).row
    return isinstance(row, Rate) and row.given_label


def pairs_by_seed(one: pd.DataFrame, two: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of two tables of trials that share both seeds: columns ``trial`` and ``baseline_trial``."""
    both = one.merge(two, on=_SEEDS, suffixes=("", "_baseline"))
    return pd.DataFrame({"trial": both["trial"], "baseline_trial": both["trial_baseline"]})


def _shared_images(
    results: SweepFrames, names: Sequence[str], split: str, asked: pd.DataFrame, metric: Metric
) -> SharedImages | None:
    row, positive = metric.row, -1 if metric.positive is None else metric.positive
    if not isinstance(row, Rate):
        raise TypeError(f"{metric.name} must be a rate")
    outcomes = read_outcomes(results, split, asked)
    if outcomes is None or len(outcomes.row) < len(asked):
        return None
    group = group_codes(results, outcomes, names)
    if group is None:
        return None
    order = [outcomes.row[str(trial), int(number)] for trial, number in asked.itertuples(index=False, name=None)]
    clusters, classes = users(results, outcomes), len(results.classes)
    strata = group if clusters is not None else group * classes + outcomes.label
    success = row.numerator(classes, positive)[outcomes.label, outcomes.prediction[order]]
    counted = row.denominator(classes, positive)[outcomes.label, 0]
    mine = None if clusters is None else clusters[counted]
    return SharedImages(success[:, counted], group[counted], strata[counted], mine)
