"""A sweep as tidy tables: rates, disparities and their differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypedDict, Unpack, get_args

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import DEFAULT_DISPARITIES, DEFAULT_RATES, METRICS, Metric, resolve
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.metrics.rates import Counts, Floats, divide
from fairsweep.analysis.records.counts import CountArray, Evaluations
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.results.differences import difference_rows
from fairsweep.analysis.results.frames import disparity_rows, mean_rows, rate_rows, renamed, with_trials
from fairsweep.analysis.results.outcomes import counted_by
from fairsweep.analysis.results.pairs import Pairing, pair_trials
from fairsweep.analysis.results.people import People, PeopleOfGroups, people_in_groups
from fairsweep.analysis.results.score_frames import prediction_rows
from fairsweep.analysis.results.sweep_records import SweepRecords, one_of

At = Literal["last", "selected", "all"]
By = str | Sequence[str]
DONE = ("done",)


class FrameOptions(TypedDict, total=False):
    """Keywords that rates, disparities and their differences share; see `SweepFrames.rates`."""

    by: By | None
    split: str
    at: At
    states: Sequence[str] | None
    positive: str | None
    confidence: float


class SweepFrames(SweepRecords):
    """Rates, disparities and differences of a sweep, as tidy tables.

    Works while the sweep runs. Tables take the trials that are done; ``states=None`` takes every trial that has
    recorded something.
    """

    def evaluations(self, *, split: str = "test", at: At = "last", states: Sequence[str] | None = DONE) -> Evaluations:
        """Return which evaluations a table is made of.

        Args:
            split: ``test`` or ``validation``.
            at: ``last`` iteration; ``selected``, the first one with the best validation accuracy; or ``all``.
            states: take trials in these states; None takes all.

        Raises:
            RecordError: if no trial fits.
            ValueError: if there is no such split or choice.
        """
        one_of(at, get_args(At), "at")
        every = self.all_cells.evaluations(split)
        if states is not None:
            states = _words("states", states)
        wanted = self.trials if states is None else self.trials[self.trials["state"].isin(states)]
        names = set(wanted["trial"])
        chosen = np.array([name in names for name in self.all_cells.trials], np.bool_)[every.number]
        if not chosen.any():
            counts = dict(self.trials["state"].value_counts())
            raise RecordError(
                f"no trial in the states {states} has an evaluation on {split}; the states are {counts}. "
                "Wait, resume the sweep, or take all with states=None"
            )
        every = every.at(chosen)
        if at == "all":
            return every
        scores = every.iteration.astype(np.float64) if at == "last" else self._validation_accuracy(every)
        order = np.lexsort((every.iteration, -scores, every.number))
        first = np.unique(every.number[order], return_index=True)[1]
        return every.at(np.sort(order[first]))

    def counts(
        self, by: By = (), *, split: str = "test", at: At = "last", states: Sequence[str] | None = DONE
    ) -> CountArray:
        """Count arrays by group; arguments as in `evaluations`.

        Args:
            by: an attribute or several whose intersections are the groups; empty for all examples together. Any of
                `attributes`: those that are no groups of the sweep are counted in predictions, see
                `fairsweep.analysis.results.outcomes.counted_by`.
            split: see `evaluations`.
            at: see `evaluations`.
            states: see `evaluations`.
        """
        return counted_by(self, self.evaluations(split=split, at=at, states=states), _listed(by))

    def group_sizes(self, by: By, evaluations: Evaluations) -> Counts:
        """Return how many examples each group has in the trial that has fewest; people, where the data names them.

        Args:
            by: see `counts`.
            evaluations: of which trials.

        Returns:
            int64 [G], in the order of `counts`.
        """
        names = _listed(by)
        # Of each trial the last: predictions are recorded of it.
        once = evaluations.at(len(evaluations) - 1 - np.unique(evaluations.number[::-1], return_index=True)[1])
        images: Counts = counted_by(self, once, names).values.sum((-2, -1)).min(0)
        people = people_in_groups(self, evaluations.split, names)
        return images if people is None else np.minimum(images, people)

    def small_groups(self, by: By, *, split: str = "test", states: Sequence[str] | None = DONE) -> Mapping[str, int]:
        """Return the groups that are not ranked though they have examples, with how many; see `group_sizes`."""
        sizes = self.group_sizes(by, self.evaluations(split=split, states=states))
        names = self.all_cells.group_names(_listed(by))
        return {name: int(n) for name, n in zip(names, sizes, strict=True) if 0 < n < self.min_group_size}

    def collapsed(self, *, split: str = "test", at: At = "last", states: Sequence[str] | None = DONE) -> pd.DataFrame:
        """Return the trials that predict one class for every example, though the examples are of several.

        Their accuracy is the share of that class, in every group: a model that has learnt nothing, as private ones with
        little data often are. Arguments as in `evaluations`. Selection looks at the validation split, what is reported
        at the test split; each says which.

        Returns:
            Columns ``trial``, ``learner``, ``series``, ``setting``, ``level``, ``iteration`` and ``prediction``, the
            class.
        """
        counts = self.counts(split=split, at=at, states=states)
        cells = counts.values[:, 0]
        predicted = cells.sum(1) > 0
        chosen = np.flatnonzero((predicted.sum(1) == 1) & ((cells.sum(2) > 0).sum(1) > 1))
        found = pd.DataFrame(
            {
                "trial": counts.evaluations.trial[chosen],
                "iteration": counts.evaluations.iteration[chosen],
                "prediction": np.array(counts.classes, object)[predicted[chosen].argmax(1)],
            }
        )
        columns = ["trial", "learner", "series", "setting", "level"]
        table = found.merge(self.trials[columns], on="trial", how="left")
        return table[[*columns, "iteration", "prediction"]]

    def rates(
        self,
        metrics: Sequence[str] | None = None,
        *,
        by: By | None = None,
        split: str = "test",
        at: At = "last",
        states: Sequence[str] | None = DONE,
        positive: str | None = None,
        confidence: float = 0.95,
        mean_over: str | None = None,
    ) -> pd.DataFrame:
        """Return the rates of all examples and of each group, one row per trial, iteration, group and metric.

        Args:
            metrics: rates and scores in `METRICS`, a class in brackets where one is needed; None takes `DEFAULT_RATES`
                and what the sweep file names, and only the accuracy where there are more than two classes and no
                positive one.
            by: an attribute, or several for their intersections, as in `counts`; None takes all examples together and
                each of the sweep's groups.
            split: see `evaluations`.
            at: see `evaluations`.
            states: see `evaluations`.
            positive: the positive class; default the second of two.
            confidence: of the intervals.
            mean_over: average each rate over the values of this attribute, within the groups; see
                `fairsweep.analysis.statistics.intervals.stratified_wilson`.

        Returns:
            The columns `fairsweep.analysis.results.frames.TIDY_COLUMNS`.
        """
        evaluations = self.evaluations(split=split, at=at, states=states)
        chosen = self._metrics(metrics, self._default_rates(), positive)
        groupings = [(), *((name,) for name in self.groups)] if by is None else [_listed(by)]
        counted = [metric for metric in chosen if metric.of_cells]
        predicted = [metric for metric in chosen if not metric.of_cells]
        parts = []
        people = People.of(self, evaluations) if counted or mean_over is not None else None
        if mean_over is not None:
            counted, strata = chosen, len(self.vocabulary(mean_over).values)
            for g in groupings:
                names = (*(name for name in g if name != mean_over), mean_over)
                counts = counted_by(self, evaluations, names)
                parts.append(mean_rows(counts, counted, confidence, mean_over, strata, _of_groups(people, names)))
        elif counted:
            parts = [
                rate_rows(counted_by(self, evaluations, g), counted, confidence, _of_groups(people, g))
                for g in groupings
            ]
        if predicted and mean_over is None:
            parts += prediction_rows(self, predicted, groupings, evaluations, confidence)
        return with_trials(pd.concat(parts, ignore_index=True), self.trials)

    @renamed(null="expected_if_equal", least_n="min_group_size")
    def disparities(
        self,
        metrics: Sequence[str] | None = None,
        *,
        by: By | None = None,
        split: str = "test",
        at: At = "last",
        states: Sequence[str] | None = DONE,
        positive: str | None = None,
        confidence: float = 0.95,
        expected_if_equal: bool = True,
        seed: int = 0,
        min_group_size: int | None = None,
    ) -> pd.DataFrame:
        """Disparities between groups, one row per trial, iteration, attribute and metric; ``group`` is the attribute.

        Args:
            metrics: names in `DISPARITIES`; None takes `DEFAULT_DISPARITIES` and the differences
                in what the sweep file names, and only those of the accuracy where
                there are more than two classes and no positive one.
            by: as in `rates`; None takes each of the sweep's groups (the label where there is none).
            split: see `evaluations`.
            at: see `evaluations`.
            states: see `evaluations`.
            positive: the positive class; default the second of two.
            confidence: of the simultaneous intervals.
            expected_if_equal: whether to compute what equal groups would show by chance.
            seed: of the part of that which is simulated.
            min_group_size: groups with fewer examples (people, where the data names them) take no part; None takes
                that of the results.

        Returns:
            The columns `fairsweep.analysis.results.frames.TIDY_COLUMNS`.
        """
        evaluations = self.evaluations(split=split, at=at, states=states)
        chosen = self._metrics(metrics, self._default_disparities(), positive)
        groupings = [(name,) for name in self.groups or (self.label,)] if by is None else [_listed(by)]
        counted = [metric for metric in chosen if metric.of_cells]
        predicted = [metric for metric in chosen if not metric.of_cells]
        parts = []
        ranked = [self.group_sizes(g, evaluations) >= self._least(min_group_size) for g in groupings]
        if counted:
            people = People.of(self, evaluations)
            parts = [
                disparity_rows(
                    counted_by(self, evaluations, g),
                    counted,
                    confidence,
                    expected_if_equal=expected_if_equal,
                    seed=seed,
                    ranked=enough,
                    people=_of_groups(people, g),
                )
                for g, enough in zip(groupings, ranked, strict=True)
            ]
        if predicted:
            parts += prediction_rows(
                self,
                predicted,
                groupings,
                evaluations,
                confidence,
                expected_if_equal=expected_if_equal,
                ranked=ranked,
            )
        return with_trials(pd.concat(parts, ignore_index=True), self.trials)

    @renamed(against="baseline")
    def frame(
        self,
        metrics: Sequence[str] | None = None,
        *,
        baseline: str | None = None,
        min_group_size: int | None = None,
        **choice: Unpack[FrameOptions],
    ) -> pd.DataFrame:
        """Return the rates and disparities in one tidy table, or their differences from a baseline.

        Args:
            metrics: names in `METRICS`; None takes those that need no further choice.
            baseline: ``"twin"``, or the name of a learner: every value becomes the difference from the trial of the
                same imbalance, model and seeds; see `pairs` and
                `fairsweep.analysis.results.differences.difference_rows`.
            min_group_size: see `disparities`.
            choice: the keywords of `rates`.

        Returns:
            The columns `fairsweep.analysis.results.frames.TIDY_COLUMNS`.
        """
        known = self._metrics(metrics, (*self._default_rates(), *self._default_disparities()), choice.get("positive"))
        if not known:
            raise ValueError("metrics must name at least one, but got none: None takes those that need no choice")
        rates = [metric.name for metric in known if not isinstance(metric.row, Disparity)]
        disparities = [metric.name for metric in known if isinstance(metric.row, Disparity)]
        parts = [self.rates(rates, **choice)] if rates else []
        if disparities and choice.get("by") != ():
            parts.append(self.disparities(disparities, **choice, min_group_size=min_group_size))
        if not parts:
            raise ValueError(
                f"disparities compare groups, but got {disparities} with an empty by: name an attribute, by='tone'"
            )
        frame = pd.concat(parts, ignore_index=True)
        if baseline is None:
            return frame
        return difference_rows(self, frame, self.pairs(baseline).pairs, choice.get("positive"))

    @renamed(against="baseline")
    def pairs(self, baseline: str) -> Pairing:
        """Return which trial is compared with which; see `fairsweep.analysis.results.pairs.pair_trials`."""
        return pair_trials(self.folders, baseline)

    # --- inside ---

    def _least(self, min_group_size: int | None) -> int:
        if min_group_size is not None and min_group_size < 1:
            raise ValueError(f"min_group_size must be at least 1, but got {min_group_size=}: 1 ranks every group")
        return self.min_group_size if min_group_size is None else min_group_size

    def _metrics(self, names: Sequence[str] | None, default: Sequence[str], positive: str | None) -> list[Metric]:
        self.further_metrics()  # another sweep may define its own under the same names
        if names is not None:
            return [resolve(name, self.classes, positive) for name in _words("metrics", names)]
        named = len(self.classes) == 2 or positive is not None
        return [resolve(name, self.classes, positive) for name in default if named or not METRICS[name].needs_positive]

    def _default_rates(self) -> tuple[str, ...]:
        return (*DEFAULT_RATES, *self.further_metrics())

    def _default_disparities(self) -> tuple[str, ...]:
        return (
            *DEFAULT_DISPARITIES,
            *(gap for name in self.further_metrics() if (gap := f"{name}_difference") in METRICS),
        )

    def _validation_accuracy(self, evaluations: Evaluations) -> Floats:
        """Return the accuracy on the validation split at the same trial and iteration; -1 where there is none."""
        counts = self.all_cells.stack(evaluations.on("validation"), ()).values[:, 0]
        accuracy = divide(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))
        return np.nan_to_num(accuracy, nan=-1.0)


def _of_groups(people: People | None, names: Sequence[str]) -> PeopleOfGroups | None:
    return None if people is None else people.of_groups(names)


def _listed(by: By) -> tuple[str, ...]:
    return _words("by", by)


def _words(name: str, given: object) -> tuple[str, ...]:
    """Return a word or several as a tuple."""
    words = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"{name} must be a name or a list of names, but got {given!r}")
    return words
