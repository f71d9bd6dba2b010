"""The driver's board: Tune's callbacks fill it in, and what private trials have spent is computed for it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dp_accounting.pld import PLDAccountant
from ray import tune

from fairsweep.sweeps.board import DEFAULT_AIMS, Aim, Board, Row
from fairsweep.sweeps.expand import PlannedTrial
from fairsweep.sweeps.ledger import Entry
from fairsweep.trainables.accounting import RELATION
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.plan import Plan

# Epsilon is computed at so many points of a training, and shown rounded up to the next one.
_EPSILON_POINTS = 16
_COARSE_INTERVAL = 1e-3


class Progress(Board, tune.Callback):
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
    ) -> None:
        self.spent = SpentPrivacy({})
        super().__init__(self.spent, name=name, done_before=done_before, slots=slots, expected=expected, aims=aims)
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

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """A worker has started a trial, perhaps once more."""
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
        """A trial has reported."""
        if not result.get("failed"):
            self.rows[trial.config["trial"]].metrics = dict(result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """A trial has ended, in success or with a cause that it has written itself."""
        identity = trial.config["trial"]
        row = self._end(identity)
        if (trial.last_result or {}).get("failed"):
            state = self._queued[identity].file.read()
            row.stage, row.cause = "failed", (state.error if state else None) or "unknown cause"
        else:
            row.stage = "done"

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """A trial has failed more often than it may be started again."""
        identity = trial.config["trial"]
        row = self._end(identity)
        state = self._queued[identity].file.read()
        row.stage = "failed"
        row.cause = (state.error if state else None) or last_line(trial.error_file) or "the worker died"
        self.lost[identity] = row.cause

    def _end(self, identity: str) -> Row:
        row = self.rows[identity]
        row.seconds = 0.0 if row.began is None else self.now() - row.began
        return row


class SpentPrivacy:
    """What private trials have spent after so many steps, quickly: an upper bound for display, not the record.

    Args:
        plans: privacy plans by trial.
    """

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._plans = dict(plans)
        # Trials of one setting share the object.
        self._texts: dict[int, str] = {}
        self._known: dict[tuple[str, int], float] = {}

    def add(self, plans: Mapping[str, Plan]) -> None:
        """Take up the plans of more trials."""
        self._plans.update(plans)

    def after(self, trial: str, steps: float | None) -> float | None:
        """Epsilon after ``steps`` steps, rounded up to the next of a few points; None for a trial without a plan."""
        plan = self._plans.get(trial)
        if plan is None or steps is None:
            return None
        if not plan.guarantees or steps <= 0:
            return math.inf if steps > 0 else 0.0
        point = math.ceil(steps / plan.steps * _EPSILON_POINTS)
        taken = min(plan.steps, math.ceil(plan.steps * point / _EPSILON_POINTS))
        key = (self._text(plan), taken)
        if key not in self._known:
            self._known[key] = _upper_bound(plan, taken)
        return self._known[key]

    def _text(self, plan: Plan) -> str:
        if id(plan) not in self._texts:
            self._texts[id(plan)] = plan.model_dump_json()
        return self._texts[id(plan)]


def _upper_bound(plan: Plan, steps: int) -> float:
    """Epsilon by PLD with a coarse discretisation, which rounds up."""
    # A weak plan's epsilon is large: a finer grid than a thousandth of it would take minutes.
    interval = _COARSE_INTERVAL * max(1.0, 1.0 / plan.noise_multiplier**2)
    accountant = PLDAccountant(neighboring_relation=RELATION, value_discretization_interval=interval)
    accountant.compose(plan.event(steps))
    return float(accountant.get_epsilon(plan.delta))


def last_line(path: str | None) -> str | None:
    """The last line of a text file that says anything."""
    if path is None or not Path(path).exists():
        return None
    lines = [line.strip() for line in Path(path).read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else None
