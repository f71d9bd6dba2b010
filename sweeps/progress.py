"""What is known of a sweep while it runs: one row a trial, the time left, and what private trials have spent."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dp_accounting.pld import PLDAccountant
from ray import tune

from fairsweep.sweeps.expand import PlannedTrial
from fairsweep.sweeps.ledger import Entry
from fairsweep.trainables.accounting import RELATION
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.plan import Plan

Stage = Literal["waiting", "running", "done", "failed"]
# Epsilon is computed at so many points of a training, and shown rounded up to the next one.
_EPSILON_POINTS = 16
_COARSE_INTERVAL = 1e-3


@dataclass
class Row:
    """One trial.

    Attributes:
        label: its readable name.
        learner: the learner's name.
        stage: where it stands.
        metrics: of its last report.
        began: when it started, on the monotonic clock.
        seconds: how long it took; None until it has ended.
        cause: of a failure, one line.
        starts: how often it has been started in this run.
    """

    label: str
    learner: str
    stage: Stage = "waiting"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    began: float | None = None
    seconds: float | None = None
    cause: str | None = None
    starts: int = 0

    @property
    def share_done(self) -> float:
        """Share of the iterations that are done, in [0, 1]."""
        if self.stage in ("done", "failed"):
            return 1.0
        total = self.metrics.get("iterations") or 0
        return float(self.metrics.get("iteration", 0)) / total if total else 0.0


class Progress(tune.Callback):
    """Follows the trials of one run; Tune calls it.

    Args:
        trials: those that run, in their order.
        queued: their entries in the ledger.
        tasks: what the workers were told.
        done_before: how many trials of the sweep were done before this run.
        slots: how many run at once, for estimates.
    """

    def __init__(
        self,
        trials: Sequence[PlannedTrial],
        queued: Mapping[str, Entry],
        tasks: Mapping[str, TrialTask],
        *,
        done_before: int,
        slots: int,
    ) -> None:
        self.rows = {t.trial: Row(t.label, t.config.learner.name) for t in trials}
        self.done_before = done_before
        self.slots = slots
        self.began = time.monotonic()
        self.epsilon = SpentPrivacy({trial: task.plan for trial, task in tasks.items() if task.plan is not None})
        # Trials whose workers died or failed more often than they may: their cause.
        self.lost: dict[str, str] = {}
        self._queued = queued

    def count(self, *stages: Stage) -> int:
        """How many trials of this run are in one of these stages."""
        return sum(row.stage in stages for row in self.rows.values())

    def seconds_left(self) -> float | None:
        """Estimate from the trials so far, by learner; None before the first progress."""
        rates: dict[str, list[float]] = {}
        now = time.monotonic()
        for row in self.rows.values():
            spent = row.seconds if row.seconds is not None else (now - row.began if row.began is not None else 0.0)
            if row.stage != "failed" and row.share_done > 0 and row.began is not None:
                rates.setdefault(row.learner, []).append(spent / row.share_done)
        if not rates:
            return None
        means = {learner: sum(values) / len(values) for learner, values in rates.items()}
        typical = sum(means.values()) / len(means)
        work = [(1 - row.share_done) * means.get(row.learner, typical) for row in self.rows.values()]
        # No sooner than the slowest trial alone.
        return max(sum(work) / self.slots, max(work, default=0.0))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """A worker has started a trial, perhaps once more."""
        row = self.rows[trial.config["trial"]]
        row.stage = "running"
        row.began = time.monotonic()
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
        row.seconds = 0.0 if row.began is None else time.monotonic() - row.began
        return row


class SpentPrivacy:
    """What private trials have spent after so many steps, quickly: an upper bound for display, not the record.

    Args:
        plans: privacy plans by trial.
    """

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._plans = plans
        self._known: dict[tuple[str, int], float] = {}

    def after(self, trial: str, steps: float | None) -> float | None:
        """Epsilon after ``steps`` steps, rounded up to the next of a few points; None for a trial without a plan."""
        plan = self._plans.get(trial)
        if plan is None or steps is None:
            return None
        if not plan.guarantees or steps <= 0:
            return math.inf if steps > 0 else 0.0
        point = math.ceil(steps / plan.steps * _EPSILON_POINTS)
        taken = min(plan.steps, math.ceil(plan.steps * point / _EPSILON_POINTS))
        key = (plan.model_dump_json(), taken)
        if key not in self._known:
            self._known[key] = _upper_bound(plan, taken)
        return self._known[key]


def _upper_bound(plan: Plan, steps: int) -> float:
    """Epsilon by PLD with a coarse discretisation, which rounds up."""
    # A weak plan's epsilon is large: a finer grid than a thousandth of it would take minutes.
    interval = _COARSE_INTERVAL * max(1.0, 1.0 / plan.noise_multiplier**2)
    accountant = PLDAccountant(neighboring_relation=RELATION, value_discretization_interval=interval)
    accountant.compose(plan.event(steps))
    return float(accountant.get_epsilon(plan.delta))


def failures(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Failed trials' labels by cause, the most frequent first."""
    grouped: dict[str, list[str]] = {}
    for row in rows:
        if row.stage == "failed":
            grouped.setdefault(row.cause or "unknown cause", []).append(row.label)
    return dict(sorted(grouped.items(), key=lambda item: -len(item[1])))


def last_line(path: str | None) -> str | None:
    """The last line of a text file that says anything."""
    if path is None or not Path(path).exists():
        return None
    lines = [line.strip() for line in Path(path).read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else None
