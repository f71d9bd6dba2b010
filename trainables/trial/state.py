"""The state of one trial on disk, and which attempt may write into its folder.

``state.json`` says whether a trial is queued, running, done, failed or stopped (and then by whom), and carries two
numbers. ``run`` counts the drivers that have queued the trial; ``attempt`` counts its starts. A worker takes the next
attempt when it starts and may write only while that attempt is still the last one: a worker that outlives its driver
finds a higher number and stops, whatever it was about to write. Check and write happen under one file lock.

A trial that a scheduler or a stopper ended is recorded whole and not run again; one that the user stopped goes on.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from fairsweep.analysis.records.columns import FORMAT_VERSION, STATE, RecordError, read_json, write_json

Stage = Literal["queued", "running", "done", "failed", "stopped"]
StoppedBy = Literal["scheduler", "stopper", "user"]
_LOCK = ".lock"


class StaleAttemptError(RuntimeError):
    """Another worker or driver has taken the trial over: this one must not write any more."""


class TrialState(BaseModel):
    """What ``state.json`` holds.

    Attributes:
        trial: the trial's hash.
        state: queued (waits for a worker), running, done, failed (with its cause), stopped.
        by: who stopped it: a scheduler or a stopper (then it has ended) or the user (then it goes on when resumed).
        reason: one line on why it was stopped.
        stop_at: iteration after which the driver's scheduler wants it to end; None to go on. A worker that is started
            again obeys it too.
        run: number of drivers that have queued the trial.
        attempt: number of starts so far.
        iteration: iterations done and recorded.
        iterations: iterations in all; 0 until the trial has started once.
        metrics: of the last iteration: loss, accuracy and worst group on the validation split, epsilon spent.
        node: id of the machine in a Ray cluster on which the last attempt ran; None outside of Ray.
        seconds: seconds in training and evaluation, over all attempts that count.
        error: one line on the cause of a failure.
        traceback: the whole of it.
        recovered: what the last start that met damaged files went back to, one line; None where none did.
        updated: seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = FORMAT_VERSION
    trial: str
    state: Stage = "queued"
    by: StoppedBy | None = None
    reason: str | None = None
    stop_at: int | None = None
    run: int = 0
    attempt: int = 0
    iteration: int = 0
    iterations: int = 0
    metrics: dict[str, float | None] = {}
    node: str | None = None
    seconds: float = 0.0
    error: str | None = None
    traceback: str | None = None
    recovered: str | None = None
    updated: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether the trial is over and recorded whole: done, or stopped by a scheduler or a stopper."""
        return self.state == "done" or (self.state == "stopped" and self.by in ("scheduler", "stopper"))


class TrialStateFile:
    """Reads and changes the state of one trial.

    Args:
        folder: the trial's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / STATE
        self._lock = FileLock(folder / _LOCK)

    def read(self) -> TrialState | None:
        """Return the state on disk; None if the trial is new.

        Raises:
            RecordError: if the file is damaged.
        """
        try:
            return TrialState.model_validate(read_json(self._path))
        except FileNotFoundError:
            return None
        except RecordError:
            raise
        except ValueError as error:
            raise RecordError(f"{self._path} is damaged: {' '.join(str(error).split())}") from error

    def salvaged(self, trial: str) -> TrialState | None:
        """What a damaged file still says of a trial's numbers, so that a later state counts on; None if it is whole."""
        try:
            self.read()
        except RecordError:
            text = self._path.read_bytes()
            numbers = {
                name: max(map(int, re.findall(rb'"%b": (\d{1,9})' % name.encode(), text)), default=0)
                for name in ("run", "attempt")
            }
            return TrialState(trial=trial, **numbers)
        return None

    def queue(self, trial: str, former: TrialState | None = None) -> TrialState:
        """Take a trial over for a new driver: from here on no earlier worker can write.

        Args:
            trial: its hash.
            former: of a trial that was set aside and begins anew, its last state: the numbers go on.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            fresh = TrialState(trial=trial)
            if former is not None:
                fresh = fresh.model_copy(update={"run": former.run, "attempt": former.attempt})
            before = self.read() or fresh
            changes = {"state": "queued", "run": before.run + 1, "attempt": before.attempt + 1}
            return self._write(before, changes | {"by": None, "reason": None, "error": None, "traceback": None})

    def begin(self, trial: str, run: int | None = None, node: str | None = None) -> Attempt:
        """Start a trial as a worker.

        Args:
            trial: the trial's hash.
            run: the driver's number as `queue` gave it; None without a driver.
            node: id of this machine in a Ray cluster; None outside of one.

        Raises:
            StaleAttemptError: if another driver has queued the trial since.
            ValueError: if the folder belongs to another trial, or the trial has ended.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            before = self.read() or TrialState(trial=trial)
            if before.trial != trial:
                raise ValueError(f"{self.folder} must be the folder of trial {trial}, but holds trial {before.trial}")
            if before.ended:
                raise ValueError(
                    f"trial {trial} is {before.state} and its records are in {self.folder}; "
                    "choose another folder to train it again"
                )
            if run is not None and before.run != run:
                raise StaleAttemptError(
                    f"trial {trial} was queued again (run {before.run}, this worker's run is {run})"
                )
            changes = {"state": "running", "attempt": before.attempt + 1, "error": None, "node": node}
            now = self._write(before, changes)
        return Attempt(self, now.attempt)

    def mark(self, changes: dict[str, Any], *, when: Callable[[TrialState], bool] = lambda _: True) -> TrialState:
        """Change a state as the driver, if it is still such that ``when`` holds."""
        with self._lock:
            before = self.read()
            if before is None:
                raise RecordError(f"{self._path} must exist, but does not; run the sweep again")
            return self._write(before, changes) if when(before) else before

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every writer away from the trial's records for a moment."""
        with self._lock:
            yield

    @contextmanager
    def owned(self, attempt: int) -> Iterator[TrialState]:
        """Hold the trial's lock while an attempt writes.

        Raises:
            StaleAttemptError: if the attempt is not the last one.
        """
        with self._lock:
            state = self.read()
            if state is None or state.attempt != attempt:
                newest = "none" if state is None else state.attempt
                raise StaleAttemptError(f"attempt {attempt} must not write: the trial's last attempt is {newest}")
            yield state

    def _write(self, before: TrialState, changes: dict[str, Any]) -> TrialState:
        after = before.model_copy(update={**changes, "updated": time.time()})
        write_json(self._path, after.model_dump(mode="json"))
        return after


class Attempt:
    """One start of a trial; all that its worker writes goes through `owned`.

    Args:
        file: the trial's state.
        number: the attempt.
    """

    def __init__(self, file: TrialStateFile, number: int) -> None:
        self.number = number
        self.process = os.getpid()
        self._file = file

    @contextmanager
    def owned(self) -> Iterator[TrialState]:
        """Hold the trial's lock while writing. Raises: StaleAttemptError if another attempt has begun."""
        with self._file.owned(self.number) as state:
            yield state

    def update(self, **changes: Any) -> TrialState:  # noqa: ANN401 - fields of TrialState
        """Change the state. Raises: StaleAttemptError if another attempt has begun."""
        with self._file.owned(self.number) as before:
            return self._file._write(before, changes)
