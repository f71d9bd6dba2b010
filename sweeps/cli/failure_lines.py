"""Causes of failed trials, printed on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from fairsweep.analysis.records.failed_trials import is_guided, more_settings_command, retry_command
from fairsweep.sweeps.execution.failures import failure_groups
from fairsweep.sweeps.store.output import OutputFolder


def print_failures(folder: Path, console: Console, *, thorough: bool = False) -> bool:
    """Print each cause of failed trials once, and the remedy; return whether any failed.

    Args:
        folder: the output folder of the sweep.
        console: where to.
        thorough: see `fairsweep.sweeps.execution.failures.failure_groups`.
    """
    output = OutputFolder.at(folder)
    groups, sweep = failure_groups(folder, thorough=thorough), output.description() or {}
    for group in groups:
        shown = ", ".join(group.trials[:3]) + (" …" if group.count > 3 else "")
        console.print(
            f"[red]{group.count} failed[/red]: {escape(group.cause)} ({escape(shown)})", soft_wrap=True, highlight=False
        )
        retry = retry_command(sweep, str(folder), group.words)
        if retry is not None:
            console.print(f"  retry with: {escape(retry)}", soft_wrap=True, highlight=False)
        if group.traceback:
            console.print(
                f"  traceback: {escape(str(folder))}/trials/{escape(group.trials[0])}/state.json", soft_wrap=True
            )
    if groups and is_guided(sweep):
        more = more_settings_command(str(folder))
        console.print(
            f"The search has counted them as failed; to try N more settings: {escape(more)}",
            soft_wrap=True,
            highlight=False,
        )
    return bool(groups)
