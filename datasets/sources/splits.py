"""Splits for sources without an official one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.datasets.selection.randomness import first_by_priority, generator, priorities, seed_key
from fairsweep.datasets.selection.user_units import UserUnits
from fairsweep.datasets.storage.layout import SPLITS, Attribute

TRAIN, VALIDATION, TEST = range(len(SPLITS))


@dataclass(frozen=True)
class HoldOut:
    """A stratified, keyed hold-out: every combination of values gives its share to each split, as far as it divides.

    Where the examples belong to users, users are drawn instead, each in the stratum of most of its images: all images
    of one user fall into one split, whose share is met as far as their numbers of images allow.

    Attributes:
        validation: Share of all examples that become the validation split, in [0, 1).
        test: Share of all examples that become the test split, in [0, 1); both together stay below 1.
        key: Public number that keys the draw; another one gives another split.
    """

    validation: float = 0.1
    test: float = 0.2
    key: int = 0

    def __post_init__(self) -> None:
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise ValueError(
                "shares of the validation and test split must be at least 0 and together below 1, "
                f"but got validation={self.validation}, test={self.test}"
            )

    def split(
        self,
        ids: NDArray[np.int64],
        strata: Sequence[NDArray[np.int16]],
        test: NDArray[np.bool_] | None = None,
        users: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int8]:
        """Draws the splits.

        Args:
            ids: int64 [N], unique.
            strata: Codes by which to stratify, int16 [N] each, the most important first.
            test: Where the test split is given already, bool [N]; `validation` is then the share of all others.
            users: Whose each example is, int64 [N]; None draws examples one by one.

        Returns:
            int8 [N], places in `SPLITS`. It depends on the key, the ids and their codes, not on their order.
        """
        splits = np.full(len(ids), TRAIN, dtype=np.int8)
        validation = self.validation
        if test is None:
            test = _share(ids, strata, self.test, self.key, "test", users)
            validation = validation / (1 - self.test)
        splits[test] = TEST
        rest = np.flatnonzero(~test)
        of_rest = None if users is None else users[rest]
        chosen = _share(ids[rest], [codes[rest] for codes in strata], validation, self.key, "validation", of_rest)
        splits[rest[chosen]] = VALIDATION
        return splits


@dataclass(frozen=True)
class BalancedTest:
    """A test split of equally many examples of each combination of values, and some at random.

    Attributes:
        per_cell: Examples of each combination, >= 1.
        extra_random: Further examples, at random from the rest, >= 0.
        key: Public number that keys the draw.
    """

    per_cell: int
    extra_random: int = 0
    key: int = 0

    def __post_init__(self) -> None:
        if self.per_cell < 1 or self.extra_random < 0:
            raise ValueError(
                "a balanced test split needs per_cell >= 1 and extra_random >= 0, "
                f"but got per_cell={self.per_cell}, extra_random={self.extra_random}"
            )

    def choose(
        self, ids: NDArray[np.int64], attributes: Sequence[Attribute], codes: Sequence[NDArray[np.int16]]
    ) -> NDArray[np.bool_]:
        """Draws the test split.

        Args:
            ids: int64 [N], unique.
            attributes: Attributes whose combinations are balanced.
            codes: Their codes, int16 [N] each.

        Returns:
            bool [N], `per_cell` times the number of combinations plus `extra_random` of them true.

        Raises:
            ValueError: A combination has too few examples; the message gives the largest `per_cell` possible.
        """
        shape = tuple(len(attribute.values) for attribute in attributes)
        cells = np.ravel_multi_index([column.astype(np.int64) for column in codes], shape)
        counts = np.bincount(cells, minlength=int(np.prod(shape)))
        if counts.min() < self.per_cell:
            scarcest = np.unravel_index(int(counts.argmin()), shape)
            values = [f"{a.name} = {a.values[int(code)]}" for a, code in zip(attributes, scarcest, strict=True)]
            raise ValueError(
                f"a test split with per_cell={self.per_cell} needs as many examples of each combination, "
                f"but there are {counts.min():,} with {', '.join(values)}: the largest per_cell is {counts.min():,}"
            )
        key = seed_key(self.key, "split")
        order = first_by_priority(key, "test", ids)
        grouped = order[np.argsort(cells[order], kind="stable")]
        rank = np.arange(len(ids)) - (np.cumsum(counts) - counts)[cells[grouped]]
        test = np.zeros(len(ids), dtype=bool)
        test[grouped[rank < self.per_cell]] = True
        rest = np.flatnonzero(~test)
        if self.extra_random > len(rest):
            raise ValueError(f"extra_random={self.extra_random:,} asks for more than the {len(rest):,} examples left")
        test[rest[first_by_priority(key, "test extra", ids[rest], self.extra_random)]] = True
        return test


def split_column(splits: NDArray[np.int8]) -> pa.Array:
    """Write splits by their names.

    Args:
        splits: int8 [N], places in `SPLITS`.
    """
    return pa.DictionaryArray.from_arrays(splits, pa.array(SPLITS)).cast(pa.string())


def splits_of(
    hold_out: HoldOut,
    ids: NDArray[np.int64],
    strata: Sequence[NDArray[np.int16]],
    users: NDArray[np.int64] | None,
    said: NDArray[Any] | None,
) -> pa.Array:
    """Return the splits that are said, and draw those that are not, as a column of names.

    Args:
        hold_out: How they are drawn.
        ids: int64 [N], unique.
        strata: See `HoldOut.split`.
        users: See `HoldOut.split`.
        said: Name of each example's split, [N]; None where none is said. What is not said is drawn from the rest.
    """
    if said is None:
        return split_column(hold_out.split(ids, strata, users=users))
    codes = np.array([SPLITS.index(split) for split in said], np.int8)
    test, validation = codes == TEST, codes == VALIDATION
    if test.any() and validation.any():
        return split_column(codes)
    if test.any() or not validation.any():
        return split_column(hold_out.split(ids, strata, test if test.any() else None, users=users))
    # The validation split is given, so that it is the test split that is drawn from the rest.
    drawn = replace(hold_out, validation=hold_out.test).split(ids, strata, validation, users=users)
    return split_column(np.array([TRAIN, TEST, VALIDATION], np.int8)[drawn])


def users_of(users: pa.ChunkedArray, where: str) -> pa.Array:
    """Return the users: numbers as they are; words by their place among the sorted words."""
    if users.null_count:
        raise ValueError(f"every row of {where} must have a user, but {users.null_count:,} have none")
    if pc.all(pc.match_substring_regex(users, r"^-?[0-9]{1,18}$")).as_py():
        return pc.cast(users, pa.int64()).combine_chunks()
    words = pa.array(sorted(pc.unique(users).to_pylist()))
    return pc.index_in(users, words).combine_chunks().cast(pa.int64())


def _share(
    ids: NDArray[np.int64],
    strata: Sequence[NDArray[Any]],
    share: float,
    key: int,
    purpose: str,
    users: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Chooses a share of examples, or of their users, by systematic sampling along the strata, bool [N].

    With the examples sorted by stratum, and at random inside each, one is taken every 1/share places, from a random
    start. So the total, each stratum, and each run of neighbouring strata deviate by less than one example from their
    share, every example has the same chance, and many strata of one example each are no special case.

    References:
        Cochran 1977, "Sampling Techniques", 3rd edition, section 8.1 (systematic sampling as stratification).
    """
    if users is not None:
        units = UserUnits.of(users, strata)
        return _share(units.users, units.strata, share, key, purpose)[units.member]
    key_bytes = seed_key(key, "split")
    keys: list[NDArray[Any]] = [ids, priorities(key_bytes, purpose, ids), *reversed(strata)]
    order = np.lexsort(keys)
    start = generator(key_bytes, f"{purpose} start").random()
    turns = np.floor(np.arange(len(ids) + 1) * share + start)
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[order[np.diff(turns) > 0]] = True
    return chosen
