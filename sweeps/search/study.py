"""One search: Optuna's study in a storage that Optuna's own tools open, asked in a reproducible order.

Settings are asked for and told in an order that nothing but the results can change: with ``batch`` settings under way,
number n is asked for right after number n - batch was told, and before the next one is. Each question is answered by a
sampler of its own, made anew with a seed that follows from (key, n). What a sampler proposes is therefore a function of
the results alone, and a sweep that is killed and resumed proposes what the undisturbed one proposes.

Sampling happens in memory, and each finished step is written to the storage at once: a setting enters it with all of
its values or not at all, so a kill leaves no half-asked setting behind.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.sweeps.search.optuna_internals import StudyRows, keep_space, without_constraints
from fairsweep.sweeps.search.samplers import SAMPLERS, make_sampler, population
from fairsweep.sweeps.spec.search_section import SearchSection
from fairsweep.sweeps.spec.search_space import LEARNER, GridCell, SearchSpace

CAUSE, REFUSED, TRIALS = "fairsweep:cause", "fairsweep:refused", "fairsweep:trials"
"""Attributes of a setting: why it counts as failed, whether it was refused before it ran, its trials' hashes."""
SETTING = "fairsweep:setting"
"""Attribute of a setting: its own hash."""

_BATCH = "fairsweep:batch"
_POPULATION = "fairsweep:population"
_LARGEST = 1e12
"""Stands for an infinite value, such as the epsilon of a learner that promises nothing: models take none."""


class SearchStudy:
    """The search under one condition.

    Args:
        name: of Optuna's study; one that exists in the storage is gone on with.
        section: the section ``search``.
        space: what it searches.
        condition: what it takes as given.
        storage: where Optuna keeps it.
        batch: settings under way at once; a study that exists keeps its own unless the section names one.
    """

    def __init__(
        self,
        name: str,
        section: SearchSection,
        space: SearchSpace,
        condition: GridCell,
        storage: BaseStorage,
        batch: int,
    ) -> None:
        self.name = name
        self.condition = condition
        self._section = section
        self._space = space
        self._key = derive(seed_key(section.seed, "search"), f"search condition {condition.label}")
        directions = [objective.direction for objective in section.objectives]
        kept = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            kept.set_metric_names([str(objective) for objective in section.objectives])
        if _BATCH not in kept.user_attrs:
            kept.set_user_attr(_POPULATION, population(section))
            kept.set_user_attr(_BATCH, batch)
            kept.set_user_attr("fairsweep:condition", condition.label)
            kept.set_user_attr("fairsweep:constraints", [str(constraint) for constraint in section.constraints])
        self.batch: int = section.batch or int(kept.user_attrs[_BATCH])
        if section.algorithm in ("nsga2", "nsga3"):
            self._section = section.model_copy(update={"population": int(kept.user_attrs[_POPULATION])})
        self._kept = StudyRows(storage, name)
        memory = InMemoryStorage()
        self._study = optuna.create_study(storage=memory, study_name=name, directions=directions)
        self._sampler: BaseSampler | None = None
        self._rows = StudyRows(memory, name)
        self._rows.copy_attributes(self._kept)
        # Kept here, for Optuna looks through all trials to answer.
        self._asked = len(self._kept)
        self._waiting: list[int] = []
        self._refusals: dict[int, str] = {}
        for number in range(self._asked):
            trial = copy.deepcopy(self._kept.trial(number))
            if trial.user_attrs.get(REFUSED):
                self._refusals[number] = str(trial.user_attrs[CAUSE])
            if trial.state == TrialState.RUNNING:
                trial = without_constraints(trial)
                self._waiting.append(number)
            self._rows.add(trial)

    @property
    def asked(self) -> int:
        """How many settings have been asked for."""
        return self._asked

    @property
    def waiting(self) -> tuple[int, ...]:
        """Numbers of the settings that have been asked for and not told, in order."""
        return tuple(self._waiting)

    @property
    def refusals(self) -> tuple[str, ...]:
        """Of each setting that was refused, why."""
        return tuple(self._refusals.values())

    @property
    def told_trials(self) -> frozenset[str]:
        """Hashes of the trials of every setting that has been told."""
        return frozenset(
            name
            for trial in self._kept.trials()
            if trial.state.is_finished()
            for name in trial.user_attrs.get(TRIALS, ())
        )

    @property
    def wants_more(self) -> bool:
        """Whether the next setting is to be asked for now."""
        return self.asked < (self._section.samples or 0) and len(self.waiting) < self.batch

    def suggested(self, number: int) -> dict[str, Any]:
        """Return what was suggested for a setting: values by the parameters' names."""
        return dict(self._rows.trial(number).params)

    def ask(self) -> int:
        """Ask for the next setting; it is in the storage when this returns.

        Returns:
            Its number.
        """
        number = self.asked
        seed = int.from_bytes(derive(self._key, "search ask", number)[:4], "little")
        sampler = make_sampler(self._section, seed)
        keep_space(sampler, self._sampler)
        self._study.sampler = self._sampler = sampler
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of samplers on what they draw at random, which the documents say
            trial = self._study.ask()
            self._suggest(trial)
        self._kept.copy_attributes(self._rows)
        self._kept.add(self._rows.trial(number))
        self._asked += 1
        self._waiting.append(number)
        return number

    def note(self, number: int, facts: Mapping[str, Any]) -> None:
        """Note facts with a setting, as Optuna's user attributes."""
        for name, value in facts.items():
            self._kept.note(number, name, value)
        if facts.get(REFUSED):
            self._refusals[number] = str(facts[CAUSE])

    def tell(self, number: int, values: Sequence[float] | None, excesses: Sequence[float] = ()) -> None:
        """Tell what became of a setting.

        Args:
            number: of the setting; the first one that waits.
            values: of the objectives; None if it failed.
            excesses: by how much each constraint is missed; at most 0 where it holds.

        Raises:
            ValueError: if another one comes first.
        """
        if number != self._waiting[0]:
            raise ValueError(f"setting {self._waiting[0]} must be told before {number=}")
        trial = self._rows.opened(self._study, number)
        if values is None or any(map(math.isnan, (*values, *excesses))):
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            for constraint, excess in zip(self._section.constraints, excesses, strict=True):
                trial.set_constraint(str(constraint), _finite(excess))
            self._study.tell(trial, [_finite(value) for value in values])
        self._kept.finish(number, self._rows.trial(number))
        del self._waiting[0]

    def _suggest(self, trial: optuna.Trial) -> None:
        distributions = self._space.distributions()
        learner = str(_suggest(trial, LEARNER, distributions[LEARNER])) if LEARNER in distributions else None
        space, suggested = self._space, dict[str, Any]()
        if not SAMPLERS[self._section.algorithm].conditional:
            for parameter in space.parameters:
                if space.can_exist(parameter, self.condition):
                    _suggest(trial, parameter.name, distributions[parameter.name])
            return
        for parameter in space.needed(learner):
            if space.exists(parameter, self.condition, suggested):
                suggested[parameter.name] = _suggest(trial, parameter.name, distributions[parameter.name])


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> object:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    raise TypeError(f"a parameter is a category or a number, but {name} is {distribution}")


def _finite(value: float) -> float:
    return max(-_LARGEST, min(_LARGEST, float(value)))
