"""The commands on results: ``fairsweep report | check | privacy | audit | compare``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from fairsweep.sweeps.cli.commands import say_unfinished
from fairsweep.sweeps.cli.destination import in_a_folder
from fairsweep.sweeps.syntax.errors import SweepError, as_ours

if TYPE_CHECKING:
    from fairsweep.analysis.records.files import SweepLocation

Sweep = Annotated[
    str, typer.Argument(metavar="SWEEP", help="The sweep's output folder, or its URI.", show_default=False)
]


def report(
    folder: Annotated[
        str, typer.Argument(metavar="SWEEP", help="The sweep's output folder, or its URI.", show_default=False)
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FILE",
            help="File to write the report to; default: SWEEP/report.html.",
            callback=in_a_folder,
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Also show example images of datasets that are not public.")
    ] = False,
    former: Annotated[
        bool, typer.Option("--all", help="Include trials of earlier versions of the sweep file.")
    ] = False,
    table: Annotated[bool, typer.Option("--table", help="Also print the tables of all learners and levels.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
    min_group_size: Annotated[
        int | None,
        typer.Option(
            "--min-group-size",
            metavar="N",
            min=1,
            help="List groups with fewer test examples without ranking them; default: the sweep file's, or 20.",
        ),
    ] = None,
) -> None:
    """Print the answer of a sweep and write its report as one HTML page; works while the sweep runs.

    Examples: `fairsweep report runs/quickstart --table`, `fairsweep report s3://bucket/runs/faces --to faces.html`
    """
    import webbrowser

    from fairsweep.analysis.records.file_names import REPORT
    from fairsweep.sweeps.cli.tables import print_results

    local = _check(folder).local
    if local is None and to is None:
        raise SweepError(f"{folder} is not a local folder: say where to write the report with --to FILE")
    if local is not None:
        say_unfinished(local)
    with as_ours():
        print_results(
            folder,
            Console(),
            to=to,
            pictures=pictures,
            former=former,
            tables=table,
            min_group_size=min_group_size,
        )
    page = to if to is not None else local and local / REPORT
    if show and page is not None and page.is_file():
        webbrowser.open(page.resolve().as_uri())


def check(
    folder: Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep's output folder.", show_default=False)],
) -> None:
    """Check that a sweep's records are whole, as docs/records.md says, and agree with one another.

    Prints a line for each problem and ends with code 1 if there is one. Also for records that another program wrote.

    Examples: `fairsweep check runs/quickstart`
    """
    from fairsweep.analysis.checking.sweep_check import check_sweep

    _check(str(folder))
    with as_ours():
        found = check_sweep(folder)
    for problem in found:
        where = f"{problem.trial}/{problem.file}" if problem.trial else problem.file
        typer.echo(f"{where}: {problem.message}")
    if found:
        raise typer.Exit(1)
    typer.echo("no problems: the records are whole, have the documented schema, and agree with one another")


def privacy(
    folder: Sweep,
    delta: Annotated[
        float | None,
        typer.Option("--delta", metavar="δ", help="δ of the whole sweep; default: the smallest of its trials'."),
    ] = None,
    former: Annotated[
        bool, typer.Option("--all", help="Include trials of earlier versions of the sweep file.")
    ] = False,
) -> None:
    """Print what trials cost in privacy: one alone, all of them composed, and of random draws the winner too.

    Examples: `fairsweep privacy runs/faces`, `fairsweep privacy runs/faces --delta 1e-7`
    """
    from fairsweep import analysis
    from fairsweep.analysis.inference.privacy_ledger import privacy_ledger
    from fairsweep.analysis.records.membership import describe_former
    from fairsweep.sweeps.cli.privacy_tables import print_ledger
    from fairsweep.sweeps.cli.tables import print_damage

    _check(folder)
    console = Console()
    with as_ours():
        results = analysis.load(folder, former=former)
        ledger = privacy_ledger(results, delta)
        if ledger is None:
            console.print("No trial has stated what it costs: none is private, or none has ended.", highlight=False)
        else:
            print_ledger(ledger, console)
        print_damage(results, console)
        if results.former:
            line = f"{describe_former(len(results.former), folder)}. The privacy that they spent is not counted here"
            console.print(f"\n{escape(line)}", soft_wrap=True, highlight=False)


def audit(
    folder: Sweep,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", "-a", help="Groups that shadows are asked about; can be repeated."),
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", metavar="P", help="Confidence of bounds and of intervals.")
    ] = 0.95,
) -> None:
    """Print what audits found: claimed ε beside lower bounds from canaries, and who is recognised as trained on.

    Examples: `fairsweep audit runs/faces`, `fairsweep audit runs/faces -a male --confidence 0.99`
    """
    from fairsweep import analysis
    from fairsweep.sweeps.cli.audit_tables import print_audit

    _check(folder)
    if not 0 < confidence < 1:
        raise SweepError(f"confidence must be in (0, 1), but got {confidence}")
    with as_ours():
        print_audit(analysis.load(folder), attribute, confidence, Console())


def compare(
    a: Sweep,
    b: Sweep,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Also write the comparison as one HTML page.", callback=in_a_folder
        ),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", "-a", help="Compare the groups of this attribute; can be repeated."),
    ] = None,
) -> None:
    """Compare two sweeps (B minus A): shared settings, config changes, and their effect on each group.

    Examples: `fairsweep compare runs/quickstart runs/again`, `fairsweep compare runs/a s3://bucket/b --html c.html`
    """
    from fairsweep import analysis
    from fairsweep.analysis.comparing.comparison_page import write_comparison
    from fairsweep.analysis.comparing.comparison_table import comparison_tables
    from fairsweep.sweeps.cli.tables import print_changes, print_table

    for place in (a, b):
        _check(place)
    console = Console()
    with as_ours():
        found = analysis.compare(a, b, by=attribute)
        console.print(
            f"A: {escape(found.a.name)} ({escape(a)}); B: {escape(found.b.name)} ({escape(b)})", soft_wrap=True
        )
        for text in found.sentences():
            console.print(escape(text), highlight=False, soft_wrap=True)
        print_changes(found.changes, console)
        for table in comparison_tables(found):
            console.print()
            print_table(table, console)
        if html is not None:
            path = write_comparison(found, html)
            console.print(f"\nComparison: {escape(str(path))}", soft_wrap=True, highlight=False)


def _check(place: str) -> SweepLocation:
    """Return the location of a sweep; refuse what is not one."""
    from fairsweep.analysis.records.file_names import SWEEP_JSON, TRIALS
    from fairsweep.analysis.records.files import SweepLocation
    from fairsweep.sweeps.store.folder_kind import no_sweep

    with as_ours():
        location = SweepLocation.of(place)
        if not any((location / name).exists() for name in (SWEEP_JSON, TRIALS)):
            if location.local is not None:
                raise no_sweep(place)
            raise SweepError(f"{place} is not a sweep folder: there is no {SWEEP_JSON} in it")
        return location


REPORTING: dict[str, Callable[..., None]] = {
    "report": report,
    "check": check,
    "privacy": privacy,
    "audit": audit,
    "compare": compare,
}
