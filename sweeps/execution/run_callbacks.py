"""What the driver does while trials run, as callbacks for Tune: each is imported by a run that has a use for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ray import tune
from rich.console import Console

from fairsweep.sweeps.execution.stop_requests import StopRequests
from fairsweep.sweeps.execution.trial_queue import TrialQueue
from fairsweep.sweeps.spec.sweep_spec import SweepSpec


@contextmanager
def run_callbacks(
    sweep: SweepSpec,
    output: Path,
    queue: TrialQueue,
    console: Console | None,
    say: Callable[[str], None],
    *,
    nodes: bool,
) -> Iterator[list[tune.Callback]]:
    """Yield the callbacks of a run, for the time of a context.

    Args:
        sweep: the sweep.
        output: its output folder.
        queue: the trials of the run.
        console: where progress is shown; None shows nothing.
        say: shows a line to the user.
        nodes: whether there may be machines besides this one.
    """
    callbacks: list[tune.Callback] = [queue.progress, StopRequests(output, queue.queued)]
    with ExitStack() as ending:
        if sweep.remote is not None:
            from fairsweep.sweeps.execution.remote_states import RemoteStates

            callbacks.append(RemoteStates(sweep.remote, queue.queued))
        if nodes and sweep.failures.node_failures is not None:
            from fairsweep.sweeps.runtime.nodes import NodeWatch

            callbacks.append(watch := NodeWatch(sweep.failures.node_failures, queue.queued, say))
            ending.callback(watch.release)
        if sweep.stop.rules or sweep.scheduler.kind != "none":
            from fairsweep.sweeps.search.undefined_values import UndefinedValues

            callbacks.append(UndefinedValues(sweep, say))
        if console is not None:
            from fairsweep.sweeps.views.display import showing

            ending.enter_context(showing(queue.progress, console))
        yield callbacks
