"""The live view of a sweep: a table in a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray import tune
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fairsweep.sweeps.progress import Progress, Row, failures

_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 30.0
_MOST_FINISHED = 6
_MOST_FAILED = 3
# Lines of the view that are no trials: header, rule, summary, bar.
_FIXED_LINES = 7


@contextmanager
def show_progress(progress: Progress, console: Console, *, quiet: bool) -> Iterator[tune.Callback]:
    """Show a sweep while it runs.

    Args:
        progress: what is known of it.
        console: where it is shown.
        quiet: whether to show nothing.

    Yields:
        The callback for Tune: ``progress`` itself.
    """
    if quiet:
        yield progress
        return
    if not console.is_terminal:
        with _lines(progress, console):
            yield progress
        return
    with Live(
        get_renderable=lambda: render(progress, console.size.height, console.size.width),
        console=console,
        refresh_per_second=1 / _REFRESH_SECONDS,
        transient=False,
    ):
        yield progress


def render(progress: Progress, height: int, width: int = 120) -> RenderableType:
    """The live table: running trials first, then the last that finished, failures below, the rest in one line.

    Args:
        progress: what is known.
        height: lines of the terminal.
        width: columns of the terminal.
    """
    rows = progress.rows
    room = max(3, height - _FIXED_LINES)
    running = [t for t, row in rows.items() if row.stage == "running"][:room]
    failed = [t for t, row in rows.items() if row.stage == "failed"][-_MOST_FAILED:]
    failed = failed[: max(0, room - len(running))]
    ended = sorted((t for t, row in rows.items() if row.stage == "done"), key=lambda t: -_ended_at(rows[t]))
    finished = ended[: max(0, min(_MOST_FINISHED, room - len(running) - len(failed)))]
    table = Table(box=None, pad_edge=False, header_style="bold", expand=width < 100)
    table.add_column("trial", overflow="ellipsis", no_wrap=True, min_width=24)
    for name in ("iteration", "loss", "accuracy", "worst group", "ε spent", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in (*running, *finished):
        table.add_row(*_cells(progress, trial))
    causes = [Text(f"✗ {rows[t].label}: {rows[t].cause}", "red", overflow="ellipsis", no_wrap=True) for t in failed]
    return Group(table, *causes, Text(), _summary(progress, len(finished), len(failed)), _bar(progress, width))


def _cells(progress: Progress, trial: str) -> list[RenderableType]:
    row = progress.rows[trial]
    metrics = row.metrics
    mark, style = ("▸", "cyan") if row.stage == "running" else ("✓", "dim")
    done, total = int(metrics.get("iteration", 0)), int(metrics.get("iterations", 0))
    seconds = row.seconds if row.seconds is not None else time.monotonic() - (row.began or time.monotonic())
    retry = f" ↻{row.starts - 1}" if row.starts > 1 else ""
    values = [
        f"{done}/{total}" if total else "starting",
        number(metrics.get("loss"), ".3f"),
        number(metrics.get("accuracy"), ".1%"),
        number(metrics.get("worst_group"), ".1%"),
        number(progress.epsilon.after(trial, metrics.get("steps")), ".2f"),
        duration(seconds),
    ]
    return [Text(f"{mark} {row.label}{retry}", style=style), *(Text(value, style=style) for value in values)]


def _summary(progress: Progress, shown_finished: int, shown_failed: int) -> Text:
    waiting, failed = progress.count("waiting"), progress.count("failed")
    finished = progress.count("done") - shown_finished
    parts = [f"{waiting} waiting"] if waiting else []
    if finished > 0:
        parts.append(f"{finished} more done")
    if progress.done_before:
        parts.append(f"{progress.done_before} done before")
    text = Text(" · ".join(parts), style="dim")
    if failed:
        hidden = f", {failed - shown_failed} not shown" if failed > shown_failed else ""
        text.append(f"{' · ' if parts else ''}{failed} failed{hidden}", style="red")
    return text


def _bar(progress: Progress, width: int) -> RenderableType:
    total = len(progress.rows) + progress.done_before
    ended = progress.count("done", "failed") + progress.done_before
    share = (sum(row.share_done for row in progress.rows.values()) + progress.done_before) / max(1, total)
    line = Table.grid(padding=(0, 2))
    elapsed = duration(time.monotonic() - progress.began)
    line.add_row(
        Text(f"{ended}/{total} trials", style="bold"),
        ProgressBar(total=1.0, completed=share, width=max(10, min(50, width - 60))),
        Text(f"{share:.0%}"),
        Text(f"{elapsed} so far"),
        Text(_left(progress), style="bold"),
    )
    return line


def _left(progress: Progress) -> str:
    left = progress.seconds_left()
    return "time left: not known yet" if left is None else f"about {duration(left)} left"


@contextmanager
def _lines(progress: Progress, console: Console) -> Iterator[None]:
    """One line for each trial that ends, and one now and then on the whole."""
    stop = threading.Event()
    said: set[str] = set()

    def follow() -> None:
        due = time.monotonic() + _LINE_SECONDS
        while not stop.wait(_REFRESH_SECONDS):
            _say_ended(progress, console, said)
            if time.monotonic() >= due:
                due = time.monotonic() + _LINE_SECONDS
                running = progress.count("running")
                console.print(
                    f"{_counted(progress)} {running} running, {_left(progress)}", highlight=False, soft_wrap=True
                )

    thread = threading.Thread(target=follow, name="fairsweep-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _say_ended(progress, console, said)


def _say_ended(progress: Progress, console: Console, said: set[str]) -> None:
    ended = [t for t, row in progress.rows.items() if row.stage in ("done", "failed") and t not in said]
    for trial in ended:
        said.add(trial)
        console.print(_line(progress, trial, len(said)), highlight=False, soft_wrap=True)


def _line(progress: Progress, trial: str, ended: int) -> str:
    row = progress.rows[trial]
    total = len(progress.rows) + progress.done_before
    counted = f"[{ended + progress.done_before}/{total}]"
    if row.stage == "failed":
        return f"{counted} {row.label} failed: {row.cause}"
    metrics = row.metrics
    parts = [
        f"accuracy {number(metrics.get('accuracy'), '.1%')}",
        f"worst group {number(metrics.get('worst_group'), '.1%')}",
    ]
    spent = progress.epsilon.after(trial, metrics.get("steps"))
    if spent is not None:
        parts.append(f"ε {number(spent, '.2f')}")
    return f"{counted} {row.label}: {', '.join(parts)} ({duration(row.seconds or 0)})"


def _counted(progress: Progress) -> str:
    total = len(progress.rows) + progress.done_before
    return f"[{progress.count('done', 'failed') + progress.done_before}/{total}]"


def _ended_at(row: Row) -> float:
    return (row.began or 0.0) + (row.seconds or 0.0)


def failure_lines(progress: Progress) -> list[str]:
    """What went wrong, each cause once."""
    lines = []
    for cause, labels in failures(progress.rows.values()).items():
        shown = ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")
        lines.append(f"{len(labels)} failed: {cause} ({shown})")
    return lines


def number(value: float | None, form: str) -> str:
    """A number for people; a dash where there is none.

    >>> number(0.913, ".1%"), number(None, ".2f"), number(float("inf"), ".2f")
    ('91.3%', '-', '∞')
    """
    if value is None or value != value:
        return "-"
    return "∞" if value == float("inf") else format(value, form)


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(7), duration(125), duration(7300)
    ('7 s', '2 min 05 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
