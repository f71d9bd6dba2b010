"""Whole files or nothing: JSON and Parquet records, written atomically and read from any pyarrow file system.

A file is written to a hidden name in the same folder, flushed to the disk, then renamed. A reader meets either the old
or the new content, also while the sweep runs and after a kill.
"""

import json
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

FORMAT_VERSION = 1
_VERSION_KEY = b"fairsweep.format_version"


class RecordError(ValueError):
    """A record is missing, damaged or of an unknown format; the message has the remedy."""


def write_json(path: str | Path, mapping: Mapping[str, Any]) -> None:
    """Write a mapping as standard JSON.

    JSON has no infinity and no NaN: infinity is written as the string ``"inf"`` (Python's ``float`` reads it back), NaN
    as ``null``. Tuples become lists, numpy scalars numbers.

    Raises:
        TypeError: if a value has no JSON form.
    """
    text = json.dumps(_standard(mapping), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_json(path: str | Path, filesystem: pafs.FileSystem | None = None) -> dict[str, Any]:
    """Read one of the JSON records.

    Raises:
        RecordError: if the content is no JSON object.
        FileNotFoundError: if there is no such file.
    """
    if filesystem is None:
        content = Path(path).read_bytes()
    else:
        with filesystem.open_input_stream(str(path)) as stream:
            content = stream.read()
    try:
        value = json.loads(content)
    except ValueError as error:
        raise RecordError(f"{path} must hold JSON, but it is damaged ({error}); run the trial again") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path} must hold a JSON object, but holds a {type(value).__name__}; run the trial again")
    return value


def write_parquet(path: str | Path, table: pa.Table, metadata: Mapping[bytes, bytes]) -> None:
    """Write a table with the format version and the given schema metadata."""
    marked = table.replace_schema_metadata({**metadata, _VERSION_KEY: str(FORMAT_VERSION).encode()})
    write_whole(path, lambda file: pq.write_table(marked, file, compression="zstd"))


def read_parquet(
    path: str | Path, filesystem: pafs.FileSystem | None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read a table, or some of its columns; its schema metadata stay on it.

    Raises:
        RecordError: if the file is damaged or comes from a newer fairsweep.
        FileNotFoundError: if there is no such file.
    """
    source = filesystem or pafs.LocalFileSystem()
    # Reading ahead pays on a network only; and many small files are read in threads already.
    is_local = isinstance(source, pafs.LocalFileSystem)
    try:
        with source.open_input_file(str(path)) as file:
            parquet = pq.ParquetFile(file, pre_buffer=not is_local)
            table = parquet.read(None if columns is None else list(columns), use_threads=False)
    except pa.ArrowInvalid as error:
        raise RecordError(f"{path} must be a Parquet file, but it is damaged ({error}); run the trial again") from error
    version = int((table.schema.metadata or {}).get(_VERSION_KEY, b"0"))
    if version > FORMAT_VERSION:
        raise RecordError(
            f"{path} has format version {version}, but this fairsweep reads up to {FORMAT_VERSION}; install a newer one"
        )
    return table


def write_whole(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write to a hidden name in the same folder, flush to the disk, rename: no reader ever meets half a file."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _standard(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {str(key): _standard(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_standard(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
