"""Watching a sweep from another terminal or machine, by reading its folder only.

Works on a local folder and on any that pyarrow knows (``s3://bucket/runs/faces``), such as the mirror of a sweep. What
a trial reports between two checkpoints is not seen here.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from rich.console import Console

from fairsweep.analysis.extras import is_installed, needs
from fairsweep.analysis.records.failed_trials import is_guided
from fairsweep.analysis.records.file_names import CONFIG, STATE, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import RecordError, SweepLocation
from fairsweep.analysis.records.membership import members_of
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.records.trial_state import ENDED, Stage, TrialState
from fairsweep.sweeps.copies.remote_output import RemoteOutput
from fairsweep.sweeps.planning.running_epsilon import EpsilonCurves
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.storage_uri import uri_of
from fairsweep.sweeps.views.display import render, showing
from fairsweep.sweeps.views.status import Board, Row

_THREADS = 8
_ACCOUNTING = "dp_accounting"


class RecordedEpsilon:
    """Epsilon as the records say it: known of trials that have ended, and in a local folder of those that run."""

    def __init__(self, output: SweepLocation) -> None:
        self.last: dict[str, Mapping[str, Any]] = {}
        self._curves = None if output.local is None else EpsilonCurves(output.local)

    def is_planned(self, trial: str) -> bool:
        """Whether it can be computed for a trial that runs."""
        return self._curves is not None and self._curves.is_planned(trial)

    def after(self, trial: str, steps: float | None) -> float | None:
        """See `Spent.after`."""
        said = self.last.get(trial, {}).get("epsilon")
        if said is not None:
            return float(said)
        if self._curves is None or not self._curves.is_planned(trial) or not is_installed(_ACCOUNTING):
            return None
        return self._curves.after(trial, steps)


class WatchedSweep(Board):
    """The board of a sweep that another process runs.

    Args:
        folder: its output folder, local or a URI.

    Attributes:
        is_total_a_bound: whether the sweep may end with fewer trials than it was given.

    Raises:
        SweepError: if there is no sweep.
    """

    def __init__(self, folder: str | Path) -> None:
        self._output = SweepLocation.of(folder)
        said = _description(self._output, folder)
        # Settings that a search proposes again do not run again.
        self.is_total_a_bound = is_guided(said)
        remote = uri_of((said.get("sweep") or {}).get("output"))
        # Elsewhere than there lies a copy, whose driver works on another one.
        self._remote = remote if remote is not None and remote.rstrip("/") == str(folder).rstrip("/") else None
        self._epsilon = RecordedEpsilon(self._output)
        mode = ((said.get("sweep") or {}).get("privacy") or {}).get("mode", "research")
        super().__init__(
            self._epsilon,
            name=str(said.get("name", "")),
            expected=int(said.get("trials", 0)),
            is_simulated=mode == "research",
        )
        self._members = members_of(said)
        self._known: dict[str, tuple[object, TrialFolder]] = {}
        self.refresh()
        started = [row.began for row in self.rows.values() if row.began is not None]
        self.began = min(started, default=self.now())
        running = [trial for trial, row in self.rows.items() if row.stage == "running"]
        if any(map(self._epsilon.is_planned, running)) and not is_installed(_ACCOUNTING):
            self.notes.append(needs("ε of trials that run", _ACCOUNTING))

    def now(self) -> float:
        """Seconds since 1970: what the records are dated by."""
        return time.time()

    @property
    def is_over(self) -> bool:
        """Whether every trial that is known has ended."""
        return self.count(*ENDED) >= self.total

    def has_driver(self) -> bool | None:
        """Whether a driver is at work on the sweep; None where the folder cannot tell: a mirror, or another copy.

        Raises:
            OSError: if the file system fails.
        """
        if self._remote is not None:
            return RemoteOutput(self._remote).is_claimed()
        local = self._output.local
        if local is None or not (output := OutputFolder.at(local)).has_lock:
            return None
        return output.holder() is not None

    def refresh(self) -> None:
        """Read every state file that has changed."""
        trials = self._output / TRIALS
        names = trials.folders()
        found = self._output.filesystem.get_file_info([f"{trials.path}/{name}/{STATE}" for name in names])
        stamps = {
            name: (info.mtime_ns, info.size)
            for name, info in zip(names, found, strict=True)
            if info.type == pafs.FileType.File
        }
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self._read, stamps, stamps.values()))
        rows = {}
        for _, folder in (self._known[name] for name in stamps if name in self._known):
            state = folder.state
            if state is not None and (self._members is None or state.trial in self._members):
                rows[state.trial] = _row(folder, state, self.rows.get(state.trial), self.now())
                self._epsilon.last[state.trial] = state.metrics
        self.rows = rows
        self.slots = max(1, self.slots, self.count("running"))
        if self.is_total_a_bound:
            with suppress(RecordError, OSError):  # being replaced
                self.expected = int(((self._output / SWEEP_JSON).json() or {}).get("trials", self.expected))

    def _read(self, name: str, stamp: object) -> None:
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return
        folder = TrialFolder(self._output / TRIALS / name)
        with suppress(RecordError, OSError):  # being replaced on a file system that cannot do so at once
            if known is not None and _learner(known[1]):
                folder.take({CONFIG: known[1].config})
            if folder.state is not None:
                self._known[name] = stamp, folder
                _learner(folder)


def watch(
    folder: str | Path,
    console: Console,
    *,
    once: bool,
    seconds: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show a sweep until it has ended, or its driver has, or somebody stops watching.

    Args:
        folder: its output folder, local or a URI.
        console: where to.
        once: whether to show how it stands now, and be done.
        seconds: between two looks.
        sleep: waits.

    Raises:
        SweepError: if there is no sweep.
    """
    board = WatchedSweep(folder)
    has_driver = True

    def look() -> None:
        # Asked before the states are read: a driver that ends with its last trial leaves a sweep that is over.
        nonlocal has_driver
        has_driver = _unless_unreachable(board.has_driver) is not False
        board.refresh()

    if once:
        look()
        height = console.size.height if console.is_terminal else 40
        console.print(render(board, height, console.size.width))
    else:
        with showing(board, console):
            while not board.is_over and has_driver:
                sleep(seconds)
                look()
    if not board.is_over and not has_driver:
        most = "at most " if board.is_total_a_bound else ""
        console.print(
            f"no driver is running: {board.count(*ENDED)} of {most}{board.total} trials have ended; resume with: "
            f"fairsweep resume {shlex.quote(str(folder))}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _description(output: SweepLocation, folder: str | Path) -> dict[str, Any]:
    """Return what ``sweep.json`` says, or what stands for it where it is damaged."""
    local = output.local
    if local is not None:
        return OutputFolder.at(local).sweep().content
    try:
        said = (output / SWEEP_JSON).json() if output.exists() else None
    except RecordError as error:
        raise SweepError(f"{error}; to rebuild it: fairsweep resume {shlex.quote(str(folder))}") from error
    if said is None:
        raise SweepError(f"{folder} is not a sweep folder: there is no {SWEEP_JSON} in it")
    return said


def _unless_unreachable(ask: Callable[[], bool | None]) -> bool | None:
    """Return an answer; None where a file system does not give it now."""
    try:
        return ask()
    except OSError:
        return None


def _learner(folder: TrialFolder) -> str:
    """Name of a trial's learner; empty before it has started, or where nothing readable says it."""
    with suppress(RecordError, OSError):
        return folder.learner
    return ""


def _row(folder: TrialFolder, state: TrialState, before: Row | None, now: float) -> Row:
    """Return what a state file says of a trial.

    The clock of a trial is that of its records: its seconds of training and evaluation, dated back from the last one.
    """
    # What the user has stopped waits for the next run.
    stage: Stage = "queued" if state.state == "stopped" and state.by == "user" else state.state
    progress = {"iteration": state.iteration, "iterations": state.iterations}
    began = None if stage == "queued" else (state.updated or now) - (state.seconds or 0.0)
    if before is not None and stage == "running" and before.began is not None:
        began = before.began
    return Row(
        label=folder.label,
        learner=_learner(folder),
        stage=stage,
        metrics={**state.metrics, **{name: count for name, count in progress.items() if count}},
        began=began,
        seconds=state.seconds if stage in ENDED else None,
        cause=state.error,
        starts=state.starts,
    )
