"""A sweep in a notebook: one panel below the cell, updated in place.

It is plain HTML behind one display handle, which Jupyter, Colab, Kaggle and VS Code all update; no widget state, so the
last picture stays in the file when the notebook is saved.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from fairsweep.analysis.records.trial_state import ENDED
from fairsweep.sweeps.views.columns import column_titles, shown_values, words_left
from fairsweep.sweeps.views.number_format import duration, number
from fairsweep.sweeps.views.pacing import Paced
from fairsweep.sweeps.views.status import Board

_REFRESH_SECONDS = 1.0
_MOST_RUNNING = 12
_MOST_ENDED = 4
_MOST_CAUSES = 5
_MARKS = {"running": "▸", "done": "✓", "stopped": "■"}
# Colours that read on a light and on a dark page; text takes the page's own.
_STYLE = """
.fairsweep{font:13px/1.45 system-ui,sans-serif;max-width:62rem}
.fairsweep table,.fairsweep th,.fairsweep td{color:inherit;font:inherit}
.fairsweep table{border-collapse:collapse;margin:.4rem 0;width:100%;background:none}
.fairsweep th,.fairsweep td{padding:.12rem .6rem;text-align:right;white-space:nowrap;border:0;background:none}
.fairsweep th:first-child,.fairsweep td:first-child{text-align:left;padding-left:0}
.fairsweep td:first-child{overflow:hidden;text-overflow:ellipsis;max-width:26rem}
.fairsweep thead th{border-bottom:1px solid rgba(128,128,128,.4);font-weight:600}
.fairsweep .ended{opacity:.6}
.fairsweep .bar{height:.5rem;border-radius:.25rem;background:rgba(128,128,128,.25);overflow:hidden;margin:.35rem 0}
.fairsweep .bar div{height:100%;background:#0072B2}
.fairsweep .failed{color:#D55E00}
.fairsweep .note{color:#B8860B}
.fairsweep .dim{opacity:.65}
.fairsweep .line{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
""".replace("\n", "")


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


@contextmanager
def following_panel(board: Board) -> Iterator[None]:
    """Show a board below the cell while a context lasts, from a thread of its own."""
    from IPython.display import DisplayHandle

    make: Any = DisplayHandle  # IPython has no types
    handle = make()
    # As MIME data: what every front end takes, and no other library's class is needed.
    handle.display({"text/html": panel(board), "text/plain": ""}, raw=True)
    stop = threading.Event()
    update = Paced(lambda: handle.update({"text/html": panel(board), "text/plain": ""}, raw=True))

    def follow() -> None:
        while not stop.wait(_REFRESH_SECONDS):
            update()

    thread = threading.Thread(target=follow, name="fairsweep-panel", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        handle.update({"text/html": panel(board), "text/plain": ""}, raw=True)


def panel(board: Board) -> str:
    """Return the panel as HTML; its height is bounded, however many trials there are.

    Args:
        board: what is known.
    """
    ended = board.count(*ENDED) + board.done_before
    share = board.share_done
    head = (
        f"<div><b>{escape(board.name)}</b> {ended}/{board.total} trials, {share:.0%} "
        f"<span class=dim>· {duration(board.now() - board.began)} so far · {escape(words_left(board))}</span></div>"
        f"<div class=bar><div style='width:{100 * share:.1f}%'></div></div>"
    )
    best = [
        f"best {escape(aim.title)} <b>{number(found[1], aim.form)}</b> {escape(found[0].label)}"
        for aim in board.aims
        if (found := board.best(aim)) is not None
    ]
    failed = [
        f"<div class='line failed'>✗ {group.count} failed: {escape(group.cause)}</div>"
        for group in board.failures()[:_MOST_CAUSES]
    ]
    notes = [f"<div class='line note'>{escape(note)}</div>" for note in board.notes[-2:]]
    lines = [f"<div class=line>{line}</div>" for line in best]
    return f"<style>{_STYLE}</style><div class=fairsweep>{head}{''.join(lines + failed + notes)}{_table(board)}</div>"


def _table(board: Board) -> str:
    rows = board.rows
    running = sorted((t for t, row in rows.items() if row.stage == "running"), key=lambda t: rows[t].began or 0.0)
    ended = sorted((t for t, row in rows.items() if row.stage in ("done", "stopped")), key=lambda t: -rows[t].ended_at)
    header = "".join(f"<th>{name}</th>" for name in ("trial", *column_titles(board)))
    body = "".join(_row(board, trial) for trial in (*running[:_MOST_RUNNING], *ended[:_MOST_ENDED]))
    hidden = [
        (len(running) - _MOST_RUNNING, "more running"),
        (board.count("queued"), "queued"),
        (len(ended) - _MOST_ENDED, "more done"),
        (board.done_before, "done before"),
    ]
    rest = " · ".join(f"{count} {what}" for count, what in hidden if count > 0)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table><div class=dim>{rest}</div>"


def _row(board: Board, trial: str) -> str:
    row = board.rows[trial]
    cells = "".join(f"<td>{escape(value)}</td>" for value in shown_values(board, trial, row))
    kind = "" if row.stage == "running" else " class=ended"
    return f"<tr{kind}><td title='{escape(row.label)}'>{_MARKS[row.stage]} {escape(row.label)}</td>{cells}</tr>"
