"""Search dimensions: fields of a sweep file that take several values.

Any field of a learner, the model, the imbalance or the split may be written as ``{grid: [...]}``, ``{choice: [...]}``,
``{uniform: [a, b]}``, ``{loguniform: [a, b]}``, ``{quniform: [a, b, q]}``, ``{randint: [a, b]}`` or ``{lograndint:
[a, b]}`` instead of a value, and so may the whole section. A section with such fields is a `Space`; a *point* gives
each of its dimensions a value. A value of a grid or choice may have dimensions of its own: a *branch*. They exist only
where that value is taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, PlainSerializer, PlainValidator

from fairsweep.datasets.selection.randomness import generator
from fairsweep.sweeps.syntax.errors import Location, SweepError, dotted
from fairsweep.sweeps.syntax.other_tools import KINDS, check_words

Value = Any  # any JSON value: a number, a word, a list, a mapping
Kind = Literal["grid", "choice", "uniform", "loguniform", "quniform", "randint", "lograndint"]


@dataclass(frozen=True)
class Dimension:
    """The values that one field can take.

    Attributes:
        kind: ``grid`` (each of the values, crossed with all other grids), or one of the drawn kinds: ``choice`` (one of
            the values), ``uniform`` and ``loguniform`` (a real number in [a, b)), ``quniform`` (a, a + q, … up to b),
            ``randint`` and ``lograndint`` (a whole number in [a, b)).
        values: the values of grid and choice; (a, b), or (a, b, q), of the others.
    """

    kind: Kind
    values: tuple[Value, ...]

    @property
    def is_drawn(self) -> bool:
        """Whether values are drawn by a random search instead of enumerated."""
        return self.kind != "grid"

    @property
    def ends(self) -> tuple[Value, ...]:
        """Every value of a grid or choice, both ends of a range."""
        if self.kind in ("randint", "lograndint"):
            return tuple(dict.fromkeys((self.values[0], self.values[1] - 1)))
        if self.kind == "quniform":
            return tuple(dict.fromkeys((self.stepped(0), self.stepped(self.steps - 1))))
        return self.values

    @property
    def steps(self) -> int:
        """How many values a ``quniform`` has."""
        low, high, step = (Decimal(str(value)) for value in self.values)
        return int((high - low) / step) + 1

    def stepped(self, number: int) -> Value:
        """Return the value of a ``quniform`` with a number from 0, without errors of rounding."""
        low, _, step = self.values
        value = Decimal(str(low)) + number * Decimal(str(step))
        return int(value) if isinstance(low, int) and isinstance(step, int) else float(value)

    @property
    def words(self) -> tuple[Value, ...]:
        """The values of a grid or choice as numbers and words; those with dimensions of their own by their branch."""
        nested = any(next(_find(value, (), None), None) is not None for value in self.values)
        if not nested:
            return tuple(map(word, self.values))
        return tuple(str(branch_label(self.values, number)) for number in range(len(self.values)))

    def number_of(self, value: Value) -> int:
        """Return the position of a value of a grid or choice."""
        return [repr(known) for known in self.values].index(repr(value))

    def at(self, share: float) -> Value:
        """Return the value at a share in [0, 1) of what it can be, so that equal shares are equally likely.

        >>> Dimension("loguniform", (1e-4, 1e-2)).at(0.5)
        0.001
        """
        if self.kind in ("choice", "grid"):
            return self.values[int(share * len(self.values))]
        if self.kind == "quniform":
            return self.stepped(int(share * self.steps))
        low, high = self.values
        if self.kind == "lograndint":
            return min(high - 1, int(low * (high / low) ** share))
        if self.kind == "randint":
            return low + int(share * (high - low))
        if self.kind == "loguniform":
            return float(low * (high / low) ** share)
        return float(low + share * (high - low))

    def draw(self, stream: np.random.Generator) -> Value:
        """Draw one value; ``grid`` cannot be drawn from."""
        if self.kind == "choice":
            return self.values[int(stream.integers(len(self.values)))]
        if self.kind in ("quniform", "lograndint"):
            return self.at(float(stream.random()))
        low, high = self.values[0], self.values[-1]
        if self.kind == "uniform":
            return float(stream.uniform(low, high))
        if self.kind == "loguniform":
            return math.exp(stream.uniform(math.log(low), math.log(high)))
        if self.kind == "randint":
            return int(stream.integers(low, high))
        raise ValueError("a grid is enumerated, not drawn from")

    @classmethod
    def parse(cls, raw: object, location: Location) -> Dimension | None:
        """Read ``{kind: values}``; None if ``raw`` is an ordinary value.

        Raises:
            SweepError: if the values do not fit the kind.
        """
        if not isinstance(raw, Mapping):
            return None
        check_words(raw, location)
        if len(raw) != 1:
            return None
        kind, values = next(iter(raw.items()))
        if kind not in KINDS:
            return None
        if not isinstance(values, list | tuple) or not values:
            raise SweepError(f"{kind} needs a list of values, but got {values!r}; write {{{kind}: [a, b]}}", location)
        if kind == "quniform":
            _check_steps(values, location)
        elif kind not in ("grid", "choice"):
            _check_range(kind, values, location)
        if kind == "grid" and len({repr(value) for value in values}) != len(values):
            raise SweepError(f"the values of a grid must differ, but got {list(values)!r}", location)
        return cls(kind, tuple(values))


def _check_range(kind: str, values: list[Value] | tuple[Value, ...], location: Location) -> None:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) != 2 or len(values) != 2 or not numbers[0] < numbers[1]:
        raise SweepError(f"{kind} needs two numbers a < b, but got {list(values)!r}", location)
    if kind.startswith("log") and numbers[0] <= 0:
        other = "uniform" if kind == "loguniform" else "randint"
        raise SweepError(f"{kind} needs 0 < a, but got {list(values)!r}; use {other} for a range with 0", location)
    if kind.endswith("randint") and not all(isinstance(number, int) for number in numbers):
        other = "uniform" if kind == "randint" else "loguniform"
        raise SweepError(f"{kind} needs whole numbers, but got {list(values)!r}; use {other} for real ones", location)


def _check_steps(values: list[Value] | tuple[Value, ...], location: Location) -> None:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) != 3 or len(values) != 3 or not numbers[0] < numbers[1] or not numbers[2] > 0:
        raise SweepError(
            f"quniform needs numbers a < b and a step q > 0, but got {list(values)!r}; without a step use uniform",
            location,
        )


def word(value: Value) -> Value:
    """Return a value as Optuna's categories and labels have it: numbers and words as they are, all else as JSON."""
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)


def branch_label(values: Sequence[Value], number: int) -> str | int:
    """Return what a value of a grid or choice is called in places: its name or kind if no other has it, or its number.

    >>> branch_label([{"name": "sgd", "momentum": {"uniform": [0, 0.9]}}, {"name": "adam"}], 0)
    'sgd'
    """
    names = [v.get("name", v.get("kind")) if isinstance(v, Mapping) else None for v in values]
    own = names[number]
    return own if isinstance(own, str) and names.count(own) == 1 else number


@dataclass(frozen=True)
class Branch:
    """Where a nested dimension exists.

    Attributes:
        place: of the grid or choice around it.
        number: of the value that must be taken there.
    """

    place: Location
    number: int


@dataclass(frozen=True)
class Point:
    """One value for each dimension of a space.

    Attributes:
        values: (place in the section, value), in the order of the sweep file.
    """

    values: tuple[tuple[Location, Value], ...] = ()

    def __getitem__(self, place: Location) -> Value:
        return dict(self.values)[place]


@dataclass(frozen=True)
class Space:
    """A section of a sweep file, some of whose fields are dimensions.

    Attributes:
        raw: the section as written: JSON values, dimensions included.
        dimensions: (place in the section, dimension), in the order of the file; a nested one right after the grid or
            choice around it, whose place and branch (`branch_label`) begin its own.
        branches: of each nested dimension, by its place.
    """

    raw: Mapping[str, Value]
    dimensions: tuple[tuple[Location, Dimension], ...]
    branches: Mapping[Location, Branch] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: object) -> Space:
        """Read a section: a mapping, or a config model (whose fields then are all fixed).

        Raises:
            SweepError: if it is no mapping, or a dimension is malformed; places are counted from the section.
        """
        if isinstance(raw, Space):
            return raw
        if isinstance(raw, BaseModel):
            raw = raw.model_dump(mode="json", exclude_unset=True) | _kept_tags(raw)
        if not isinstance(raw, Mapping):
            raise SweepError(f"must be a mapping of fields, but got {raw!r}")
        found = list(_find(raw, (), None))
        branches = {place: branch for place, _, branch in found if branch is not None}
        return cls(dict(raw), tuple((place, dimension) for place, dimension, _ in found), branches)

    @property
    def drawn(self) -> tuple[tuple[Location, Dimension], ...]:
        """The dimensions that only a random search can give values to."""
        return tuple((place, dimension) for place, dimension in self.dimensions if dimension.is_drawn)

    def points(self, sample: int, key: bytes, purpose: str) -> Iterator[Point]:
        """Every combination of the grids, the drawn dimensions as in one sample of a random search.

        A dimension's draw depends on the key, its own place and the sample's number alone: adding a dimension or more
        samples changes none of the others.

        Args:
            sample: number of the sample, from 0.
            key: of the search.
            purpose: what keeps this space's draws apart from other spaces', e.g. ``learner private``.
        """
        yield from self.crossed(
            {
                place: dimension.draw(generator(key, f"search {purpose} {dotted(place)}", sample))
                for place, dimension in self.drawn
            }
        )

    def crossed(self, drawn: Mapping[Location, Value]) -> Iterator[Point]:
        """Every combination of the grids, each with the same values of the drawn dimensions."""
        yield from self._crossed(drawn, 0, {})

    def _crossed(self, drawn: Mapping[Location, Value], first: int, chosen: dict[Location, Value]) -> Iterator[Point]:
        for number, (place, dimension) in enumerate(self.dimensions[first:], first):
            if not self.exists(place, chosen):
                continue
            if not dimension.is_drawn:
                for value in dimension.values:
                    yield from self._crossed(drawn, number + 1, chosen | {place: value})
                return
            chosen = chosen | {place: drawn[place]}
        yield Point(tuple(chosen.items()))

    def exists(self, place: Location, chosen: Mapping[Location, Value]) -> bool:
        """Whether a dimension exists where the grids and choices around it have these values."""
        branch = self.branches.get(place)
        if branch is None:
            return True
        around = dict(self.dimensions)[branch.place]
        return branch.place in chosen and around.number_of(chosen[branch.place]) == branch.number

    def around(self, place: Location) -> dict[Location, Value]:
        """Return the values of the grids and choices around a dimension under which it exists."""
        branch = self.branches.get(place)
        if branch is None:
            return {}
        value = dict(self.dimensions)[branch.place].values[branch.number]
        return self.around(branch.place) | {branch.place: value}

    def field(self, place: Location) -> Location:
        """Return the field of the section that a dimension is a value of: its place without branches."""
        branch = self.branches.get(place)
        return place if branch is None else self.field(branch.place) + place[len(branch.place) + 1 :]

    def at(self, point: Point) -> Any:  # noqa: ANN401 - a mapping; of a section that is a dimension whatever it can be
        """Return the section with every dimension replaced by its value at a point."""
        return _fill(self.raw, point, dict(self.dimensions), ())

    def without(self, *fields: str) -> Space:
        """Return the same space, less some of its top-level fields."""
        return Space.parse({name: value for name, value in self.raw.items() if name not in fields})


def shown_part(value: Value) -> Value:
    """Return what of a dimension's value is no dimension itself: what stands in labels; None if nothing is left."""
    if not isinstance(value, Mapping):
        return value
    if next(_find(value, (), None), None) is None:
        return value
    own = {name: item for name, item in value.items() if next(_find(item, (), None), None) is None}
    return own if own and len(value) > len(own) else None


def _find(value: Value, place: Location, branch: Branch | None) -> Iterator[tuple[Location, Dimension, Branch | None]]:
    dimension = Dimension.parse(value, place)
    if dimension is None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                yield from _find(item, (*place, name), branch)
        return
    yield place, dimension, branch
    if dimension.kind in ("grid", "choice"):
        for number, item in enumerate(dimension.values):
            if not isinstance(item, Mapping):
                continue  # a plain value has no fields; to look at each of a long grid would take quadratic time
            yield from _find(item, (*place, branch_label(dimension.values, number)), Branch(place, number))


def _fill(value: Value, point: Point, dimensions: Mapping[Location, Dimension], place: Location) -> Value:
    chosen = dict(point.values)
    if place in chosen:
        taken, dimension = chosen[place], dimensions[place]
        if dimension.kind not in ("grid", "choice") or not isinstance(taken, Mapping):
            return taken
        label = branch_label(dimension.values, dimension.number_of(taken))
        return _fill(taken, point, dimensions, (*place, label))
    if isinstance(value, Mapping):
        return {name: _fill(item, point, dimensions, (*place, name)) for name, item in value.items()}
    return value


def _kept_tags(model: BaseModel) -> dict[str, Value]:
    """Return the fields that tell kinds of config apart.

    They count as set even where they were left to their default.
    """
    return {name: getattr(model, name) for name in ("kind", "name") if name in type(model).model_fields}


# A field of a pydantic model that reads a section and writes it back as it was.
SpaceField = Annotated[Space, PlainValidator(Space.parse), PlainSerializer(lambda space: dict(space.raw))]
