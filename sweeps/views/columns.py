"""Columns that all views share, and the time left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fairsweep.analysis.records.trial_state import ENDED
from fairsweep.sweeps.views.number_format import duration, number
from fairsweep.sweeps.views.status import Board, Row

_COLUMNS = ("iteration", "loss", "validation accuracy", "worst group", "ε spent", "time")


def column_titles(board: Board) -> tuple[str, ...]:
    """Return the titles of what `shown_values` gives."""
    return tuple(f"{name}{_simulated(board)}" if name.startswith("ε") else name for name in _COLUMNS)


def epsilon_words(board: Board, spent: float) -> str:
    """Return an ε with whether it is a simulated one; ∞ promises nothing, simulated or not."""
    return f"ε {number(spent, '.2f')}{_simulated(board) if math.isfinite(spent) else ''}"


def _simulated(board: Board) -> str:
    return " (simulated)" if board.is_simulated else ""


def shown_values(board: Board, trial: str, row: Row) -> tuple[str, ...]:
    """Return what stands under the `column_titles` of a trial."""
    metrics = row.metrics
    done, total = int(metrics.get("iteration", 0)), int(metrics.get("iterations", 0))
    return (
        f"{done}/{total}" if total else "starting",
        number(metrics.get("loss"), ".3f"),
        accuracy_words(metrics),
        number(metrics.get("worst_group"), ".1%"),
        number(board.epsilon_of(trial, row), ".2f"),
        duration(board.seconds_of(row)),
    )


def accuracy_words(metrics: Mapping[str, Any]) -> str:
    """Return the validation accuracy; that of a model that predicts one class for every example is marked."""
    words = number(metrics.get("accuracy"), ".1%")
    return f"{words} (collapsed)" if metrics.get("predicted_classes") == 1 else words


def words_left(board: Board) -> str:
    """Return the time left, in words."""
    if board.count(*ENDED) + board.done_before >= board.total:
        return "all ended"
    left = board.seconds_left()
    return "time left: not known yet" if left is None else f"about {duration(left)} left"
