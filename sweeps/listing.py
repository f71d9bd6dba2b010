"""What lies in output folders: every sweep under a folder, every trial of a sweep, and where each stands."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from fairsweep.analysis.records import CONFIG, SWEEP_JSON, RecordError, read_json
from fairsweep.sweeps.errors import SweepError
from fairsweep.sweeps.ledger import Entry
from fairsweep.sweeps.output import Holder, OutputFolder
from fairsweep.trainables.state import Stage

STAGES: tuple[Stage, ...] = get_args(Stage)
_DEEPEST = 5


@dataclass(frozen=True)
class SweepLine:
    """One sweep.

    Attributes:
        path: its output folder.
        name: its name.
        updated: when a driver last began to run it, ISO 8601.
        trials: how many trials it has.
        counts: trials in each state; those that no driver has queued yet count as queued.
        holder: the driver that runs it now; None if there is none.
    """

    path: Path
    name: str
    updated: str
    trials: int
    counts: dict[str, int]
    holder: Holder | None


@dataclass(frozen=True)
class TrialLine:
    """One trial.

    Attributes:
        name: name of its folder.
        trial: its hash.
        learner: name of its learner; empty before it has started.
        state: queued, running, done, failed or stopped. A state of running that no driver stands for is what a killed
            one left: the trial goes on with the next run.
        by: who stopped it, if it is stopped.
        attempts: how often a worker has started it, or been about to.
        iteration: iterations done and recorded.
        iterations: iterations in all; 0 before it has started.
        cause: of a failure or a stop, one line.
    """

    name: str
    trial: str
    learner: str
    state: str
    by: str | None
    attempts: int
    iteration: int
    iterations: int
    cause: str | None


def list_sweeps(folder: str | Path, *, former: bool = False) -> tuple[SweepLine, ...]:
    """Every sweep in a folder and below it, by path.

    Args:
        folder: where they lie.
        former: whether trials of their earlier versions count too.

    Raises:
        SweepError: if there is no such folder, or a state file is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SweepError(f"{folder} must be a folder, but is none; name the folder that holds your sweeps")
    return tuple(_sweep_line(path, former=former) for path in sorted(_sweeps(root)))


def list_trials(folder: str | Path, *, former: bool = False) -> tuple[TrialLine, ...]:
    """Every trial in the output folder of a sweep, by name.

    Args:
        folder: the output folder.
        former: whether trials of earlier versions of the sweep are listed too.

    Raises:
        SweepError: if the folder holds no sweep, or a state file is damaged.
    """
    output = OutputFolder.at(folder)
    if output.description() is None:
        raise SweepError(f"{folder} holds no sweep: there is no sweep.json in it")
    return tuple(_trial_line(entry) for entry in _entries(output, former=former).values())


def _sweeps(root: Path) -> Iterator[Path]:
    deepest = len(root.parts) + _DEEPEST
    for place, folders, files in os.walk(root):
        if SWEEP_JSON in files:
            folders.clear()
            yield Path(place)
        elif len(Path(place).parts) >= deepest:
            folders.clear()
        else:
            folders[:] = [name for name in folders if not name.startswith(".")]


def _entries(output: OutputFolder, *, former: bool) -> dict[str, Entry]:
    return output.ledger.entries() if former else output.ledger.members()


def _sweep_line(path: Path, *, former: bool) -> SweepLine:
    output = OutputFolder.at(path)
    description = output.description() or {}
    counts: dict[str, int] = dict.fromkeys(STAGES, 0)
    entries = _entries(output, former=former)
    for entry in entries.values():
        counts[entry.state.state] += 1
    trials = max(int(description.get("trials", 0)), len(entries))
    counts["queued"] += trials - len(entries)
    return SweepLine(
        path, str(description.get("name", "?")), str(description.get("updated", "")), trials, counts, output.holder()
    )


def _trial_line(entry: Entry) -> TrialLine:
    state = entry.state
    return TrialLine(
        name=entry.folder.name,
        trial=state.trial,
        learner=_learner(entry.folder),
        state=state.state,
        by=state.by if state.state == "stopped" else None,
        # A driver that queues a trial takes a number too.
        attempts=max(0, state.attempt - state.run),
        iteration=state.iteration,
        iterations=state.iterations,
        cause=state.error if state.state == "failed" else (state.reason if state.state == "stopped" else None),
    )


def _learner(folder: Path) -> str:
    try:
        return str(read_json(folder / CONFIG)["learner"]["name"])
    except (FileNotFoundError, RecordError, KeyError):
        return ""
