"""The location of a dataset: a folder on any pyarrow file system, local or remote."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from fairsweep.datasets.storage.layout import DatasetError

# A URI that went through pathlib has lost one of its slashes: s3:/bucket/faces.
_PART_BYTES = 255
_URI = re.compile(r"^([a-z][a-z0-9+.-]+):/{1,3}(?=[^/])")


@dataclass(frozen=True)
class Location:
    """A folder on a file system. Small and picklable: it travels to the workers that read it.

    Attributes:
        filesystem: The pyarrow file system.
        root: The folder's path on it.
        name: How to show it: as it was given, without credentials and options.
    """

    filesystem: fs.FileSystem = field(repr=False)
    root: str
    name: str

    @classmethod
    def of(cls, path: str | Path | Location, filesystem: fs.FileSystem | None = None) -> Location:
        """Find the file system of a path.

        Args:
            path: A local path, a URI (`s3://bucket/faces`, `gs://…`, `hdfs://…`; options of the file system follow a
                question mark, as `endpoint_override=HOST:PORT&scheme=http`), or a path on `filesystem`.
            filesystem: A pyarrow file system; None takes that of the URI, or the local one.

        Raises:
            DatasetError: The URI names no known file system.

        >>> Location.of("data/faces").name
        'data/faces'
        """
        if isinstance(path, Location):
            return path
        text = str(path)
        if filesystem is not None:
            return cls(filesystem, text.rstrip("/"), text)
        scheme = _URI.match(text)
        if scheme is None:
            return cls(fs.LocalFileSystem(), Path(text).absolute().as_posix(), text)
        uri = _URI.sub(r"\1:///" if scheme[1] == "file" else r"\1://", text)
        name = re.sub(r"//[^/@]*@", "//", uri.partition("?")[0])
        try:
            filesystem, root = fs.FileSystem.from_uri(uri)
        except (pa.ArrowException, OSError) as error:
            # The error may repeat the URI and with it credentials: it is shown without them, and not chained.
            reason = str(error).replace(uri, name)
            for secret in filter(None, (urlsplit(uri).username, urlsplit(uri).password)):
                reason = reason.replace(secret, "…")
            raise DatasetError(
                f"{name} is not on a file system that pyarrow can open ({reason}): "
                "check the URI's scheme (s3, gs, hdfs, abfs, file) and options, or pass filesystem="
            ) from None
        return cls(filesystem, root.rstrip("/"), name)

    @property
    def is_local(self) -> bool:
        """Whether this is a folder on this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def __str__(self) -> str:
        return self.name

    def path(self, file: str = "") -> str:
        """Return the path of a file of the folder on its file system."""
        return f"{self.root}/{file}" if file else self.root

    def describe(self, file: str = "") -> fs.FileInfo:
        """Return type and size of a file of the folder, or of the folder itself.

        Raises:
            OSError: The file system cannot be reached, or refuses.
        """
        return self.filesystem.get_file_info(self.path(file))

    def describe_all(self, files: Sequence[str]) -> list[fs.FileInfo]:
        """Return type and size of several files of the folder, in their order.

        Raises:
            OSError: The file system cannot be reached, or refuses.
        """
        described: list[fs.FileInfo] = self.filesystem.get_file_info([self.path(file) for file in files])
        return described

    def open(self, file: str) -> pa.NativeFile:
        """Open a file for reading at any place.

        Raises:
            OSError: It is not there or cannot be read.
        """
        return self.filesystem.open_input_file(self.path(file))

    def read(self, file: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: It is not there or cannot be read.
        """
        with self.open(file) as opened:
            content: bytes = opened.read()
        return content


def settled(path: Path) -> Path:
    """Return a path that does not depend on the working folder; a URI, which never does, stays as it is.

    Raises:
        DatasetError: It begins with `~NAME`, and there is no such user.

    >>> settled(Path("s3://bucket/faces"))
    PosixPath('s3:/bucket/faces')
    """
    if _URI.match(str(path)):
        return path
    try:
        found = path.expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:  # no such user, a null character, a loop of links
        raise DatasetError(f"{str(path)!r} is not a valid path on this machine: {error}") from error
    longest = max((os.fsencode(part) for part in found.parts), key=len)
    if len(longest) > _PART_BYTES or _is_too_long(found):
        raise DatasetError(
            f"a path must have parts of at most {_PART_BYTES} bytes, and at most 4,095 bytes in all, but got one of "
            f"{len(os.fsencode(found)):,} bytes with a part of {len(longest):,} bytes: choose a shorter one"
        )
    return found


def _is_too_long(path: Path) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False
