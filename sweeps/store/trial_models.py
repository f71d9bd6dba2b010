"""The models of a sweep's trials, by the names of the trials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.store.requests import find_trial
from fairsweep.sweeps.syntax.errors import as_ours

if TYPE_CHECKING:
    from fairsweep.trainables.trained.trained_model import TrainedModel


def load_model(sweep: str | Path, trial: str, *, device: str = "cpu") -> TrainedModel:
    """Load the model of a trial that has ended; see `fairsweep.trainables.load_model`.

    Args:
        sweep: The sweep's output folder.
        trial: Name of the trial as in ``results.trials``, or the start of it or of its hash.
        device: Where it predicts.

    Raises:
        SweepError: If there is no such sweep or trial, or no whole model of it.
    """
    from fairsweep.trainables.trained.trained_model import load_model as load

    output = OutputFolder.at(sweep)
    output.sweep()
    with as_ours():
        return load(find_trial(output, trial).folder, device=device)
