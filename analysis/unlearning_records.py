"""What a trial that can forget leaves on disk beside the other records: what forgetting cost, and who sat where."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs

from fairsweep.analysis.files import RecordError, read_parquet, write_parquet

COST = "cost.json"
PLACEMENT = "placement.parquet"

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
    """Who sits where, one row a training example, by ascending id.

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
    table = read_parquet(path, filesystem)
    if not set(PLACEMENT_SCHEMA.names) <= set(table.column_names):
        raise RecordError(f"{path} must have the columns {PLACEMENT_SCHEMA.names}, but has {table.column_names}")
    return table.select(PLACEMENT_SCHEMA.names)
