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
from pydantic_core import from_json

FORMAT_VERSION = 1
_VERSION_KEY = b"fairsweep.format_version"
# Smaller local files are read whole at once: a large sweep has thousands of them, and each further call costs.
_SMALL = 2**18
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)


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
        content = _whole(str(path))
    else:
        with filesystem.open_input_stream(str(path)) as stream:
            content = stream.read()
    try:
        value = from_json(content)
    except ValueError as error:
        raise RecordError(f"{path} must hold JSON, but it is damaged ({error}); run the trial again") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path} must hold a JSON object, but holds a {type(value).__name__}; run the trial again")
    return value


def write_parquet(
    path: str | Path, table: pa.Table, metadata: Mapping[bytes, bytes], *, is_small: bool = False
) -> None:
    """Write a table with the format version and the given schema metadata.

    Args:
        path: the file.
        table: its rows.
        metadata: further schema metadata.
        is_small: of a few kilobytes and read by the thousand: compressed for speed, without statistics of columns.
    """
    marked = table.replace_schema_metadata({**metadata, _VERSION_KEY: str(FORMAT_VERSION).encode()})
    compression = "snappy" if is_small else "zstd"
    write_whole(path, lambda file: pq.write_table(marked, file, compression=compression, write_statistics=not is_small))


def read_parquet(
    path: str | Path,
    filesystem: pafs.FileSystem | None,
    columns: Sequence[str] | None = None,
    as_codes: Sequence[str] = (),
) -> pa.Table:
    """Read a table, or some of its columns; its schema metadata stay on it.

    Args:
        path: the file.
        filesystem: where it is; None for a local file.
        columns: which ones; None reads all.
        as_codes: columns of texts that are read as codes with a dictionary.

    Raises:
        RecordError: if the file is damaged or comes from a newer fairsweep.
        FileNotFoundError: if there is no such file.
    """
    is_local = filesystem is None or isinstance(filesystem, pafs.LocalFileSystem)
    content = _small(str(path)) if is_local else None
    source = filesystem or pafs.LocalFileSystem()
    try:
        with pa.BufferReader(content) if content is not None else source.open_input_file(str(path)) as file:
            # Reading ahead pays on a network only; and many small files are read in threads already.
            parquet = pq.ParquetFile(file, pre_buffer=not is_local, read_dictionary=list(as_codes))
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


def remove_temporary(folder: str | Path, name: str = "*") -> None:
    """Delete what writers that were killed left behind; only for whoever writes these files alone.

    Args:
        folder: where they wrote; its subfolders stay as they are.
        name: the file's own name; all files without one.
    """
    for path in Path(folder).glob(f".{name}.{'[0-9a-f]' * 32}.tmp"):
        path.unlink(missing_ok=True)


def _whole(path: str) -> bytes:
    """The content of a local file, with as few calls as it takes."""
    descriptor = os.open(path, _READ)
    try:
        return _content(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _small(path: str) -> bytes | None:
    """The content of a local file; None where it is not small."""
    descriptor = os.open(path, _READ)
    try:
        size = os.fstat(descriptor).st_size
        return _content(descriptor, size) if size <= _SMALL else None
    finally:
        os.close(descriptor)


def _content(descriptor: int, size: int) -> bytes:
    content = os.read(descriptor, size)
    while len(content) < size and (more := os.read(descriptor, size - len(content))):
        content += more
    return content


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
