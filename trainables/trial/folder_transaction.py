"""Atomic changes to several files of one folder: all of them or none, whenever the process ends.

New files are written into a hidden folder inside. One file, written last, commits: from then on whoever opens the
folder finishes moving them into place; without it they are thrown away.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fairsweep.analysis.records.files import read_json, write_json

_INSIDE = ".transaction"
_COMMIT = "commit.json"


class FolderTransaction:
    """A set of changes that is being prepared.

    Args:
        folder: The folder. `recover` must have been called on it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inside = folder / _INSIDE
        shutil.rmtree(self._inside, ignore_errors=True)
        self._inside.mkdir()
        self._names: list[str] = []
        self._removed: list[str] = []

    def stage(self, name: str) -> Path:
        """Return where to write a file that will be called ``name``."""
        self._names.append(name)
        return self._inside / name

    def remove(self, name: str) -> None:
        """Says that a file goes; it is overwritten before it is deleted."""
        self._removed.append(name)

    def commit(self) -> None:
        """Make all changes; after a crash within, `recover` makes the rest."""
        content = {"names": self._names, "removed": self._removed}
        _flush(self._inside)
        write_json(self._inside / _COMMIT, content)
        _flush(self._inside)
        _apply(self._folder)


def recover(folder: Path) -> None:
    """Finishes changes that were committed, and drops those that were not.

    Args:
        folder: The folder.
    """
    if (folder / _INSIDE / _COMMIT).is_file():
        _apply(folder)
    else:
        shutil.rmtree(folder / _INSIDE, ignore_errors=True)


def _apply(folder: Path) -> None:
    inside = folder / _INSIDE
    content = read_json(inside / _COMMIT)
    for name in content["names"]:
        # What is not there any more was moved before a crash.
        if (inside / name).exists():
            (inside / name).replace(folder / name)
    for name in content["removed"]:
        _wipe(folder / name)
    _flush(folder)
    # The order to finish goes last and at once: without it, what is left counts as not committed.
    (inside / _COMMIT).unlink()
    shutil.rmtree(inside)


def _wipe(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
