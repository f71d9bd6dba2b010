"""The driver's status board, filled by Tune's callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from fairsweep.analysis.records.trial_state import TrialState
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.spent_privacy import SpentPrivacy
from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.sweeps.store.ledger import Entry
from fairsweep.sweeps.views.status import DEFAULT_AIMS, Aim, Board, Row
from fairsweep.trainables.adapter import TrialTask


class Progress(DriverOnly, Board, tune.Callback):
    """Follows the trials of one run; Tune calls it.

    Args:
        trials: those that run, in their order; `add` takes more.
        queued: their entries in the ledger; may grow.
        tasks: what the workers were told.
        done_before: how many trials of the sweep were done before this run.
        slots: how many run at once, for estimates.
        expected: how many trials the sweep will have in all, where a search adds them while it runs.
        name: of the sweep.
        aims: of what the best trial is shown.
        is_simulated: see `Board`.
    """

    def __init__(
        self,
        trials: Sequence[PlannedTrial],
        queued: Mapping[str, Entry],
        tasks: Mapping[str, TrialTask],
        *,
        done_before: int,
        slots: int,
        expected: int = 0,
        name: str = "",
        aims: Sequence[Aim] = DEFAULT_AIMS,
        is_simulated: bool = True,
    ) -> None:
        self.spent = SpentPrivacy({})
        super().__init__(
            self.spent,
            name=name,
            done_before=done_before,
            slots=slots,
            expected=expected,
            aims=aims,
            is_simulated=is_simulated,
        )
        # Trials whose workers died or failed more often than they may: their cause.
        self.lost: dict[str, str] = {}
        self._queued = queued
        self.add(trials, tasks)

    def add(self, trials: Sequence[PlannedTrial], tasks: Mapping[str, TrialTask]) -> None:
        """Take up more trials, also while the sweep runs.

        Args:
            trials: those that are new, in their order; they stand in ``queued`` already.
            tasks: what the workers were told of them.
        """
        self.spent.add({trial: task.plan for trial, task in tasks.items() if task.plan is not None})
        # A new mapping: views iterate over it in other threads.
        self.rows = self.rows | {t.trial: Row(t.label, t.config.learner.name) for t in trials}

    def wait(self, trial: str) -> None:
        """Let a trial that has failed wait to be started once more."""
        self.rows[trial].stage, self.rows[trial].cause, self.rows[trial].seconds = "queued", None, None

    def settle(self, trial: str, state: TrialState) -> None:
        """Note how a trial has ended whose worker died before it could say so."""
        row = self._end(trial)
        row.stage, row.cause, row.metrics = state.state, state.cause, dict(state.metrics)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Note that a worker has started a trial, perhaps once more."""
        row = self.rows[trial.config["trial"]]
        row.stage = "running"
        row.began = self.now()
        row.starts += 1

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,  # noqa: ANN401
        result: Mapping[str, Any],
        **info: Any,  # noqa: ANN401
    ) -> None:
        """Note what a trial has reported."""
        if not result.get("failed"):
            self.rows[trial.config["trial"]].metrics = dict(result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Note that a trial has ended, in success or with a cause that it has written itself."""
        identity = trial.config["trial"]
        row = self._end(identity)
        if (trial.last_result or {}).get("failed"):
            state = self._queued[identity].now()
            stopped = state is not None and state.state == "stopped"  # on request, while it ran or waited
            row.stage = "stopped" if stopped else "failed"
            said = None if state is None else (state.reason if stopped else state.error)
            row.cause = said
        else:
            row.stage = "stopped" if (trial.last_result or {}).get("stopped") else "done"

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Note that a trial has failed more often than it may be started again."""
        identity = trial.config["trial"]
        row = self._end(identity)
        state = self._queued[identity].now()
        row.stage = "failed"
        row.cause = (state.error if state else None) or last_line(trial.error_file) or "the worker died"
        self.lost[identity] = row.cause

    def _end(self, identity: str) -> Row:
        row = self.rows[identity]
        row.seconds = 0.0 if row.began is None else self.now() - row.began
        return row


def last_line(path: str | None) -> str | None:
    """Return the last line of a text file that says anything."""
    if path is None or not Path(path).exists():
        return None
    lines = [line.strip() for line in Path(path).read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else None
