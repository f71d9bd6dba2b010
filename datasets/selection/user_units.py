"""Users as units of a split: all images of one user are in the same part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def most_of_one_user(users: NDArray[np.int64] | None) -> int | None:
    """Return how many examples the user with most of them has; None where users are not known.

    Example:
        >>> most_of_one_user(np.array([7, 8, 7]))
        2
    """
    return None if users is None or not len(users) else int(np.unique(users, return_counts=True)[1].max())


@dataclass(frozen=True, eq=False)
class UserUnits:
    """The users of some examples, each in the stratum of most of its images.

    Attributes:
        users: int64 [U], ascending.
        member: The place of each example's user in `users`, int64 [N].
        strata: Codes of each user, [U] each: of the combination that most of its images have (of several, the first),
            and last how many images it has, so that a division deals out large and small users alike.
    """

    users: NDArray[np.int64]
    member: NDArray[np.int64]
    strata: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, users: NDArray[np.int64], strata: Sequence[NDArray[np.int16]]) -> UserUnits:
        """Take examples together.

        Args:
            users: Whose each example is, int64 [N].
            strata: Codes by which the division is stratified, int16 [N] each.
        """
        known, member = np.unique(users, return_inverse=True)
        if not len(users):
            return cls(known, member, tuple(np.empty(0, np.int64) for _ in range(len(strata) + 1)))
        columns = np.stack([np.zeros(len(users), np.int16), *strata], axis=1)
        combinations, cell = np.unique(columns, axis=0, return_inverse=True)
        pairs, counts = np.unique(np.stack([member, cell.reshape(-1)], axis=1), axis=0, return_counts=True)
        # The most frequent combination of each user comes first, of equals the one with the smallest codes.
        order = np.lexsort([pairs[:, 1], -counts, pairs[:, 0]])
        first = order[np.unique(pairs[order, 0], return_index=True)[1]]
        codes = combinations[pairs[first, 1]]
        return cls(known, member, (*codes.T[1:], np.bincount(member)))
