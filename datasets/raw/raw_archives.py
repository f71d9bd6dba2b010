"""Raw files inside an archive: a zip, or a (compressed) tar. Nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import functools
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairsweep.datasets.raw.file_kinds import what_it_is
from fairsweep.datasets.raw.raw_names import check_members, member_name, visible

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_UTF8_NAME = 0x800
ARCHIVE_DAMAGE = (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError)
"""What Python raises for an archive that is broken where a member lies."""


@dataclass(frozen=True, eq=False)
class ZipFiles:
    """Files of a zip, which stays open."""

    path: Path
    names: tuple[str, ...]
    archive: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]

    def read(self, name: str) -> bytes:
        """Read a file whole; see `RawFiles.read`."""
        return self.archive.read(self.members[name])

    def size(self, name: str) -> int:
        """Return the bytes of a file; see `RawFiles.size`."""
        return self.members[name].file_size

    def place(self, _name: str) -> int:
        """Return 0: every file of a zip is reached at once; see `RawFiles.place`."""
        return 0


@dataclass(frozen=True, eq=False)
class TarFiles:
    """Files of a tar, which stays open. One that is compressed as a whole is read from its start up to each file."""

    path: Path
    names: tuple[str, ...]
    archive: tarfile.TarFile
    members: Mapping[str, tarfile.TarInfo]

    def read(self, name: str) -> bytes:
        """Read a file whole; see `RawFiles.read`."""
        file = self.archive.extractfile(self.members[name])
        if file is None:
            raise OSError(f"{name} is no file")
        return file.read()

    def size(self, name: str) -> int:
        """Return the bytes of a file; see `RawFiles.size`."""
        return self.members[name].size

    def place(self, name: str) -> int:
        """Return where a file begins in the tar; see `RawFiles.place`."""
        return self.members[name].offset_data

    def __del__(self) -> None:
        """Close the tar."""
        self.archive.close()


def open_archive(path: Path) -> ZipFiles | TarFiles:
    """Open a zip, or a tar in any of Python's compressions; what it is decides, not how it is called.

    Raises:
        ValueError: It is neither, is damaged or encrypted, or has names that climb out of it or occur twice.
    """
    status = path.stat()
    # The process is part of the key: a fork that shares an open file with its parent moves the parent's place in it.
    return _open(path, status.st_size, status.st_mtime_ns, os.getpid())


@functools.lru_cache(maxsize=4)
def _open(path: Path, _size: int, _changed: int, _process: int) -> ZipFiles | TarFiles:
    if zipfile.is_zipfile(path):
        return _open_zip(path)
    archive = _tar(path)
    if archive is not None:
        return _open_tar(path, archive)
    with path.open("rb") as file:
        kind = what_it_is(file.read(512))
    raise ValueError(
        f"raw data must be a folder, a zip or a tar (.tar, .tar.gz, .tgz), but {path.name} {kind}; unpack it and give "
        "the folder, or download it again"
    )


def _open_zip(path: Path) -> ZipFiles:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"the zip {path} cannot be read ({error}): download it again") from error
    members = archive.infolist()
    if any(member.flag_bits & 0x1 for member in members):
        raise ValueError(f"the zip {path} is encrypted: unpack it with its password and give the folder")
    if any(member.compress_type not in _COMPRESSIONS for member in members):
        raise ValueError(f"the zip {path} is compressed in a way that Python cannot read: unpack it, give the folder")
    files = [(name, member) for member in members if not (name := _zip_name(member)).endswith("/")]
    check_members([name for name, _ in files], path)
    return ZipFiles(path, _listed(name for name, _ in files), archive, dict(files))


def _zip_name(member: zipfile.ZipInfo) -> str:
    """Return a member's name: some archivers of Windows write backslashes, those of macOS UTF-8 without saying so."""
    name = member.filename
    if not member.flag_bits & _UTF8_NAME and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return member_name(name)


def _tar(path: Path) -> tarfile.TarFile | None:
    """Open a tar; None where it is none."""
    try:
        return tarfile.open(path)
    except (tarfile.ReadError, OSError, EOFError, zlib.error, lzma.LZMAError):
        return None


def _open_tar(path: Path, archive: tarfile.TarFile) -> TarFiles:
    try:
        files = [(member_name(member.name), member) for member in archive if member.isfile()]
        check_members([name for name, _ in files], path)
    except ARCHIVE_DAMAGE as error:
        archive.close()
        raise ValueError(f"the tar {path} is truncated or damaged ({error}): download it again") from error
    except ValueError:
        archive.close()
        raise
    return TarFiles(path, _listed(name for name, _ in files), archive, dict(files))


def _listed(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if all(map(visible, name.split("/")))))
