"""The status of a sweep at one moment: a row per trial, the best so far, failures, the time left.

Every view of a sweep that runs (table, lines, notebook) shows a board; who fills it is
`fairsweep.sweeps.views.progress` in the driver and `fairsweep.sweeps.views.watch` elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fairsweep.analysis.records.failed_trials import FailedTrial, FailureGroup, grouped
from fairsweep.analysis.records.trial_state import ENDED, Stage


@dataclass
class Row:
    """One trial.

    Attributes:
        label: its readable name.
        learner: the learner's name.
        stage: where it stands; ``stopped`` by a scheduler, a stopper or the user.
        metrics: of its last report.
        began: when it started, on the board's clock.
        seconds: how long it took; None until it has ended.
        cause: of a failure, one line.
        starts: how often it has been started in this run.
    """

    label: str
    learner: str
    stage: Stage = "queued"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    began: float | None = None
    seconds: float | None = None
    cause: str | None = None
    starts: int = 0

    @property
    def share_done(self) -> float:
        """Share of the iterations that are done, in [0, 1]."""
        if self.stage in ENDED:
            return 1.0
        total = self.metrics.get("iterations") or 0
        return float(self.metrics.get("iteration", 0)) / total if total else 0.0

    @property
    def ended_at(self) -> float:
        """When it ended, on the board's clock."""
        return (self.began or 0.0) + (self.seconds or 0.0)


class Spent(Protocol):
    """Knows what private trials have spent."""

    def after(self, trial: str, steps: float | None) -> float | None:
        """Epsilon after so many steps; None for a trial without a plan."""
        ...


@dataclass(frozen=True)
class Aim:
    """Something of which a view shows the best trial so far; on the validation split.

    Attributes:
        title: as shown.
        value: of a trial (its hash and row), NaN or None where it is not known.
        sign: 1 if more is better, -1 if less is.
        form: how a value is written.
    """

    title: str
    value: Callable[[str, Row], float | None]
    sign: float = 1.0
    form: str = ".3g"


DEFAULT_AIMS = (
    Aim("validation accuracy", lambda _, row: row.metrics.get("accuracy"), form=".1%"),
    Aim("worst group", lambda _, row: row.metrics.get("worst_group"), form=".1%"),
)


class Board:
    """The trials of one run.

    Attributes:
        name: of the sweep.
        rows: by hash of the trial, in their order.
        done_before: how many trials of the sweep were done before.
        slots: how many run at once, for estimates.
        expected: how many trials the sweep will have in all, where a search adds them while it runs; else 0.
        epsilon: what private trials have spent.
        aims: of what the best trial is shown.
        is_simulated: whether the noise follows from a recorded key, so that every ε is a simulated one.
        began: when the run began, on the board's clock.
        notes: lines that people should see; the newest last.
    """

    def __init__(
        self,
        epsilon: Spent,
        *,
        name: str = "",
        done_before: int = 0,
        slots: int = 1,
        expected: int = 0,
        aims: Sequence[Aim] = DEFAULT_AIMS,
        is_simulated: bool = True,
    ) -> None:
        self.name = name
        self.rows: dict[str, Row] = {}
        self.done_before = done_before
        self.slots = slots
        self.expected = expected
        self.epsilon = epsilon
        self.aims = tuple(aims)
        self.is_simulated = is_simulated
        self.began = self.now()
        self.notes: list[str] = []

    def now(self) -> float:
        """Return the board's clock, in seconds."""
        return time.monotonic()

    @property
    def total(self) -> int:
        """Trials of the sweep, as far as known."""
        return max(len(self.rows) + self.done_before, self.expected)

    def count(self, *stages: Stage) -> int:
        """How many trials of this run are in one of these stages."""
        return sum(row.stage in stages for row in list(self.rows.values()))

    @property
    def share_done(self) -> float:
        """Share of all iterations that are done, in [0, 1]."""
        done = math.fsum(row.share_done for row in list(self.rows.values())) + self.done_before
        return done / max(1, self.total)

    def seconds_of(self, row: Row) -> float:
        """How long a trial has taken so far."""
        if row.seconds is not None:
            return row.seconds
        return 0.0 if row.began is None else max(0.0, self.now() - row.began)

    def epsilon_of(self, trial: str, row: Row) -> float | None:
        """Epsilon that a trial claims once it has ended: one that was stopped is charged for planned steps too."""
        claimed = row.metrics.get("epsilon") if row.stage in ENDED else None
        return float(claimed) if claimed is not None else self.epsilon.after(trial, row.metrics.get("steps"))

    def seconds_left(self) -> float | None:
        """Estimate from the trials so far, by learner; None before the first progress."""
        rates: dict[str, list[float]] = {}
        rows = list(self.rows.values())
        for row in rows:
            if row.stage != "failed" and row.share_done > 0 and row.began is not None:
                rates.setdefault(row.learner, []).append(self.seconds_of(row) / row.share_done)
        if not rates:
            return None
        means = {learner: sum(values) / len(values) for learner, values in rates.items()}
        typical = sum(means.values()) / len(means)
        work = [(1 - row.share_done) * means.get(row.learner, typical) for row in rows]
        work += [typical] * (self.total - self.done_before - len(rows))
        # No sooner than the slowest trial alone.
        return max(sum(work) / self.slots, max(work, default=0.0))

    def best(self, aim: Aim) -> tuple[Row, float] | None:
        """Return the trial that is best in an aim so far, and its value; a collapsed model is the best in nothing."""
        found: tuple[Row, float] | None = None
        for trial, row in list(self.rows.items()):
            value = aim.value(trial, row) if row.stage in ("running", "done", "stopped") else None
            if value is None or math.isnan(value) or row.metrics.get("predicted_classes") == 1:
                continue
            if found is None or aim.sign * value > aim.sign * found[1]:
                found = row, value
        return found

    def failures(self) -> tuple[FailureGroup, ...]:
        """Return the trials of this run that failed, by their labels and cause, the most frequent cause first."""
        rows = list(self.rows.items())
        return grouped(FailedTrial(row.label, trial, row.cause) for trial, row in rows if row.stage == "failed")
