"""``training.parquet``: the course of training, one row per iteration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from fairsweep.analysis.records.files import read_parquet, write_parquet

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


def _refuse_unknown(what: str, rows: Iterable[Mapping[str, Any]], known: Sequence[str]) -> None:
    for row in rows:
        unknown = set(row).difference(known)
        if unknown:
            raise ValueError(f"{what} must have the keys {list(known)}, but also has {sorted(unknown)}")
