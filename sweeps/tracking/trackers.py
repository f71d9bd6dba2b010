"""The table of trackers: each is imported when it is used."""

from __future__ import annotations

import importlib

from fairsweep.sweeps.tracking.tracker import Place, Tracker

TRACKERS = {
    "tensorboard": "tensorboard_events:TensorBoardTracker",
    "wandb": "wandb_runs:WandbTracker",
    "mlflow": "mlflow_runs:MlflowTracker",
    "files": "plain_files:FilesTracker",
}
"""For each field of the section ``tracking`` that stands for a tracker, its module in this room and its class."""


def open_tracker(kind: str, place: Place) -> Tracker:
    """Make the tracker of a kind, a row of `TRACKERS`."""
    module, name = TRACKERS[kind].split(":")
    tracker: Tracker = getattr(importlib.import_module(f"fairsweep.sweeps.tracking.{module}"), name)(place)
    return tracker
