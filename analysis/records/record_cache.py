"""Cache file of a large local sweep with the records of its finished trials, so that it opens quickly.

The file is only a copy and can be deleted at any time. A trial is taken from it only while its own files
have the sizes, times and inodes that they had when they were copied; records are replaced by renaming, which changes
all three. It is written whole and renamed, so that readers that write at the same time do not meet half a file, and a
reader that has it open keeps what it opened. It is left alone where the folder cannot be written to.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic_core import from_json, to_json

from fairsweep.analysis.records.file_names import CELLS
from fairsweep.analysis.records.files import FORMAT_VERSION, write_whole
from fairsweep.analysis.records.trial_cells import CellSchema, TrialCells
from fairsweep.analysis.records.trial_folder import SMALL, TrialFolder
from fairsweep.analysis.records.vocabularies import Vocabulary

CACHE = ".analysis-cache.arrow"
LEAST_TRIALS = 200
"""Smaller sweeps are read in less than a second anyway."""

_FILES = (*SMALL, CELLS)
_VERSION = f"fairsweep {FORMAT_VERSION}.4".encode()
# Of the whole file, a CRC-32 at its end. An older file has none, and is as good as damaged.
_CHECKSUM_BYTES = 8
_CELLS = ("schema", "evaluations", "length", "cell", "count")
_SMALL = ("trial", "signature", "small")


class RecordCache:
    """What the file holds.

    Args:
        root: the output folder of a sweep.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / CACHE
        self._source: pa.Buffer | None = None
        self._number: dict[str, int] = {}
        self._small: list[bytes] = []
        self._signatures: list[str] = []
        # A file that is missing, damaged or of another version is as good as none.
        with suppress(OSError, pa.ArrowException, KeyError):
            source = _whole(pa.memory_map(str(self._path)).read_buffer())
            table = _read(source, _SMALL)
            self._source = source
            names, self._signatures, self._small = (table.column(name).to_pylist() for name in _SMALL)
            self._number = {name: i for i, name in enumerate(names)}

    @property
    def names(self) -> set[str]:
        """Return the trials it holds."""
        return set(self._number)

    def small(self, name: str, signature: str) -> dict[str, Any] | None:
        """Return the JSON records of a trial by the name of the file; None where they are not held as they are now."""
        number = self._number.get(name)
        if number is None or self._signatures[number] != signature:
            return None
        return dict(from_json(self._small[number]))

    def cells(self, names: Iterable[str]) -> dict[str, tuple[CellSchema, TrialCells]]:
        """Return the cells of some trials that it holds."""
        chosen = [name for name in names if name in self._number]
        if self._source is None or not chosen:
            return {}
        table = _read(self._source, _CELLS).combine_chunks()
        words = table.column("schema").combine_chunks().dictionary_encode()
        meanings = [_meaning(text) for text in words.dictionary.to_pylist()]
        which = words.indices.to_numpy()
        lists = [_lists(table.column(name)) for name in _CELLS[1:]]
        found = {}
        for name in chosen:
            i = self._number[name]
            parts = [values[offsets[i] : offsets[i + 1]] for offsets, values in lists]
            found[name] = (meanings[which[i]], TrialCells(*parts))
        return found

    def write(self, trials: Sequence[TrialFolder], cells: Mapping[str, tuple[CellSchema, TrialCells]]) -> None:
        """Replace the file; nothing happens where the folder cannot be written to.

        Args:
            trials: with the signatures that their files had before they were read.
            cells: by name of the trial.
        """
        found = [cells[trial.name] for trial in trials]
        texts = {schema: _text(schema) for schema in dict.fromkeys(schema for schema, _ in found)}
        small = [to_json({file: trial.record(file) for file in SMALL}) for trial in trials]
        columns: dict[str, pa.Array] = {
            "trial": pa.array([trial.folder_name for trial in trials], pa.string()),
            "signature": pa.array([trial.signature for trial in trials], pa.string()),
            "small": pa.array(small, pa.large_binary()),
            "schema": pa.array([texts[schema] for schema, _ in found], pa.large_string()).dictionary_encode(),
        }
        for name in _CELLS[1:]:
            parts = [getattr(each, name) for _, each in found]
            offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
            columns[name] = pa.LargeListArray.from_arrays(
                pa.array(offsets, pa.int64()), pa.array(np.concatenate(parts))
            )
        columns["schema"] = columns["schema"].cast(pa.large_string())
        table = pa.table(columns).replace_schema_metadata({b"version": _VERSION})
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        sink = pa.BufferOutputStream()
        _write(table, sink, options)
        content = sink.getvalue()
        checksum = zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little")
        with suppress(OSError):
            write_whole(self._path, lambda file: file.writelines([content, checksum]))


def signature_of(folder: str) -> str:
    """Return the sizes, times and inodes of the files that are copied; changes whenever one of them is replaced."""
    parts = dict.fromkeys(_FILES, "-")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in parts:
                stat = entry.stat()
                parts[entry.name] = f"{stat.st_size}.{stat.st_mtime_ns}.{stat.st_ino}"
    return " ".join(parts.values())


def _whole(content: pa.Buffer) -> pa.Buffer:
    """Return the cache without the checksum at its end. Raises: KeyError if they do not match."""
    source = content.slice(0, max(0, content.size - _CHECKSUM_BYTES))
    if zlib.crc32(source) != int.from_bytes(content.slice(source.size), "little"):
        raise KeyError("checksum")
    return source


def _read(source: pa.Buffer, columns: Sequence[str]) -> pa.Table:
    """Return some columns; only these are decompressed."""
    schema = pa.ipc.open_file(source).schema
    if (schema.metadata or {}).get(b"version") != _VERSION:
        raise KeyError("version")
    options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
    return pa.ipc.open_file(source, options=options).read_all().select(columns)


def _write(table: pa.Table, file: Any, options: pa.ipc.IpcWriteOptions) -> None:  # noqa: ANN401 - a binary file
    with pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)


def _lists(column: pa.ChunkedArray) -> tuple[Any, Any]:
    """Return the offsets and values of a column of lists, as numpy arrays."""
    array = column.combine_chunks()
    return array.offsets.to_numpy(), array.values.to_numpy()


def _text(schema: CellSchema) -> str:
    return json.dumps(asdict(schema))


def _meaning(text: str) -> CellSchema:
    value = json.loads(text)
    vocabularies = tuple(
        Vocabulary(row["name"], tuple(row["values"]), tuple(row["display"])) for row in value["vocabularies"]
    )
    return CellSchema(value["label"], tuple(value["groups"]), vocabularies)
