"""Compact cells of one trial: one number per combination of codes instead of one column per attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fairsweep.analysis.records.cell_records import CellsFile, group_column
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.vocabularies import Vocabulary

SPLITS = ("train", "validation", "test")

Integers = npt.NDArray[np.int64]
AnyIntegers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class CellSchema:
    """Label, groups and vocabularies of cells.

    Attributes:
        label: the attribute that is predicted.
        groups: the attributes whose values are the groups.
        vocabularies: of all of them and perhaps more, by name.
    """

    label: str
    groups: tuple[str, ...]
    vocabularies: tuple[Vocabulary, ...]

    @classmethod
    def of(cls, file: CellsFile) -> CellSchema:
        """Return the schema of a cells file."""
        return cls(file.label, file.groups, tuple(file.vocabularies[name] for name in sorted(file.vocabularies)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of codes: the groups, then ``label`` and ``prediction``."""
        return (*map(group_column, self.groups), "label", "prediction")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return how many codes each column has."""
        known = {vocabulary.name: len(vocabulary.values) for vocabulary in self.vocabularies}
        return (*(known[name] for name in self.groups), known[self.label], known[self.label])


@dataclass(frozen=True)
class TrialCells:
    """Cells of one trial, in R rows.

    Attributes:
        evaluations: each evaluation once, ascending: its split and iteration as `evaluation_key`, int64 [V].
        length: how many cells each evaluation has, integers [V]; they stand together, in the order of the evaluations.
        cell: for each cell its codes as one number, see `combined`; integers [R].
        count: how many examples, integers [R].
    """

    evaluations: Integers
    length: AnyIntegers
    cell: AnyIntegers
    count: AnyIntegers

    @classmethod
    def of(cls, file: CellsFile) -> TrialCells:
        """Take a cells file together.

        Raises:
            RecordError: if a code or a split has no place in its vocabulary.
        """
        schema = CellSchema.of(file)
        codes = [_column(file.table, name) for name in schema.columns]
        for name, column, size in zip(schema.columns, codes, schema.sizes, strict=True):
            # A negative code is a large one without its sign.
            if len(column) and column.view(f"u{column.itemsize}").max() >= size:
                raise RecordError(
                    f"codes of {name} must lie in 0 … {size - 1}, but reach {column.min()} … {column.max()}"
                )
        key = evaluation_key(_splits(file.table), _column(file.table, "iteration"))
        cell, count = combined(codes, schema.sizes, len(key)), _column(file.table, "count")
        if (key[1:] < key[:-1]).any():
            order = np.argsort(key, kind="stable")
            key, cell, count = key[order], cell[order], count[order]
        ends = np.append(np.flatnonzero(key[1:] != key[:-1]) + 1, len(key)) if len(key) else np.empty(0, np.int64)
        length = np.concatenate([ends[:1], ends[1:] - ends[:-1]])
        return cls(key[ends - 1], _narrow(length), _narrow(cell), _narrow(count))


def evaluation_key(split: npt.ArrayLike, iteration: npt.ArrayLike) -> Integers:
    """Return one number for a split (its place in `SPLITS`) and an iteration, ascending in this order."""
    return (np.asarray(split, np.int64) << 32) | np.asarray(iteration, np.int64)


def combined(codes: Sequence[AnyIntegers], sizes: Sequence[int], length: int) -> Integers:
    """Return one number for the codes of several columns: the last one runs fastest."""
    number = np.zeros(length, np.int64)
    for column, size in zip(codes, sizes, strict=True):
        number *= size
        number += column
    return number


def separated(number: AnyIntegers, sizes: Sequence[int]) -> list[Integers]:
    """Return the inverse of `combined`."""
    rest = np.asarray(number, np.int64)
    found: list[Integers] = []
    for size in reversed(sizes):
        rest, code = np.divmod(rest, size)
        found.append(code)
    return found[::-1]


def _column(table: pa.Table, name: str) -> AnyIntegers:
    return np.asarray(table.column(name).to_numpy())


def _splits(table: pa.Table) -> Integers:
    column = table.column("split").combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    words = column.dictionary.to_pylist()
    unknown = {str(word) for word in words if word not in SPLITS} | ({"null"} if column.null_count else set())
    if unknown:
        raise RecordError(f"split must be one of {list(SPLITS)}, but the cells have {sorted(unknown)}")
    places = np.array([SPLITS.index(word) for word in words], np.int64)
    return np.asarray(places[column.indices.to_numpy()], np.int64)


def _narrow(values: AnyIntegers) -> AnyIntegers:
    """Return the same numbers in the smallest unsigned type."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
