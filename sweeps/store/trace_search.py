"""A search for traces of erased examples: their ids in every encoding, their pixels, and hashes of sets with them."""

from __future__ import annotations

import io
import itertools
import json
import math
import mmap
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

_LEAST_ID = 100_000
"""Smaller ids are told from other whole numbers by the names of their columns and fields alone."""
_LEAST_VALUES = 8
"""Images of fewer different bytes may occur anywhere by chance."""
_ID_NAMES = re.compile(r"(.*_)?ids?", re.IGNORECASE)
_PARQUET, _ZIP, _NUMPY = b"PAR1", b"PK\x03\x04", b"\x93NUMPY"
_NUMBER = re.compile(rb"(?<![0-9])[0-9]{6,19}(?![0-9])")
_HEADER, _ROWS_AT_ONCE, _WORDS_AT_ONCE = 4096, 8192, 1 << 20
Content = bytes | mmap.mmap


@dataclass(frozen=True)
class Traces:
    """What a search found.

    Attributes:
        places: folders that were searched.
        files: how many files in them.
        bytes: their sizes together.
        found: for each file with a trace, what is in it.
        unread: files that could not be read or unpacked; each was searched as it is, as far as it could be read.
        beyond: what could not be searched from here.
    """

    places: tuple[Path, ...]
    files: int
    bytes: int
    found: Mapping[Path, str]
    unread: tuple[Path, ...] = ()
    beyond: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Say what was searched, what was found, and what could not be searched."""
        where = ", ".join(map(str, self.places))
        looked = f"searched {self.files:,} files ({self.bytes / 1e6:,.1f} MB) in {where}"
        said = [f"{looked}: {'no trace was found' if not self.found else f'{len(self.found)} files hold traces'}"]
        said += [f"  {path}: {what}" for path, what in sorted(self.found.items())]
        said += [f"  could not be unpacked, and was searched as it is: {path}" for path in self.unread]
        return said + [f"not searched: {line}" for line in self.beyond]


class TraceSearch:
    """A search for some ids, images and hashes.

    Args:
        ids: int64 [k].
        pixels: bytes of each image.
        hashes: of sets of ids, as texts.
    """

    def __init__(self, ids: NDArray[np.int64], pixels: Sequence[bytes] = (), hashes: Iterable[str] = ()) -> None:
        self._ids = np.unique(np.asarray(ids, np.int64))
        self._known = frozenset(self._ids.tolist())
        self._large = self._ids[np.abs(self._ids) >= _LEAST_ID]
        self._images = [image for image in pixels if len(set(image)) >= _LEAST_VALUES]
        self._hashes = [form for one in hashes for form in (one.encode(), one.upper().encode(), *_raw(one))]

    def search(self, places: Sequence[Path], beyond: Sequence[str] = ()) -> Traces:
        """Read every file in some folders, hidden ones too.

        Args:
            places: the folders.
            beyond: what cannot be searched from here, for the answer.
        """
        files, size, found, unread = 0, 0, {}, []
        for path in dict.fromkeys(path for place in places for path in _files(place)):
            try:
                with path.open("rb") as file:
                    length = os.fstat(file.fileno()).st_size
                    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if length else b""
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                unread.append(path)
                continue
            files, size = files + 1, size + length
            what = self._raw_traces(path.name.encode(errors="replace"))
            try:
                what |= self._look(path.name, content)
            except (pa.ArrowException, zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError):
                what |= self._raw_traces(content)
                unread.append(path)
            if what:
                found[path] = ", ".join(sorted(what))
        return Traces(tuple(places), files, size, found, tuple(unread), tuple(beyond))

    def _look(self, name: str, content: Content) -> set[str]:
        if content[: len(_NUMPY)] == _NUMPY:
            return self._in_array(content)
        found = self._raw_traces(content)
        if content[:4] == _PARQUET and content[-4:] == _PARQUET:
            found |= self._in_table(pq.ParquetFile(pa.BufferReader(content)).read())
        elif content[:6] == b"ARROW1":
            found |= self._in_table(pa.ipc.open_file(pa.BufferReader(content)).read_all())
        elif content[:4] == _ZIP:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for entry in archive.namelist():
                    found |= self._look(entry, archive.read(entry))
        elif name.endswith((".json", ".jsonl")):
            lines = bytes(content).splitlines() if name.endswith(".jsonl") else [bytes(content)]
            values = [json.loads(line) for line in lines if line.strip()]
            if any(number in self._known for value in values for number in _named_numbers(value)):
                found.add("ids")
        return found

    def _raw_traces(self, content: Content) -> set[str]:
        """Look at bytes as they are."""
        if not len(content):
            return set()
        found = {"hashes of sets of ids"} if any(content.find(one) >= 0 for one in self._hashes) else set()
        found |= {"pixels"} if any(content.find(image) >= 0 for image in self._images) else set()
        if len(self._large):
            if any(int(match[0]) in self._known for match in _NUMBER.finditer(content)):
                found.add("ids")
            if self._has_words(content):
                found.add("ids as 64-bit numbers")
        return found

    def _has_words(self, content: Content) -> bool:
        """Whether a large id stands anywhere in 8 bytes of either order."""
        low, high = int(self._large[0]), int(self._large[-1])
        for start, order in itertools.product(range(8), ("<i8", ">i8")):
            count = (len(content) - start) // 8
            for begin in range(0, count, _WORDS_AT_ONCE):
                words = np.frombuffer(content, order, min(_WORDS_AT_ONCE, count - begin), start + 8 * begin)
                near = words[(words >= low) & (words <= high)]
                if len(near) and np.isin(near, self._large).any():
                    return True
        return False

    def _in_array(self, content: Content) -> set[str]:
        """Look for images among the rows of an array of bytes: it may be larger than the memory."""
        file = io.BytesIO(content[:_HEADER])
        np.lib.format.read_magic(file)
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        width = math.prod(shape[1:])
        images = [image for image in self._images if len(image) == width]
        if kind != np.uint8 or not images or not shape:
            return self._raw_traces(content)
        rows: NDArray[np.uint8] = np.frombuffer(content, np.uint8, offset=file.tell()).reshape(-1, width)
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[begin : begin + _ROWS_AT_ONCE]
            for image in images:
                alike = part[part[:, width // 2] == image[width // 2]]
                if (alike == np.frombuffer(image, np.uint8)).all(axis=1).any():
                    return {"pixels"}
        return set()

    def _in_table(self, table: pa.Table) -> set[str]:
        """Look at the values of columns, which are compressed in the file."""
        found = self._raw_traces(repr(table.schema.metadata).encode())
        for name, column in zip(table.column_names, table.columns, strict=True):
            if pa.types.is_integer(column.type) and (_ID_NAMES.fullmatch(name) or column.type == pa.int64()):
                wanted = self._ids if _ID_NAMES.fullmatch(name) else self._large
                if pc.any(pc.is_in(column.cast(pa.int64(), safe=False), pa.array(wanted))).as_py():
                    found.add("ids")
            elif pa.types.is_fixed_size_binary(column.type) or pa.types.is_binary(column.type):
                width = column.type.byte_width if pa.types.is_fixed_size_binary(column.type) else None
                images = [image for image in self._images if width in (None, len(image))]
                if images and pc.any(pc.is_in(column, pa.array(images, column.type))).as_py():
                    found.add("pixels")
            elif pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
                found |= self._raw_traces("\n".join(map(str, pc.unique(column).to_pylist())).encode())
        return found


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    for folder, _, names in os.walk(place):
        yield from (Path(folder, name) for name in sorted(names) if Path(folder, name).is_file())


def _named_numbers(value: Any, *, inside: bool = False) -> Iterator[int]:  # noqa: ANN401 - any JSON value
    """Give the whole numbers under names of ids."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _named_numbers(item, inside=_ID_NAMES.fullmatch(str(name)) is not None)
    elif isinstance(value, list):
        for item in value:
            yield from _named_numbers(item, inside=inside)
    elif inside and isinstance(value, int) and not isinstance(value, bool):
        yield value


def _raw(text: str) -> tuple[bytes, ...]:
    """Return the bytes that a hexadecimal text stands for, if it is one."""
    try:
        return (bytes.fromhex(text),)
    except ValueError:
        return ()
