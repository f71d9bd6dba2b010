"""Aims in a sweep file: what is to be maximised or minimised, and conditions that must hold."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import PlainSerializer, PlainValidator

from fairsweep.datasets.prepared import PreparedDataset
from fairsweep.sweeps.errors import Location, SweepError
from fairsweep.trainables.measures import Meaning, Measure, Standing
from fairsweep.trainables.objectives import Objective

if TYPE_CHECKING:
    from fairsweep.sweeps.spec import Sweep

_CONDITION = re.compile(r"(?P<measure>.+?)\s*(?P<sign><=|>=|≤|≥)\s*(?P<bound>[^<>=≤≥]+)")


@dataclass(frozen=True)
class Condition:
    """A bound on a measure: ``epsilon <= 3``.

    Attributes:
        measure: what is bounded.
        at_most: whether it must not exceed the bound; else it must reach it.
        bound: the bound.
    """

    measure: Measure
    at_most: bool
    bound: float

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read a condition.

        Raises:
            ValueError: if it is not written as one.

        >>> Condition.parse("epsilon <= 3").bound
        3.0
        """
        found = _CONDITION.fullmatch(text.strip())
        try:
            bound = float(found["bound"]) if found else math.nan
        except ValueError:
            bound = math.nan
        if found is None or not math.isfinite(bound):
            raise ValueError(f"a condition is written 'MEASURE <= NUMBER' or 'MEASURE >= NUMBER', but got {text!r}")
        return cls(Measure.parse(found["measure"]), found["sign"] in ("<=", "≤"), bound)

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.measure} {'<=' if self.at_most else '>='} {self.bound:g}"

    def settled(self, meaning: Meaning) -> "Condition":
        """The same, checked against a sweep. Raises: ValueError as `Measure.settled`."""
        return Condition(self.measure.settled(meaning), self.at_most, self.bound)

    def excess(self, value: float) -> float:
        """By how much a value misses the bound: at most 0 where the condition holds, NaN where it is undefined."""
        return value - self.bound if self.at_most else self.bound - value

    def holds(self, standing: Standing, meaning: Meaning) -> bool:
        """Whether it holds; an undefined value never does."""
        return self.excess(self.measure.of(standing, meaning)) <= 0


def _condition(raw: object) -> Condition:
    if isinstance(raw, Condition):
        return raw
    if not isinstance(raw, str):
        raise ValueError(f"a condition is written 'MEASURE <= NUMBER', for example 'epsilon <= 3', but got {raw!r}")
    return Condition.parse(raw)


ConditionField = Annotated[Condition, PlainValidator(_condition), PlainSerializer(str)]


def meaning_of(sweep: "Sweep", dataset: PreparedDataset) -> Meaning:
    """What the cells of a sweep's trials will mean."""
    label, groups = sweep.dataset.label, sweep.dataset.groups
    return Meaning(label, groups, {name: tuple(dataset.attribute(name).values) for name in {label, *groups}})


def check_aims(sweep: "Sweep", dataset: PreparedDataset) -> None:
    """Check that every aim of a sweep names attributes, values and classes that exist.

    Raises:
        SweepError: on the first that does not, with its place.
    """
    if sweep.remote is not None and (sweep.search.is_guided or sweep.scheduler.kind != "none"):
        raise SweepError(
            "a guided search and a scheduler read what trials record in a folder of this machine, but output is "
            f"{sweep.remote}: write output: FOLDER, and mirror: {{to: {sweep.remote}}}",
            ("output",),
        )
    meaning = meaning_of(sweep, dataset)
    for place, aim in aims_of(sweep):
        try:
            aim.settled(meaning)
        except ValueError as error:
            raise SweepError(str(error), place) from error


def check_reachable(sweep: "Sweep", dataset: PreparedDataset) -> None:
    """Check that every constraint and target of a sweep can hold: its bound lies within the values of its measure.

    Raises:
        SweepError: on the first that never can, with its place.
    """
    meaning = meaning_of(sweep, dataset)
    for place, aim in aims_of(sweep):
        if not isinstance(aim, Condition):
            continue
        low, high = aim.measure.settled(meaning).range(meaning)
        if aim.excess(low if aim.at_most else high) > 0:
            raise SweepError(
                f"{aim} can never hold, for {aim.measure.metric} lies between {low:g} and {high:g}; "
                f"{'rates are written as parts of 1: ' if high == 1 else ''}choose a bound in between",
                place,
            )


def aims_of(sweep: "Sweep") -> Iterator[tuple[Location, Objective | Condition]]:
    """Every aim of a sweep, with its place."""
    for number, objective in enumerate(sweep.search.objectives):
        yield ("search", "objectives", number), objective
    for number, constraint in enumerate(sweep.search.constraints):
        yield ("search", "constraints", number), constraint
    for number, objective in enumerate(sweep.scheduler.objectives):
        yield ("scheduler", "objectives", number), objective
    if sweep.stop.plateau is not None:
        yield ("stop", "plateau", "objective"), sweep.stop.plateau.objective
    for number, condition in enumerate(sweep.stop.target):
        yield ("stop", "target", number), condition
