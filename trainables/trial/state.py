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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from fairsweep.analysis.disclosure.columns import without_private
from fairsweep.analysis.records.file_names import STATE
from fairsweep.analysis.records.files import RecordError, write_json
from fairsweep.analysis.records.trial_state import TrialState, read_state

_LOCK = ".lock"
_SECRET = re.compile(rb'"([0-9a-f]{16})": (\d{1,9})')


class StaleAttemptError(RuntimeError):
    """Another worker or driver has taken the trial over: this one must not write any more."""


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
            return read_state(self._path)
        except FileNotFoundError:
            return None

    def salvaged(self, trial: str) -> TrialState | None:
        """Return what a damaged file still says of a trial's numbers, so that a later state counts on.

        None if it is whole.
        """
        try:
            self.read()
        except RecordError:
            text = self._path.read_bytes()
            numbers = {
                name: max(map(int, re.findall(rb'"%b": (\d{1,9})' % name.encode(), text)), default=0)
                for name in ("run", "attempt")
            }
            secrets = {name.decode(): int(number) for name, number in _SECRET.findall(text)}
            return TrialState.of({"trial": trial, **numbers, "secrets": secrets})
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
                fresh = replace(fresh, run=former.run, attempt=former.attempt, secrets=former.secrets)
            before = self.read() or fresh
            changes = {"state": "queued", "run": before.run + 1, "attempt": before.attempt + 1}
            return self._write(before, changes | {"by": None, "reason": None, "error": None, "traceback": None})

    def begin(self, trial: str, run: int | None = None, node: str | None = None, *, timed: bool = True) -> Attempt:
        """Start a trial as a worker.

        Args:
            trial: the trial's hash.
            run: the driver's number as `queue` gave it; None without a driver.
            node: id of this machine in a Ray cluster; None outside of one.
            timed: whether times are recorded from here on; not in release mode.

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
            changes = {"state": "running", "attempt": before.attempt + 1, "error": None, "node": node, "timed": timed}
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
        after = replace(before, **{**changes, "updated": time.time()})
        content = asdict(after)
        write_json(self._path, content if after.timed else without_private(STATE, content))
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

    def note_secret(self, mark: str) -> tuple[str, ...]:
        """Write down durably that steps may be taken under a secret; return the marks of those of earlier starts.

        Args:
            mark: its fingerprint.
        """
        with self._file.owned(self.number) as before:
            if mark not in before.secrets:
                self._file._write(before, {"secrets": {**before.secrets, mark: self.number}})
        return tuple(known for known in before.secrets if known != mark)

    def update(self, **changes: Any) -> TrialState:  # noqa: ANN401 - fields of TrialState
        """Change the state. Raises: StaleAttemptError if another attempt has begun."""
        with self._file.owned(self.number) as before:
            return self._file._write(before, changes)
