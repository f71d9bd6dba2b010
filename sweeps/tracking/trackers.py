"""The table of all trackers: each is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable

from fairsweep.sweeps.tracking.tracker import Place, Tracker


def _tensorboard(place: Place) -> Tracker:
    from fairsweep.sweeps.tracking.tensorboard_events import TensorBoardTracker

    return TensorBoardTracker(place)


def _wandb(place: Place) -> Tracker:
    from fairsweep.sweeps.tracking.wandb_runs import WandbTracker

    return WandbTracker(place)


def _mlflow(place: Place) -> Tracker:
    from fairsweep.sweeps.tracking.mlflow_runs import MlflowTracker

    return MlflowTracker(place)


def _files(place: Place) -> Tracker:
    from fairsweep.sweeps.tracking.plain_files import FilesTracker

    return FilesTracker(place)


TRACKERS: dict[str, Callable[[Place], Tracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "files": _files,
}
