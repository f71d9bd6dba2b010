"""Tune's searcher of a guided search: it hands over trials as they are created."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.search.ask_tell import Conductor
from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.trainables.adapter import TrialTask


class SearchSource(DriverOnly, Searcher):
    """Gives Tune the trials of a search.

    Args:
        conductor: decides which.
        prepare: queues trials in the ledger and makes their tasks, by hash.
        closed: takes the hash of a trial that has come to an end and whether Tune gave it up; says whether it counts as
            over, which one that the user stopped does not.
    """

    def __init__(
        self,
        conductor: Conductor,
        prepare: Callable[[list[PlannedTrial]], Mapping[str, TrialTask]],
        closed: Callable[[str, bool], bool],
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._conductor = conductor
        self._prepare = prepare
        self._closed = closed
        self._ready: deque[tuple[str, TrialTask]] = deque()
        self._running: dict[str, str] = {}

    def has_trials(self) -> bool:
        """Whether any trial shall run now; where none shall, there is nothing to start Tune for."""
        new = self._conductor.advance()
        if new:
            self._ready.extend(self._prepare(new).items())
        return bool(self._ready)

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401 - a config, FINISHED, or None: not now
        """Return the next trial; None while results are waited for."""
        if self.has_trials():
            trial, task = self._ready.popleft()
            self._running[trial_id] = trial
            return {"trial": trial, "task": task}
        # Nothing runs whose end could bring more: all is told, or the user has stopped what is waited for.
        return None if self._running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Return a trial has ended, or its worker died more often than it may."""
        trial = self._running.pop(trial_id, None)
        if trial is not None and self._closed(trial, error):
            self._conductor.ended(trial)

    def save(self, checkpoint_path: str) -> None:
        """Return a file without content: what a search knows is in its storage and in the trials' records."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""
