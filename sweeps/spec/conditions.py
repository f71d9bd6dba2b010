"""Conditions of a sweep file: a bound on a measure, ``epsilon <= 3``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from fairsweep.trainables.learning.measures import Meaning, Measure, Standing

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
    def parse(cls, text: str) -> Condition:
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

    def settled(self, meaning: Meaning) -> Condition:
        """Return the same, checked against a sweep. Raises: ValueError as `Measure.settled`."""
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
