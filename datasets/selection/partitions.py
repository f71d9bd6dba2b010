"""Partitions of the training examples among federated clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.datasets.selection.randomness import derive, first_by_priority, generator
from fairsweep.datasets.selection.strata import natural_parts

_Pools = list[NDArray[np.int64]]

_FIELDS_OF = {
    "user": (),
    "iid": ("count",),
    "dirichlet": ("count", "alpha"),
    "attribute": ("count", "attribute"),
    "quantity": ("count", "alpha"),
}
_OPTIONAL_OF = {"dirichlet": ("attribute",), "attribute": ("mixing",)}


class ClientsConfig(BaseModel):
    """How the training set is divided among clients. Every example belongs to exactly one client.

    Attributes:
        partition: ``user``: one client for each value of the dataset's ``user`` column. ``iid``: equal random parts.
            ``dirichlet``: equal sizes, each client with a mix of its own over an attribute's values. ``attribute``:
            each client holds mostly one value of an attribute. ``quantity``: random parts of unequal sizes.
        count: Number of clients, N; not for ``user``.
        attribute: Whose values are mixed unequally; for ``dirichlet`` null takes the label.
        alpha: Concentration of the Dirichlet distribution of mixes or sizes, positive: the smaller, the more unequal.
        mixing: For ``attribute``: share of the examples, in [0, 1], that is dealt to all clients alike. 0: each client
            holds one value only; 1: as ``iid``.
        max_examples: Most examples that a client trains on (the same ones in every round); null: all.
        held_out: Share of each client's examples, in [0, 1), that it never trains on, rounded down. Research mode
            measures the client's own accuracy on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    partition: Literal["user", "iid", "dirichlet", "attribute", "quantity"] = "iid"
    count: int | None = Field(default=None, ge=1)
    attribute: str | None = None
    alpha: float | None = Field(default=None, gt=0)
    mixing: float = Field(default=0.0, ge=0, le=1)
    max_examples: int | None = Field(default=None, ge=1)
    held_out: float = Field(default=0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        needed = _FIELDS_OF[self.partition]
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"partition {self.partition!r} needs {name}, but it is null: give it")
        allowed = {*needed, *_OPTIONAL_OF.get(self.partition, ()), "partition", "max_examples", "held_out"}
        for name in sorted(self.model_fields_set - allowed):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"partition {self.partition!r} has no {name}, but got {name}={getattr(self, name)!r}: leave it out"
                )
        return self


@dataclass(frozen=True)
class TrainingColumns:
    """What is known of each training example beside its image: public, and what partitions are made from.

    Attributes:
        rows: int64 [n], distinct rows of the dataset.
        labels: int [n], codes of the label.
        attributes: For each attribute by name int [n], codes.
        users: int64 [n], whom each example belongs to; None where the dataset does not know.
        ids: int64 [n]; None where only rows are known.
        value_names: For each attribute, the names of its values in the order of their codes.
        groups: Names of the attributes that are compared, and of the label.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    attributes: Mapping[str, NDArray[np.int16]] = field(default_factory=dict)
    users: NDArray[np.int64] | None = None
    ids: NDArray[np.int64] | None = None
    value_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Partition:
    """Clients as lists of examples. Client c holds ``order[offsets[c]:offsets[c + 1]]``.

    Attributes:
        order: int64 [n], positions in the training set, client by client.
        offsets: int64 [N + 1], ascending from 0 to n.
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, clients: list[NDArray[np.int64]], size: int) -> Partition:
        """Make a partition of [0, size) from each client's positions.

        Raises:
            ValueError: If a client has no examples, or an example is not in exactly one client.
        """
        sizes = np.array([len(client) for client in clients], dtype=np.int64)
        if not len(clients) or not sizes.all():
            empty = np.flatnonzero(sizes == 0)
            which = f"client {int(empty[0])} has none" if len(empty) else "there is no client"
            raise ValueError(
                f"every client must hold at least one example, but {which} ({len(empty)} of {len(clients)} clients are "
                f"empty, {size} examples): lower clients.count"
            )
        order = np.concatenate(clients).astype(np.int64)
        if len(order) != size or not np.array_equal(np.sort(order), np.arange(size)):
            raise ValueError(
                f"every example must be in exactly one client, but {size} examples were divided into lists of "
                f"{len(order)} positions with {len(np.unique(order))} distinct ones"
            )
        return cls(order, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Examples of each client, int64 [N]."""
        return np.diff(self.offsets)

    def client(self, number: int) -> NDArray[np.int64]:
        """Return one client's positions, int64."""
        return self.order[self.offsets[number] : self.offsets[number + 1]]

    def owners(self) -> NDArray[np.int64]:
        """Return the client of each example, int64 [n], by position."""
        found = np.empty(len(self.order), dtype=np.int64)
        found[self.order] = np.repeat(np.arange(len(self)), self.sizes)
        return found

    def restricted(self, sizes: NDArray[np.int64], *, skip: NDArray[np.int64] | None = None) -> Partition:
        """Return a part of each client's list; lists may then be empty.

        Args:
            sizes: int64 [N], how many positions of each client.
            skip: int64 [N], after how many; None starts at the first.
        """
        starts = self.offsets[:-1] + (0 if skip is None else skip)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
        return Partition(self.order[np.repeat(starts, sizes) + within], offsets)


def partition_clients(columns: TrainingColumns, config: ClientsConfig, data_key: bytes) -> Partition:
    """Divides a training set among clients.

    Args:
        columns: The training examples.
        config: How.
        data_key: 32 bytes, public; keys every draw.

    Returns:
        The partition; each client's positions in an order that is random and fixed, so that its first ones are a fair
        sample of it.

    Raises:
        ValueError: If there are more clients than examples, a client would be empty, the dataset has no ``user`` column
            where one is asked for, or there is no such attribute.
    """
    size = len(columns.rows)
    if config.count is not None and config.count > size:
        raise ValueError(
            f"there must be at most as many clients as training examples, but got clients.count={config.count} for "
            f"{size} examples: lower it"
        )
    key = derive(data_key, "partition")
    order = first_by_priority(key, "example", columns.rows)
    draws = generator(key, config.partition)
    return Partition.of(_DRAWS[config.partition](columns, config, order, draws), size)


def split_held_out(partition: Partition, config: ClientsConfig) -> tuple[Partition, Partition]:
    """Return what clients train on (at least one example each, at most ``max_examples``) and what they hold out."""
    held_out = np.minimum((partition.sizes * config.held_out).astype(np.int64), partition.sizes - 1)
    trained = partition.sizes - held_out
    capped = trained if config.max_examples is None else np.minimum(trained, config.max_examples)
    return partition.restricted(capped), partition.restricted(held_out, skip=trained)


def majority_values(partition: Partition, codes: NDArray[np.integer]) -> NDArray[np.int16]:
    """Return the value of an attribute that most of a client's examples have (the lowest code on a tie), int16 [N]."""
    values, index = np.unique(codes, return_inverse=True)
    counts = np.zeros((len(partition), len(values)), dtype=np.int64)
    np.add.at(counts, (partition.owners(), index.reshape(-1)), 1)
    majority: NDArray[np.int16] = values[counts.argmax(axis=1)].astype(np.int16)
    return majority


def _by_user(columns: TrainingColumns, config: ClientsConfig, order: NDArray[np.int64], draws: object) -> _Pools:
    if columns.users is None:
        raise ValueError(
            "clients.partition 'user' needs a dataset with a user column, but this one has none: prepare it with one "
            "(CelebA: identities), or choose another partition"
        )
    return _pools(columns.users, order)


def _iid(
    columns: TrainingColumns, config: ClientsConfig, order: NDArray[np.int64], draws: np.random.Generator
) -> _Pools:
    return np.array_split(order, config.count or 1)


def _by_quantity(
    columns: TrainingColumns, config: ClientsConfig, order: NDArray[np.int64], draws: np.random.Generator
) -> _Pools:
    """One example for each client, the others in parts that follow a Dirichlet distribution.

    References:
        Li et al. 2022, arXiv 2102.02079, section IV (quantity skew).
    """
    count = config.count or 1
    shares = draws.dirichlet(np.full(count, float(config.alpha or 1)))
    ends = np.arange(1, count) + np.rint(np.cumsum(shares)[:-1] * (len(order) - count)).astype(np.int64)
    return np.split(order, ends)


def _by_dirichlet(
    columns: TrainingColumns, config: ClientsConfig, order: NDArray[np.int64], draws: np.random.Generator
) -> _Pools:
    """Equal sizes; each client draws from values in proportions that follow Dirichlet(alpha K prior).

    K is the number of values, so that for equally frequent ones every parameter is alpha. Values that have run out are
    drawn no more.

    References:
        Hsu et al. 2019, arXiv 1909.06335, section 3.
    """
    codes = columns.labels if config.attribute is None else _codes(columns, config.attribute)
    pools = _pools(codes, order)
    counts = np.array([len(pool) for pool in pools])
    concentration = float(config.alpha or 1) * len(pools) * counts / counts.sum()
    taken = np.zeros(len(pools), dtype=np.int64)
    clients = []
    for part in np.array_split(order, config.count or 1):
        shares = draws.dirichlet(concentration)
        wanted = np.zeros(len(pools), dtype=np.int64)
        while (missing := len(part) - int(wanted.sum())) > 0:
            left = counts - taken - wanted
            weights = np.where(left > 0, shares, 0.0)
            weights = weights if weights.sum() > 0 else left.astype(np.float64)
            wanted += np.minimum(draws.multinomial(missing, weights / weights.sum()), left)
        clients.append(np.concatenate([p[t : t + w] for p, t, w in zip(pools, taken, wanted, strict=True)]))
        taken += wanted
    return [draws.permutation(client) for client in clients]


def _by_attribute(
    columns: TrainingColumns, config: ClientsConfig, order: NDArray[np.int64], draws: np.random.Generator
) -> _Pools:
    """Clients in proportion to the values, at least one each; ``mixing`` of every value is dealt to all clients."""
    pools = _pools(_codes(columns, config.attribute or ""), order)
    counts = np.array([len(pool) for pool in pools])
    count = config.count or 1
    if count < len(pools):
        raise ValueError(
            f"partition 'attribute' needs a client for each of the {len(pools)} values of {config.attribute!r} that "
            f"occur, but got clients.count={count}: raise it"
        )
    homes = 1 + natural_parts(count - len(pools), counts - 1)
    mixed = [round(config.mixing * len(pool)) for pool in pools]
    pure = [
        part
        for pool, cut, clients in zip(pools, mixed, homes.tolist(), strict=True)
        for part in np.array_split(pool[cut:], clients)
    ]
    common = draws.permutation(np.concatenate([pool[:cut] for pool, cut in zip(pools, mixed, strict=True)]))
    # Those with the fewest of their own come first, so that a remainder fills them.
    shares = np.array_split(common, count)
    for share, home in zip(shares, np.argsort([len(part) for part in pure], kind="stable"), strict=True):
        pure[home] = draws.permutation(np.concatenate([pure[home], share]))
    return pure


def _pools(codes: NDArray[np.integer], order: NDArray[np.int64]) -> _Pools:
    """Return the positions of each value that occurs, in the order given."""
    grouped = order[np.argsort(codes[order], kind="stable")]
    return np.split(grouped, np.flatnonzero(np.diff(codes[grouped])) + 1)


def _codes(columns: TrainingColumns, attribute: str) -> NDArray[np.int16]:
    if attribute not in columns.attributes:
        raise ValueError(
            f"clients.attribute must be one of {sorted(columns.attributes)}, but got {attribute!r}: name an attribute "
            "of the dataset"
        )
    return columns.attributes[attribute]


_Draw = Callable[[TrainingColumns, ClientsConfig, NDArray[np.int64], np.random.Generator], _Pools]
_DRAWS: dict[str, _Draw] = {
    "user": _by_user,
    "iid": _iid,
    "dirichlet": _by_dirichlet,
    "attribute": _by_attribute,
    "quantity": _by_quantity,
}
