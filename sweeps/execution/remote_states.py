"""States of trials with a remote output folder, fetched by the driver as each trial ends."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray import tune

from fairsweep.sweeps.copies.remote_output import RemoteOutput
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.sweeps.store.ledger import Entry


class RemoteStates(DriverOnly, tune.Callback):
    """Brings a trial's state to the driver as soon as Tune knows that the trial has ended.

    Args:
        output: the output.
        folders: names of the trials' folders by hash.
    """

    def __init__(self, output: RemoteOutput, folders: Mapping[str, str]) -> None:
        self._output = output
        self._folders = folders

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401 - Tune's
        """Called after the last result."""
        self._pull(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401 - Tune's
        """Called when a trial will not be started again."""
        self._pull(trial)

    def _pull(self, trial: Any) -> None:  # noqa: ANN401 - Tune's
        name = self._folders.get(str(trial.config["trial"]))
        if name is not None:
            with suppress(OSError):  # the end of the sweep asks again
                self._output.pull_state(name)


def state_callbacks(sweep: SweepSpec, queued: Mapping[str, Entry]) -> list[tune.Callback]:
    """Return what keeps the driver's ledger up to date where trials work elsewhere."""
    if sweep.remote is None:
        return []
    return [RemoteStates(RemoteOutput(sweep.remote), {trial: entry.folder.name for trial, entry in queued.items()})]
