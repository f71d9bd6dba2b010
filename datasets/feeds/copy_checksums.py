"""Checksums of a decoded copy: a CRC-32 per block, appended after the array."""

from __future__ import annotations

import logging
import mmap
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

BLOCK_BYTES = 16 * 2**20
_MARK = b"fairsweep crc32\n"
_END = struct.Struct(f"<QI{len(_MARK)}s")
_checked: set[tuple[int, int, int]] = set()
"""Copies that this process has found whole: device, inode and size."""


class ChecksumWriter:
    """Writes a file whose blocks have checksums.

    Args:
        file: The file, opened for writing, empty.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sums: list[int] = []
        self._sum, self._filled, self._bytes = 0, 0, 0

    def write(self, content: bytes | memoryview) -> int:
        """Write bytes; returns how many."""
        rest = memoryview(content).cast("B")
        self._file.write(rest)
        self._bytes += len(rest)
        while len(rest):
            part, rest = rest[: BLOCK_BYTES - self._filled], rest[BLOCK_BYTES - self._filled :]
            self._sum = zlib.crc32(part, self._sum)
            self._filled += len(part)
            if self._filled == BLOCK_BYTES:
                self._close_block()
        return self._bytes

    def finish(self) -> None:
        """Write the checksums; nothing may follow."""
        if self._filled:
            self._close_block()
        sums = struct.pack(f"<{len(self._sums)}I", *self._sums)
        self._file.write(sums)
        self._file.write(_END.pack(self._bytes, zlib.crc32(sums), _MARK))

    def _close_block(self) -> None:
        self._sums.append(self._sum)
        self._sum, self._filled = 0, 0


def is_whole(file: IO[bytes], path: Path) -> bool:
    """Return whether an opened copy is as it was written; looked at once in a process for each copy.

    Args:
        file: The copy, opened for reading; its position stays.
        path: Where it is, for the log.
    """
    stat = os.fstat(file.fileno())
    identity = (stat.st_dev, stat.st_ino, stat.st_size)
    if identity in _checked:
        return True
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
        if not _matches(content):
            logging.getLogger(__name__).warning("the decoded copy %s is damaged or outdated: it is rebuilt", path)
            return False
    _checked.add(identity)
    return True


def _matches(content: memoryview) -> bool:
    if len(content) < _END.size:
        return False
    size, sum_of_sums, mark = _END.unpack(content[-_END.size :])
    count = -(-size // BLOCK_BYTES)
    if mark != _MARK or len(content) != size + 4 * count + _END.size:
        return False
    with content[size : -_END.size] as sums:
        if zlib.crc32(sums) != sum_of_sums:
            return False
        expected = struct.unpack(f"<{count}I", sums)

    def differs(block: int) -> int:
        with content[block * BLOCK_BYTES : min(size, (block + 1) * BLOCK_BYTES)] as part:
            return zlib.crc32(part) ^ int(expected[block])

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        return not any(threads.map(differs, range(count)))
