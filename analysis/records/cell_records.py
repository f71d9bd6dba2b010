"""``cells.parquet``: how many examples each evaluation has of every (groups…, label, prediction), with vocabularies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs

from fairsweep.analysis.records.files import RecordError, read_parquet, write_parquet
from fairsweep.analysis.records.vocabularies import Vocabulary, packed, unpacked

_VOCABULARIES_KEY = b"fairsweep.vocabularies"
_LABEL_KEY = b"fairsweep.label"
RESERVED_COLUMNS = frozenset({"iteration", "split", "label", "prediction", "count"})
_GROUP_PREFIX = "group:"


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
    columns = {group_column(name): int16_codes(name, codes) for name, codes in groups.items()}
    columns["label"] = int16_codes("label", label)
    columns["prediction"] = int16_codes("prediction", prediction)
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


def int16_codes(name: str, codes: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """Return codes as the records hold them. Raises: ValueError if they are no int16 integers."""
    array = np.asarray(codes)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be a list of integer codes, but has {array.dtype=} and {array.shape=}")
    if array.size and (array.min() < -(2**15) or array.max() >= 2**15):
        raise ValueError(f"codes of {name} must fit in int16, but reach from {array.min()} to {array.max()}")
    return array.astype(np.int16)


def _groups_of(table: pa.Table, vocabularies: Iterable[Vocabulary]) -> tuple[str, ...]:
    """Return the group attributes of cells; a column that belongs to no vocabulary stands for itself."""
    attributes = {group_column(vocabulary.name): vocabulary.name for vocabulary in vocabularies}
    return tuple(attributes.get(name, name) for name in table.column_names if name not in RESERVED_COLUMNS)


def _distinct_rows(columns: Sequence[npt.NDArray[np.int16]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the position of one example of each distinct row, rows in ascending order, and how often each occurs."""
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        # Made dense after each column, so the key stays below N * 2**16 and cannot overflow.
        dense = np.unique(key, return_inverse=True)[1]
        key = dense * 2**16 + (column.astype(np.int64) + 2**15)
    _, first, counts = np.unique(key, return_index=True, return_counts=True)
    return first, counts
