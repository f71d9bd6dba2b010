"""MLflow: a run for each trial and one for the sweep, through its client, without MLflow's global state."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from PIL import Image

from fairsweep.sweeps.tracking.plain_files import as_csv
from fairsweep.sweeps.tracking.reports import SweepReport, TrialReport
from fairsweep.sweeps.tracking.tracker import Place

_ID = "fairsweep.id"
# What one call may hold, and how long a parameter may be.
_MOST_METRICS = 1000
_MOST_PARAMS = 100
_LONGEST = 500
_STATUS = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowTracker:
    """Writes runs; see `Tracker`.

    Args:
        place: where.
    """

    is_live = True

    def __init__(self, place: Place) -> None:
        section = place.section.mlflow
        if section is None:
            raise ValueError("tracking.mlflow must be set")
        place.folder.mkdir(parents=True, exist_ok=True)
        local = section.uri is None
        self._client = MlflowClient(tracking_uri=section.uri or f"sqlite:///{place.folder / 'mlflow.db'}")
        name = section.experiment or place.sweep
        known = self._client.get_experiment_by_name(name)
        files = (place.folder / "mlflow").as_uri() if local else None
        self._experiment = known.experiment_id if known else self._client.create_experiment(name, files)
        self._runs: dict[str, str] = {}

    def send(self, report: TrialReport, after: int) -> None:
        """Log the new iterations; of a trial that has ended also the summary, the cells and the pictures."""
        tags = {
            "sweep": report.sweep.name,
            "setting": report.setting,
            "learner": report.learner,
            "trial": report.trial,
        }
        run = self._run(report.run_id, report.name, tags, report.facts)
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, iteration)
            for iteration, scalars in report.series.items()
            if iteration > after
            for name, value in scalars.items()
        ]
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(run, metrics=metrics[start : start + _MOST_METRICS])
        if not report.has_ended:
            return
        if report.last_cells is not None:
            self._client.log_text(run, as_csv(report.last_cells).decode(), "cells.csv")
        self._log_pictures(run, report.pictures)
        texts = {name: str(value) for name, value in report.summary.items() if isinstance(value, str)}
        self._client.log_batch(run, tags=[RunTag(name, value[:_LONGEST]) for name, value in texts.items()])
        self._client.set_terminated(run, _STATUS.get(report.state.state, "FINISHED"))
        self._runs.pop(report.run_id, None)

    def send_sweep(self, report: SweepReport) -> None:
        """Send the table of trials and the trends, as a run of their own."""
        run = self._run(report.run_id, report.sweep.name, {"sweep": report.sweep.name}, {})
        self._client.log_text(run, as_csv(report.trials).decode(), "trials.csv")
        self._log_pictures(run, report.pictures)
        self._client.set_terminated(run)

    def close(self) -> None:
        """Nothing is open."""

    def _run(self, run_id: str, name: str, tags: Mapping[str, str], config: Mapping[str, Any]) -> str:
        """MLflow's id of a run, found by our own, so that a resumed trial continues its run."""
        if run_id not in self._runs:
            found = self._client.search_runs([self._experiment], filter_string=f"tags.`{_ID}` = '{run_id}'")
            if found:
                self._runs[run_id] = found[0].info.run_id
                self._client.update_run(self._runs[run_id], status="RUNNING")
            else:
                made = self._client.create_run(self._experiment, run_name=name, tags={_ID: run_id, **tags})
                self._runs[run_id] = made.info.run_id
                params = [Param(key, value[:_LONGEST]) for key, value in _flat(config).items()]
                for start in range(0, len(params), _MOST_PARAMS):
                    self._client.log_batch(made.info.run_id, params=params[start : start + _MOST_PARAMS])
        return self._runs[run_id]

    def _log_pictures(self, run: str, pictures: Mapping[str, bytes]) -> None:
        for name, png in pictures.items():
            self._client.log_image(run, Image.open(io.BytesIO(png)), f"{name}.png")


def _flat(value: Any, name: str = "") -> dict[str, str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}" if name else key).items()}
    return {name: value if isinstance(value, str) else json.dumps(value)}
