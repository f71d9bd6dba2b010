"""Predictions of several evaluations on the same images, side by side, with the groups that each image belongs to."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fairsweep.analysis.metrics.rates import Bools
from fairsweep.analysis.records.counts import JOINT, CountArray, Evaluations
from fairsweep.analysis.results.sweep_records import SweepRecords

Codes = npt.NDArray[np.int64]
USER = "user"
_BITS = 32
_KEPT = 4
"""Most sets of evaluations whose predictions stay in memory: the pages of a report ask for the same ones again."""


@dataclass(frozen=True)
class Outcomes:
    """Predictions of T evaluations on the same N ids.

    Attributes:
        row: position of each (trial, iteration).
        ids: int64 [N], ascending.
        label: int64 [N].
        prediction: int64 [T, N].
        log_probabilities: float32 [T, N, K], or None where they were not asked for.
    """

    row: dict[tuple[str, int], int]
    ids: Codes
    label: Codes
    prediction: Codes
    log_probabilities: npt.NDArray[np.float32] | None = None

    def cells(self, at: int, groups: Codes, count: int, classes: int) -> Codes:
        """Return for each id the flat position of its cell in a cell array [count, classes, classes].

        Args:
            at: position of the evaluation.
            groups: code of each id's group, int64 [N].
            count: number of groups.
            classes: number of classes.
        """
        if len(groups) and not 0 <= groups.min() <= groups.max() < count:
            raise ValueError(f"groups must lie in [0, {count}), but reach from {groups.min()} to {groups.max()}")
        place: Codes = (groups * classes + self.label) * classes + self.prediction[at]
        return place


def read_outcomes(
    results: SweepRecords, split: str, asked: pd.DataFrame, *, probabilities: bool = False
) -> Outcomes | None:
    """Return the predictions on a split.

    Args:
        results: the sweep.
        split: ``test``, ``validation`` or ``train``.
        asked: columns ``trial`` and ``iteration``, distinct; those without predictions are left out.
        probabilities: whether to read the log-probabilities too.

    Returns:
        The outcomes; None where there are none, or where two evaluations saw different ids.
    """
    if probabilities or len(asked) < 2:
        return _read(results, split, asked, probabilities=probabilities)
    key = (split, frozenset(asked[["trial", "iteration"]].itertuples(index=False, name=None)))
    kept = results.outcomes_read
    if key not in kept:
        if len(kept) >= _KEPT:
            kept.pop(next(iter(kept)))
        kept[key] = _read(results, split, asked, probabilities=False)
    found: Outcomes | None = kept[key]
    return found


def _read(results: SweepRecords, split: str, asked: pd.DataFrame, *, probabilities: bool) -> Outcomes | None:
    columns = ["iteration", "id", "split", "label", "prediction", *(["log_probabilities"] if probabilities else [])]
    table = results.predictions(list(asked["trial"].unique()), columns)
    trial = table.column("trial").combine_chunks().dictionary_encode()
    names, rank = np.unique(np.array(trial.dictionary.to_pylist(), str), return_inverse=True)
    iteration, ids = (table.column(name).to_numpy() for name in ("iteration", "id"))
    # An evaluation is one number, in the order of names and iterations.
    place_of = {name: i for i, name in enumerate(names.tolist())}
    pairs = asked[["trial", "iteration"]].itertuples(index=False, name=None)
    wanted = [place_of[name] << _BITS | int(last) for name, last in pairs if name in place_of]
    key = rank[trial.indices.to_numpy()] << _BITS | iteration
    rows = np.flatnonzero(np.isin(key, wanted) & pc.equal(table.column("split"), split).to_numpy())
    if not len(rows):
        return None
    rows = rows[np.lexsort((ids[rows], key[rows]))]
    keys = np.unique(key[rows])
    size, remainder = divmod(len(rows), len(keys))
    seen = ids[rows].reshape(len(keys), -1) if not remainder else np.empty((0, 0), np.int64)
    if remainder or (seen != seen[0]).any():
        return None
    place = {(str(names[code >> _BITS]), int(code % (1 << _BITS))): i for i, code in enumerate(keys.tolist())}
    prediction = table.column("prediction").to_numpy()[rows].astype(np.int64).reshape(len(keys), size)
    label = table.column("label").to_numpy()[rows[:size]].astype(np.int64)
    log_p = _matrix(table.column("log_probabilities"), rows, len(keys)) if probabilities else None
    return Outcomes(place, seen[0], label, prediction, log_p)


def _matrix(column: pa.ChunkedArray, rows: Codes, evaluations: int) -> npt.NDArray[np.float32]:
    """Return the list of one length as a matrix, chosen rows: float32 [T, N, K]."""
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    matrix = flat.reshape(len(column), -1)
    return np.asarray(matrix[rows].reshape(evaluations, -1, matrix.shape[1]), np.float32)


def group_codes(results: SweepRecords, outcomes: Outcomes, names: Sequence[str]) -> Codes | None:
    """Return the code of each id's group among the intersections of some attributes, in the order of a count array.

    Args:
        results: the sweep.
        outcomes: the ids.
        names: attributes; none for all ids in one group.

    Returns:
        int64 [N]; None where an attribute is not recorded for every id.
    """
    number = np.zeros(len(outcomes.ids), np.int64)
    for name in names:
        codes = outcomes.label if name == results.label else _column(results, outcomes, name)
        if codes is None:
            return None
        number = number * len(results.vocabulary(name).values) + codes
    return number


def users(results: SweepRecords, outcomes: Outcomes) -> Codes | None:
    """Return the person that each id is of, int64 [N]; None where that is unknown, or nobody has several."""
    found = _column(results, outcomes, USER)
    return None if found is None or len(np.unique(found)) == len(found) else found


def group_masks(results: SweepRecords, outcomes: Outcomes, attribute: str) -> dict[str, Bools] | None:
    """Return for each group of a grouping which ids belong to it; None if the attributes are not recorded."""
    names = attribute.split(JOINT) if attribute else []
    number = group_codes(results, outcomes, names)
    if number is None:
        return None
    return {group: number == i for i, group in enumerate(results.all_cells.group_names(names))}


def _column(results: SweepRecords, outcomes: Outcomes, name: str) -> Codes | None:
    """Return an attribute of the ids; None if it is not recorded for all of them."""
    examples = results.examples
    if examples is None or name not in examples.column_names:
        return None
    known = examples.column("id").to_numpy()
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known, outcomes.ids, sorter=order), len(known) - 1)
    if (known[order[place]] != outcomes.ids).any():
        return None
    column = examples.column(name)
    return None if column.null_count else np.asarray(column.to_numpy()[order[place]], np.int64)


def counted_by(results: SweepRecords, evaluations: Evaluations, by: Sequence[str]) -> CountArray:
    """Return count arrays of some evaluations by the intersections of some attributes.

    An attribute that is no group of the sweep is counted in predictions, which are recorded of the last iteration and
    of the one that validation selects; cells are recorded of every iteration.

    Args:
        results: the sweep.
        evaluations: which ones.
        by: names in `SweepRecords.attributes`; none for all examples together.

    Raises:
        ValueError: if there is no such attribute, or one that is no group of the sweep is asked for where predictions,
            or the attribute of an image, are not recorded.
    """
    cells = results.all_cells
    unknown = [name for name in by if name not in cells.vocabularies]
    if unknown:
        known = results.attributes
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"by must be an attribute of the recorded images, one of {list(known)}, but got {unknown[0]!r}{hint}"
        )
    further = [name for name in by if name not in (*cells.groups, cells.label)]
    if not further:
        return cells.stack(evaluations, by)
    groups, classes = cells.group_names(by), len(cells.classes)
    values = np.zeros((len(evaluations), len(groups), classes, classes), np.int64)
    for i, (trial, iteration) in enumerate(zip(evaluations.trial, evaluations.iteration, strict=True)):
        outcomes = read_outcomes(results, evaluations.split, pd.DataFrame({"trial": [trial], "iteration": [iteration]}))
        codes = None if outcomes is None else group_codes(results, outcomes, by)
        if outcomes is None or codes is None:
            raise ValueError(
                f"by={further[0]!r}, which is none of the sweep's groups, needs the predictions of {trial} on "
                f"{evaluations.split} at iteration {iteration}, and the {further[0]} of each image in "
                "examples.parquet, but they are not recorded: take at='last' or 'selected', or "
                f"by={(*cells.groups, cells.label)[0]!r}, which is counted at every iteration"
            )
        place = outcomes.cells(0, codes, len(groups), classes)
        values[i] = np.bincount(place, minlength=values[i].size).reshape(values[i].shape)
    return CountArray(evaluations, JOINT.join(by), groups, cells.classes, values)
