"""The map from examples to shards and slices, made once and then frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.datasets.selection.randomness import first_by_priority, priorities
from fairsweep.datasets.selection.strata import natural_parts
from fairsweep.trainables.unlearning.known_examples import Population
from fairsweep.trainables.unlearning.request_models import RequestModelConfig

Strategy = Literal[
    "random-random",
    "random-balanced",
    "sorted-balanced",
    "hash",
    "distribution-aware",
    "group-stratified",
    "by-group",
]


class PlacementConfig(BaseModel):
    """Who sits where.

    Attributes:
        shards: Number of models, S; each learns from its own examples alone.
        slices: Number of parts that a shard learns one after another, R; each with the parts before it.
        strategy: ``random-random`` and ``random-balanced`` (at random; in the reference the second word is the test
            set, which ``evaluation`` says here), ``sorted-balanced`` (high risk first, then the rest, cut in sequence),
            ``hash`` (by the id alone), ``distribution-aware`` (likely requesters together, equal expected requests a
            shard), ``group-stratified`` (the same mix everywhere), ``by-group`` (each group in shards of its own).
        put_in: For ``sorted-balanced``: ``slice`` puts the high risk into the last slices of every shard, ``shard``
            into the first shards.
        placed_by: For ``group-stratified`` and ``by-group``: the attributes. Left out, all groups and the label for
            the former, the first group for the latter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shards: int = Field(default=5, ge=1)
    slices: int = Field(default=3, ge=1)
    strategy: Strategy = "random-balanced"
    put_in: Literal["slice", "shard"] = "slice"
    placed_by: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_placement(self) -> Self:
        if self.strategy != "sorted-balanced" and self.put_in != "slice":
            raise ValueError(
                f"put_in belongs to strategy 'sorted-balanced', but got strategy={self.strategy!r}: leave it out"
            )
        if self.placed_by and self.strategy not in ("group-stratified", "by-group"):
            raise ValueError(
                "placed_by belongs to the strategies 'group-stratified' and 'by-group', "
                f"but got strategy={self.strategy!r}: leave it out"
            )
        return self


@dataclass(frozen=True)
class Placement:
    """Where each example sits.

    Attributes:
        shards: S.
        slices: R.
        shard: int32 [n] in [0, S), in the order of the population.
        slice: int32 [n] in [0, R).
        unconditional: True if each id's place depends on that id alone: what is left after a deletion is then what
            training without these ids would have given, the map included.
    """

    shards: int
    slices: int
    shard: NDArray[np.int32]
    slice: NDArray[np.int32]
    unconditional: bool

    def __post_init__(self) -> None:
        for values, limit in ((self.shard, self.shards), (self.slice, self.slices)):
            if len(values) and not (values.min() >= 0 and values.max() < limit):
                raise ValueError(
                    f"shard and slice numbers must be in [0, {limit}), but span {values.min()} to {values.max()}"
                )

    @classmethod
    def recorded(cls, config: PlacementConfig, table: Mapping[str, NDArray[np.int64]], ids: NDArray[np.int64]) -> Self:
        """Return the map that ``placement.parquet`` holds.

        Args:
            config: The strategy that made it.
            table: Its columns ``id``, ``shard`` and ``slice``.
            ids: int64 [n], the order of the population.
        """
        order = np.argsort(ids, kind="stable")
        places = order[np.searchsorted(ids[order], table["id"])]
        shard, part = np.empty(len(ids), np.int32), np.empty(len(ids), np.int32)
        shard[places], part[places] = table["shard"] - 1, table["slice"] - 1
        return cls(config.shards, config.slices, shard, part, config.strategy == "hash")

    def counts(self) -> NDArray[np.int64]:
        """Return how many examples each place has, int64 [S, R]."""
        flat = np.bincount(self.shard * self.slices + self.slice, minlength=self.shards * self.slices)
        return flat.reshape(self.shards, self.slices).astype(np.int64)

    def check(self) -> None:
        """Refuses a map with empty places, before anything starts.

        Raises:
            ValueError: With the empty places and the remedy.
        """
        counts = self.counts()
        if len(self.shard) < self.shards:
            raise ValueError(
                f"every shard must have examples, but there are {self.shards} shards for {len(self.shard)} examples: "
                f"lower shards to at most {len(self.shard)}"
            )
        empty = np.argwhere(counts == 0)
        if len(empty):
            shown = ", ".join(f"slice {r + 1} of shard {s + 1}" for s, r in empty[:5].tolist())
            raise ValueError(
                f"every slice must have examples at the start, but {len(empty)} of {counts.size} are empty ({shown}): "
                f"lower shards or slices (there are {len(self.shard)} examples), or choose another strategy"
            )


def place(config: PlacementConfig, model: RequestModelConfig, population: Population, key: bytes) -> Placement:
    """Make the map.

    Args:
        config: The strategy.
        model: Who is likely to ask for deletion.
        population: The training set.
        key: 32 bytes, public: of the data seed.

    Returns:
        The map, a function of the arguments alone; whatever the order of the population, an id gets the same place.

    Raises:
        ValueError: If the strategy needs an attribute that is not there.
    """
    cells = STRATEGIES[config.strategy](config, model, population, key)
    shard, part = np.divmod(cells, config.slices)
    return Placement(
        config.shards, config.slices, shard.astype(np.int32), part.astype(np.int32), config.strategy == "hash"
    )


def attributes_used(config: PlacementConfig, model: RequestModelConfig, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Return the attributes that a map is made from, beside the ids.

    Args:
        config: The strategy.
        model: Who is likely to ask for deletion.
        groups: The attributes that a sweep compares, and its label.
    """
    if config.strategy in ("sorted-balanced", "distribution-aware"):
        return model.attributes
    if config.strategy == "group-stratified":
        return config.placed_by or groups
    return (config.placed_by or groups[:1]) if config.strategy == "by-group" else ()


def _random(
    config: PlacementConfig, model: RequestModelConfig, population: Population, key: bytes
) -> NDArray[np.int64]:
    return _cut(first_by_priority(key, "sisa placement", population.ids), config.shards * config.slices)


def _sorted(
    config: PlacementConfig, model: RequestModelConfig, population: Population, key: bytes
) -> NDArray[np.int64]:
    """High risk first, then low, each in random order, cut in sequence into S R equal pieces.

    Pieces go to (shard 0, slice 0), (shard 0, slice 1), … or, for ``put_in: slice``, to the last slice of shard 0, of
    shard 1, …, then to the slices before.
    """
    order = first_by_priority(key, "sisa placement", population.ids)
    risk = model.high_risk(population, key)[order]
    pieces = _cut(np.concatenate([order[risk], order[~risk]]), config.shards * config.slices)
    if config.put_in == "shard":
        return pieces
    turn, shard = np.divmod(pieces, config.shards)
    cells: NDArray[np.int64] = shard * config.slices + (config.slices - 1 - turn)
    return cells


def _hashed(
    config: PlacementConfig, model: RequestModelConfig, population: Population, key: bytes
) -> NDArray[np.int64]:
    places = config.shards * config.slices
    return (priorities(key, "sisa placement", population.ids) % np.uint64(places)).astype(np.int64)


def _distribution_aware(
    config: PlacementConfig, model: RequestModelConfig, population: Population, key: bytes
) -> NDArray[np.int64]:
    """Sorted by the probability of a request, cut where the expected number of requests reaches 1/S of the whole.

    Likely requesters end up in small shards, and in the last slices of their shard.

    References:
        Bourtoule et al. 2021, arXiv 1912.03817, algorithm 1 (a new shard begins when the expected requests reach C).
    """
    probability = model.request_probability(population)
    order = np.lexsort((population.ids, priorities(key, "sisa placement", population.ids), probability))
    expected = np.cumsum(probability[order])
    total = expected[-1] if len(expected) and expected[-1] > 0 else 1.0
    # The middle of an example's own share decides, so that equal probabilities give equal shards.
    middle = (expected - probability[order] / 2) / total
    shard_of = np.minimum((middle * config.shards).astype(np.int64), config.shards - 1)
    cells = np.empty(len(order), dtype=np.int64)
    for shard in range(config.shards):
        members = order[shard_of == shard]
        cells[members] = shard * config.slices + _pieces(len(members), config.slices)
    return cells


def _stratified(
    config: PlacementConfig, model: RequestModelConfig, population: Population, key: bytes
) -> NDArray[np.int64]:
    """Each combination of values is dealt round the places, going on where the combination before it ended."""
    names = config.placed_by or population.groups or tuple(population.codes)
    columns = [population.attribute(name)[0] for name in names]
    random = priorities(key, "sisa placement", population.ids)
    order = np.lexsort((population.ids, random, *reversed(columns)))
    turn = np.arange(len(order)) % (config.shards * config.slices)
    # Shards take turns fastest, so that each shard's counts of a combination differ by at most one.
    part, shard = np.divmod(turn, config.shards)
    cells = np.empty(len(order), dtype=np.int64)
    cells[order] = shard * config.slices + part
    return cells


def _by_group(
    config: PlacementConfig, model: RequestModelConfig, population: Population, key: bytes
) -> NDArray[np.int64]:
    """Shards in proportion to the groups' sizes, at least one each; several groups share a shard only if they must."""
    names = config.placed_by or (population.groups or tuple(population.codes))[:1]
    if not names:
        raise ValueError("strategy by-group needs an attribute, but the sweep names no groups: give placed_by")
    columns = np.stack([population.attribute(name)[0] for name in names], axis=1)
    _, group = np.unique(columns, axis=0, return_inverse=True)
    order = first_by_priority(key, "sisa placement", population.ids)
    members = [order[group.ravel()[order] == code] for code in range(int(group.max()) + 1)]
    if len(members) <= config.shards:
        sizes = np.array([len(m) for m in members])
        parts = 1 + natural_parts(config.shards - len(members), sizes)
        shards = [piece for m, k in zip(members, parts.tolist(), strict=True) for piece in np.array_split(m, k)]
    else:
        shards = _packed(members, config.shards)
    cells = np.empty(len(population), dtype=np.int64)
    for shard, held in enumerate(shards):
        cells[held] = shard * config.slices + _pieces(len(held), config.slices)
    return cells


def _packed(groups: list[NDArray[np.int64]], shards: int) -> list[NDArray[np.int64]]:
    """Whole groups into shards, the largest first and always into the emptiest; a shard's examples are mixed."""
    held: list[list[NDArray[np.int64]]] = [[] for _ in range(shards)]
    for group in sorted(groups, key=len, reverse=True):
        min(held, key=lambda parts: sum(map(len, parts))).append(group)
    # Dealing the groups of a shard evenly over its slices keeps no group in the last one.
    mixed = []
    for parts in held:
        turn = np.concatenate([(np.arange(len(part)) + 0.5) / len(part) for part in parts] or [np.empty(0)])
        mixed.append(np.concatenate([*parts, np.empty(0, np.int64)])[np.argsort(turn, kind="stable")])
    return mixed


def _pieces(size: int, pieces: int) -> NDArray[np.int64]:
    """Return the piece of each of so many ordered examples, sizes spread at most 1; int64 [size]."""
    lengths = [size // pieces + (piece < size % pieces) for piece in range(pieces)]
    return np.repeat(np.arange(pieces, dtype=np.int64), lengths)


def _cut(order: NDArray[np.int64], pieces: int) -> NDArray[np.int64]:
    """Return the piece of each example when an order is cut in sequence, in the order of the population."""
    cells = np.empty(len(order), dtype=np.int64)
    cells[order] = _pieces(len(order), pieces)
    return cells


STRATEGIES: dict[str, Callable[[PlacementConfig, RequestModelConfig, Population, bytes], NDArray[np.int64]]] = {
    "random-random": _random,
    "random-balanced": _random,
    "sorted-balanced": _sorted,
    "hash": _hashed,
    "distribution-aware": _distribution_aware,
    "group-stratified": _stratified,
    "by-group": _by_group,
}
