"""Where a command writes a file to; in a module of its own, for what reads sweeps takes long to load."""

from __future__ import annotations

from pathlib import Path

from fairsweep.sweeps.syntax.errors import SweepError


def in_a_folder(path: Path | None) -> Path | None:
    """Return a file that is to be written, before any work for it starts.

    Raises:
        SweepError: if its folder does not exist.
    """
    if path is not None and not path.parent.is_dir():
        raise SweepError(f"cannot write {path}: there is no folder {path.parent}; make it, or name a file elsewhere")
    return path
