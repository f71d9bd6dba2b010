"""The tables of a sweep's privacy that ``fairsweep privacy`` and ``fairsweep plan`` print."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from rich.console import Console
from rich.table import Table

from fairsweep.analysis.inference.ledger_view import PrivacyLedger

_WIDEST = 400


def print_ledger(ledger: PrivacyLedger, console: Console) -> None:
    """Print what the trials of a sweep cost, together and alone, and what that rests on."""
    print_sentences(ledger.headline, console)
    if not ledger.prices.empty:
        print_frame("What a release costs", ledger.prices, console)
    print_frame("Trials, the most expensive of each setting", ledger.statements, console)
    console.print("\n[bold]Assumptions[/bold]")
    print_sentences(ledger.assumptions, console)


def print_sentences(sentences: Iterable[str], console: Console) -> None:
    """Print sentences, each on a line of its own."""
    for text in sentences:
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_frame(title: str, frame: pd.DataFrame, console: Console) -> None:
    """Print a data frame under a title; a file or a pipe takes lines of any length."""
    console.print(f"\n[bold]{title}[/bold]")
    table = Table(*map(str, frame.columns), box=None, header_style="bold", pad_edge=False)
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*map(_text, row))
    if not console.is_terminal:
        wide = console.options.update(max_width=_WIDEST)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table, highlight=False, markup=False)


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
