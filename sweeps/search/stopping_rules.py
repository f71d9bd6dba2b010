"""The stopping rules of one trial, and the measures that it reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.sweeps.spec.stop_section import PlateauSection, StopSection
from fairsweep.trainables.learning.measures import Meaning, Measure, Standing
from fairsweep.trainables.learning.objectives import Objective
from fairsweep.trainables.learning.trial_watch import Ending
from fairsweep.trainables.learning.validation_predictions import ValidationPredictions
from fairsweep.trainables.privacy.plan import PrivacyPlan


@dataclass(frozen=True)
class TrialWatch:
    """What is looked at after each iteration of a trial.

    Attributes:
        label: the attribute that is predicted.
        groups: the group attributes.
        measures: reported under the name as they are written; settled.
        stop: the rules.
        most_steps: steps that a bound on epsilon allows; None without one.
        own: the metrics of the user's own and their ``own_code``, as the sweep has them.
    """

    label: str
    groups: tuple[str, ...]
    measures: tuple[Measure, ...] = ()
    stop: StopSection = field(default_factory=StopSection)
    most_steps: int | None = None
    own: Mapping[str, Any] = field(default_factory=dict)

    def begin(self, vocabularies: Sequence[Vocabulary]) -> TrialWatcher:
        """See `Watch.begin`."""
        if self.own:
            from fairsweep.analysis.metrics.own_metrics import sweep_metrics  # which imports scipy

            sweep_metrics(self.own)
        return TrialWatcher(self, Meaning.of(self.label, self.groups, vocabularies))


class TrialWatcher:
    """Looks at one trial; see `Watcher`.

    Args:
        watch: what is looked at.
        meaning: of the cells.
    """

    def __init__(self, watch: TrialWatch, meaning: Meaning) -> None:
        self._watch = watch
        self._meaning = meaning
        stop = watch.stop
        self._target = [condition.settled(meaning) for condition in stop.target]
        self._plateau = None if stop.plateau is None else Plateau(stop.plateau, meaning)
        self._held: list[bool] = []

    def see(
        self,
        cells: pa.Table,
        predictions: ValidationPredictions | None = None,
        known: Mapping[str, float] | None = None,
    ) -> Mapping[str, float]:
        """See `Watcher.see`."""
        standing, before = Standing(cells, predictions=predictions), known or {}

        def value(measure: Measure) -> float:
            is_known = predictions is None and not measure.of_cells
            return before.get(str(measure), math.nan) if is_known else measure.of(standing, self._meaning)

        if self._plateau is not None:
            self._plateau.see(value(self._plateau.objective.measure))
        self._held = [condition.excess(value(condition.measure)) <= 0 for condition in self._target]
        own = [condition.measure for condition in self._target]
        own += [] if self._plateau is None else [self._plateau.objective.measure]
        # What decides here is reported too: whoever watches sees where it is undefined.
        return {str(measure): value(measure) for measure in dict.fromkeys((*self._watch.measures, *own))}

    @property
    def most_steps(self) -> int | None:
        """See `Watcher.most_steps`."""
        return self._watch.most_steps

    def verdict(self, *, seconds: float, steps: int, next_steps: int) -> Ending | None:
        """See `Watcher.verdict`."""
        stop = self._watch.stop
        # First what is public: where it holds, the trial ends now whatever the model says.
        most = self._watch.most_steps
        if most is not None and steps + next_steps > most:
            return Ending(f"epsilon: another iteration would spend more than {stop.epsilon:g}", is_public=True)
        if self._plateau is not None and self._plateau.reached:
            words = f"plateau: {self._plateau.objective} has not improved for {self._plateau.patience} iterations"
            return Ending(words)
        if self._held and all(self._held):
            return Ending(f"target reached: {', '.join(map(str, self._target))}")
        if stop.seconds is not None and seconds >= stop.seconds:
            return Ending(f"time: {stop.seconds:g} s of training have passed")
        return None


class Plateau:
    """Whether something has stopped improving.

    Args:
        section: what and for how long.
        meaning: of the cells.
    """

    def __init__(self, section: PlateauSection, meaning: Meaning) -> None:
        self.objective: Objective = section.objective.settled(meaning)
        self.patience = section.patience
        self._min_delta = section.min_delta
        self._best = -math.inf
        self._since = 0

    def see(self, measured: float) -> None:
        """Take in the next iteration; an undefined value says nothing about improvement, and is left out."""
        value = self.objective.sign * measured
        if math.isnan(value):
            return
        if value > self._best + self._min_delta:
            self._best, self._since = value, 0
        else:
            self._since += 1

    @property
    def reached(self) -> bool:
        """Whether it has gone on for too long."""
        return self._since >= self.patience


def steps_within(plan: PrivacyPlan, epsilon: float) -> int:
    """Return the most steps of a plan that cost no more than an epsilon, by PLD."""
    if plan.epsilon().pld <= epsilon:
        return plan.steps
    low, high = 0, plan.steps  # low is within, high is not
    while high - low > 1:
        middle = (low + high) // 2
        if plan.epsilon(middle).pld <= epsilon:
            low = middle
        else:
            high = middle
    return low
