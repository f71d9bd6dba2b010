"""Listings of output folders: the sweeps in a folder, the trials of a sweep, and their progress."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fairsweep.analysis.records.file_names import TRIALS
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.records.trial_state import STAGES
from fairsweep.sweeps.store.folder_kind import is_output
from fairsweep.sweeps.store.ledger import Entry
from fairsweep.sweeps.store.output import Holder, OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError

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
        problem: what of its own files is damaged, and what to do, one line; None if nothing is.
    """

    path: Path
    name: str
    updated: str
    trials: int
    counts: dict[str, int]
    holder: Holder | None
    problem: str | None = None


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
        cause: of a failure or a stop, or what is damaged, one line.
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
        SweepError: if there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SweepError(f"{folder} must be a folder, but is not; give the folder that holds your sweeps")
    return tuple(_sweep_line(path, former=former) for path in sorted(_sweeps(root)))


def list_trials(folder: str | Path, *, former: bool = False) -> tuple[TrialLine, ...]:
    """Every trial in the output folder of a sweep, by name.

    Args:
        folder: the output folder.
        former: whether trials of earlier versions of the sweep are listed too.

    Raises:
        SweepError: if the folder holds no sweep.
    """
    output = OutputFolder.at(folder)
    output.sweep()
    trials = output.path / TRIALS
    lines = {entry.folder.name: _trial_line(entry) for entry in _entries(output, former=former).values()}
    for lost in output.ledger.damaged(thorough=False):
        learner = _learner(trials / lost.name)
        known = lines.get(lost.name, TrialLine(lost.name, lost.trial, learner, "failed", None, 0, 0, 0, None))
        lines[lost.name] = replace(known, cause=lost.cause)
    return tuple(lines[name] for name in sorted(lines))


def _sweeps(root: Path) -> Iterator[Path]:
    deepest = len(root.parts) + _DEEPEST
    for place, folders, files in os.walk(root):
        if is_output([*files, *folders]):
            folders.clear()
            yield Path(place)
        elif len(Path(place).parts) >= deepest:
            folders.clear()
        else:
            folders[:] = [name for name in folders if not name.startswith(".")]


def _entries(output: OutputFolder, *, former: bool) -> dict[str, Entry]:
    return output.ledger.entries() if former else output.ledger.members()


def _sweep_line(path: Path, *, former: bool) -> SweepLine:
    """One sweep; one that is damaged must not hide the others."""
    output = OutputFolder.at(path)
    counts: dict[str, int] = dict.fromkeys(STAGES, 0)
    try:
        found = output.sweep()
        entries, damaged = _entries(output, former=former), output.ledger.damaged()
        holder = output.holder()
    except (SweepError, OSError) as error:
        return SweepLine(path, path.name, "", 0, counts, None, str(error))
    for entry in entries.values():
        counts[entry.state.state] += 1
    counts["failed"] += len(damaged)
    known = len(entries) + len(damaged)
    trials = max(int(found.content.get("trials", 0)), known)
    counts["queued"] += trials - known
    problems = [*found.problems, *output.file_problems()]
    problem = f"{'; '.join(problems)}; to rebuild it: fairsweep resume {shlex.quote(str(path))}" if problems else None
    name, updated = str(found.content.get("name", "?")), str(found.content.get("updated", ""))
    return SweepLine(path, name, updated, trials, counts, holder, problem)


def _trial_line(entry: Entry) -> TrialLine:
    state = entry.state
    return TrialLine(
        name=entry.folder.name,
        trial=state.trial,
        learner=_learner(entry.folder),
        state=state.state,
        by=state.by if state.state == "stopped" else None,
        attempts=state.starts,
        iteration=state.iteration,
        iterations=state.iterations,
        cause=state.cause or state.recovered,
    )


def _learner(folder: Path) -> str:
    with suppress(RecordError):
        return TrialFolder(folder).learner
    return ""
