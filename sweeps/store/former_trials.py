"""Trials of earlier versions of a sweep file: found, and deleted on request."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from fairsweep.sweeps.store.folder_kind import no_sweep
from fairsweep.sweeps.store.ledger import Entry
from fairsweep.sweeps.store.output import OutputFolder


def find_former(folder: str | Path) -> tuple[Entry, ...]:
    """Return the trials that the sweep as it stands does not have, by the names of their folders.

    Raises:
        SweepError: if the folder holds no sweep, or a state file is damaged.
    """
    output = OutputFolder.at(folder)
    if output.description() is None:
        raise no_sweep(folder)
    return tuple(sorted(output.ledger.former().values(), key=lambda entry: entry.folder.name))


def delete_former(folder: str | Path, trials: Sequence[Entry]) -> None:
    """Delete trials that `find_former` found, as far as the sweep still does not have them.

    Raises:
        SweepError: if a driver runs the sweep.
    """
    with OutputFolder.at(folder).held():
        former = {entry.folder for entry in find_former(folder)}
        for trial in trials:
            if trial.folder in former:
                # The state goes first with its folder's name: half a folder is nobody's trial.
                hidden = trial.folder.rename(trial.folder.with_name(f".{trial.folder.name}.deleted"))
                shutil.rmtree(hidden)
