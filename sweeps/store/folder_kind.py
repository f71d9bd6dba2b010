"""What a folder is: commands recognise each other's folders, and say so where another kind was meant."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

from fairsweep.analysis.records.columns import CONFIG, STATE, SWEEP_JSON, SWEEP_YAML, TRIALS
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
    """The error that a folder is not the output folder of a sweep; the message says what it is, and what to give."""
    return SweepError(f"{folder} {_instead(Path(folder))}")


def _instead(folder: Path) -> str:
    if not folder.exists():
        return "holds no sweep: there is no such folder; list the sweeps that there are with: fairsweep ls"
    if not folder.is_dir():
        return "holds no sweep: it is a file; give the output folder of a sweep"
    names = {path.name for path in folder.iterdir()}
    if INSIDE in names:
        return "is the mirror of a sweep; go on from it with: fairsweep resume MIRROR --to FOLDER"
    if INFO_FILE in names:
        return f"is a prepared dataset, not a sweep; look at it with: fairsweep show {shlex.quote(str(folder))}"
    if names & {CONFIG, STATE} and folder.parent.name == TRIALS:
        return f"is one trial; give its sweep, {folder.parent.parent}"
    if TRIALS in names and any((trial / STATE).exists() for trial in (folder / TRIALS).iterdir()):
        return (
            f"holds trials, but neither {SWEEP_JSON} nor {SWEEP_YAML} can be read; run the sweep's file again with: "
            f"fairsweep run FILE --output {shlex.quote(str(folder))} (what is done stays)"
        )
    inside = [path.name for path in sorted(folder.iterdir()) if (path / SWEEP_JSON).exists()]
    if inside:
        return f"holds sweeps, but is none: give one of them, such as {folder / inside[0]}"
    return f"holds no sweep: there is no {SWEEP_JSON} in it; run one with: fairsweep run FILE"
