"""Hyperparameters that change during training: their ranges, the first draw, and the perturbation.

A hyperparameter is a field of a learner's config, named by its place with dots: ``optimizer.lr``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from fairsweep.datasets.storage.layout import nearest
from fairsweep.trainables.sgd.sgd_learner import SgdConfig

Value = Any  # what a field of a config holds: a number, a truth value, a tuple of numbers

# Why a field cannot change while a model trains.
_FIXED = {
    "name": "a name changes nothing",
    "kind": "a model cannot change its training method while it trains",
    "epochs": "all members train equally long",
    "optimizer.name": "the state of one optimiser means nothing to another",
    "optimizer.schedule.name": "each schedule has fields of its own",
    "ema": "the average of the weights goes on in a copy, so all members have one decay",
    "remedy": "write the remedy into inner, and explore a number of it such as remedy.step_size",
    "remedy.kind": "the state of one remedy means nothing to another",
    "remedy.attributes": "the groups of a remedy are part of its state",
}


class Interval(BaseModel):
    """The numbers that a hyperparameter can take.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Whether first draws are uniform in the logarithm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high:
            raise ValueError(
                f"low must be below high, but got low={self.low}, high={self.high}: for one value write a list of it"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, but got low={self.low}: leave log out, or raise low")
        return self


def _form(given: object) -> str:
    return "interval" if isinstance(given, Mapping | Interval) else "list"


Explored = Annotated[
    Annotated[Interval, Tag("interval")] | Annotated[tuple[Value, ...], Field(min_length=1), Tag("list")],
    Discriminator(_form),
]
"""An interval, or a list of values in their order."""


@dataclass(frozen=True)
class Hyperparameter:
    """One field that is explored.

    Attributes:
        name: Its place in the config.
        values: Those that it can take, in order; empty for an interval.
        low: The smallest number of an interval.
        high: The largest.
        log: Whether first draws are uniform in the logarithm.
        whole: Whether an interval has whole numbers only.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def draw(self, stream: np.random.Generator) -> Value:
        """Draws any value."""
        if self.values:
            return self.values[int(stream.integers(len(self.values)))]
        if self.log:
            return self._within(math.exp(stream.uniform(math.log(self.low), math.log(self.high))))
        if self.whole:
            return int(stream.integers(round(self.low), round(self.high) + 1))
        return self._within(float(stream.uniform(self.low, self.high)))

    def moved(self, value: Value, factors: tuple[float, float], stream: np.random.Generator) -> Value:
        """Move a value down or up, at even odds.

        Args:
            value: The value so far.
            factors: What a number is multiplied by, down and up; it stays in the interval, and a whole number moves by
                at least 1. A value of a list becomes a neighbour of it, at an end the only one.
            stream: Gives the draw.

        References:
            Jaderberg et al. 2017, arXiv 1711.09846, section 4.1 ("perturb": by 1.2 or 0.8).
        """
        up = bool(stream.integers(2))
        if self.values:
            place = self.values.index(value)
            neighbours = [other for other in (place - 1, place + 1) if 0 <= other < len(self.values)]
            return self.values[neighbours[up % len(neighbours)]] if neighbours else value
        new = value * factors[up]
        if self.whole:
            new = max(round(new), value + 1) if up else min(round(new), value - 1)
        return self._within(new)

    @property
    def ends(self) -> tuple[Value, ...]:
        """Every value of a list, both ends of an interval."""
        return self.values or (self._within(self.low), self._within(self.high))

    def _within(self, number: float) -> float | int:
        inside = min(max(number, self.low), self.high)
        return round(inside) if self.whole else inside


def settled(config: SgdConfig, explore: Mapping[str, Explored]) -> tuple[Hyperparameter, ...]:
    """Check what is to be explored against a config, and gives every value the type that it has there.

    Args:
        config: The config whose fields are explored.
        explore: What each can be.

    Returns:
        The hyperparameters, by name: 0 and 0.0 are one momentum.

    Raises:
        ValueError: If there is no such field (with the nearest name), it cannot change while a model trains, or a value
            is not valid in the config.
    """
    known = [name for name, _ in leaves(config.model_dump()) if name not in _FIXED]
    return tuple(_settled(config, name, explore[name], known) for name in sorted(explore))


def with_values(config: SgdConfig, values: Mapping[str, Value]) -> SgdConfig:
    """Return the config with other values in some of its fields.

    Raises:
        ValidationError: If they are not valid.
    """
    content = config.model_dump()
    for name, value in values.items():
        *sections, last = name.split(".")
        section = content
        for part in sections:
            section = section[part]
        section[last] = value
    return SgdConfig.model_validate(content)


def leaves(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Value]]:
    """Give name and value of each field of a config's content that holds no section."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _settled(config: SgdConfig, name: str, explored: Explored, known: list[str]) -> Hyperparameter:
    if name in _FIXED:
        raise ValueError(f"{name} cannot be explored: {_FIXED[name]}; known: {', '.join(known)}")
    if name not in known:
        raise ValueError(f"inner has no field {name!r} that can be explored: {nearest(name, known)}")
    if isinstance(explored, Interval):
        low, high = (_typed(config, name, number) for number in (explored.low, explored.high))
        if isinstance(low, bool):
            raise ValueError(f"{name} is not numeric, but got low={explored.low:g}: write [false, true]")
        return Hyperparameter(name, (), low, high, explored.log, isinstance(low, int))
    values = tuple(_typed(config, name, value) for value in explored)
    if len({repr(value) for value in values}) < len(values):
        raise ValueError(f"the values of {name} must differ, but got {list(values)}")
    return Hyperparameter(name, values)


def _typed(config: SgdConfig, name: str, value: Value) -> Value:
    """Return a value as the config holds it."""
    try:
        return dict(leaves(with_values(config, {name: value}).model_dump()))[name]
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"{name} cannot be {value!r} in inner: {reason}") from error
