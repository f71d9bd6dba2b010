"""The space of a guided search: conditions, which are given, and parameters, which are chosen.

What ``{grid: …}`` crosses are *conditions*: each combination of grid values has a search of its own, for what is best
at one level of imbalance says little about another. Within it a *setting* is a learner and a value for each drawn
dimension of the imbalance, the split, the model and that learner. Learners compete: which one is a parameter, and each
brings its own. The twin of a learner is no competitor; it runs beside its original, at the same values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fairsweep.sweeps.spec.sections import SHARED, LearnerSection, Spaces, learner_sections
from fairsweep.sweeps.syntax.dimensions import Dimension, Point, Space, Value
from fairsweep.sweeps.syntax.errors import Location, SweepError, dotted

LEARNER = "learner"
"""Name of the parameter that says which learner a setting takes."""

Values = Mapping[Location, Value]


@dataclass(frozen=True)
class Parameter:
    """One drawn dimension, as Optuna sees it.

    Attributes:
        name: section or learner and place: ``model.width``, ``private.optimizer.lr``.
        owner: ``imbalance``, ``split`` or ``model``, or ``learner NAME``.
        place: in the section.
        dimension: what it can be.
    """

    name: str
    owner: str
    place: Location
    dimension: Dimension

    @property
    def distribution(self) -> BaseDistribution:
        """As Optuna knows it; bounds of real numbers belong to the range, that of whole ones does not."""
        kind = self.dimension.kind
        if kind == "choice":
            return CategoricalDistribution(list(self.dimension.words))
        if kind == "quniform":
            # Number of the step: a step of Optuna's own ends in errors of rounding.
            return IntDistribution(0, self.dimension.steps - 1)
        low, high = self.dimension.values
        if kind in ("randint", "lograndint"):
            return IntDistribution(int(low), int(high) - 1, log=kind == "lograndint")
        return FloatDistribution(float(low), float(high), log=kind == "loguniform")

    def value(self, suggested: Any) -> Value:  # noqa: ANN401 - what Optuna suggests: a number or a word
        """Return the value of the field for what Optuna suggests."""
        if self.dimension.kind == "choice":
            return self.dimension.values[self.dimension.words.index(suggested)]
        return self.dimension.stepped(int(suggested)) if self.dimension.kind == "quniform" else suggested


@dataclass(frozen=True)
class GridCell:
    """One combination of grid values.

    Attributes:
        grids: by owner, the values of its grids.
        label: readable and distinct: ``share 0.9``; empty where there is no grid.
    """

    grids: Mapping[str, Values]
    label: str


@dataclass(frozen=True)
class Chosen:
    """A setting that a search has chosen.

    Attributes:
        shared: the points of imbalance, split and model.
        learners: the learner and its twins, each with its point.
    """

    shared: tuple[Point, Point, Point]
    learners: tuple[tuple[LearnerSection, Point], ...]


class SearchSpace:
    """The space of a sweep's guided search.

    Args:
        sweep: the sweep.
    """

    def __init__(self, sweep: Spaces) -> None:
        self._shared: dict[str, Space | None] = {name: getattr(sweep, name) for name in SHARED}
        sections = learner_sections(sweep)
        self.competitors = tuple(section for section in sections if section.original is None)
        self._twins = {c.name: [s for s in sections if s.original == c.name] for c in self.competitors}
        self._spaces = {name: space for name, space in self._shared.items() if space is not None}
        self._spaces |= {_owner(learner): learner.space for learner in self.competitors}
        self.parameters = tuple(_parameters(self._spaces))
        if not self.parameters and len(self.competitors) == 1:
            raise SweepError(
                f"{sweep.search.algorithm} needs at least one search dimension, but no field is written as choice, "
                "uniform, "
                "loguniform or randint, and there is one learner; use algorithm: grid",
                ("search", "algorithm"),
            )
        for owner, space in self._spaces.items():
            _refuse_grids_in_choices(owner, space)

    @property
    def conditions(self) -> tuple[GridCell, ...]:
        """Every combination of grid values, in the order of the file."""
        found = []
        for combination in itertools.product(*(_grid_values(space) for space in self._spaces.values())):
            by_owner = {owner: values for owner, values in zip(self._spaces, combination, strict=True) if values}
            words = []
            for owner, values in by_owner.items():
                dimensions = dict(self._spaces[owner].dimensions)
                for place, value in values.items():
                    shown = dimensions[place].words[dimensions[place].number_of(value)]
                    words.append(f"{_named(owner, place)} {shown}")
            found.append(GridCell(by_owner, ", ".join(words)))
        return tuple(found)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Every parameter's distribution, the learner's first where there are several."""
        found: dict[str, BaseDistribution] = {}
        if len(self.competitors) > 1:
            found[LEARNER] = CategoricalDistribution([learner.name for learner in self.competitors])
        return found | {parameter.name: parameter.distribution for parameter in self.parameters}

    def needed(self, learner: str | None) -> tuple[Parameter, ...]:
        """Return the parameters that a setting with this learner can have."""
        name = self.competitors[0].name if learner is None else learner
        return tuple(p for p in self.parameters if not p.owner.startswith("learner ") or p.owner == f"learner {name}")

    def exists(self, parameter: Parameter, condition: GridCell, suggested: Mapping[str, Any]) -> bool:
        """Whether a parameter exists: in its branch alone, if it is a dimension of a value of another one.

        Args:
            parameter: one of them.
            condition: what is taken as given.
            suggested: what Optuna suggests, at least for the parameters before it.
        """
        chosen: dict[Location, Value] = dict(condition.grids.get(parameter.owner, {}))
        space = self._spaces[parameter.owner]
        for other in self.parameters:
            if other.owner == parameter.owner and other.name in suggested and space.exists(other.place, chosen):
                chosen[other.place] = other.value(suggested[other.name])
        return space.exists(parameter.place, chosen)

    def can_exist(self, parameter: Parameter, condition: GridCell) -> bool:
        """Whether a parameter exists for some suggestion under a condition."""
        grids = condition.grids.get(parameter.owner, {})
        around = self._spaces[parameter.owner].around(parameter.place)
        places = [place for place, dimension in self._spaces[parameter.owner].dimensions if not dimension.is_drawn]
        return all(place in grids and grids[place] is around[place] for place in places if place in around)

    def chosen(self, condition: GridCell, suggested: Mapping[str, Any]) -> Chosen:
        """Return the setting for what Optuna suggests under a condition; parameters of other learners are ignored."""
        name = suggested.get(LEARNER, self.competitors[0].name)
        learner = next(section for section in self.competitors if section.name == name)
        drawn: dict[str, dict[Location, Value]] = {}
        for parameter in self.needed(name):
            if self.exists(parameter, condition, suggested):
                drawn.setdefault(parameter.owner, {})[parameter.place] = parameter.value(suggested[parameter.name])
        return self._at(condition, learner, drawn)

    def probes(self) -> Iterator[Chosen]:
        """Yield settings by which every value and both ends of every range are checked beforehand, one at a time."""
        for condition in self.conditions:
            for learner in self.competitors:
                owned = [p for p in self.needed(learner.name) if self.can_exist(p, condition)]
                base = {(parameter.owner, parameter.place): parameter.dimension.ends[0] for parameter in owned}
                yield self._probe(condition, learner, base)
                for parameter in owned:
                    around = self._spaces[parameter.owner].around(parameter.place)
                    branch = base | {(parameter.owner, place): value for place, value in around.items()}
                    for value in parameter.dimension.ends[0 if branch != base else 1 :]:
                        yield self._probe(condition, learner, branch | {(parameter.owner, parameter.place): value})

    def identity(self) -> dict[str, Any]:
        """Return what makes two searches one: the sections with their dimensions, as JSON values."""
        return {owner: dict(space.raw) for owner, space in self._spaces.items()}

    def _probe(
        self, condition: GridCell, learner: LearnerSection, values: Mapping[tuple[str, Location], Value]
    ) -> Chosen:
        drawn: dict[str, dict[Location, Value]] = {}
        for (owner, place), value in values.items():
            drawn.setdefault(owner, {})[place] = value
        return self._at(condition, learner, drawn)

    def _at(self, condition: GridCell, learner: LearnerSection, drawn: Mapping[str, Values]) -> Chosen:
        def point(owner: str, space: Space | None) -> Point:
            if space is None:
                return Point()
            values = {**drawn.get(owner, {}), **condition.grids.get(owner, {})}
            chosen: dict[Location, Value] = {}
            for place, _ in space.dimensions:
                if space.exists(place, chosen):
                    chosen[place] = values[place]
            return Point(tuple(chosen.items()))

        imbalance, split, model = (point(name, self._shared[name]) for name in SHARED)
        own = point(_owner(learner), learner.space)
        with_twins = (learner, *self._twins[learner.name])
        return Chosen((imbalance, split, model), tuple((section, own) for section in with_twins))


def _parameters(spaces: Mapping[str, Space]) -> Iterator[Parameter]:
    for owner, space in spaces.items():
        for place, dimension in space.drawn:
            yield Parameter(_named(owner, place), owner, place, dimension)


def _owner(learner: LearnerSection) -> str:
    return f"learner {learner.name}"


def _named(owner: str, place: Location) -> str:
    return dotted((owner.removeprefix("learner "), *place))


def _grid_values(space: Space) -> Iterator[dict[Location, Value]]:
    """Every combination of a space's grids, those nested in others included."""
    drawn = {place for place, _ in space.drawn}
    seen: set[str] = set()
    for point in space.crossed({place: dimension.values[0] for place, dimension in space.drawn}):
        values = {place: value for place, value in point.values if place not in drawn}
        if repr(values) not in seen:
            seen.add(repr(values))
            yield values


def _refuse_grids_in_choices(owner: str, space: Space) -> None:
    drawn = {place for place, _ in space.drawn}
    for place, dimension in space.dimensions:
        if not dimension.is_drawn and drawn & space.around(place).keys():
            raise SweepError(
                f"{_named(owner, place)} is a grid within a choice: a guided search takes grid values as given, and "
                "this one would apply to some settings only; write {choice: […]} there"
            )
