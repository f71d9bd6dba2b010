"""The table of trackers: each is imported when it is used. Those of the user's own need no row."""

from __future__ import annotations

import importlib

from fairsweep.sweeps.spec.tracking_section import tracker_type
from fairsweep.sweeps.tracking.tracker import Place, Tracker

TRACKERS = {
    "tensorboard": "tensorboard_events:TensorBoardTracker",
    "wandb": "wandb_runs:WandbTracker",
    "mlflow": "mlflow_runs:MlflowTracker",
    "files": "plain_files:FilesTracker",
}
"""For each field of the section ``tracking`` that stands for a tracker, its module in this room and its class."""


def open_tracker(kind: str, place: Place) -> Tracker:
    """Make the tracker of a kind, a row of `TRACKERS`, or one of the user's own."""
    if kind not in TRACKERS:
        place.folder.mkdir(parents=True, exist_ok=True)
        own: Tracker = tracker_type(kind, place.own_code)(place)
        return own
    module, name = TRACKERS[kind].split(":")
    tracker: Tracker = getattr(importlib.import_module(f"fairsweep.sweeps.tracking.{module}"), name)(place)
    return tracker
