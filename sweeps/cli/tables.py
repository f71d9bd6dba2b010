"""The tables of results that the command line prints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairsweep import analysis
from fairsweep.analysis.extras import missing_line
from fairsweep.analysis.records.failed_trials import is_guided
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.membership import describe_former
from fairsweep.analysis.report.example_images import refused
from fairsweep.analysis.report.headline import extreme_groups
from fairsweep.analysis.report.report_content import Content, collect
from fairsweep.analysis.report.report_page import write_report
from fairsweep.analysis.report.statements import small_group_notes
from fairsweep.analysis.report.summary_table import SummaryTable, summary_tables
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.results import SweepResults
from fairsweep.datasets.preparation.pictures import contact_sheet, counts_chart
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.cli.failure_lines import print_failures
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.store.trusted_addresses import shows_public

_MOST_CHANGES = 12
_MOST_LEARNERS = 3
_WIDEST = 400


def print_results(
    folder: str | Path,
    console: Console,
    *,
    to: Path | None = None,
    pictures: bool = False,
    former: bool = False,
    tables: bool = False,
    min_group_size: int | None = None,
) -> bool:
    """Print the results of a sweep and write its report.

    Without tables: the answer in a sentence, the best and the worst group of each learner, and where the report is.

    Args:
        folder: the output folder of the sweep, or its URI.
        console: where to.
        to: file of the report; None writes it into the folder.
        pictures: show example images also of a dataset that was not prepared here from a public source.
        former: see `fairsweep.analysis.load`.
        tables: print the summary tables too.
        min_group_size: see `fairsweep.analysis.load`.

    Returns:
        Whether any trial failed.
    """
    results = analysis.load(folder, former=former, min_group_size=min_group_size)
    local = results.location.local
    failed = bool((results.trials["state"] == "failed").any())
    if local is not None:
        failed = print_failures(local, console, thorough=True)
    print_damage(results, console)
    public = shows_public(results.sweep.get("dataset", {})) and not refused(results, pictures=True)
    try:
        fronts = None if local is None else _fronts(local, console)
        chosen = [] if local is None or fronts is None else _chosen(results, fronts, local)
        content = collect(results, pictures=pictures or public, search=chosen)
        if content.findings is None:
            results.evaluations()  # says why there are none
        if tables:
            _print_tables(results, fronts, console)
    except RecordError as error:
        console.print(f"No results yet: {escape(str(error))}", soft_wrap=True)
        return failed
    for table in chosen:
        console.print()
        print_table(table, console)
    if results.former:
        line = describe_former(len(results.former), str(folder))
        console.print(f"\n{escape(line)}", soft_wrap=True, highlight=False)
    path = write_report(results, to, pictures=pictures or public, content=content)
    console.print()
    for line in _answer(results, content):
        console.print(line, soft_wrap=True, highlight=False)
    rest = "" if tables or local is None else f"  (all numbers: fairsweep report {shlex.quote(str(folder))} --table)"
    console.print(f"Report: {escape(str(path))}{escape(rest)}", soft_wrap=True, highlight=False)
    return failed


def _chosen(results: SweepResults, fronts: ModuleType, folder: Path) -> list[SummaryTable]:
    """Return what a guided search chose; settings that have collapsed on its split are best in nothing."""
    try:
        fallen = results.collapsed(split="validation", states=None)["setting"]
    except RecordError:
        fallen = pd.Series(dtype=str)  # nothing was evaluated there yet
    return list(fronts.search_fronts(folder, set(fallen.astype(str))))


def _print_tables(results: SweepResults, fronts: ModuleType | None, console: Console) -> None:
    local = results.location.local
    shown = summary_tables(results)
    if local is not None and fronts is not None:
        shown = fronts.mark_infeasible(shown, local)
    for table in shown:
        console.print()
        print_table(table, console)


def _answer(results: SweepResults, content: Content) -> list[str]:
    """Return the answer and, for each learner, its best and its worst group, as rich text."""
    found = content.findings
    if found is None:
        return []
    design = design_of(results)
    first = found.headline.statement if found.headline else None
    lines = [] if first is None else [f"[bold]{first.verdict}[/bold]: {escape(first.text)}"]
    lines += (
        [f"  {escape(first.reason)}"] if first is not None and first.verdict == "undefined" and first.reason else []
    )
    said = () if found.headline is None else (found.headline.chosen, found.headline.collapsed)
    lines += [f"  {escape(text)}" for text in (*said, *small_group_notes(results, design)) if text]
    asked = None if first is None or first.found is None else first.found.question
    groups = extreme_groups(results, design, before=() if asked is None else (asked.learner, asked.baseline))
    level = design.levels[-1].text
    lines += [f"  {escape(text)} ({escape(level)})" for text in groups[:_MOST_LEARNERS]]
    if len(groups) > _MOST_LEARNERS:
        lines.append(f"  and {len(groups) - _MOST_LEARNERS} more in the report")
    return lines


def _fronts(folder: Path, console: Console) -> ModuleType | None:
    """Return what reads a guided search.

    None for other sweeps, and where it is not installed: then how to get it is said.
    """
    if not is_guided(OutputFolder.at(folder).description() or {}):
        return None
    try:
        from fairsweep.sweeps.search import front
    except ModuleNotFoundError as error:
        line = missing_line(error, "the table of best settings")
        if line is None:
            raise
        console.print(f"\n{line}", soft_wrap=True, highlight=False, markup=False)
        return None
    return front


def print_damage(results: SweepResults, console: Console) -> None:
    """Print which files of the sweep itself are damaged; of trials in a local folder `print_failures` says so."""
    local, found = results.location.local, results.problems
    lines = [str(text) for text in found["message"][found["trial"] == "" if local is not None else slice(None)]]
    if local is not None:
        remedy = f"to rebuild it: fairsweep resume {shlex.quote(str(local))}"
        lines += [f"{line}; {remedy}" for line in OutputFolder.at(local).file_problems()]
    for line in lines:
        console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)


def draw_dataset(dataset: Path, attributes: Sequence[str], to: Path | None) -> list[Path]:
    """Draw a contact sheet and a bar chart of counts.

    Args:
        dataset: a prepared dataset.
        attributes: to group by; empty takes the first two that have few values.
        to: folder of the pictures; None takes the dataset's own.

    Returns:
        The files written.
    """
    prepared = PreparedDataset.open(dataset)
    folder = to or dataset
    folder.mkdir(parents=True, exist_ok=True)
    return [contact_sheet(prepared, attributes, folder), counts_chart(prepared, attributes, folder)]


def print_changes(changes: pd.DataFrame, console: Console) -> None:
    """Print what differs between the configs of two sweeps, a few lines of each kind."""
    for what in dict.fromkeys(changes["what"].astype(str)):
        rows = changes[changes["what"] == what]
        for key, where, old, new in rows[["key", "where", "a", "b"]].to_numpy(str)[:_MOST_CHANGES].tolist():
            line = f"{what}{f' of {where}' if where else ''}: {key}: {old} → {new}"
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
        if len(rows) > _MOST_CHANGES:
            console.print(f"  {what}: … and {len(rows) - _MOST_CHANGES} more", highlight=False)


def print_table(table: SummaryTable, console: Console) -> None:
    """Print a table with its intervals; without them where the terminal is too narrow for whole cells."""
    console.print(f"[bold]{escape(table.title)}[/bold]")
    whole = _laid_out(table.header, table.rows)
    needed = console.measure(whole, options=console.options.update(max_width=_WIDEST)).maximum
    if not console.is_terminal:
        console.width = max(console.width, needed)  # a file or a pipe takes lines of any length
    if needed <= console.width:
        console.print(whole)
        console.print(table.caption, style="dim", highlight=False, markup=False)
        return
    short = [tuple(cell.split(" [")[0] for cell in row) for row in table.rows]
    console.print(_laid_out(table.header, short))
    console.print("The terminal is too narrow for the intervals; they are in the report.", style="dim")


def _laid_out(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    laid_out = Table(box=None, header_style="bold", pad_edge=False)
    for position, name in enumerate(header):
        laid_out.add_column(escape(name), justify="left" if position < 2 else "right")
    for row in rows:
        laid_out.add_row(*(escape(cell) for cell in row))
    return laid_out
