"""Arrays that a machine keeps once for all its trials: memory-mapped files in the cache, built under a lock.

A file is renamed into place when whole, so trials that start together build it once, and a crash leaves nothing that
looks complete. It ends with checksums, which each process checks when it opens it for the first time (2 to 3 GB a
second and processor): a damaged one is made anew.
"""

from __future__ import annotations

import math
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fairsweep.datasets.feeds.copy_checksums import ChecksumWriter, is_whole
from fairsweep.datasets.feeds.eviction import evict, mark_used
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.writing import replaced

CACHE_VARIABLE = "FAIRSWEEP_CACHE"
COPIES = "resident"
"""The folder of copies in the cache; their names begin with the content hash of their dataset."""


def cache_root() -> Path:
    """Return the folder of the machine's copies: `FAIRSWEEP_CACHE` from the environment, or ~/.cache/fairsweep.

    Where the home folder cannot be written to, as that of a container's user, it is one among the temporary files that
    belongs to this user alone.
    """
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    own = Path.home() / ".cache" / "fairsweep"
    try:
        own.mkdir(parents=True, exist_ok=True)
        return own if os.access(own, os.W_OK) else _temporary_root() or own
    except OSError:
        return _temporary_root() or own


def _temporary_root() -> Path | None:
    """Return a folder among the temporary files; None where somebody else has taken its name."""
    folder = Path(tempfile.gettempdir()) / f"fairsweep-cache-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    return folder if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() else None


def open_copy(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], write: Callable[[ChecksumWriter], None], name: str
) -> NDArray[Any]:
    """Return the memory map of an array in the cache, building it under a lock if it is missing, damaged or cut short.

    Args:
        path: The file.
        shape: Shape of the array.
        dtype: Type of its numbers.
        write: Writes the numbers, in C order.
        name: What it is, for messages.

    Raises:
        DatasetError: If it cannot be kept.
    """
    size = math.prod(shape) * dtype.itemsize
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = _map(path, shape, dtype)
        if array is None:
            with FileLock(path.with_suffix(".lock")):
                # Another process may have built it while this one waited.
                array = _map(path, shape, dtype)
                if array is None:
                    evict(path.parent, size)
                    _build(path, shape, dtype, write)
                    array = _map(path, shape, dtype)
    except OSError as error:
        raise DatasetError(
            f"cannot keep {name} in {path.parent}: {error}; "
            f"set {CACHE_VARIABLE} to a folder with space for {size / 1e6:.0f} MB"
        ) from error
    if array is None:
        raise DatasetError(f"the copy {path} vanished while it was opened: is another program clearing {path.parent}?")
    return array


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Map a copy, or return None where there is none or it does not have the stated shape."""
    if not path.is_file():
        return None
    if 0 in shape:
        return np.empty(shape, dtype)
    try:
        with path.open("rb") as file:
            if not mark_used(file, path):
                return None
            np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0(file)
            if header != (shape, False, dtype) or not is_whole(file, path):
                return None
            # From the opened file and not from its path, so that the map keeps the mark.
            return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape)
    except (ValueError, EOFError, SyntaxError, TokenError):
        return None


def _build(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], write: Callable[[ChecksumWriter], None]) -> None:
    """Write a file under a temporary name, then rename it. The caller holds the lock."""
    with replaced(path) as temporary, temporary.open("wb") as opened:
        file = ChecksumWriter(opened)
        np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        write(file)
        file.finish()
