"""States of trials with a remote output folder, fetched by the driver as each trial ends."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray import tune

from fairsweep.sweeps.copies.remote_output import RemoteOutput
from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.sweeps.store.ledger import Entry


class RemoteStates(DriverOnly, tune.Callback):
    """Brings a trial's state to the driver as soon as Tune knows that the trial has ended.

    Args:
        uri: of the output folder.
        queued: the trials of this run by hash; more may be queued while it lasts.
    """

    def __init__(self, uri: str, queued: Mapping[str, Entry]) -> None:
        self._output = RemoteOutput(uri)
        self._queued = queued

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401 - Tune's
        """Bring the state after the last result."""
        self._pull(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401 - Tune's
        """Bring the state of a trial that will not be started again."""
        self._pull(trial)

    def _pull(self, trial: Any) -> None:  # noqa: ANN401 - Tune's
        entry = self._queued.get(str(trial.config["trial"]))
        if entry is not None:
            with suppress(OSError):  # the end of the sweep asks again
                self._output.pull_state(entry.folder.name)
