"""The driver's side of `fairsweep.sweeps.store.requests`: it looks for them while trials run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from fairsweep.analysis.records.files import RecordError, read_json
from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.sweeps.store.ledger import Entry
from fairsweep.sweeps.store.output import STOP_REQUESTS

_EVERY_SECONDS = 0.5


class StopRequests(DriverOnly, tune.Callback):
    """Looks for requests while trials run, in the driver's own loop; a request for the whole sweep acts as Ctrl-C.

    Args:
        output: the sweep's folder.
        queued: the trials of this run; more may be queued while it lasts.
    """

    def __init__(self, output: Path, queued: Mapping[str, Entry]) -> None:
        self._output = output
        self._queued = queued
        self._due = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ANN401 - Tune's
        """Tune calls this several times a second, whether or not anything happens.

        Raises:
            KeyboardInterrupt: if the whole sweep shall end.
        """
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _EVERY_SECONDS
        for path in sorted(self._output.glob(STOP_REQUESTS)):
            try:
                asked = read_json(path)
            except (OSError, RecordError):
                continue
            path.unlink(missing_ok=True)
            if asked.get("trial") is None:
                raise KeyboardInterrupt
            entry = self._queued.get(str(asked["trial"]))
            if entry is not None:
                _stop(entry)


def _stop(entry: Entry) -> None:
    """Take a trial away from its worker, which finds that out with its next write; from its checkpoint it can go on."""
    before = entry.now()
    if before is None:
        return
    # A worker may take the next attempt in this very moment: two numbers further shut out that one too.
    changes: dict[str, Any] = {"state": "stopped", "by": "user", "reason": "stopped on request"}
    changes |= {"run": before.run + 2, "attempt": before.attempt + 2}
    entry.mark(changes, when=lambda state: state.state in ("queued", "running"))
