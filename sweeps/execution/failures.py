"""Failed and damaged trials of an output folder, by cause, and retrying them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fairsweep.analysis.records.failed_trials import FailedTrial, FailureGroup, grouped
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError

if TYPE_CHECKING:
    from fairsweep.analysis import SweepResults


def failure_groups(folder: str | Path, *, thorough: bool = False) -> tuple[FailureGroup, ...]:
    """Return the failed and the damaged trials in a sweep's folder by cause, the most frequent cause first.

    Args:
        folder: the output folder of the sweep.
        thorough: whether every byte of the records of trials that have ended is checked, or only their ends.
    """
    ledger = OutputFolder.at(folder).ledger
    failed = [entry for entry in ledger.members().values() if entry.state.state == "failed"]
    damaged = ledger.damaged(thorough=thorough)
    return grouped(
        [
            *(FailedTrial(e.folder.name, e.state.trial, e.state.error, e.state.traceback) for e in failed),
            *damaged,
        ]
    )


def failed_trials(folder: str | Path, cause: str | None = None) -> frozenset[str]:
    """Hashes of the failed and damaged trials whose cause has some words in it, in any case; of all of them for None.

    Raises:
        SweepError: if none failed of such a cause; the message lists the causes that there are.
    """
    groups = failure_groups(folder, thorough=True)
    found = [hash_ for group in groups if group.has(cause) for hash_ in group.hashes if hash_]
    if found or not groups or cause is None:
        return frozenset(found)
    raise SweepError(f"no trial failed of {cause!r}; causes: {'; '.join(group.cause for group in groups)}")


def retry_failed(
    folder: str | Path,
    cause: str | None = None,
    *,
    address: str | None = None,
    quiet: bool = False,
    contact: bool | None = None,
) -> SweepResults:
    """Run failed trials of a sweep again from their last checkpoint, damaged ones from the start, and nothing else.

    Args:
        folder: the output folder of the sweep.
        cause: words in the cause; None for all failed trials.
        address: of a Ray cluster.
        quiet: whether to show nothing.
        contact: whether to use places that the folder's files alone name; None refuses.

    Raises:
        SweepError: if the folder holds no sweep, or none failed of such a cause.
    """
    from fairsweep.sweeps.copies.resuming import resume_sweep
    from fairsweep.sweeps.execution.run import run_sweep

    sweep, text = resume_sweep(folder, contact=contact)
    return run_sweep(sweep, text=text, address=address, quiet=quiet, only=failed_trials(folder, cause))
