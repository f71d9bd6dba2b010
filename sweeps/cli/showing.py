"""The results that are printed when a run has ended."""

from __future__ import annotations

from functools import partial

from rich.console import Console

from fairsweep.analysis.records.file_names import REPORT
from fairsweep.sweeps.cli.failure_lines import print_failures
from fairsweep.sweeps.cli.tables import print_results
from fairsweep.sweeps.copies.mirror import Mirror
from fairsweep.sweeps.copies.remote_output import push_own
from fairsweep.sweeps.spec.sweep_spec import SweepSpec


def show_results(sweep: SweepSpec, console: Console) -> bool:
    """Print the results of a sweep and write its report; returns whether any trial failed."""
    if sweep.remote is not None:
        failed = print_failures(sweep.folder, console)
        print_results(sweep.remote, console, to=sweep.folder / REPORT)
        push_own(sweep.remote)
        return failed
    failed = print_results(sweep.folder, console)
    if sweep.mirror is not None:
        Mirror(
            sweep.folder, sweep.mirror.to, partial(Console(stderr=True).print, highlight=False, markup=False)
        ).copy_own()
    return failed
