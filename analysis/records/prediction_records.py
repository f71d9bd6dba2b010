"""``predictions.parquet`` of a trial and ``examples.parquet`` of its sweep: one row an example."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs

from fairsweep.analysis.records.cell_records import int16_codes
from fairsweep.analysis.records.files import read_parquet, write_parquet

PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("iteration", pa.int32()),
        pa.field("id", pa.int64()),
        pa.field("split", pa.string()),
        pa.field("label", pa.int16()),
        pa.field("prediction", pa.int16()),
        pa.field("log_probabilities", pa.list_(pa.float32())),
    ]
)


def predictions_table(
    *,
    iteration: int,
    ids: npt.ArrayLike,
    split: str,
    label: npt.ArrayLike,
    prediction: npt.ArrayLike,
    log_probabilities: npt.ArrayLike,
) -> pa.Table:
    """Return the predictions of one evaluation, one row per example.

    Args:
        iteration: iterations done when the evaluation was made.
        ids: int64 [N], ids in the prepared dataset.
        split: ``train``, ``validation`` or ``test``.
        label: codes of the true label, integers [N].
        prediction: codes of the predicted label, integers [N].
        log_probabilities: natural logarithms, float32 [N, K] for K classes.

    Raises:
        ValueError: if lengths differ or ``log_probabilities`` is not two-dimensional.
    """
    log_p = np.asarray(log_probabilities, np.float32)
    size = len(np.asarray(ids))
    if log_p.ndim != 2 or len(log_p) != size:
        raise ValueError(f"log_probabilities must have the shape [{size}, classes], but has {list(log_p.shape)}")
    offsets = np.arange(size + 1, dtype=np.int32) * log_p.shape[1]
    columns = [
        pa.array(np.full(size, iteration, np.int32)),
        pa.array(np.asarray(ids, np.int64)),
        pa.array([split] * size, pa.string()),
        pa.array(int16_codes("label", label)),
        pa.array(int16_codes("prediction", prediction)),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(log_p.reshape(-1))),
    ]
    if {len(column) for column in columns} != {size}:
        raise ValueError(f"label and prediction must have one entry for each of the {size} ids")
    return pa.Table.from_arrays(columns, schema=PREDICTIONS_SCHEMA)


def write_predictions(path: str | Path, table: pa.Table) -> None:
    """Write ``<trial>/predictions.parquet``: results of `predictions_table`, concatenated."""
    write_parquet(path, table.cast(PREDICTIONS_SCHEMA), {})


def read_predictions(
    path: str | Path, filesystem: pafs.FileSystem | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read ``<trial>/predictions.parquet``, or some of its columns. Raises: as `read_cells`."""
    return read_parquet(path, filesystem, columns)


def write_membership(path: str | Path, table: pa.Table) -> None:
    """Write ``<trial>/membership.parquet``: a result of `predictions_table` and ``included``, bool."""
    write_parquet(path, table, {})


def read_membership(path: str | Path, filesystem: pafs.FileSystem | None = None) -> pa.Table:
    """Read ``<trial>/membership.parquet``. Raises: as `read_cells`."""
    return read_parquet(path, filesystem)


def foreign_ids(ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the ids, in records, of examples of another dataset than the one that is trained on; its own inverse.

    Args:
        ids: int64 [N] in [0, 2**63), as they stand in that dataset.

    Returns:
        int64 [N], -1 - id: below 0, where no id of the training dataset is.
    """
    return np.bitwise_not(np.asarray(ids, np.int64))


def write_examples(path: str | Path, table: pa.Table) -> None:
    """Write ``<sweep>/examples.parquet``: ``id``, ``split``, every attribute, ``user`` and ``source_path`` if known."""
    write_parquet(path, table, {})


def read_examples(path: str | Path, filesystem: pafs.FileSystem | None = None) -> pa.Table:
    """Read ``<sweep>/examples.parquet``. Raises: as `read_cells`."""
    return read_parquet(path, filesystem)
