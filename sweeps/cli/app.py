"""The command line: ``fairsweep prepare | plan | run | resume | report | forget | show | ls | stop …``.

An error that the user can fix is one line on stderr with exit code 2. Results go to stdout, progress to stderr.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fairsweep.analysis.extras import missing_line
from fairsweep.sweeps.cli.commands import COMMANDS, Contact
from fairsweep.sweeps.cli.live_commands import FOLLOWING
from fairsweep.sweeps.cli.reporting import REPORTING
from fairsweep.sweeps.cli.starting import STARTING
from fairsweep.sweeps.cli.text_encoding import speak_utf8
from fairsweep.sweeps.cli.using import USING
from fairsweep.sweeps.syntax.errors import InterruptedSweepError, SweepError, as_ours, paths_fit
from fairsweep.trainables.loading import uncollected

if TYPE_CHECKING:
    from fairsweep.sweeps.syntax.sweep_file import SweepSource

app = typer.Typer(
    name="fairsweep",
    help="Sweeps that show what happens to each demographic group when training is private, federated or forgetful and "
    "the data is imbalanced.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXIT_BAD_INPUT = 2
EXIT_FAILED_TRIALS = 1
EXIT_INTERRUPTED = 130
_MOST_ERRORS = 20

Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PLACE=VALUE]…", help="Changes to the file: `learners.0.epsilon=5`.", show_default=False),
]
NameOption = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name to use instead of the file's.")]
_SEEDS = "Number of (tied) seeds instead of the file's."
SeedsOption = Annotated[int | None, typer.Option("--seeds", metavar="N", min=1, help=_SEEDS)]
TrialsOption = Annotated[
    int | None,
    typer.Option("--trials-at-most", metavar="N", min=1, help="Maximum number of trials (default: 100,000)."),
]
SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="The sweep file (YAML).", show_default=False)]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="SWEEP", help="Output folder to use instead of the file's `output`."),
]
_ADDRESS = "A Ray cluster: `auto` or `ray://…`; default: this machine."
AddressOption = Annotated[str | None, typer.Option("--address", help=_ADDRESS)]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def main() -> None:
    """Entry point of the ``fairsweep`` command."""
    speak_utf8()
    try:
        with paths_fit():
            code = app(standalone_mode=False)  # typer.Exit comes back as a number
    except InterruptedSweepError as error:
        _say(str(error))
        sys.exit(EXIT_INTERRUPTED)
    except SweepError as error:
        for one in error.each[:_MOST_ERRORS]:
            _say(str(one))
        if len(error.each) > _MOST_ERRORS:
            _say(f"and {len(error.each) - _MOST_ERRORS} more")
        sys.exit(EXIT_BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        line = missing_line(error, f"fairsweep {' '.join(sys.argv[1:2])}")
        if line is None:
            raise
        _say(line)
        sys.exit(EXIT_BAD_INPUT)
    except Exception as error:
        message = getattr(error, "format_message", None)  # click's own errors: unknown option, missing argument
        if message is None:
            raise
        if message():  # nothing where no command was given: then the help has been shown
            context = getattr(error, "ctx", None)
            _say(f"{message()}{f' (see: {context.command_path} --help)' if context else ''}")
        sys.exit(EXIT_BAD_INPUT)
    if code == EXIT_INTERRUPTED:  # typer makes it of Ctrl-C, which only a sweep that runs has words for
        _say("stopped")
    sys.exit(code if isinstance(code, int) else 0)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"fairsweep {version('fairsweep')}")
        raise typer.Exit


def _run(sweep: Any, text: str, address: str | None, quiet: bool) -> None:  # noqa: ANN401 - Sweep, imported where used
    with uncollected():
        from fairsweep.sweeps.execution.run import run_sweep

    run_sweep(sweep, text=text, address=address, quiet=quiet)
    with uncollected():  # what draws the report is not needed before the first trial
        from fairsweep.sweeps.cli.showing import show_results

    if show_results(sweep, Console()):  # some failed
        raise typer.Exit(EXIT_FAILED_TRIALS)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Sweeps that show what happens to each demographic group when training is private and the data is imbalanced."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def prepare(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="faces, mnist, fashion-mnist, kmnist, celeba, utkface, folder (any images with a table) or hf (a "
            "local copy of a Hugging Face data set).",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Where to write the prepared dataset.")
    ] = None,
    raw: Annotated[
        Path | None,
        typer.Option("--from", metavar="RAW", help="Folder, zip or tar with the raw files, if the source reads any."),
    ] = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Download the raw files first (celeba and the MNIST family)."),
    ] = False,
    max_damaged: Annotated[
        float,
        typer.Option("--max-damaged", min=0, max=1, help="Largest share of images that may be missing or unreadable."),
    ] = 0.01,
    options: Annotated[bool, typer.Option("--options", help="Explain the source and its options, and exit.")] = False,
    address: AddressOption = None,
) -> None:
    """Make a prepared dataset: decode, crop, resize, write Parquet.

    Options of the source follow as `--name value`; `--options` lists them.

    Examples: `fairsweep prepare faces --to data/faces`, `fairsweep prepare mnist --from FOLDER --to data/mnist`
    """
    from fairsweep.sweeps.cli.preparation import (
        describe_notes,
        describe_options,
        describe_skipped,
        describe_source,
        prepare_dataset,
        words_of,
    )

    if options:
        typer.echo(f"{describe_source(source)}\n")
        for option, default, words in describe_options(source):
            typer.echo(f"{option} (default: {default or 'none'})")
            typer.echo(textwrap.fill(words, 100, initial_indent="    ", subsequent_indent="    "))
        return
    if to is None:
        raise SweepError("--to FOLDER must be given: the folder to write the prepared dataset to")
    with as_ours():
        info = prepare_dataset(
            source,
            to,
            raw=raw,
            fetch=download,
            options=words_of(context.args),
            max_damaged=max_damaged,
            address=address,
        )
    counts = ", ".join(f"{count:,} {split}" for split, count in info.counts.items())
    typer.echo(f"{info.name}: {counts}{describe_skipped(info)}; in {to}")
    for note in describe_notes(info):
        typer.echo(note)


@app.command()
def plan(
    file: SweepFile,
    changes: Changes = None,
    output: OutputOption = None,
    name: NameOption = None,
    seeds: SeedsOption = None,
    trials_at_most: TrialsOption = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Time a few steps of each learner on this machine, and estimate hours and disk space."
        ),
    ] = False,
) -> None:
    """Print what a sweep would run, without starting anything.

    Examples: `fairsweep plan examples/quickstart.yaml --measure`, `fairsweep plan FILE learners.0.epsilon=5 --seeds 3`
    """
    source, sweep = _read(file, changes, output, name=name, seeds=seeds, trials_at_most=trials_at_most)
    with _located(source):
        _print_plan(sweep)
        if measure:
            from fairsweep.sweeps.execution.profiling import measure_sweep, print_measured

            print_measured(measure_sweep(sweep), Console())


@app.command()
def run(
    file: SweepFile,
    changes: Changes = None,
    output: OutputOption = None,
    name: NameOption = None,
    seeds: SeedsOption = None,
    trials_at_most: TrialsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan, as `plan` does.")] = False,
    address: AddressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run a sweep and write its report; finished trials are skipped.

    Examples: `fairsweep run examples/quickstart.yaml`, `fairsweep run FILE learners.0.epsilon=5 --seeds 3 --name again`
    """
    source, sweep = _read(file, changes, output, name=name, seeds=seeds, trials_at_most=trials_at_most)
    with _located(source):
        if dry_run:
            _print_plan(sweep)
            return
        _run(sweep, source.text, address, quiet)


@app.command()
def resume(
    folder: Annotated[
        str, typer.Argument(metavar="SWEEP", help="The sweep's output folder, or its URI.", show_default=False)
    ],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="LOCAL", help="SWEEP is a mirror: resume in this local folder.")
    ] = None,
    address: AddressOption = None,
    contact: Contact = None,
    quiet: QuietOption = False,
) -> None:
    """Resume a sweep that was stopped or killed; finished trials are skipped.

    Examples: `fairsweep resume runs/quickstart`, `fairsweep resume /mnt/drive/quickstart --to runs/quickstart`
    """
    from fairsweep.sweeps.copies.restoring import is_mirror
    from fairsweep.sweeps.copies.resuming import resume_mirror, resume_sweep

    if to is None and is_mirror(Path(folder)):
        raise SweepError(f"{folder} is the mirror of a sweep: give a local folder to resume in with --to LOCAL")
    sweep, text = resume_sweep(folder, contact=contact) if to is None else resume_mirror(folder, to, contact=contact)
    _run(sweep, text, address, quiet)


@app.command()
def forget(
    run: Annotated[
        Path, typer.Argument(metavar="SWEEP", help="The sweep's output folder, or one trial's.", show_default=False)
    ],
    ids: Annotated[
        Path | None, typer.Option("--ids", metavar="FILE", help="File of ids, one per line, or a CSV with a column id.")
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option("--files", metavar="NAME", help="Name of an image file instead of ids: 17.png; can be repeated."),
    ] = None,
    files_from: Annotated[
        Path | None,
        typer.Option("--files-from", metavar="FILE", help="File of image file names instead of ids, one per line."),
    ] = None,
    erase: Annotated[
        bool,
        typer.Option(
            "--erase", help="Also delete everything derived from the examples, and rewrite the dataset without them."
        ),
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for another request to finish.")
    ] = 0.0,
    contact: Annotated[
        bool,
        typer.Option("--contact", help="Also read a dataset's URI that no sweep file you have run here names."),
    ] = False,
) -> None:
    """Make finished trials of kind sisa forget examples: retrain the shards that saw them.

    An interrupted request continues with the same command, or with SWEEP alone.

    Examples: `fairsweep forget runs/NAME/trials/TRIAL --ids ids.csv`, `fairsweep forget runs/NAME --ids FILE --erase`,
    `fairsweep forget runs/NAME --files women/17.png --files women/18.png`
    """
    from fairsweep.datasets.preparation.image_names import read_names
    from fairsweep.sweeps.execution.forget import forget_ids, forgetful_trials
    from fairsweep.sweeps.store.trusted_addresses import check_datasets
    from fairsweep.trainables.trial.forgetting import current_dataset

    with as_ours():
        check_datasets([current_dataset(folder)[0] for folder in forgetful_trials(run)], contact=contact)
        names = [*(files or ()), *(read_names(files_from) if files_from is not None else ())]
    erased = forget_ids(run, ids, files=names, erase=erase, wait_seconds=wait, say=typer.echo).erasure
    if erased is None:
        return
    for line in erased.lines():
        typer.echo(line)
    typer.echo(
        f"the previous version of the dataset still holds the images: delete {erased.former} if nobody else needs it"
    )


@app.command()
def show(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A prepared dataset.", show_default=False)],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Folder for the pictures; default: DATASET.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", "-a", help="Attribute to group by; can be repeated.")
    ] = None,
) -> None:
    """Draw a contact sheet by group and a bar chart of counts.

    Example: `fairsweep show data/faces --attribute tone --attribute smiling`
    """
    from fairsweep.sweeps.cli.preparation import dataset_notes
    from fairsweep.sweeps.cli.tables import draw_dataset

    with as_ours():
        paths = draw_dataset(dataset, attribute or [], to)
        notes = dataset_notes(dataset)
    for note in notes:
        typer.echo(note)
    for path in paths:
        Console().print(f"wrote {escape(str(path))}")


for _name, _command in (STARTING | REPORTING | USING | COMMANDS | FOLLOWING).items():
    app.command(_name)(_command)


def _read(
    file: Path,
    changes: list[str] | None,
    output: Path | None,
    *,
    name: str | None,
    seeds: int | None,
    trials_at_most: int | None,
) -> tuple[SweepSource, Any]:
    """Return the sweep of a file with the changes of the command line, and the file that says so."""
    with uncollected():
        from fairsweep.sweeps.spec.sweep_spec import SweepSpec
        from fairsweep.sweeps.syntax.overrides import read_changed

    source = read_changed(file, changes or [], name=name, seeds=seeds, trials_at_most=trials_at_most, output=output)
    with _located(source):
        sweep = SweepSpec.from_mapping(source.content)
    return source, sweep


def _print_plan(sweep: Any) -> None:  # noqa: ANN401 - Sweep, imported where used
    from fairsweep.sweeps.cli.plan_tables import print_plan
    from fairsweep.sweeps.plan import plan_sweep

    print_plan(plan_sweep(sweep), Console())


@contextmanager
def _located(source: SweepSource) -> Iterator[None]:
    """Add to an error that has a place where it stands: file and line, or the command line."""
    try:
        yield
    except SweepError as error:
        raise (source.error(error) if error.location else error) from error


def _say(message: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(escape(f"fairsweep: {message}"), style="bold")
