"""The members of a training set and their attributes: all that placement and requests may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fairsweep.trainables.learning.learner import LearningTask


@dataclass(frozen=True)
class Population:
    """The examples of one training set and what is known of each.

    Attributes:
        ids: int64 [n], each once.
        codes: For each attribute, whole numbers [n]: positions in its values.
        values: For each attribute, the names of its values in the order of their codes.
        users: int64 [n], whom each example belongs to; None where the dataset does not know.
        groups: The attributes that a sweep compares, and its label; empty stands for all.
    """

    ids: NDArray[np.int64]
    codes: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    users: NDArray[np.int64] | None = None
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(np.unique(self.ids)) != len(self.ids):
            raise ValueError("a population must have each id once, but some ids are repeated")

    @classmethod
    def of(cls, task: LearningTask) -> Population:
        """Return who is in a task's training set; where it has no ids, rows stand for them."""
        codes: dict[str, np.ndarray] = {**task.attributes, **task.groups, task.label: task.labels}
        values = {
            name: tuple(task.value_names.get(name, tuple(str(code) for code in range(int(column.max()) + 1))))
            for name, column in codes.items()
        }
        groups = tuple(dict.fromkeys((*task.groups, task.label)))
        return cls(task.rows if task.ids is None else task.ids, codes, values, task.users, groups)

    def __len__(self) -> int:
        return len(self.ids)

    def attribute(self, name: str) -> tuple[NDArray[np.integer], tuple[str, ...]]:
        """Return an attribute's codes and the names of its values.

        Raises:
            ValueError: If the attribute is not known here.
        """
        if name not in self.codes or name not in self.values:
            known = ", ".join(repr(known) for known in self.codes) or "none"
            raise ValueError(
                f"placement and requests can use the attributes of the dataset ({known}), but {name!r} is not one: "
                "name one of these"
            )
        return self.codes[name], tuple(str(value) for value in self.values[name])

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find where ids stand, int64, in the order given.

        Raises:
            UnknownIdsError: If some are not in the population; they are listed.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        order = np.argsort(self.ids, kind="stable")
        places = np.searchsorted(self.ids[order], wanted)
        found = order[np.minimum(places, len(order) - 1)]
        unknown = wanted[self.ids[found] != wanted]
        if len(unknown):
            raise UnknownIdsError(unknown)
        return found.astype(np.int64)

    def without(self, ids: NDArray[np.int64]) -> Population:
        """Return the population without some ids; ids that are not in it make no difference."""
        kept = ~np.isin(self.ids, ids)
        return Population(
            self.ids[kept],
            {name: codes[kept] for name, codes in self.codes.items()},
            self.values,
            None if self.users is None else self.users[kept],
            self.groups,
        )


class UnknownIdsError(ValueError):
    """Ids that are not in the training set.

    Attributes:
        ids: All of them, int64.
    """

    _SHOWN = 20

    def __init__(self, ids: NDArray[np.int64]) -> None:
        self.ids = ids
        shown = ", ".join(str(example) for example in ids[: self._SHOWN].tolist())
        more = f" and {len(ids) - self._SHOWN:,} more" if len(ids) > self._SHOWN else ""
        super().__init__(
            f"ids must be of the trial's training set, but {len(ids):,} are not: {shown}{more}; "
            "delete them from the list (the training ids of a trial are in its placement.parquet)"
        )
