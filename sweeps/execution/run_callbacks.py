"""What the driver does while trials run, beside showing them: it hears requests and leaves out machines that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ray import tune

from fairsweep.sweeps.execution.stop_requests import StopRequests
from fairsweep.sweeps.runtime.nodes import NodeWatch
from fairsweep.sweeps.search.undefined_values import UndefinedValues
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.ledger import Entry


@contextmanager
def watching(
    sweep: SweepSpec, output: Path, queued: Mapping[str, Entry], say: Callable[[str], None]
) -> Iterator[list[tune.Callback]]:
    """Return the callbacks for Tune that a sweep needs to survive, for the time of a context.

    Args:
        sweep: the sweep.
        output: its output folder.
        queued: the trials of this run; more may be queued while it lasts.
        say: shows a line to the user.
    """
    nodes = NodeWatch(sweep.failures.node_failures, queued, say)
    try:
        yield [StopRequests(output, queued), nodes, UndefinedValues(sweep, say)]
    finally:
        nodes.release()
