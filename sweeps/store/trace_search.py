"""A search for traces of erased examples: their ids in every encoding, their pixels, and hashes of sets with them."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
_PARQUET, _ZIP = b"PAR1", b"PK\x03\x04"


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


@dataclass
class TraceSearch:
    """What is looked for.

    Attributes:
        ids: int64 [k].
        pixels: bytes of each image.
        hashes: of sets of ids, as texts.
    """

    ids: NDArray[np.int64]
    pixels: Sequence[bytes] = ()
    hashes: Iterable[str] = ()
    _needles: dict[str, re.Pattern[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        large = [example for example in self.ids.tolist() if abs(example) >= _LEAST_ID]
        texts = "|".join(map(str, large)).encode()
        encoded = [example.to_bytes(8, order, signed=True) for example in large for order in ("little", "big")]
        images = [image for image in self.pixels if len(set(image)) >= _LEAST_VALUES]
        hashes = [form for one in self.hashes for form in (one.encode(), *_raw(one))]
        patterns = {
            "ids": rb"(?<![0-9])(?:%b)(?![0-9])" % texts if large else b"",
            "ids as 64-bit numbers": b"|".join(map(re.escape, encoded)),
            "pixels": b"|".join(map(re.escape, images)),
            "hashes of sets of ids": b"|".join(map(re.escape, hashes)),
        }
        self._needles = {
            what: re.compile(p, re.DOTALL | re.IGNORECASE if "hash" in what else re.DOTALL)
            for what, p in patterns.items()
            if p
        }

    def search(self, places: Sequence[Path], beyond: Sequence[str] = ()) -> Traces:
        """Read every file in some folders, hidden ones too."""
        files, size, found, unread = 0, 0, {}, []
        for path in dict.fromkeys(path for place in places for path in _files(place)):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError:
                unread.append(path)
                continue
            files, size = files + 1, size + len(content)
            try:
                what = self._look(path.name, content)
            except (pa.ArrowException, zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError):
                what = self._raw_traces(content)
                unread.append(path)
            what |= self._raw_traces(os.fsencode(path.name))
            if what:
                found[path] = ", ".join(sorted(what))
        return Traces(tuple(places), files, size, found, tuple(unread), tuple(beyond))

    def _look(self, name: str, content: bytes) -> set[str]:
        found = self._raw_traces(content)
        if content[:4] == _PARQUET and content[-4:] == _PARQUET:
            found |= self._in_tables([pq.ParquetFile(io.BytesIO(content)).read()])
        elif content[:6] == b"ARROW1":
            found |= self._in_tables([pa.ipc.open_file(content).read_all()])
        elif content[:4] == _ZIP:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for entry in archive.namelist():
                    found |= self._look(entry, archive.read(entry))
        elif name.endswith((".json", ".jsonl")):
            lines = content.splitlines() if name.endswith(".jsonl") else [content]
            values = [json.loads(line) for line in lines if line.strip()]
            if any(number in self._set for value in values for number in _named_numbers(value)):
                found.add("ids")
        return found

    @property
    def _set(self) -> frozenset[int]:
        return frozenset(self.ids.tolist())

    def _raw_traces(self, content: bytes) -> set[str]:
        return {what for what, needle in self._needles.items() if needle.search(content)}

    def _in_tables(self, tables: Iterable[pa.Table]) -> set[str]:
        """Look at the values of columns, which are compressed in the file."""
        found: set[str] = set()
        wanted = pa.array(self.ids)
        for table in tables:
            for name, column in zip(table.column_names, table.columns, strict=True):
                if pa.types.is_integer(column.type) and (_ID_NAMES.fullmatch(name) or column.type == pa.int64()):
                    numbers = column.cast(pa.int64(), safe=False).combine_chunks()
                    inside = numbers.filter(pc.is_in(numbers, wanted))
                    if len(inside) and (_ID_NAMES.fullmatch(name) or pc.max(pc.abs(inside)).as_py() >= _LEAST_ID):
                        found.add("ids")
                elif pa.types.is_fixed_size_binary(column.type) or pa.types.is_binary(column.type):
                    known = set(self.pixels)
                    if any(value in known for value in column.to_pylist()):
                        found.add("pixels")
                elif pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
                    texts = "\n".join(str(value) for value in pc.unique(column).to_pylist())
                    found |= self._raw_traces(texts.encode())
            found |= self._raw_traces(repr(table.schema.metadata).encode())
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
