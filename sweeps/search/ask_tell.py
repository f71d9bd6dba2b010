"""The ask-tell loop of a guided search: which settings are proposed, their trials, and when results are reported.

Nothing here knows Ray: `AskTell` is asked for trials that shall run and told when one has ended. What it knows of
trials it reads off their records, so it can be made anew at any moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.search.study import CAUSE, REFUSED, SETTING, TRIALS, SearchStudy
from fairsweep.sweeps.spec.search_space import Chosen, SearchSpace

Values = Sequence[float]


class Trials(Protocol):
    """What `AskTell` asks about trials."""

    def plan(self, chosen: Chosen) -> Sequence[PlannedTrial]:
        """Return the trials of a setting: the competitor's replicates and those of its twins.

        Raises:
            ValueError: if the setting cannot run.
        """
        ...

    def has_ended(self, trial: PlannedTrial) -> bool:
        """Whether a trial needs no run any more."""
        ...

    def has_failed(self, trial: PlannedTrial) -> bool:
        """Whether a trial has failed in an earlier run."""
        ...

    def values(self, trial: PlannedTrial) -> Values | None:
        """Objectives, then constraints, of a trial that has ended; None if it failed or its records are unreadable."""
        ...


@dataclass(frozen=True)
class _Setting:
    """One setting under way.

    Attributes:
        told: the trials whose mean is told.
        refusal: why it cannot run; None if it can.
    """

    told: tuple[PlannedTrial, ...]
    refusal: str | None = None


class AskTell:
    """Runs the searches of a sweep, one for each condition.

    A setting that is proposed again takes over what is known of its trials; they run once, also where they failed. A
    proposal that cannot run is told as failed, with its reason, and the search goes on.

    Args:
        space: what is searched.
        studies: one for each condition.
        trials: answers on trials.
        objectives: number of objectives.
        say: takes lines for people.
    """

    def __init__(
        self,
        space: SearchSpace,
        studies: Sequence[SearchStudy],
        trials: Trials,
        objectives: int,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._space = space
        self._studies = studies
        self._trials = trials
        self._objectives = objectives
        self._say = say
        self._settings: dict[tuple[int, int], _Setting] = {}
        self._given: set[str] = set()
        self._over: set[str] = set()
        self._told: set[str] = set()
        self._new: list[PlannedTrial] = []
        for place, study in enumerate(studies):
            # Of these the search has been told: a failure too counts for good.
            self._told |= study.told_trials
            for number in study.waiting:
                self._take_up(place, number)

    def advance(self) -> list[PlannedTrial]:
        """Ask and tell as much as can be now.

        Returns:
            Trials that shall run, each given out once.
        """
        moving = True
        while moving:
            moving = sum(self._step(place) for place in range(len(self._studies))) > 0
        new, self._new = self._new, []
        return new

    def ended(self, trial: str) -> None:
        """Take note that a trial of this run has ended, well or badly."""
        self._over.add(trial)

    @property
    def told(self) -> int:
        """How many settings have been told."""
        return sum(study.asked - len(study.waiting) for study in self._studies)

    def _step(self, place: int) -> bool:
        """One question or one answer; asking comes first, so that the order never depends on who ends when."""
        study = self._studies[place]
        if study.wants_more:
            self._take_up(place, study.ask())
            return True
        waiting = study.waiting
        if not waiting or not self._is_over(self._settings[place, waiting[0]]):
            return False
        self._tell(place, waiting[0])
        return True

    def _take_up(self, place: int, number: int) -> None:
        study = self._studies[place]
        try:
            planned = self._trials.plan(self._space.chosen(study.condition, study.suggested(number)))
        except ValueError as error:  # a SweepError, or whatever else a lower package refuses
            self._settings[place, number] = _Setting((), " ".join(str(error).split()))
            return
        told = tuple(trial for trial in planned if trial.config.twin_of is None)
        self._settings[place, number] = _Setting(told)
        facts = {SETTING: told[0].setting, TRIALS: [trial.trial for trial in told]}
        study.note(number, facts)
        for trial in planned:
            if trial.trial in self._given:
                continue
            self._given.add(trial.trial)
            if self._trials.has_ended(trial) or (trial.trial in self._told and self._trials.has_failed(trial)):
                self._over.add(trial.trial)
            else:
                self._new.append(trial)

    def _is_over(self, setting: _Setting) -> bool:
        return all(trial.trial in self._over for trial in setting.told)

    def _tell(self, place: int, number: int) -> None:
        study, setting = self._studies[place], self._settings[place, number]
        cause = setting.refusal
        values = [self._trials.values(trial) for trial in setting.told] if cause is None else []
        if any(value is None for value in values):
            cause = "a trial failed"
        means = [math.fsum(column) / len(column) for column in zip(*(v for v in values if v is not None), strict=True)]
        if cause is None and any(map(math.isnan, means)):
            cause = "an objective or constraint is undefined, for example the rate of a group without examples"
        if cause is not None:
            study.note(number, {CAUSE: cause} | ({REFUSED: True} if setting.refusal is not None else {}))
            became = "was refused" if setting.refusal is not None else "counts as failed"
            where = f" ({study.condition.label})" if study.condition.label else ""
            self._say(f"setting {number}{where} {became}: {cause}")
            study.tell(number, None)
            return
        study.tell(number, means[: self._objectives], means[self._objectives :])
