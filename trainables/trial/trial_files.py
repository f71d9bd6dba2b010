"""Files in a trial's folder that are not records: checkpoints and temporary files. Loads no torch."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from fairsweep.analysis.records.files import remove_temporary
from fairsweep.trainables.trial.trial_secret import erase_secret

CHECKPOINTS = "checkpoints"
# Others' files may lie beside ours: "000003 (1).pt" of a synced drive, .DS_Store, .nfs0000…
_NAME = re.compile(r"\d{6,}\.(json|pt)")


def checkpoint_files(folder: Path) -> list[Path]:
    """Our files in a folder of checkpoints; a checkpoint without its checksum counts as absent, so those come first."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.suffix != ".json")


def folder_bytes(folder: Path) -> int:
    """Return what a folder of checkpoints takes on disk; 0 where there is none."""
    return sum(path.stat().st_size for path in checkpoint_files(folder)) if folder.is_dir() else 0


def clear_checkpoints(folder: Path) -> None:
    """Delete every checkpoint in a folder, and the folder."""
    if not folder.is_dir():
        return
    for path in checkpoint_files(folder):
        path.unlink(missing_ok=True)
    remove_temporary(folder)
    with suppress(OSError):  # somebody else's files: a file manager's, a network drive's
        folder.rmdir()


def clean_up(folder: Path) -> None:
    """Delete what a trial that is done no longer needs: checkpoints, what killed writers left, a release's secret."""
    clear_checkpoints(folder / CHECKPOINTS)
    remove_temporary(folder)
    erase_secret(folder)
