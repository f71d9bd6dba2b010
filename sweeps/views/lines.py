"""Plain-line output where there is no terminal: one line per finished trial, and now and then a summary."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from fairsweep.analysis.records.trial_state import ENDED
from fairsweep.sweeps.views.columns import accuracy_words, epsilon_words, words_left
from fairsweep.sweeps.views.number_format import duration, number
from fairsweep.sweeps.views.pacing import Paced
from fairsweep.sweeps.views.status import Board

_LOOK_SECONDS = 0.5
_LINE_SECONDS = 30.0


@contextmanager
def following_lines(board: Board, console: Console) -> Iterator[None]:
    """Print what happens on a board while a context lasts, from a thread of its own."""
    stop = threading.Event()
    lines = Lines(board, console)
    say_news = Paced(lines.say_news)

    def follow() -> None:
        due = time.monotonic() + _LINE_SECONDS
        while not stop.wait(_LOOK_SECONDS):
            say_news()
            if time.monotonic() >= due:
                due = time.monotonic() + _LINE_SECONDS
                lines.say_whole()

    thread = threading.Thread(target=follow, name="fairsweep-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        lines.say_news()


class Lines:
    """Says each thing once.

    Args:
        board: what is known.
        console: where lines go.
    """

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console
        self._said: set[str] = set()
        self._starts: dict[str, int] = {}
        self._notes = 0

    def say_news(self) -> None:
        """Print a line for each trial that has been started once more or has ended since, and each note."""
        for trial, row in list(self._board.rows.items()):
            if row.starts > self._starts.setdefault(trial, max(1, row.starts)):
                self._starts[trial] = row.starts
                self._print(f"{row.label}: started once more, from its last checkpoint if it has one")
            if row.stage in ENDED and trial not in self._said:
                self._said.add(trial)
                self._print(self._ended(trial))
        for note in self._board.notes[self._notes :]:
            self._notes += 1
            self._print(note)

    def say_whole(self) -> None:
        """Print a line on the whole sweep."""
        board = self._board
        ended = board.count(*ENDED) + board.done_before
        best = [
            f"best {aim.title} {number(found[1], aim.form)} ({found[0].label})"
            for aim in board.aims
            if (found := board.best(aim)) is not None
        ]
        parts = [f"{board.count('running')} running", words_left(board), *best]
        self._print(f"[{ended}/{board.total}] {', '.join(parts)}")

    def _ended(self, trial: str) -> str:
        board = self._board
        row = board.rows[trial]
        counted = f"[{len(self._said) + board.done_before}/{board.total}]"
        if row.stage == "failed":
            return f"{counted} {row.label} failed: {row.cause}"
        metrics = row.metrics
        parts = [
            f"validation accuracy {accuracy_words(metrics)}",
            f"worst group {number(metrics.get('worst_group'), '.1%')}",
        ]
        spent = board.epsilon_of(trial, row)
        if spent is not None:
            parts.append(epsilon_words(board, spent))
        parts += ["stopped early"] if row.stage == "stopped" else []
        return f"{counted} {row.label}: {', '.join(parts)} ({duration(row.seconds or 0)})"

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
