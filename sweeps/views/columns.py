"""Columns that all views share, and the time left."""

from __future__ import annotations

from fairsweep.analysis.records.trial_state import ENDED
from fairsweep.sweeps.views.number_format import duration, number
from fairsweep.sweeps.views.status import Board, Row

COLUMNS = ("iteration", "loss", "validation accuracy", "worst group", "ε spent", "time")


def shown_values(board: Board, trial: str, row: Row) -> tuple[str, ...]:
    """Return what stands in the `COLUMNS` of a trial."""
    metrics = row.metrics
    done, total = int(metrics.get("iteration", 0)), int(metrics.get("iterations", 0))
    return (
        f"{done}/{total}" if total else "starting",
        number(metrics.get("loss"), ".3f"),
        number(metrics.get("accuracy"), ".1%"),
        number(metrics.get("worst_group"), ".1%"),
        number(board.epsilon.after(trial, metrics.get("steps")), ".2f"),
        duration(board.seconds_of(row)),
    )


def words_left(board: Board) -> str:
    """Return the time left, in words."""
    if board.count(*ENDED) + board.done_before >= board.total:
        return "all ended"
    left = board.seconds_left()
    return "time left: not known yet" if left is None else f"about {duration(left)} left"
