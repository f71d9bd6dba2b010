"""Records of population-based training: the lineage of members over generations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from fairsweep.analysis.records.files import RecordError, read_parquet, write_parquet

LINEAGE = "lineage.parquet"

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
    table = read_parquet(path, filesystem)
    if not set(LINEAGE_SCHEMA.names) <= set(table.column_names):
        raise RecordError(f"{path} must have the columns {LINEAGE_SCHEMA.names}, but has {table.column_names}")
    return table
