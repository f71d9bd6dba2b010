"""JSON and Parquet records, written atomically and read from any pyarrow file system.

A file is written to a hidden name in the same folder, flushed to the disk, then renamed. A reader meets either the old
or the new content, also while the sweep runs and after a kill. Each file carries a checksum that its reader checks.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pydantic_core import from_json

from fairsweep.analysis.disclosure.columns import check_columns
from fairsweep.analysis.records.checksums import (
    CHECKSUM,
    PARQUET_KEY,
    PARQUET_KIND,
    ChecksumError,
    check_json,
    check_line,
    check_parquet,
    with_json_checksum,
    with_line_checksum,
    with_parquet_checksum,
)

FORMAT_VERSION = 1
_VERSION_KEY = b"fairsweep.format_version"
_PARQUET_END = b"PAR1"
_FLUSHED_AT_ONCE = 8
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class RecordError(ValueError):
    """A record is missing, damaged or of an unknown format; `Problem` in ``loading`` has the remedy."""


class NewerFormatError(RecordError):
    """A record of a newer fairsweep: it is whole, and neither written anew nor deleted; the message has the remedy."""

    def __init__(self, path: str | Path, version: int) -> None:
        super().__init__(
            f"{path} has format version {version}, but this fairsweep reads up to {FORMAT_VERSION}: update fairsweep"
        )


def write_json(path: str | Path, mapping: Mapping[str, Any]) -> None:
    """Write a mapping as standard JSON.

    JSON has no infinity and no NaN: infinity is written as the string ``"inf"`` (Python's ``float`` reads it back), NaN
    as ``null``. Tuples become lists, numpy scalars numbers. A last member ``checksum`` is added, which `read_json`
    checks and leaves out.

    Raises:
        TypeError: if a value has no JSON form.
        ValueError: if it is a record of a trial, and a key has no class in ``analysis.disclosure``.
    """
    check_columns(Path(path).name, mapping)
    plain = {key: value for key, value in _standard(mapping).items() if key != CHECKSUM}
    content = with_json_checksum(json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False))
    write_whole(path, lambda file: file.write(content))


def read_json(path: str | Path, filesystem: pafs.FileSystem | None = None) -> dict[str, Any]:
    """Read one of the JSON records.

    Raises:
        RecordError: if the content is damaged, no JSON object, or comes from a newer fairsweep.
        FileNotFoundError: if there is no such file.
    """
    content = _whole(str(path), filesystem)
    try:
        has_checksum = check_json(content)
        value = from_json(content)
    except ValueError as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path} must hold a JSON object, but holds a {type(value).__name__}")
    if has_checksum:
        del value[CHECKSUM]
    version = value.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerFormatError(path, version)
    return value


def append_line(path: str | Path, mapping: Mapping[str, Any]) -> None:
    """Add a mapping to a file of JSON lines, durably; a line that a crash has cut short before it stays apart.

    A checksum is added, which `read_lines` checks and leaves out.
    """
    line = with_line_checksum(json.dumps(_standard(mapping), ensure_ascii=False, allow_nan=False)) + b"\n"
    with Path(path).open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_lines(
    path: str | Path, filesystem: pafs.FileSystem | None = None, start: int = 0
) -> tuple[list[dict[str, Any]], int]:
    """Read a file of JSON lines, or what has come to it since; lines that were cut short are left out.

    Args:
        path: the file.
        filesystem: where it is; None for a local file.
        start: the byte from which it is read.

    Returns:
        The mappings, and the byte from which the next ones are read.

    Raises:
        RecordError: if a line is damaged.
        FileNotFoundError: if there is no such file.
    """
    with (filesystem or pafs.LocalFileSystem()).open_input_file(str(path)) as file:
        file.seek(min(start, file.size()))
        content: bytes = file.read()
    found, unread = [], 0
    for line in content.split(b"\n"):
        try:
            is_whole = check_line(line)
            found += [from_json(line)] if is_whole else []
        except ValueError as error:
            raise RecordError(f"{path} is damaged: {error}") from error
        unread = 0 if is_whole else len(line)
    for mapping in found:
        del mapping[CHECKSUM]
    return found, start + len(content) - unread


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
    check_columns(Path(path).name, table.column_names)
    own = {_VERSION_KEY: str(FORMAT_VERSION).encode(), PARQUET_KEY: PARQUET_KIND}
    marked = table.replace_schema_metadata({**metadata, **own})
    compression = "snappy" if is_small else "zstd"
    sink = pa.BufferOutputStream()
    pq.write_table(marked, sink, compression=compression, write_statistics=not is_small, write_page_checksum=True)
    parts = with_parquet_checksum(memoryview(sink.getvalue()))
    write_whole(path, lambda file: file.writelines(parts))


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
    content = _whole(str(path), filesystem)
    try:
        has_checksum = check_parquet(content)
        with pa.BufferReader(content) as file:
            # Many small files are read in threads already.
            parquet = pq.ParquetFile(file, pre_buffer=False, read_dictionary=list(as_codes))
            table = parquet.read(None if columns is None else list(columns), use_threads=False)
        metadata = table.schema.metadata or {}
        version = int(metadata.get(_VERSION_KEY, b"0"))
        if PARQUET_KEY in metadata and not has_checksum:
            raise ChecksumError("its checksum is damaged")
    # What pyarrow raises of damaged bytes has many types; none has another cause, for they are in memory.
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise RecordError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    if version > FORMAT_VERSION:
        raise NewerFormatError(path, version)
    return table


def check_record(path: str | Path, *, thorough: bool = True) -> None:
    """Check a local file of JSON, of JSON lines or of Parquet without taking it in.

    Args:
        path: the file.
        thorough: whether every byte of a Parquet file is checked, or only that it has an end.

    Raises:
        RecordError: if the file is damaged.
        FileNotFoundError: if there is no such file.
    """
    if Path(path).suffix == ".json":
        read_json(path)
    elif Path(path).suffix == ".jsonl":
        read_lines(path)
    elif not thorough:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(_PARQUET_END)))
            if file.read() != _PARQUET_END:
                raise RecordError(f"{path} is damaged: it was cut short")
    else:
        try:
            has_checksum = check_parquet(_whole(str(path), None))
        except ChecksumError as error:
            raise RecordError(f"{path} is damaged: {error}") from error
        if not has_checksum:
            read_parquet(path, None)


@dataclass(frozen=True)
class SweepLocation:
    """The folder of a sweep or trial on a pyarrow file system.

    Attributes:
        filesystem: local, S3, GCS…
        path: without scheme.
    """

    filesystem: pafs.FileSystem
    path: str

    @classmethod
    def of(cls, path: str | Path) -> SweepLocation:
        """Return the folder that a local path or a URI (``s3://bucket/folder``) names."""
        if isinstance(path, str) and "://" in path:
            filesystem, inside = pafs.FileSystem.from_uri(path)
            return cls(filesystem, inside.rstrip("/"))
        return cls(pafs.LocalFileSystem(), str(Path(path).expanduser().resolve()))

    @property
    def local(self) -> Path | None:
        """Return the local path; None on another file system."""
        return Path(self.path) if self.is_local else None

    @property
    def is_local(self) -> bool:
        """Return whether it is a folder of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def __truediv__(self, name: str) -> SweepLocation:
        return SweepLocation(self.filesystem, f"{self.path}/{name}")

    def exists(self) -> bool:
        """Return whether there is a file or folder."""
        return bool(self.filesystem.get_file_info(self.path).type != pafs.FileType.NotFound)

    def folders(self) -> list[str]:
        """Return the names of the folders directly inside, sorted; hidden ones are left out."""
        return [name for name in self._all_folders() if not name.startswith(".")]

    def hidden_folders(self) -> list[str]:
        """Return the names of the hidden folders directly inside, sorted."""
        return [name for name in self._all_folders() if name.startswith(".")]

    def _all_folders(self) -> list[str]:
        entries = self.filesystem.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))
        return sorted(entry.base_name for entry in entries if entry.type == pafs.FileType.Directory)

    def content(self) -> bytes:
        """Return the bytes of the file. Raises: OSError if it cannot be read."""
        with self.filesystem.open_input_stream(self.path) as stream:
            content: bytes = stream.read()
        return content

    def json(self) -> dict[str, Any] | None:
        """Return the JSON record; None if there is no such file.

        Raises:
            RecordError: if it is damaged.
        """
        try:
            return read_json(self.path, self.filesystem)
        except FileNotFoundError:
            return None


@dataclass
class _Group:
    """Files that were written under temporary names, to be flushed and renamed together."""

    ending: ExitStack
    written: list[tuple[BinaryIO, Path, Path]] = field(default_factory=list)


_GROUP: ContextVar[_Group | None] = ContextVar("_GROUP", default=None)


@contextmanager
def written_together() -> Iterator[_Group]:
    """Flush the files that `write_whole` writes in a context at its end, all at once; then rename them, in their order.

    They are as durable as if each were written alone, but a disk flushes several in little more time than one. Until
    the end readers meet what was there before, in this process too. After an error, of the disk or in the context, none
    is renamed. A context inside another joins it.
    """
    if (outer := _GROUP.get()) is not None:
        yield outer
        return
    with ExitStack() as ending:
        group = _Group(ending)
        before = _GROUP.set(group)
        try:
            yield group
        finally:
            _GROUP.reset(before)
        descriptors = [file.fileno() for file, _, _ in group.written]
        for _ in (
            map(os.fsync, descriptors) if len(descriptors) < 2 else _flushing(os.getpid()).map(os.fsync, descriptors)
        ):
            pass
        for file, temporary, target in group.written:
            file.close()
            temporary.replace(target)


def write_whole(path: str | Path, write: Callable[[BinaryIO], object], *, mode: int = 0o666) -> None:
    """Write to a hidden name in the same folder, flush to the disk, rename: no reader ever meets half a file.

    Args:
        path: the file.
        write: writes its content.
        mode: who may read and write it, less the umask.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    with written_together() as group, ExitStack() as undo:
        undo.callback(temporary.unlink, missing_ok=True)
        file = undo.enter_context(os.fdopen(os.open(temporary, _WRITE, mode), "wb"))
        write(file)
        file.flush()
        group.ending.push(undo.pop_all())
        group.written.append((file, temporary, target))


@cache
def _flushing(_process: int) -> ThreadPoolExecutor:
    """Return the threads that wait for the disk; a process that was forked needs its own."""
    return ThreadPoolExecutor(_FLUSHED_AT_ONCE, "flushing")


def remove_temporary(folder: str | Path, name: str = "*") -> None:
    """Delete temporary files of killed writers; only for the sole writer of these files.

    Args:
        folder: where they wrote; its subfolders stay as they are.
        name: the file's own name; all files without one.
    """
    for path in Path(folder).glob(f".{name}.{'[0-9a-f]' * 32}.tmp"):
        path.unlink(missing_ok=True)


def _whole(path: str, filesystem: pafs.FileSystem | None) -> bytes:
    """Return the content of a file, with as few calls as it takes: a large sweep has thousands, and each call costs."""
    if filesystem is not None and not isinstance(filesystem, pafs.LocalFileSystem):
        with filesystem.open_input_file(path) as file:
            content: bytes = file.read()
        return content
    descriptor = os.open(path, _READ)
    try:
        return _content(descriptor, os.fstat(descriptor).st_size)
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
