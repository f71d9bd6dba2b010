"""Contradictions within the predictions of a trial, and between them and its cells.

Checksums find bytes that have changed. They do not find records that were written wrongly: by another program, by hand,
or for another evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fairsweep.analysis.checking.schema import parquet_violations
from fairsweep.analysis.records.cell_records import CellsFile
from fairsweep.analysis.records.file_names import PREDICTIONS
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.loading import Problem
from fairsweep.analysis.records.trial_folder import TrialFolder

_TOTAL = 1e-3
"""Probabilities add up to 1 up to this: they are exponentials of float32."""
_TIE = 1e-6
_WITH_CELLS = ("validation", "test")


def contradictions(trials: Iterable[TrialFolder]) -> list[Problem]:
    """Return what the predictions of some trials contradict; files that are damaged or missing are passed over."""
    found = []
    for trial in trials:
        try:
            predictions, cells = trial.predictions(), trial.cells()
        except (RecordError, OSError):
            continue
        if predictions is not None and cells is not None:
            remedy = f"delete its folder {trial.folder_name} and run it again with: fairsweep resume SWEEP"
            found += [Problem(trial.name, PREDICTIONS, f"{one}; {remedy}") for one in disagreements(predictions, cells)]
    return found


def disagreements(predictions: pa.Table, cells: CellsFile) -> list[str]:
    """Return in words what a trial's predictions contradict.

    Args:
        predictions: ``predictions.parquet``.
        cells: ``cells.parquet`` of the same trial.
    """
    strange = list(parquet_violations(PREDICTIONS, predictions.schema))
    return strange or [
        *_within(predictions, len(cells.vocabularies[cells.label].values)),
        *_against(predictions, cells),
    ]


def _within(table: pa.Table, classes: int) -> Iterator[str]:
    """Say where labels, predictions and log-probabilities of one row do not go together."""
    ids, prediction = (table.column(name).to_numpy() for name in ("id", "prediction"))
    for name in ("label", "prediction"):
        codes = table.column(name).to_numpy()
        strange = (codes < 0) | (codes >= classes)
        if strange.any():
            yield _rows(strange, ids, f"a {name} that is no class: codes lie in 0 … {classes - 1}")
            return
    keys = table.select(["iteration", "split", "id"])
    doubled = keys.num_rows - keys.group_by(keys.column_names).aggregate([]).num_rows
    if doubled:
        yield f"{doubled:,} of {len(ids):,} rows repeat an id within its iteration and split, but each must stand once"
    lengths = pc.list_value_length(table.column("log_probabilities")).to_numpy()
    if (lengths != classes).any():
        yield _rows(lengths != classes, ids, f"another number of log-probabilities than there are classes, {classes}")
        return
    log_p = pc.list_flatten(table.column("log_probabilities")).to_numpy().reshape(-1, classes).astype(np.float64)
    with np.errstate(over="ignore"):
        total = np.exp(log_p).sum(1)
    wrong = ~(np.abs(total - 1) <= _TOTAL)
    if wrong.any():
        shown = f" (of id {ids[wrong][0]} they add up to {total[wrong][0]:.4g})"
        yield _rows(wrong, ids, f"log-probabilities whose exponentials do not add up to 1{shown}")
        return
    other = log_p[np.arange(len(ids)), prediction] < log_p.max(1) - _TIE
    if other.any():
        yield _rows(other, ids, "a prediction that is not the likeliest class by the log-probabilities beside it")


def _rows(chosen: npt.NDArray[np.bool_], ids: npt.NDArray[np.int64], what: str) -> str:
    return f"{int(chosen.sum()):,} of {len(ids):,} rows, the first of id {ids[chosen][0]}, have {what}"


def _against(table: pa.Table, cells: CellsFile) -> Iterator[str]:
    """Say which evaluations the two files count differently, by label and prediction."""
    columns = ["iteration", "split", "label", "prediction"]
    counted = _counts(cells.table.select([*columns, "count"]).group_by(columns).aggregate([("count", "sum")]))
    predicted = _counts(table.select(columns).group_by(columns).aggregate([([], "count_all")]))
    for (iteration, split), mine in sorted(predicted.items()):
        if split not in _WITH_CELLS:
            continue
        theirs = counted.get((iteration, split))
        where = f"the {split} predictions of iteration {iteration}"
        if theirs is None:
            yield f"{where} have no counterpart in cells.parquet, which must count every evaluation"
        elif theirs != mine:
            key = min(key for key in mine.keys() | theirs.keys() if mine.get(key, 0) != theirs.get(key, 0))
            values = cells.vocabularies[cells.label]
            pair = f"{values.shown(key[0])} predicted as {values.shown(key[1])}"
            yield f"{where} have {mine.get(key, 0):,} of {pair}, but cells.parquet counts {theirs.get(key, 0):,}"


def _counts(table: pa.Table) -> dict[tuple[int, str], dict[tuple[int, int], int]]:
    """Return for each (iteration, split) how many examples have each (label, prediction)."""
    found: dict[tuple[int, str], dict[tuple[int, int], int]] = {}
    names = [name for name in table.column_names if name.startswith("count")]
    values = (table.column(name).to_pylist() for name in ("iteration", "split", "label", "prediction", *names))
    for iteration, split, label, prediction, count in zip(*values, strict=True):
        if count:
            found.setdefault((iteration, split), {})[label, prediction] = count
    return found
