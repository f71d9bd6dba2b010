"""Key files: 32 bytes readable by their owner only, with a CRC-32 that detects changes."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from fairsweep.analysis.records.files import RecordError, write_whole
from fairsweep.datasets.selection.randomness import KEY_BYTES

_CHECKSUM_BYTES = 4


def stored_key(path: Path, remedy: str) -> bytes:
    """Return the key in a file; a new one is drawn from the operating system and stored if there is none.

    Args:
        path: the file; those of earlier versions hold the key alone.
        remedy: what to do about a damaged one.

    Raises:
        RecordError: if the bytes are not those that were written.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    if not content:  # also what a crash of an earlier version left
        key = os.urandom(KEY_BYTES)
        write_whole(path, lambda file: file.write(key + _checksum(key)), mode=0o600)
        return key
    key = content[:KEY_BYTES]
    if len(content) != KEY_BYTES and content[KEY_BYTES:] != _checksum(key):
        raise RecordError(f"{path} is damaged: its bytes are not those that were written; {remedy}")
    return key


def erase_key(path: Path) -> None:
    """Overwrite and delete a stored key; nothing happens if there is none."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        file.write(bytes(KEY_BYTES + _CHECKSUM_BYTES))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def _checksum(key: bytes) -> bytes:
    return zlib.crc32(key).to_bytes(_CHECKSUM_BYTES, "little")
