"""The commands on existing sweeps: ``fairsweep ls | stop | retry-failed | extend | prune``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairsweep.sweeps.syntax.errors import SweepError

if TYPE_CHECKING:
    from fairsweep.sweeps.execution.extending import Extension
    from fairsweep.sweeps.store.listing import SweepLine, TrialLine

_EXIT_FAILED_TRIALS = 1
_RUNS = Path("runs")

Folder = Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep's output folder.", show_default=False)]
Address = Annotated[
    str | None, typer.Option("--address", help="A Ray cluster: `auto` or `ray://…`; default: this machine.")
]
Contact = Annotated[
    bool | None,
    typer.Option(
        "--contact/--no-contact",
        help="Whether to use a mirror, tracker or dataset URI that no sweep file you have run here names.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def ls(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[SWEEP]", help="One sweep, or a folder of sweeps (default: runs).", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    former: Annotated[
        bool, typer.Option("--all", help="Include trials of earlier versions of the sweep file.")
    ] = False,
) -> None:
    """List sweeps and their progress; for one sweep, its trials.

    Examples: `fairsweep ls`, `fairsweep ls runs/quickstart --json`
    """
    from fairsweep.analysis.records.failed_trials import retry_command
    from fairsweep.analysis.records.membership import describe_former
    from fairsweep.sweeps.execution.failures import failure_groups
    from fairsweep.sweeps.planning.refusals import refusal_lines
    from fairsweep.sweeps.store.folder_kind import is_output
    from fairsweep.sweeps.store.listing import list_sweeps, list_trials
    from fairsweep.sweeps.store.output import OutputFolder

    folder = folder or (_RUNS if _RUNS.is_dir() else Path())
    console = Console()
    if not folder.is_dir() or not is_output([path.name for path in folder.iterdir()]):
        sweeps = list_sweeps(folder, former=former)
        if as_json:
            _print_json([asdict(line) for line in sweeps])
        elif not sweeps:
            typer.echo(f"no sweeps in {folder}")
        else:
            _print(_sweep_table(sweeps), console)
            _print_problems(sweeps, console)
        say_unfinished(*(line.path for line in sweeps))
        return
    say_unfinished(folder)
    (sweep,) = list_sweeps(folder, former=former)
    trials, groups = list_trials(folder, former=former), failure_groups(folder)
    if as_json:
        described = OutputFolder.at(folder).description() or {}
        failed = [
            {
                "cause": group.cause,
                "count": group.count,
                "trials": group.trials,
                "retry": retry_command(described, str(folder), group.words),
            }
            for group in groups
        ]
        _print_json(asdict(sweep) | {"listed": [asdict(line) for line in trials], "failures": failed})
        return
    _print(_sweep_table((sweep,)), console)
    _print_problems((sweep,), console)
    console.print()
    _print(_trial_table(trials), console)
    from fairsweep.sweeps.cli.failure_lines import print_failures

    print_failures(folder, console)
    for line in refusal_lines((OutputFolder.at(folder).description() or {}).get("refused", {})):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    left_out = 0 if former else len(OutputFolder.at(folder).ledger.former())
    if left_out:
        typer.echo(describe_former(left_out, str(folder)))


def stop(
    folder: Folder,
    trial: Annotated[str | None, typer.Option("--trial", metavar="NAME", help="Stop only this trial.")] = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for it to end.")
    ] = 60.0,
) -> None:
    """Stop a running sweep, as Ctrl-C does; works from any machine that sees the folder.

    Finished trials are kept, and the sweep can be resumed. Examples: `fairsweep stop runs/quickstart`,
    `fairsweep stop runs/quickstart --trial private_s0`
    """
    from fairsweep.sweeps.store.requests import stop_sweep

    became = stop_sweep(folder, trial=trial, wait_seconds=wait)
    if not became.running:
        typer.echo(f"no sweep is running in {folder}")
    elif not became.ended:
        typer.echo(
            f"stop requested, but it has not ended after {wait:g} s; check with: fairsweep ls "
            f"{shlex.quote(str(folder))}"
        )
    else:
        typer.echo(f"stopped; resume with: fairsweep resume {shlex.quote(str(folder))}")


def retry_failed(
    folder: Folder,
    cause: Annotated[
        str | None, typer.Option("--cause", metavar="WORDS", help="Only trials whose cause contains these words.")
    ] = None,
    address: Address = None,
    contact: Contact = None,
    quiet: Quiet = False,
) -> None:
    """Retry the failed trials of a sweep, and only those, from their last checkpoint.

    Trials with damaged files start from scratch; their old folder is kept in `.set-aside`.

    Example: `fairsweep retry-failed runs/quickstart --cause "out of memory"`
    """
    from fairsweep.sweeps.execution import failures
    from fairsweep.sweeps.store.folder_kind import is_output, no_sweep

    if not Path(folder).is_dir() or not is_output([path.name for path in Path(folder).iterdir()]):
        raise no_sweep(folder)
    if not failures.failed_trials(folder, cause):
        typer.echo(f"no failed trials in {folder}")
        return
    failures.retry_failed(folder, cause, address=address, quiet=quiet, contact=contact)
    _finish(folder)


def extend(
    folder: Folder,
    trials: Annotated[int | None, typer.Option("--trials", metavar="N", help="Number of samples to add.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", metavar="N", help="New total number of seeds.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    address: Address = None,
    contact: Contact = None,
    quiet: Quiet = False,
) -> None:
    """Add samples or seeds to a sweep, and run the new trials; its sweep.yaml keeps its comments.

    Shows the changes first. Examples: `fairsweep extend runs/search --trials 20`,
    `fairsweep extend runs/faces --seeds 6`
    """
    from fairsweep.sweeps.execution.extending import extend_sweep

    extension = extend_sweep(folder, trials=trials, seeds=seeds, contact=contact)
    _show(extension, Console(stderr=True))
    if not yes:
        if not sys.stdin.isatty():
            raise SweepError("nothing was changed: confirm with --yes where there is no terminal")
        typer.confirm("Continue?", abort=True)
    extension.run(address=address, quiet=quiet)
    _finish(folder)


def say_unfinished(*folders: Path) -> None:
    """Print which sweeps have an unfinished request for deletion."""
    from fairsweep.sweeps.store.deletion_journal import explain_unfinished

    for line in filter(None, map(explain_unfinished, folders)):
        typer.echo(f"fairsweep: {line}", err=True)


def prune(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete the trials of earlier versions of a sweep file, after listing them.

    Example: `fairsweep prune runs/quickstart`
    """
    from fairsweep.sweeps.store.former_trials import delete_former, find_former

    found = find_former(folder)
    if not found:
        typer.echo(f"every trial in {folder} belongs to the current sweep file; nothing to delete")
        return
    for trial in found:
        typer.echo(f"{trial.state.state:8}{trial.folder.name}")
    if not yes:
        if not sys.stdin.isatty():
            raise SweepError("nothing was deleted: confirm with --yes where there is no terminal")
        typer.confirm(f"Delete these {len(found)} trials with their models and records?", abort=True)
    delete_former(folder, found)
    typer.echo(f"deleted {len(found)}")


def _show(extension: Extension, console: Console) -> None:
    from fairsweep.sweeps.store.difference import difference_of

    for line in difference_of(extension.sweep).lines():
        console.print(escape(line), highlight=False, soft_wrap=True)


def _finish(folder: Path) -> None:
    """Print the results and write the report; the exit code says whether a trial has failed."""
    from fairsweep.sweeps.cli.tables import print_results

    if print_results(folder, Console()):
        raise typer.Exit(_EXIT_FAILED_TRIALS)


def _sweep_table(lines: tuple[SweepLine, ...]) -> Table:
    table = Table("sweep", "folder", box=None, header_style="bold", pad_edge=False)
    for name in ("trials", *lines[0].counts):
        table.add_column(name, justify="right")
    table.add_column("driver")
    for line in lines:
        counts = [str(count or "-") for count in line.counts.values()]
        holder = "" if line.holder is None else f"{line.holder.host}, process {line.holder.process}"
        table.add_row(escape(line.name), escape(str(line.path)), str(line.trials), *counts, escape(holder))
    return table


def _print_problems(lines: tuple[SweepLine, ...], console: Console) -> None:
    for line in lines:
        if line.problem is not None:
            text = f"{line.path}: {line.problem}"
            console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def _trial_table(lines: tuple[TrialLine, ...]) -> Table:
    table = Table("trial", "learner", "state", box=None, header_style="bold", pad_edge=False)
    table.add_column("attempts", justify="right")
    table.add_column("iteration", justify="right")
    table.add_column("cause")
    for line in lines:
        done = f"{line.iteration}/{line.iterations}" if line.iterations else "-"
        state = f"{line.state} by {line.by}" if line.by else line.state
        cause = escape(line.cause or "")
        table.add_row(escape(line.name), escape(line.learner), state, str(line.attempts), done, cause)
    return table


def _print(table: Table, console: Console) -> None:
    if not console.is_terminal:  # a file or a pipe takes lines of any length
        console.width = max(
            console.width, console.measure(table, options=console.options.update(max_width=400)).maximum
        )
    console.print(table)


def _print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    typer.echo(json.dumps(value, indent=2, default=str))


COMMANDS: dict[str, Callable[..., None]] = {
    "ls": ls,
    "stop": stop,
    "retry-failed": retry_failed,
    "extend": extend,
    "prune": prune,
}
