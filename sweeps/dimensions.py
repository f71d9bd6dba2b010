"""Search dimensions: fields of a sweep file that take several values.

Any field of a learner, the model or the imbalance may be written as ``{grid: [...]}``, ``{choice: [...]}``,
``{uniform: [a, b]}``, ``{loguniform: [a, b]}`` or ``{randint: [a, b]}`` instead of a value. A section with such fields
is a `Space`; a *point* gives each of its dimensions a value.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, PlainSerializer, PlainValidator

from fairsweep.datasets.randomness import generator
from fairsweep.sweeps.errors import Location, SweepError, dotted

Value = Any  # any JSON value: a number, a word, a list, a mapping
Kind = Literal["grid", "choice", "uniform", "loguniform", "randint"]
KINDS: tuple[Kind, ...] = ("grid", "choice", "uniform", "loguniform", "randint")


@dataclass(frozen=True)
class Dimension:
    """The values that one field can take.

    Attributes:
        kind: ``grid`` (each of the values, crossed with all other grids), or one of the drawn kinds: ``choice`` (one of
            the values), ``uniform`` and ``loguniform`` (a real number in [a, b)), ``randint`` (a whole one in [a, b)).
        values: the values of grid and choice; (a, b) of the others.
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
        if self.kind == "randint":
            return tuple(dict.fromkeys((self.values[0], self.values[1] - 1)))
        return self.values

    def at(self, share: float) -> Value:
        """The value at a share in [0, 1) of what it can be, so that equal shares are equally likely.

        >>> Dimension("loguniform", (1e-4, 1e-2)).at(0.5)
        0.001
        """
        low, high = self.values[0], self.values[-1]
        if self.kind in ("choice", "grid"):
            return self.values[int(share * len(self.values))]
        if self.kind == "randint":
            return low + int(share * (high - low))
        if self.kind == "loguniform":
            return float(low * (high / low) ** share)
        return float(low + share * (high - low))

    def draw(self, stream: np.random.Generator) -> Value:
        """Draw one value; ``grid`` cannot be drawn from."""
        low, high = self.values[0], self.values[-1]
        if self.kind == "choice":
            return self.values[int(stream.integers(len(self.values)))]
        if self.kind == "uniform":
            return float(stream.uniform(low, high))
        if self.kind == "loguniform":
            return math.exp(stream.uniform(math.log(low), math.log(high)))
        if self.kind == "randint":
            return int(stream.integers(low, high))
        raise ValueError("a grid is enumerated, not drawn from")

    @classmethod
    def parse(cls, raw: object, location: Location) -> "Dimension | None":
        """Read ``{kind: values}``; None if ``raw`` is an ordinary value.

        Raises:
            SweepError: if the values do not fit the kind.
        """
        if not isinstance(raw, Mapping) or len(raw) != 1:
            return None
        kind, values = next(iter(raw.items()))
        if kind not in KINDS:
            return None
        if not isinstance(values, list | tuple) or not values:
            raise SweepError(f"{kind} needs a list of values, but got {values!r}; write {{{kind}: [a, b]}}", location)
        if kind in ("uniform", "loguniform", "randint"):
            _check_range(kind, values, location)
        if kind == "grid" and len({repr(value) for value in values}) != len(values):
            raise SweepError(f"the values of a grid must differ, but got {list(values)!r}", location)
        return cls(kind, tuple(values))


def _check_range(kind: str, values: "list[Value] | tuple[Value, ...]", location: Location) -> None:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) != 2 or len(values) != 2 or not numbers[0] < numbers[1]:
        raise SweepError(f"{kind} needs two numbers a < b, but got {list(values)!r}", location)
    if kind == "loguniform" and numbers[0] <= 0:
        raise SweepError(f"loguniform needs 0 < a, but got {list(values)!r}; use uniform for a range with 0", location)
    if kind == "randint" and not all(isinstance(number, int) for number in numbers):
        raise SweepError(f"randint needs whole numbers, but got {list(values)!r}; use uniform for real ones", location)


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
        dimensions: (place in the section, dimension), in the order of the file.
    """

    raw: Mapping[str, Value]
    dimensions: tuple[tuple[Location, Dimension], ...]

    @classmethod
    def parse(cls, raw: object) -> "Space":
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
        return cls(dict(raw), tuple(_find(raw, ())))

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
        grids = [(place, dimension.values) for place, dimension in self.dimensions if not dimension.is_drawn]
        for combination in itertools.product(*(values for _, values in grids)):
            chosen = {**drawn, **dict(zip((place for place, _ in grids), combination, strict=True))}
            yield Point(tuple((place, chosen[place]) for place, _ in self.dimensions))

    def at(self, point: Point) -> dict[str, Value]:
        """The section with every dimension replaced by its value at a point."""
        return dict(_fill(self.raw, dict(point.values), ()))

    def without(self, *fields: str) -> "Space":
        """The same space, less some of its top-level fields."""
        return Space.parse({name: value for name, value in self.raw.items() if name not in fields})


def _find(value: Value, place: Location) -> Iterator[tuple[Location, Dimension]]:
    dimension = Dimension.parse(value, place)
    if dimension is not None:
        yield place, dimension
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _find(item, (*place, name))


def _fill(value: Value, chosen: Mapping[Location, Value], place: Location) -> Value:
    if place in chosen:
        return chosen[place]
    if isinstance(value, Mapping):
        return {name: _fill(item, chosen, (*place, name)) for name, item in value.items()}
    return value


def _kept_tags(model: BaseModel) -> dict[str, Value]:
    """The fields that tell kinds of config apart: they count as set even where they were left to their default."""
    return {name: getattr(model, name) for name in ("kind", "name") if name in type(model).model_fields}


# A field of a pydantic model that reads a section and writes it back as it was.
SpaceField = Annotated[Space, PlainValidator(Space.parse), PlainSerializer(lambda space: dict(space.raw))]
