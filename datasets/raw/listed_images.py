"""Lookup of the images that a table lists, by path in any of the usual forms."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fairsweep.datasets.raw.raw_files import RawFiles
from fairsweep.datasets.raw.raw_images import SUFFIXES


@dataclass(frozen=True, eq=False)
class ImageFinder:
    """The files of a folder or archive, by the forms in which a table may name them.

    A path is looked up as it stands, then in any case (`1.JPG` for `1.jpg`), then without its extension.

    Attributes:
        exact: The file of each path.
        folded: The file of each path in small letters; None where several would answer.
        stems: The image of each path without extension; None likewise.
    """

    exact: Mapping[str, str]
    folded: Mapping[str, str | None]
    stems: Mapping[str, str | None]

    @classmethod
    def of(cls, files: RawFiles) -> ImageFinder:
        """Take the names of files together."""
        exact = {normal(name): name for name in files.names}
        images = {path: name for path, name in exact.items() if path.lower().endswith(SUFFIXES)}
        return cls(
            exact,
            _unique((path.lower(), name) for path, name in exact.items()),
            _unique((path.rpartition(".")[0], name) for path, name in images.items()),
        )

    def find(self, path: str) -> str | None:
        """Return the file of a path, relative and in normal form; None where there is none, or more than one."""
        return self.exact.get(path) or self.folded.get(path.lower()) or self.stems.get(path)


def normal(path: str) -> str:
    """Write a path in the form in which paths are compared: `/` between folders, one Unicode form."""
    return unicodedata.normalize("NFC", path.replace("\\", "/")).removeprefix("./")


def relative_paths(paths: Sequence[str], raw: Path, finder: ImageFinder) -> list[str]:
    """Make absolute paths relative, written on another machine or for another place of the images.

    Where all lie below `raw`, that is taken off; else as many of the folders that all of them share as it takes to find
    most of the images.

    Args:
        paths: Absolute paths in normal form.
        raw: The folder or archive.
        finder: Its files.
    """
    own = f"{raw.as_posix()}/"
    if all(path.startswith(own) for path in paths):
        return [path.removeprefix(own) for path in paths]
    folders = [PurePosixPath(path).parts[:-1] for path in paths]
    shared = 0
    while all(len(parts) > shared and parts[shared] == folders[0][shared] for parts in folders):
        shared += 1
    choices = [["/".join(PurePosixPath(path).parts[skipped:]) for path in paths] for skipped in range(1, shared + 1)]
    return max(choices, key=lambda found: sum(finder.find(path) is not None for path in found))


def is_absolute(path: str) -> bool:
    """Whether a path in normal form is absolute, on Windows or elsewhere."""
    return path.startswith("/") or path[1:3] == ":/"


def _unique(items: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for key, name in items:
        found[key] = None if key in found else name
    return found
