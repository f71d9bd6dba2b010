"""Cells of many evaluations stacked into count arrays, which every metric reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fairsweep.analysis.records import CellsFile, RecordError, Vocabulary

ALL = "all"
"""Name of the group of all examples."""

JOINT = " & "
"""Stands between attributes, and between values, of an intersection."""

SPLITS = ("train", "validation", "test")

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evaluations:
    """Which evaluation each row of a count array is.

    Attributes:
        trial: name of each trial, [E].
        iteration: iterations done, int64 [E].
        split: ``validation`` or ``test``.
    """

    trial: npt.NDArray[np.object_]
    iteration: Integers
    split: str

    def __len__(self) -> int:
        return len(self.iteration)


@dataclass(frozen=True)
class CountArray:
    """Counts of E evaluations by group, label and prediction.

    Attributes:
        evaluations: what each row is.
        attribute: the grouping: an attribute, several joined by " & ", or "" for all examples together.
        groups: names of the G groups; for an intersection joined by " & ".
        classes: names of the K classes.
        values: int64 [E, G, K, K].
    """

    evaluations: Evaluations
    attribute: str
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    values: Integers


class Cells:
    """The cells of all trials in columns.

    Args:
        files: the cells of each trial, by name of the trial.

    Raises:
        RecordError: if there are none, or if two differ in their label, groups or vocabularies.
    """

    def __init__(self, files: Mapping[str, CellsFile]) -> None:
        if not files:
            raise RecordError("no trial has recorded an evaluation yet; wait for the first iteration, or see .problems")
        self.trials = list(files)
        first = next(iter(files.values()))
        for name, file in files.items():
            if meaning_of(file) != meaning_of(first):
                raise RecordError(
                    f"cells that are counted together must have the same label, groups and vocabularies, but {name} "
                    f"differs from {self.trials[0]}; keep different sweeps in different folders"
                )
        self.label: str = first.label
        self.groups: tuple[str, ...] = first.groups
        self.vocabularies: Mapping[str, Vocabulary] = first.vocabularies
        lengths = [file.table.num_rows for file in files.values()]
        self._trial = np.repeat(np.arange(len(files), dtype=np.int32), lengths)
        self._split = np.concatenate([_split_codes(name, file) for name, file in files.items()])
        names = ("iteration", *self.groups, "label", "prediction", "count")
        self._columns = {name: np.concatenate([_column(file, name) for file in files.values()]) for name in names}
        # Every evaluation has one number; each cell knows its evaluation's.
        key = (self._trial.astype(np.int64) << 34) | (self._split << 32) | self._columns["iteration"]
        self._evaluations, self._evaluation = np.unique(key, return_inverse=True)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes as a sweep file names them, in the order of their codes."""
        return self.vocabularies[self.label].values

    def frame(self) -> pd.DataFrame:
        """All cells in long form: ``trial`` and the columns of the file, codes as they are."""
        names = np.array(self.trials, object)
        head = {"trial": names[self._trial], "split": np.array(SPLITS, object)[self._split]}
        return pd.DataFrame(head | self._columns)

    def evaluations(self, split: str) -> Evaluations:
        """Every evaluation on a split, by trial and iteration.

        Raises:
            ValueError: if there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {list(SPLITS)}, but got {split!r}")
        keys = self._evaluations[(self._evaluations >> 32 & 3) == SPLITS.index(split)]
        return Evaluations(np.array(self.trials, object)[keys >> 34], keys & (2**32 - 1), split)

    def stack(self, evaluations: Evaluations, by: Sequence[str]) -> CountArray:
        """Count arrays of some evaluations.

        Args:
            evaluations: which ones, each at most once.
            by: attributes whose intersections are the groups: some of the sweep's groups, or its label; none for all
                examples together.

        Raises:
            ValueError: if an attribute is no group of the sweep.
            RecordError: if a code has no place in its vocabulary.
        """
        unknown = [name for name in by if name not in (*self.groups, self.label)]
        if unknown:
            raise ValueError(
                f"by must be among the sweep's groups {list(self.groups)} or its label {self.label!r}, but got "
                f"{unknown[0]!r}; add it to dataset.groups, or join predictions with examples by id"
            )
        row = self._rows_of(evaluations)
        inside = np.flatnonzero(row >= 0)
        sizes = [len(self.vocabularies[name].values) for name in by]
        classes = len(self.classes)
        key = row[inside].astype(np.int64)
        for name, size in zip((*by, "label", "prediction"), (*sizes, classes, classes), strict=True):
            source = self._columns["label" if name == self.label and name not in self.groups else name][inside]
            if len(source) and not 0 <= source.min() <= source.max() < size:
                raise RecordError(
                    f"codes of {name} must lie in 0 … {size - 1}, but reach {source.min()} … {source.max()}"
                )
            key = key * size + source
        shape = (len(evaluations), int(np.prod(sizes, dtype=np.int64)), classes, classes)
        counts = np.bincount(key, weights=self._columns["count"][inside], minlength=int(np.prod(shape)))
        values = np.rint(counts).astype(np.int64).reshape(shape)
        return CountArray(evaluations, JOINT.join(by), self.group_names(by), self.classes, values)

    def group_names(self, by: Sequence[str]) -> tuple[str, ...]:
        """The groups as a sweep file names them, in the order of a count array."""
        names = [""]
        for attribute in by:
            values = self.vocabularies[attribute].values
            names = [f"{left}{JOINT}{right}" if left else right for left in names for right in values]
        return tuple(names) if by else (ALL,)

    def _rows_of(self, evaluations: Evaluations) -> Integers:
        """For each cell the position of its evaluation, -1 where it is not among those asked for."""
        number = {name: i for i, name in enumerate(self.trials)}
        trial = np.array([number[name] for name in evaluations.trial], np.int64)
        asked = (trial << 34) | (SPLITS.index(evaluations.split) << 32) | evaluations.iteration
        place = np.minimum(np.searchsorted(self._evaluations, asked), len(self._evaluations) - 1)
        found = self._evaluations[place] == asked
        row = np.full(len(self._evaluations), -1, np.int64)
        row[place[found]] = np.flatnonzero(found)
        return row[self._evaluation]


def _column(file: CellsFile, name: str) -> npt.NDArray[Any]:
    return np.asarray(file.table.column(name).to_numpy())


def _split_codes(trial: str, file: CellsFile) -> Integers:
    codes = pc.index_in(file.table.column("split"), value_set=pa.array(SPLITS))
    if codes.null_count:
        unknown = set(file.table.column("split").unique().to_pylist()) - set(SPLITS)
        raise RecordError(f"split must be one of {list(SPLITS)}, but the cells of {trial} have {sorted(unknown)}")
    return np.asarray(codes.to_numpy(), np.int64)


def meaning_of(file: CellsFile) -> tuple[object, ...]:
    """What the codes of a cells file mean; hashable."""
    return file.label, file.groups, tuple(sorted(file.vocabularies.items()))
