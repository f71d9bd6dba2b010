"""Cells of many evaluations stacked into count arrays, which every metric reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairsweep.analysis.records.cell_records import RESERVED_COLUMNS, group_column
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.trial_cells import (
    SPLITS,
    CellSchema,
    Integers,
    TrialCells,
    combined,
    evaluation_key,
    separated,
)
from fairsweep.analysis.records.vocabularies import Vocabulary

ALL = "all"
"""Name of the group of all examples."""

JOINT = " & "
"""Stands between attributes, and between values, of an intersection."""

FRAME_COLUMNS = RESERVED_COLUMNS | {"trial"}
"""Columns of tables of counts beside those of groups; see `fairsweep.analysis.records.cell_records.group_column`."""

_TRIAL_BITS = 34


@dataclass(frozen=True)
class Evaluations:
    """Which evaluation each row of a count array is.

    Attributes:
        trial: name of each trial, [E].
        iteration: iterations done, int64 [E].
        split: ``validation`` or ``test``.
        number: position of each trial in `Cells.trials`, int64 [E].
    """

    trial: npt.NDArray[np.object_]
    iteration: Integers
    split: str
    number: Integers

    def __len__(self) -> int:
        return len(self.iteration)

    def at(self, places: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Evaluations:
        """Return some of them, in the order of the places."""
        return Evaluations(self.trial[places], self.iteration[places], self.split, self.number[places])

    def on(self, split: str) -> Evaluations:
        """Return the same trials and iterations on another split."""
        return Evaluations(self.trial, self.iteration, split, self.number)


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
        schema: of the codes, the same for all.
        trials: the cells of each trial, by name of the trial.
        further: vocabularies of attributes that are not counted in them; see
            `fairsweep.analysis.results.outcomes.counted_by`.

    Raises:
        RecordError: if there are none.
    """

    def __init__(
        self, schema: CellSchema, trials: Mapping[str, TrialCells], further: Sequence[Vocabulary] = ()
    ) -> None:
        if not trials:
            raise RecordError("no trial has recorded an evaluation yet; wait for the first iteration, or see .problems")
        self.trials = list(trials)
        self.label = schema.label
        self.groups = schema.groups
        self.vocabularies: Mapping[str, Vocabulary] = {v.name: v for v in (*further, *schema.vocabularies)}
        self._columns, self._sizes = schema.columns, schema.sizes
        cells = list(trials.values())
        # Every evaluation has one number, ascending; its cells stand together, in the same order.
        trial = np.repeat(np.arange(len(cells), dtype=np.int64), [len(one.evaluations) for one in cells])
        self._evaluations = (trial << _TRIAL_BITS) | np.concatenate([one.evaluations for one in cells])
        self._length = np.concatenate([one.length for one in cells]).astype(np.int64)
        self._cell = np.concatenate([one.cell for one in cells])
        self._count = np.concatenate([one.count for one in cells])

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes as a sweep file names them, in the order of their codes."""
        return self.vocabularies[self.label].values

    def frame(self) -> pd.DataFrame:
        """Return all cells in long form: ``trial`` and the columns of the file, codes as they are."""
        key = np.repeat(self._evaluations, self._length)
        columns: dict[str, npt.NDArray[np.object_] | Integers] = {
            "trial": np.array(self.trials, object)[key >> _TRIAL_BITS],
            "split": np.array(SPLITS, object)[key >> 32 & 3],
            "iteration": key & (2**32 - 1),
        }
        names = (*(group_column(name, FRAME_COLUMNS) for name in self.groups), "label", "prediction")
        columns |= dict(zip(names, separated(self._cell, self._sizes), strict=True))
        return pd.DataFrame(columns | {"count": self._count.astype(np.int64)})

    def evaluations(self, split: str) -> Evaluations:
        """Return every evaluation on a split, by trial and iteration.

        Raises:
            ValueError: if there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {list(SPLITS)}, but got {split!r}")
        keys = self._evaluations[(self._evaluations >> 32 & 3) == SPLITS.index(split)]
        number = keys >> _TRIAL_BITS
        return Evaluations(np.array(self.trials, object)[number], keys & (2**32 - 1), split, number)

    def stack(self, evaluations: Evaluations, by: Sequence[str]) -> CountArray:
        """Count arrays of some evaluations.

        Args:
            evaluations: which ones, each at most once.
            by: attributes whose intersections are the groups: some of the sweep's groups, or its label; none for all
                examples together.
        """
        columns = [group_column(name) if name in self.groups else "label" for name in by] + ["label", "prediction"]
        sizes = [self._sizes[self._columns.index(name)] for name in columns]
        shape = (len(evaluations), int(np.prod(sizes[:-2], dtype=np.int64)), *sizes[-2:])
        asked, place = self._found(evaluations)
        inside = self._cells_of(place)
        place_of_cell = self._places(self._cell[inside], columns, sizes)
        place_of_cell += np.repeat(asked * int(np.prod(sizes, dtype=np.int64)), self._length[place])
        counts = np.bincount(place_of_cell, weights=self._count[inside], minlength=int(np.prod(shape)))
        values = np.rint(counts).astype(np.int64).reshape(shape)
        return CountArray(evaluations, JOINT.join(by), self.group_names(by), self.classes, values)

    def group_names(self, by: Sequence[str]) -> tuple[str, ...]:
        """Return the groups as a sweep file names them, in the order of a count array."""
        names = [""]
        for attribute in by:
            values = self.vocabularies[attribute].values
            names = [f"{left}{JOINT}{right}" if left else right for left in names for right in values]
        return tuple(names) if by else (ALL,)

    def _places(self, cell: npt.NDArray[np.integer], columns: Sequence[str], sizes: Sequence[int]) -> Integers:
        """Return for each cell its place among the groups, labels and predictions asked for."""
        every = int(np.prod(self._sizes, dtype=object))
        # Few combinations: each is computed once and looked up.
        numbers = np.arange(every) if every <= len(cell) else cell
        codes = dict(zip(self._columns, separated(numbers, self._sizes), strict=True))
        found = combined([codes[name] for name in columns], sizes, len(numbers))
        return found[cell] if every <= len(cell) else found

    def _found(self, evaluations: Evaluations) -> tuple[Integers, Integers]:
        """Return which of some evaluations exist: their positions among those asked for, and among all, ascending."""
        keys = (evaluations.number << _TRIAL_BITS) | evaluation_key(
            SPLITS.index(evaluations.split), evaluations.iteration
        )
        place = np.minimum(np.searchsorted(self._evaluations, keys), len(self._evaluations) - 1)
        asked = np.flatnonzero(self._evaluations[place] == keys)
        asked = asked[np.argsort(place[asked], kind="stable")]
        return asked, place[asked]

    def _cells_of(self, place: Integers) -> Integers | slice:
        """Return where the cells of some evaluations stand, evaluation by evaluation."""
        if len(place) == len(self._evaluations):
            return slice(None)
        length = self._length[place]
        shift = np.cumsum(self._length)[place] - np.cumsum(length)
        return np.repeat(shift, length) + np.arange(length.sum())
