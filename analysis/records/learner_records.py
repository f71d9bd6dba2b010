"""Records of some trials only.

Shard placement, predictions by shard, lineage of a population, scores of canaries, plans of private trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs

from fairsweep.analysis.records.file_names import MORE_PLANS, PLANS
from fairsweep.analysis.records.files import (
    RecordError,
    SweepLocation,
    read_json,
    read_lines,
    read_parquet,
    write_parquet,
)
from fairsweep.analysis.records.prediction_records import PREDICTIONS_SCHEMA

PLACEMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("shard", pa.int32()),
        pa.field("slice", pa.int32()),
        pa.field("deleted", pa.bool_()),
    ]
)


def placement_table(
    ids: npt.NDArray[np.int64], shard: npt.ArrayLike, slice_: npt.ArrayLike, deleted: npt.ArrayLike
) -> pa.Table:
    """Return the shard placement, one row per training example, by ascending id.

    Args:
        ids: int64 [n].
        shard: int [n], from 1.
        slice_: int [n], from 1.
        deleted: bool [n], whether a request has deleted the example.
    """
    order = np.argsort(ids, kind="stable")
    columns = [np.asarray(column)[order] for column in (ids, shard, slice_, deleted)]
    return pa.table(columns, names=PLACEMENT_SCHEMA.names).cast(PLACEMENT_SCHEMA)


def write_placement(path: str | Path, table: pa.Table) -> None:
    """Write ``placement.parquet``."""
    write_parquet(path, table.cast(PLACEMENT_SCHEMA), {})


def read_placement(path: str | Path, filesystem: pafs.FileSystem | None = None) -> pa.Table:
    """Read ``placement.parquet``.

    Raises:
        RecordError: if the file is damaged or has other columns.
        FileNotFoundError: if there is no such file.
    """
    return _read(path, filesystem, PLACEMENT_SCHEMA).select(PLACEMENT_SCHEMA.names)


def write_shard_predictions(path: str | Path, by_shard: Sequence[pa.Table]) -> None:
    """Write ``shard_predictions.parquet``: the columns of ``predictions.parquet`` and ``shard``, int32, from 1.

    Args:
        path: the file.
        by_shard: for each shard its predictions, as `prediction_records.predictions_table` makes them.
    """
    tables = [
        table.select(PREDICTIONS_SCHEMA.names).append_column("shard", pa.array(np.full(len(table), shard, np.int32)))
        for shard, table in enumerate(by_shard, start=1)
    ]
    write_parquet(path, pa.concat_tables(tables), {})


def read_shard_predictions(path: str | Path, filesystem: pafs.FileSystem | None = None) -> pa.Table:
    """Read ``shard_predictions.parquet``; raises as `read_placement`."""
    return read_parquet(path, filesystem)


LINEAGE_SCHEMA = pa.schema(
    [
        pa.field("generation", pa.int32()),
        pa.field("member", pa.int32()),
        pa.field("parent", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("loss", pa.float64()),
        pa.field("published", pa.bool_()),
    ]
)
"""The columns of every lineage; the explored fields of the learner follow, named as in the sweep file."""


def lineage_table(rows: Sequence[Mapping[str, Any]], hyperparameters: Sequence[str]) -> pa.Table:
    """Return one row per generation and member.

    Args:
        rows: the columns of `LINEAGE_SCHEMA` and the hyperparameters by name; None where there is no value.
        hyperparameters: names of the explored fields.
    """
    table = pa.Table.from_pylist([{name: row[name] for name in LINEAGE_SCHEMA.names} for row in rows], LINEAGE_SCHEMA)
    for name in hyperparameters:
        table = table.append_column(name, pa.array([row[name] for row in rows]))
    return table


def write_lineage(path: str | Path, table: pa.Table) -> None:
    """Write ``lineage.parquet``."""
    write_parquet(path, table, {})


def read_lineage(path: str | Path, filesystem: pafs.FileSystem | None = None) -> pa.Table:
    """Read ``lineage.parquet``.

    Raises:
        RecordError: if the file is damaged or has other columns.
        FileNotFoundError: if there is no such file.
    """
    return _read(path, filesystem, LINEAGE_SCHEMA)


AUDIT_SCHEMA = pa.schema(
    [
        pa.field("unit", pa.int64()),
        pa.field("included", pa.bool_()),
        pa.field("score", pa.float64()),
        pa.field("group", pa.string()),
    ]
)


def audit_table(
    units: npt.NDArray[np.int64],
    included: npt.ArrayLike,
    scores: npt.ArrayLike,
    groups: Sequence[str] | None,
) -> pa.Table:
    """Return one row per canary of an audited training.

    Args:
        units: int64 [m], the ids of examples or the numbers of clients.
        included: bool [m], whether the canary was in.
        scores: float64 [m], larger where it seems to have been in.
        groups: [m], the group of each; None where canaries are not drawn by groups.
    """
    columns = [units, np.asarray(included), np.asarray(scores), pa.nulls(len(units)) if groups is None else groups]
    return pa.table(columns, names=AUDIT_SCHEMA.names).cast(AUDIT_SCHEMA)


def write_audit(path: str | Path, table: pa.Table) -> None:
    """Write ``audit.parquet``."""
    write_parquet(path, table, {})


def read_audit(path: str | Path, filesystem: pafs.FileSystem | None = None) -> pa.Table:
    """Read ``audit.parquet``.

    Raises:
        RecordError: if the file is damaged or has other columns.
        FileNotFoundError: if there is no such file.
    """
    return _read(path, filesystem, AUDIT_SCHEMA)


def _read(path: str | Path, filesystem: pafs.FileSystem | None, schema: pa.Schema) -> pa.Table:
    table = read_parquet(path, filesystem)
    if not set(schema.names) <= set(table.column_names):
        raise RecordError(f"{path} must have the columns {schema.names}, but has {table.column_names}")
    return table


class RecordedPlans:
    """What the private trials of a sweep may spend: ``plans.json``, and what ``plans.jsonl`` adds, a line at a time.

    What has been read is not read again, unless ``plans.json`` was written anew. A file that is damaged says nothing.

    Args:
        output: the output folder.

    Attributes:
        content: ``trials`` gives each trial's hash a mark, under which ``plans`` holds its plan and ``charges`` what
            it costs.
    """

    def __init__(self, output: SweepLocation) -> None:
        self._filesystem = output.filesystem
        self._paths = (output / PLANS).path, (output / MORE_PLANS).path
        self._stamp: object = None
        self._read = 0
        self._lock = Lock()
        self.content: dict[str, dict[str, Any]] = {"trials": {}, "plans": {}, "charges": {}}

    def look(self) -> dict[str, dict[str, Any]]:
        """Take up what has come since the last look.

        Raises:
            OSError: if the file system fails.
        """
        with self._lock:
            first, further = self._filesystem.get_file_info(list(self._paths))
            stamp = first.type, first.mtime_ns, first.size
            is_anew = stamp != self._stamp
            parts: list[dict[str, Any]] = []
            read = 0 if is_anew else self._read
            if further.is_file and further.size != read:
                # Read first: once its lines are in the other file it is deleted.
                with suppress(RecordError, FileNotFoundError):
                    parts, read = read_lines(self._paths[1], self._filesystem, read)
            if is_anew:
                self.content = {name: {} for name in self.content}
                with suppress(RecordError, FileNotFoundError):
                    parts = [read_json(self._paths[0], self._filesystem), *parts]
            for part in parts:
                for name, known in self.content.items():
                    known.update(part.get(name, {}))
            self._stamp, self._read = stamp, read
            return self.content
