"""The live view of a sweep: a table in a terminal, a panel in a notebook, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fairsweep.analysis.records.failed_trials import FailureGroup
from fairsweep.sweeps.views.columns import column_titles, shown_values, words_left
from fairsweep.sweeps.views.lines import following_lines
from fairsweep.sweeps.views.notebook import following_panel, in_notebook
from fairsweep.sweeps.views.number_format import duration, number
from fairsweep.sweeps.views.pacing import Paced
from fairsweep.sweeps.views.status import Aim, Board

REFRESH_SECONDS = 0.5
# However tall the terminal: what is read at a glance.
_MOST_RUNNING = 16
_MOST_ENDED = 5
_MOST_CAUSES = 3
_MOST_NOTES = 2
# Narrower terminals show only what matters most.
_NARROW = 84
_KEPT_IF_NARROW = ("iteration", "validation accuracy", "worst group")
# Lines of the view besides trials, causes, notes and the best: header, an empty line, the counts, the bar.
_FIXED_LINES = 4


@contextmanager
def showing(board: Board, console: Console) -> Iterator[None]:
    """Show a board for the time of a context, as fits where it is shown."""
    if in_notebook():
        with following_panel(board):
            yield
    elif console.is_terminal:
        view = Paced(lambda: render(board, console.size.height, console.size.width))
        with Live(
            get_renderable=view,
            console=console,
            refresh_per_second=1 / REFRESH_SECONDS,
            transient=False,
        ):
            try:
                yield
            finally:
                view.expire()
    else:
        with following_lines(board, console):
            yield


def render(board: Board, height: int, width: int = 120) -> RenderableType:
    """Return the live table.

    It has the running trials, the last that ended, the best so far, failures by cause, the rest in two lines.

    Args:
        board: what is known.
        height: lines of the terminal; the view takes no more, however many trials there are.
        width: columns of the terminal.
    """
    rows = board.rows
    failures = board.failures()
    best = [line for aim in board.aims if (line := _best_line(board, aim)) is not None]
    notes = board.notes[-_MOST_NOTES:]
    room = max(1, height - _FIXED_LINES)
    # The table needs two lines; whatever else there is shares what is left of the room.
    below = _fitting(
        [
            *[Text(note, "yellow") for note in notes],
            *map(_cause_line, failures[:_MOST_CAUSES]),
            *best,
        ],
        room - 2,
    )
    room -= len(below)
    running = sorted((t for t, row in rows.items() if row.stage == "running"), key=lambda t: rows[t].began or 0.0)
    ended = sorted((t for t, row in rows.items() if row.stage in ("done", "stopped")), key=lambda t: -rows[t].ended_at)
    shown_running = running[: min(room, _MOST_RUNNING)]
    shown_ended = ended[: max(0, min(_MOST_ENDED, room - len(shown_running)))]
    table = Table(box=None, pad_edge=False, header_style="bold", expand=width < 100)
    table.add_column("trial", overflow="ellipsis", no_wrap=True, min_width=24)
    columns = [name for name in column_titles(board) if width >= _NARROW or name in _KEPT_IF_NARROW]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for trial in (*shown_running, *shown_ended):
        table.add_row(*_cells(board, trial, columns))
    hidden = _hidden(board, len(running) - len(shown_running), len(ended) - len(shown_ended))
    for text in (*below, hidden):
        text.no_wrap, text.overflow = True, "ellipsis"
    return Group(table, Text(), *below, hidden, _bar(board, width))


def _fitting(lines: list[Text], room: int) -> list[Text]:
    return lines[: max(0, room)]


def _best_line(board: Board, aim: Aim) -> Text | None:
    found = board.best(aim)
    if found is None:
        return None
    row, value = found
    return Text.assemble(
        ("best ", "dim"), (f"{aim.title} {number(value, aim.form)}", "green"), ("  " + row.label, "default")
    )


def _cause_line(group: FailureGroup) -> Text:
    shown = ", ".join(group.trials[:2]) + (" …" if group.count > 2 else "")
    return Text(f"✗ {group.count} failed: {group.cause} ({shown})", "red")


def _cells(board: Board, trial: str, columns: list[str]) -> list[RenderableType]:
    row = board.rows[trial]
    mark, style = {"running": ("▸", "cyan"), "stopped": ("■", "dim")}.get(row.stage, ("✓", "dim"))
    values = dict(zip(column_titles(board), shown_values(board, trial, row), strict=True))
    retry = f" ↻{row.starts - 1}" if row.starts > 1 else ""
    return [
        Text(f"{mark} {row.label}{retry}", style=style),
        *(Text(values[name], style=style) for name in columns),
    ]


def _hidden(board: Board, running: int, ended: int) -> Text:
    """Return what the table has no room for, in one line."""
    queued, failed = board.count("queued"), board.count("failed")
    to_come = board.total - board.done_before - len(board.rows)
    parts = [
        (running, "more running"),
        (queued, "queued"),
        (to_come, "to be proposed"),
        (ended, "more done"),
        (board.done_before, "done before"),
    ]
    text = Text.assemble((" · ".join(f"{count} {what}" for count, what in parts if count > 0), "dim"))
    if failed:
        text.append(f"{' · ' if text.plain else ''}{failed} failed", style="red")
    return text


def _bar(board: Board, width: int) -> RenderableType:
    ended = board.count("done", "stopped", "failed") + board.done_before
    parts: list[RenderableType] = [
        Text(f"{ended}/{board.total} trials", style="bold", no_wrap=True),
        ProgressBar(total=1.0, completed=board.share_done, width=max(8, min(50, width - 70)), complete_style="cyan"),
        Text(f"{board.share_done:.0%}"),
    ]
    if width >= _NARROW:
        parts.append(Text(f"{duration(board.now() - board.began)} so far"))
    line = Table.grid(padding=(0, 2))
    line.add_row(*parts, Text(words_left(board), style="bold", no_wrap=True, overflow="ellipsis"))
    return line
