"""The raw files of a dataset: a folder tree, a zip, or a tar.

Nothing is ever unpacked. Every process opens an archive once, lists a folder once, and looks again only when either
changed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fairsweep.datasets.raw.raw_archives import ARCHIVE_DAMAGE, open_archive
from fairsweep.datasets.raw.raw_names import first_five, visible

# A folder changed this recently (seconds) may change again without a new time stamp, so its listing is not kept.
_SETTLED = 2.0
MAX_FILE_BYTES = 2**30
"""A raw file that is larger, or would be once it is decompressed, is refused before it fills the memory."""


class RawFiles(Protocol):
    """Files under one path, to be listed and read."""

    @property
    def path(self) -> Path:
        """The folder or archive."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of all visible files relative to `path`, with `/` between folders, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """Read a file whole.

        Raises:
            OSError: It cannot be read; of an archive also the others of `ARCHIVE_DAMAGE`.
        """
        ...

    def size(self, name: str) -> int:
        """Return the bytes of a file.

        Raises:
            OSError: It is not there any more.
        """
        ...

    def place(self, name: str) -> int:
        """Says in which order many files are read fastest: by ascending places; equal where the order is the same."""
        ...

    def __hash__(self) -> int:
        """Equal for the same object alone: what is known of its files can be kept under it."""
        ...


@dataclass(frozen=True, eq=False)
class FolderFiles:
    """Files of a folder and its subfolders, links followed."""

    path: Path
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """Read a file whole; see `RawFiles.read`."""
        return (self.path / name).read_bytes()

    def size(self, name: str) -> int:
        """Return the bytes of a file; see `RawFiles.size`."""
        return (self.path / name).stat().st_size

    def place(self, _name: str) -> int:
        """Return 0: every file of a folder is reached at once; see `RawFiles.place`."""
        return 0


def open_raw(path: str | Path) -> RawFiles:
    """Open a folder, a zip or a tar.

    Args:
        path: Where it lies.

    Returns:
        Its files; the same object again for as long as nothing there changes.

    Raises:
        ValueError: There is nothing, it is none of these, or the archive is damaged, has a password, or has names that
            climb out of it or occur twice.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise ValueError(f"raw data must be a folder, a zip or a tar, but there is nothing at {path}: check the path")
    return open_archive(path)


def read_table_file(files: RawFiles, name: str) -> bytes:
    """Read a table of a folder or archive.

    Raises:
        ValueError: It is larger than a table may be, or cannot be read.
    """
    try:
        size = files.size(name)
        if size > MAX_FILE_BYTES:
            raise ValueError(
                f"a table must have at most {MAX_FILE_BYTES / 1e9:.1f} GB, but {name} in {files.path} has "
                f"{size / 1e9:.1f} GB: is it the right file?"
            )
        return files.read(name)
    except ARCHIVE_DAMAGE as error:
        raise ValueError(f"{name} in {files.path} cannot be read ({error}): download it again") from error


def fingerprint(files: RawFiles) -> str:
    """Hashes names and sizes of all files: files that were added, taken away or replaced change it.

    Equal for a folder and for an archive of it, on every machine.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in files.names:
        digest.update(f"{name}\0{files.size(name)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def only(names: list[str], what: str, where: Path, remedy: str) -> str | None:
    """Return the one name of a list, or None for an empty list.

    Raises:
        ValueError: There are several, so that none can be preferred.
    """
    if len(names) > 1:
        raise ValueError(f"there must be one {what}, but {where} has {len(names)}: {first_five(names)}; {remedy}")
    return names[0] if names else None


_folders: dict[Path, tuple[dict[str, int], FolderFiles]] = {}


def _open_folder(path: Path) -> FolderFiles:
    """List a folder, or returns its last listing where no folder in it has changed since."""
    known = _folders.get(path)
    if known is not None and all(_changed(folder) == stamp for folder, stamp in known[0].items()):
        return known[1]
    stamps: dict[str, int] = {}
    files = FolderFiles(path, tuple(sorted(_walk(path, "", stamps, set()))))
    if time.time_ns() - max(stamps.values()) > _SETTLED * 1e9:
        # One listing is kept: preparing opens one folder again and again, never many in turn.
        _folders.clear()
        _folders[path] = (stamps, files)
    return files


def _changed(folder: str) -> int:
    """Return when a folder last gained or lost an entry, in nanoseconds; -1 where it is gone."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return -1


def _walk(folder: Path, prefix: str, stamps: dict[str, int], seen: set[tuple[int, int]]) -> Iterator[str]:
    """Give the visible files below a folder; notes when each folder changed, enters none twice (links may circle)."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    stamps[str(folder)] = status.st_mtime_ns
    with os.scandir(folder) as entries:
        for entry in entries:
            if not visible(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", stamps, seen)
            elif entry.is_file():
                yield prefix + entry.name
