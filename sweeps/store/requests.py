"""Requests to a running driver, as files in the sweep's folder: they work from any terminal or machine."""

from __future__ import annotations

import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from fairsweep.analysis.records.files import write_json
from fairsweep.sweeps.store.ledger import Entry
from fairsweep.sweeps.store.output import STOP_REQUESTS, OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.sweep_file import nearest

_LISTED = 4


@dataclass(frozen=True)
class Stopping:
    """What became of a request to stop.

    Attributes:
        running: whether a driver held the folder when it was asked.
        ended: whether what was asked for had happened when the wait ended.
    """

    running: bool
    ended: bool


def stop_sweep(folder: str | Path, *, trial: str | None = None, wait_seconds: float = 60.0) -> Stopping:
    """Ask the driver that holds a folder to end as on Ctrl-C, or to stop one trial, and wait for it.

    Args:
        folder: the output folder of the sweep.
        trial: name of a trial's folder, or the start of its name or hash; None stops the whole sweep.
        wait_seconds: how long to wait for the driver.

    Raises:
        SweepError: if the folder holds no sweep, or no such trial.
    """
    output = OutputFolder.at(folder)
    output.sweep()
    entry = None if trial is None else find_trial(output, trial)
    if output.holder() is None:
        return Stopping(running=False, ended=True)
    request = output.path / STOP_REQUESTS.replace("*", uuid.uuid4().hex)
    asked = {"trial": None if entry is None else entry.state.trial, "host": socket.gethostname(), "asked": time.time()}
    write_json(request, asked)
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        if _has_stopped(output, entry):
            request.unlink(missing_ok=True)
            return Stopping(running=True, ended=True)
        time.sleep(0.2)
    return Stopping(running=True, ended=False)


def _has_stopped(output: OutputFolder, entry: Entry | None) -> bool:
    if output.holder() is None:
        return True
    state = None if entry is None else entry.now()
    return state is not None and state.state not in ("queued", "running")


def find_trial(output: OutputFolder, name: str) -> Entry:
    """Return the trial of a name.

    Args:
        output: the sweep's folder.
        name: of the trial's folder or a path to it, or the start of its name or hash.

    Raises:
        SweepError: if there is none, or more than one.
    """
    entries = list(output.ledger.entries().values())
    name = Path(name).name
    exact = [entry for entry in entries if name in (entry.folder.name, entry.state.trial)]
    found = exact or [e for e in entries if e.folder.name.startswith(name) or e.state.trial.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        first = ", ".join(sorted(entry.folder.name for entry in found)[:_LISTED])
        raise SweepError(f"{len(found)} trials are named {name}…: {first}; give more of the name")
    names = [entry.folder.name for entry in entries]
    hint = nearest(name, names)
    if len(names) > _LISTED and hint.startswith("known"):
        hint = f"`fairsweep ls SWEEP` lists the {len(names):,} that there are"
    raise SweepError(f"there is no trial {name!r}: {hint}")
