"""The raw files of a dataset as they came: a folder with all that lies below it, or a zip.

Nothing is ever unpacked. Every process opens a zip once, lists a folder once, and looks again only when either changed.
"""

import functools
import hashlib
import itertools
import os
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# A folder changed this recently (seconds) may change again without a new time stamp, so its listing is not kept.
_SETTLED = 2.0
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DRIVE = re.compile(r"[A-Za-z]:")


class RawFiles(Protocol):
    """Files under one path, to be listed and read."""

    @property
    def path(self) -> Path:
        """The folder or zip."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of all visible files relative to `path`, with `/` between folders, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """Reads a file whole.

        Raises:
            OSError: It cannot be read.
            zipfile.BadZipFile: Its zip is damaged where it lies.
        """
        ...

    def size(self, name: str) -> int:
        """Returns the bytes of a file.

        Raises:
            OSError: It is not there any more.
        """
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
        """Reads a file whole; see `RawFiles.read`."""
        return (self.path / name).read_bytes()

    def size(self, name: str) -> int:
        """Returns the bytes of a file; see `RawFiles.size`."""
        return (self.path / name).stat().st_size


@dataclass(frozen=True, eq=False)
class ZipFiles:
    """Files of a zip, which stays open."""

    path: Path
    names: tuple[str, ...]
    archive: zipfile.ZipFile

    def read(self, name: str) -> bytes:
        """Reads a file whole; see `RawFiles.read`."""
        return self.archive.read(name)

    def size(self, name: str) -> int:
        """Returns the bytes of a file; see `RawFiles.size`."""
        return self.archive.getinfo(name).file_size


def open_raw(path: str | Path) -> RawFiles:
    """Opens a folder or a zip.

    Args:
        path: Where it lies.

    Returns:
        Its files; the same object again for as long as nothing there changes.

    Raises:
        ValueError: There is nothing, it is neither a folder nor a zip, or the zip has names that climb out of it, names
            that occur twice, or a password.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise ValueError(f"raw data must be a folder or a zip, but there is nothing at {path}: check the path")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"raw data must be a folder or a whole zip, but {path} is neither: unpack it, give the folder")
    status = path.stat()
    # The process is part of the key: a fork that shares an open file with its parent moves the parent's place in it.
    return _open_zip(path, status.st_size, status.st_mtime_ns, os.getpid())


def fingerprint(files: RawFiles) -> str:
    """Hashes names and sizes of all files: files that were added, taken away or replaced change it.

    Equal for a folder and for a zip of it, on every machine.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in files.names:
        digest.update(f"{name}\0{files.size(name)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def only(names: list[str], what: str, where: Path, remedy: str) -> str | None:
    """Returns the one name of a list, or None for an empty list.

    Raises:
        ValueError: There are several, so that none can be preferred.
    """
    if len(names) > 1:
        raise ValueError(f"there must be one {what}, but {where} has {len(names)}: {first_five(names)}; {remedy}")
    return names[0] if names else None


def first_five(names: list[str]) -> str:
    """Lists the first five names of a list, for an error message.

    >>> first_five(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d, e, …'
    """
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


_folders: dict[Path, tuple[dict[str, int], FolderFiles]] = {}


def _open_folder(path: Path) -> FolderFiles:
    """Lists a folder, or returns its last listing where no folder in it has changed since."""
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
    """Returns when a folder last gained or lost an entry, in nanoseconds; -1 where it is gone."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return -1


def _walk(folder: Path, prefix: str, stamps: dict[str, int], seen: set[tuple[int, int]]) -> Iterator[str]:
    """Gives the visible files below a folder; notes when each folder changed, enters none twice (links may circle)."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    stamps[str(folder)] = status.st_mtime_ns
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _visible(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", stamps, seen)
            elif entry.is_file():
                yield prefix + entry.name


@functools.lru_cache(maxsize=4)
def _open_zip(path: Path, size: int, changed: int, process: int) -> ZipFiles:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"the zip {path} cannot be read ({error}): fetch it again") from error
    members = archive.infolist()
    climbing = [member.filename for member in members if _climbs(member.filename)]
    if climbing:
        raise ValueError(
            f"names in a zip must stay inside it, but {len(climbing)} in {path} climb out: {first_five(climbing)}; "
            "do not trust this file, fetch it from its publisher"
        )
    if any(member.flag_bits & 0x1 for member in members):
        raise ValueError(f"the zip {path} is encrypted: unpack it with its password and give the folder")
    if any(member.compress_type not in _COMPRESSIONS for member in members):
        raise ValueError(f"the zip {path} is compressed in a way that Python cannot read: unpack it, give the folder")
    names = sorted(m.filename for m in members if not m.is_dir() and all(map(_visible, m.filename.split("/"))))
    twice = [name for name, following in itertools.pairwise(names) if name == following]
    if twice:
        raise ValueError(f"each name must occur once, but {len(twice)} occur again in {path}: {first_five(twice)}")
    return ZipFiles(path, tuple(names), archive)


def _climbs(name: str) -> bool:
    path = name.replace("\\", "/")
    return path.startswith("/") or _DRIVE.match(path) is not None or ".." in path.split("/")


def _visible(name: str) -> bool:
    """Whether a file or folder is part of the data, and not left there by a file manager or an archiver."""
    return not name.startswith(".") and name != "__MACOSX"
