"""The kind of a folder (sweep, trial, mirror, dataset), for error messages when another kind was expected."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

from fairsweep.analysis.records.file_names import CONFIG, STATE, SWEEP_JSON, SWEEP_YAML, TRIALS
from fairsweep.datasets.storage.layout import INFO_FILE
from fairsweep.sweeps.store.folder_copy import INSIDE
from fairsweep.sweeps.syntax.errors import SweepError

LOCK = ".lock"
"""Held by the driver of an output folder; stays there."""
_LITTER = frozenset({"desktop.ini", "thumbs.db"})


def is_visible(name: str) -> bool:
    """Whether a name counts as content of a folder: not hidden, and nothing that a file manager leaves everywhere."""
    return not name.startswith(".") and name.lower() not in _LITTER


def is_output(names: Collection[str]) -> bool:
    """Whether a folder with files and folders of these names is the output of a sweep: a sweep file alone is not."""
    return SWEEP_JSON in names or (SWEEP_YAML in names and (TRIALS in names or LOCK in names))


def no_sweep(folder: str | Path) -> SweepError:
    """Return the error that a folder is not the output folder of a sweep.

    The message says what it is, and what to give.
    """
    return SweepError(f"{folder} {_instead(Path(folder))}")


def _instead(folder: Path) -> str:
    if not folder.exists():
        return "is not a sweep folder: it does not exist; list the existing sweeps with: fairsweep ls"
    if not folder.is_dir():
        return "is not a sweep folder: it is a file; give a sweep's output folder"
    names = {path.name for path in folder.iterdir()}
    if INSIDE in names:
        return "is the mirror of a sweep; resume from it with: fairsweep resume MIRROR --to SWEEP"
    if INFO_FILE in names:
        return f"is a prepared dataset, not a sweep; look at it with: fairsweep show {shlex.quote(str(folder))}"
    if names & {CONFIG, STATE} and folder.parent.name == TRIALS:
        return f"is one trial; give its sweep, {folder.parent.parent}"
    if TRIALS in names and any((trial / STATE).exists() for trial in (folder / TRIALS).iterdir()):
        return (
            f"holds trials, but neither {SWEEP_JSON} nor {SWEEP_YAML} can be read; run the sweep's file again with: "
            f"fairsweep run FILE --output {shlex.quote(str(folder))} (finished trials are skipped)"
        )
    inside = [path.name for path in sorted(folder.iterdir()) if (path / SWEEP_JSON).exists()]
    if inside:
        return f"is a folder of sweeps, not a sweep folder: give one of them, such as {folder / inside[0]}"
    return f"is not a sweep folder: there is no {SWEEP_JSON} in it; run one with: fairsweep run FILE"
