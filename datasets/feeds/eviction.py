"""Size limit for a machine's decoded copies: the least recently opened one is deleted first.

Whoever maps a copy holds a shared lock on its file for as long as the map lives, and a copy is only evicted under an
exclusive one: what a trial reads is never taken from under it, also on a network file system. The lock goes with the
process, however it ends.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

try:
    import fcntl
except ModuleNotFoundError:  # pragma: no cover - Windows, which refuses by itself to delete a mapped file
    fcntl = None  # type: ignore[assignment]

LIMIT_VARIABLE = "FAIRSWEEP_CACHE_LIMIT_GB"
_DEFAULT_LIMIT_GB = 100.0


def cache_limit() -> int:
    """Return how many bytes copies may take together: `FAIRSWEEP_CACHE_LIMIT_GB` from the environment, or 100 GB.

    Raises:
        ValueError: The variable does not hold a number >= 0.
    """
    text = os.environ.get(LIMIT_VARIABLE, str(_DEFAULT_LIMIT_GB))
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise ValueError(f"{LIMIT_VARIABLE} must be a number of gigabytes >= 0, but got {text!r}")
    return int(min(limit, 1e9) * 1e9)


def mark_used(file: IO[bytes], path: Path) -> bool:
    """Mark an opened copy as in use, for as long as it or a map of it stays open.

    Args:
        file: The copy, opened for reading.
        path: Where it was opened.

    Returns:
        Whether the copy is still there: another process may have evicted it in the moment between.
    """
    if fcntl is not None:
        # A map of the file shares this lock and keeps it after the file itself is closed.
        fcntl.flock(file, fcntl.LOCK_SH)
    try:
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    except PermissionError:
        pass  # another user's copy: good to read, its age is theirs to keep
    return True


def evict(folder: Path, room: int, limit: int | None = None) -> list[Path]:
    """Delete copies, oldest use first, until those that stay and a new one are within the limit.

    Args:
        folder: The folder of copies.
        room: Bytes of the new copy.
        limit: Bytes that all may take together; None takes `cache_limit()`.

    Returns:
        What was deleted. Copies in use stay, even where that leaves more than the limit.
    """
    limit = cache_limit() if limit is None else limit
    copies = []
    for path in folder.glob("*.npy"):
        try:
            copies.append((path.stat().st_mtime_ns, path, path.stat().st_size))
        except FileNotFoundError:
            continue  # another process evicts too
    excess = sum(size for _, _, size in copies) + room - limit
    gone = []
    for _, path, size in sorted(copies):
        if excess <= 0:
            break
        if _delete_unused(path):
            gone.append(path)
            excess -= size
    return gone


def _delete_unused(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:  # in use, gone already, or not ours to delete
        return False
    return True
