"""The commands that follow a running sweep: ``fairsweep watch | track | ui``."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fairsweep.sweeps.syntax.errors import SweepError

_NOT_ALL_SENT = 1


def watch(
    folder: Annotated[
        str, typer.Argument(metavar="SWEEP", help="The sweep's output folder, or its URI.", show_default=False)
    ],
    once: Annotated[bool, typer.Option("--once", help="Show the current state once, and exit.")] = False,
    seconds: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Seconds between two updates.")
    ] = 2.0,
) -> None:
    """Show the progress of a sweep that runs elsewhere; only reads its folder.

    Examples: `fairsweep watch runs/faces`, `fairsweep watch s3://bucket/runs/faces --once`
    """
    from fairsweep.sweeps.views.watch import watch as show

    show(folder, Console(), once=once, seconds=seconds)


def track(
    folder: Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep's output folder.", show_default=False)],
    seconds: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=1, help="How long to keep trying.")
    ] = 3600.0,
    contact: Annotated[
        bool, typer.Option("--contact", help="Also send to a server that no sweep file you have run here names.")
    ] = False,
) -> None:
    """Send unsent results to the trackers of a sweep; works after the sweep has ended.

    Example: `fairsweep track runs/faces`
    """
    from pydantic import ValidationError

    from fairsweep.analysis.records.files import RecordError
    from fairsweep.sweeps.spec.tracking_section import TrackingSection
    from fairsweep.sweeps.store.folder_kind import no_sweep
    from fairsweep.sweeps.store.trusted_addresses import check_trackers
    from fairsweep.sweeps.syntax.validation import clear_error
    from fairsweep.sweeps.tracking.following import Records
    from fairsweep.sweeps.tracking.tracker_main import track as send

    try:
        section = Records.of(folder.resolve()).section
    except ValidationError as error:
        raise clear_error(error, TrackingSection, None, ("tracking",)) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no_sweep(folder) from error
    except RecordError as error:
        raise SweepError(f"{error}; to rebuild it: fairsweep resume {shlex.quote(str(folder))}") from error
    names = section.names
    if not names:
        raise SweepError(f"the sweep in {folder} has no trackers: add `tracking: [tensorboard]` to its file and run it")
    check_trackers(section, contact=contact)
    finishing = threading.Event()
    finishing.set()
    if not send(folder.resolve(), typer.echo, finishing, lambda: seconds):
        raise typer.Exit(_NOT_ALL_SENT)
    typer.echo(f"{', '.join(names)}: all sent")


def ui(
    folder: Annotated[
        str, typer.Argument(metavar="SWEEP", help="The sweep's output folder, or its URI.", show_default=False)
    ],
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 picks a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """Serve the live table of a sweep as a local web page until Ctrl-C; only reads its folder.

    Example: `fairsweep ui runs/faces`
    """
    import webbrowser

    from fairsweep.sweeps.views.live_page import serving
    from fairsweep.sweeps.views.watch import WatchedSweep

    with serving(WatchedSweep(folder), port) as address:
        typer.echo(f"{address}    (Ctrl-C to stop)")
        if not no_browser:
            webbrowser.open(address)
        threading.Event().wait()


FOLLOWING: dict[str, Callable[..., None]] = {"watch": watch, "track": track, "ui": ui}
