"""File names, columns, writers and readers of a trial's records.

Every file is written whole (a temporary name in the same folder, flushed to the disk, then renamed), so a reader meets
either the old or the new content, also while the sweep runs and after a kill. The files are plain JSON and Parquet:
pyarrow alone reads them, and each Parquet file carries its vocabularies and ``FORMAT_VERSION`` in its schema metadata.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs

from fairsweep.analysis.records.files import (
    FORMAT_VERSION,
    RecordError,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
)
from fairsweep.analysis.records.vocabularies import Vocabulary, packed, unpacked

__all__ = [
    "CELLS",
    "CONFIG",
    "DATA",
    "EXAMPLES",
    "FORMAT_VERSION",
    "PREDICTIONS",
    "PRIVACY",
    "REPORT",
    "RESERVED_COLUMNS",
    "STATE",
    "SWEEP_JSON",
    "SWEEP_YAML",
    "TRAINING",
    "TRIALS",
    "WEIGHTS",
    "CellsFile",
    "RecordError",
    "Vocabulary",
    "count_cells",
    "foreign_ids",
    "group_column",
    "predictions_table",
    "read_cells",
    "read_examples",
    "read_json",
    "read_predictions",
    "read_training",
    "training_table",
    "write_cells",
    "write_examples",
    "write_json",
    "write_predictions",
    "write_training",
]

# The output folder of a sweep
SWEEP_YAML = "sweep.yaml"
SWEEP_JSON = "sweep.json"
EXAMPLES = "examples.parquet"
REPORT = "report.html"
TRIALS = "trials"

# The folder of a trial
CONFIG = "config.json"
DATA = "data.json"
STATE = "state.json"
CELLS = "cells.parquet"
PREDICTIONS = "predictions.parquet"
PRIVACY = "privacy.json"
TRAINING = "training.parquet"
WEIGHTS = "weights.pt"

_VOCABULARIES_KEY = b"fairsweep.vocabularies"
_LABEL_KEY = b"fairsweep.label"
RESERVED_COLUMNS = frozenset({"iteration", "split", "label", "prediction", "count"})
_GROUP_PREFIX = "group:"

DIAGNOSTIC_TYPE = pa.struct(
    [
        pa.field("attribute", pa.string()),
        pa.field("value", pa.int16()),
        pa.field("label", pa.int16()),
        pa.field("count", pa.int64()),
        pa.field("mean_gradient_norm", pa.float64()),
        pa.field("clipped_share", pa.float64()),
        pa.field("cosine", pa.float64()),
    ]
)
CLIENT_TYPE = pa.struct(
    [
        pa.field("attribute", pa.string()),
        pa.field("value", pa.int16()),
        pa.field("clients", pa.int64()),
        pa.field("accuracy_mean", pa.float64()),
        pa.field("accuracy_variance", pa.float64()),
        pa.field("accuracy_worst_decile", pa.float64()),
        pa.field("updates", pa.int64()),
        pa.field("mean_update_norm", pa.float64()),
        pa.field("clipped_share", pa.float64()),
        pa.field("cosine", pa.float64()),
    ]
)
TRAINING_SCHEMA = pa.schema(
    [
        pa.field("iteration", pa.int32()),
        pa.field("loss", pa.float64()),
        pa.field("seconds", pa.float64()),
        pa.field("examples", pa.int64()),
        pa.field("diagnostics", pa.list_(DIAGNOSTIC_TYPE)),
        pa.field("clients", pa.list_(CLIENT_TYPE)),
        pa.field("l2_clip_norm", pa.float64()),
    ]
)
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


@dataclass(frozen=True)
class CellsFile:
    """One cells file in memory.

    Attributes:
        table: columns ``iteration``, ``split``, one int16 column a group (see `group_column`), ``label``,
            ``prediction``, ``count``.
        groups: the group attributes, in the order of their columns.
        vocabularies: of every group and of the label, by name.
        label: name of the attribute in the column ``label``.
    """

    table: pa.Table
    groups: tuple[str, ...]
    vocabularies: Mapping[str, Vocabulary]
    label: str


# --- cells ---


def group_column(group: str, taken: Collection[str] = RESERVED_COLUMNS) -> str:
    """Return the column that holds the codes of a group attribute, in tables that have columns of their own.

    Args:
        group: an attribute, called as the dataset calls it.
        taken: names of the table's own columns.

    Returns:
        The attribute's name; behind ``group:`` where a column of the table has that name already.

    >>> group_column("tone"), group_column("label")
    ('tone', 'group:label')
    """
    return f"{_GROUP_PREFIX}{group}" if group in taken or group.startswith(_GROUP_PREFIX) else group


def count_cells(
    *,
    iteration: int,
    split: str,
    groups: Mapping[str, npt.ArrayLike],
    label: npt.ArrayLike,
    prediction: npt.ArrayLike,
) -> pa.Table:
    """Count the examples of one evaluation by (groups…, label, prediction).

    Args:
        iteration: iterations done when the evaluation was made.
        split: ``validation`` or ``test``.
        groups: for each group attribute its codes, integers [N].
        label: codes of the true label, integers [N].
        prediction: codes of the predicted label, integers [N].

    Returns:
        One row for each cell that holds an example, in ascending order of the codes; columns ``iteration`` int32,
        ``split`` string, one int16 column for each group (see `group_column`), ``label`` int16, ``prediction`` int16,
        ``count`` int64.

    Raises:
        ValueError: if lengths differ, or codes are no int16 integers.

    >>> tone, label, prediction = [0, 0, 1], [1, 1, 0], [1, 1, 1]
    >>> cells = count_cells(iteration=1, split="test", groups={"tone": tone}, label=label, prediction=prediction)
    >>> cells.select(["tone", "label", "prediction", "count"]).to_pylist()[0]
    {'tone': 0, 'label': 1, 'prediction': 1, 'count': 2}
    """
    columns = {group_column(name): _codes(name, codes) for name, codes in groups.items()}
    columns["label"] = _codes("label", label)
    columns["prediction"] = _codes("prediction", prediction)
    lengths = {name: len(codes) for name, codes in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"all columns must have one entry per example, but their lengths are {lengths}")
    first, counts = _distinct_rows(list(columns.values()))
    arrays: dict[str, pa.Array] = {
        "iteration": pa.array(np.full(len(first), iteration, np.int32)),
        "split": pa.array([split] * len(first), pa.string()),
    }
    arrays |= {name: pa.array(codes[first]) for name, codes in columns.items()}
    return pa.table(arrays | {"count": pa.array(counts.astype(np.int64))})


def write_cells(path: str | Path, table: pa.Table, vocabularies: Sequence[Vocabulary], label: str) -> None:
    """Write every evaluation of a trial so far.

    Args:
        path: the file, ``<trial>/cells.parquet``.
        table: one or several results of `count_cells`, concatenated.
        vocabularies: of each group column and of the label attribute; more are kept as they are.
        label: name of the attribute that is predicted.

    Raises:
        ValueError: if a column is missing or has no vocabulary.
    """
    missing = RESERVED_COLUMNS.difference(table.column_names)
    if missing:
        raise ValueError(f"cells must have the columns {sorted(RESERVED_COLUMNS)}, but {sorted(missing)} are missing")
    needed = {*_groups_of(table, vocabularies), label}
    unknown = needed - {vocabulary.name for vocabulary in vocabularies}
    if unknown:
        raise ValueError(f"each group and the label must have a vocabulary, but {sorted(unknown)} have none; pass them")
    metadata = {_VOCABULARIES_KEY: packed(vocabularies), _LABEL_KEY: label.encode()}
    write_parquet(path, table, metadata, is_small=True)


def read_cells(path: str | Path, filesystem: pafs.FileSystem | None = None, as_codes: Sequence[str] = ()) -> CellsFile:
    """Read a cells file with its vocabularies.

    Args:
        path: the file.
        filesystem: where it is; None for a local file.
        as_codes: columns of texts (``split``) that stay codes with a dictionary, which is faster.

    Raises:
        RecordError: if the file is damaged, lacks its metadata, or comes from a newer fairsweep.
        FileNotFoundError: if there is none (yet).
    """
    table = read_parquet(path, filesystem, as_codes=as_codes)
    metadata = table.schema.metadata or {}
    if _VOCABULARIES_KEY not in metadata or _LABEL_KEY not in metadata:
        raise RecordError(f"{path} must carry its vocabularies in the schema metadata; write it with write_cells")
    try:
        vocabularies = {vocabulary.name: vocabulary for vocabulary in unpacked(metadata[_VOCABULARIES_KEY])}
        label = metadata[_LABEL_KEY].decode()
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is damaged: its vocabularies cannot be read ({error!r})") from error
    groups = _groups_of(table, vocabularies.values())
    missing = {*groups, label} - vocabularies.keys() | RESERVED_COLUMNS.difference(table.column_names)
    if missing:
        raise RecordError(f"{path} is damaged: it lacks the column or the vocabulary of {sorted(missing)}")
    return CellsFile(table.replace_schema_metadata(None), groups, vocabularies, label)


# --- predictions, training, examples ---


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
        pa.array(_codes("label", label)),
        pa.array(_codes("prediction", prediction)),
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


def foreign_ids(ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the ids, in records, of examples of another dataset than the one that is trained on; its own inverse.

    Args:
        ids: int64 [N] in [0, 2**63), as they stand in that dataset.

    Returns:
        int64 [N], -1 - id: below 0, where no id of the training dataset is.
    """
    return np.bitwise_not(np.asarray(ids, np.int64))


def training_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return the course of training, one row per iteration.

    Args:
        rows: mappings with ``iteration``, ``loss``, ``seconds``, ``examples``, and optionally ``diagnostics``: a
            sequence of mappings with ``attribute``, ``value``, ``label``, ``count``, ``mean_gradient_norm``,
            ``clipped_share``, ``cosine`` (one for each group value and label), ``clients``: a sequence of mappings with
            ``attribute``, ``value``, ``clients``, ``accuracy_mean``, ``accuracy_variance``, ``accuracy_worst_decile``,
            ``updates``, ``mean_update_norm``, ``clipped_share``, ``cosine`` (one for each group of federated clients),
            and ``l2_clip_norm``, where the clipping norm can change. Further keys are an error.

    Raises:
        ValueError: if a key is unknown (a silently dropped column would look like a column nobody measured).
    """
    listed = [dict(row) for row in rows]
    _refuse_unknown("a training row", listed, TRAINING_SCHEMA.names)
    for row in listed:
        row["diagnostics"] = [dict(diagnostic) for diagnostic in row.get("diagnostics") or ()]
        _refuse_unknown("a diagnostic", row["diagnostics"], [field.name for field in DIAGNOSTIC_TYPE])
        row["clients"] = [dict(client) for client in row.get("clients") or ()]
        _refuse_unknown("a group of clients", row["clients"], [field.name for field in CLIENT_TYPE])
    return pa.Table.from_pylist(listed, schema=TRAINING_SCHEMA)


def write_training(path: str | Path, table: pa.Table) -> None:
    """Write ``<trial>/training.parquet``: a result of `training_table`."""
    write_parquet(path, table.cast(TRAINING_SCHEMA), {})


def read_training(path: str | Path, filesystem: pafs.FileSystem | None = None) -> pa.Table:
    """Read ``<trial>/training.parquet``. Raises: as `read_cells`."""
    return read_parquet(path, filesystem)


def write_examples(path: str | Path, table: pa.Table) -> None:
    """Write ``<sweep>/examples.parquet``: ``id``, ``split``, every attribute, ``user`` and ``source_path`` if known."""
    write_parquet(path, table, {})


def read_examples(path: str | Path, filesystem: pafs.FileSystem | None = None) -> pa.Table:
    """Read ``<sweep>/examples.parquet``. Raises: as `read_cells`."""
    return read_parquet(path, filesystem)


# --- inside ---


def _groups_of(table: pa.Table, vocabularies: Iterable[Vocabulary]) -> tuple[str, ...]:
    """Return the group attributes of cells; a column that belongs to no vocabulary stands for itself."""
    attributes = {group_column(vocabulary.name): vocabulary.name for vocabulary in vocabularies}
    return tuple(attributes.get(name, name) for name in table.column_names if name not in RESERVED_COLUMNS)


def _codes(name: str, codes: npt.ArrayLike) -> npt.NDArray[np.int16]:
    array = np.asarray(codes)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be a list of integer codes, but has {array.dtype=} and {array.shape=}")
    if array.size and (array.min() < -(2**15) or array.max() >= 2**15):
        raise ValueError(f"codes of {name} must fit in int16, but reach from {array.min()} to {array.max()}")
    return array.astype(np.int16)


def _distinct_rows(columns: Sequence[npt.NDArray[np.int16]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the position of one example of each distinct row, rows in ascending order, and how often each occurs."""
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        # Made dense after each column, so the key stays below N * 2**16 and cannot overflow.
        dense = np.unique(key, return_inverse=True)[1]
        key = dense * 2**16 + (column.astype(np.int64) + 2**15)
    _, first, counts = np.unique(key, return_index=True, return_counts=True)
    return first, counts


def _refuse_unknown(what: str, rows: Iterable[Mapping[str, Any]], known: Sequence[str]) -> None:
    for row in rows:
        unknown = set(row).difference(known)
        if unknown:
            raise ValueError(f"{what} must have the keys {list(known)}, but also has {sorted(unknown)}")
