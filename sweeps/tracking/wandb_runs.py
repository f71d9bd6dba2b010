"""Weights & Biases: a run for each trial and one for the sweep, all in one process.

Offline, a run is written whole once its trial has ended; a trial that goes on after that is written whole again and
takes the place of the earlier folder, so that one command sends every run once. Online, runs grow while trials run, and
one that is resumed goes on where the server says it stands.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import wandb
from PIL import Image

from fairsweep.sweeps.tracking.reports import SweepIdentity, SweepReport, TrialReport
from fairsweep.sweeps.tracking.tracker import Place
from fairsweep.sweeps.tracking.wandb_key import wandb_mode

_MOST_OPEN = 32
_START_SECONDS = 30.0


class WandbTracker:
    """Writes runs; see `Tracker`.

    Args:
        place: where.
    """

    def __init__(self, place: Place) -> None:
        section = place.section.wandb
        if section is None:
            raise ValueError("tracking.wandb must be set")
        self._section = section
        self._say = place.say
        self._folder = place.folder
        self._mode, reason = wandb_mode(section.mode, os.environ)
        if reason:
            place.say(f"tracking: wandb is {self._mode}: {reason}")
        self.is_live = self._mode == "online"
        self._open: OrderedDict[str, Any] = OrderedDict()

    def send(self, report: TrialReport, after: int) -> None:
        """Log the new iterations; of a trial that has ended also the summary, the cells and the pictures."""
        if self._mode == "disabled":
            return
        run = self._run(report)
        try:
            # The server knows better than the journal what it has: lines that were logged reach it later, or never
            # where this process was stopped. What it has already it does not take again.
            start = _next_step(run) if self.is_live else 0
            for iteration, scalars in report.series.items():
                if iteration >= start:
                    run.log(dict(scalars), step=iteration)
            if report.has_ended:
                _end(run, report, start)
        except BaseException:
            self._finish(report.run_id, exit_code=1)
            raise
        if report.has_ended:
            self._finish(report.run_id, exit_code=int(report.state.state == "failed"))

    def send_sweep(self, report: SweepReport) -> None:
        """Write the table of trials and the trends, as a run of its own; offline, say how all of it is sent."""
        if self._mode == "disabled":
            return
        run = self._start(report.run_id, report.sweep, report.sweep.name, "sweep", "sweep", report.sweep.config)
        table = report.trials
        content = {"trials": _table(table)} | {name: _picture(png) for name, png in report.pictures.items()}
        run.log(content)
        run.finish()
        self.close()
        if self._mode == "offline":
            runs = self._folder / "wandb" / "offline-run-*"
            self._say(f"tracking: W&B runs are offline; send them with: wandb sync --yes {shlex.quote(str(runs))}")

    def close(self) -> None:
        """Finish every run that is open."""
        for name in list(self._open):
            self._finish(name, exit_code=0)
        # W&B's own process writes on after a run is finished: wait for it.
        wandb.teardown()

    def _run(self, report: TrialReport) -> Any:  # noqa: ANN401 - wandb's Run
        run = self._open.get(report.run_id)
        if run is None:
            while len(self._open) >= _MOST_OPEN:
                self._finish(next(iter(self._open)), exit_code=0)
            group = f"{report.sweep.name}: {report.setting}"[:128]
            run = self._start(report.run_id, report.sweep, report.name, group, report.learner, report.facts)
            self._open[report.run_id] = run
        self._open.move_to_end(report.run_id)
        return run

    def _start(
        self, run_id: str, sweep: SweepIdentity, name: str, group: str, job: str, config: Mapping[str, Any]
    ) -> Any:  # noqa: ANN401 - wandb's Run
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._mode == "offline":
            for earlier in (self._folder / "wandb").glob(f"offline-run-*-{run_id}"):
                shutil.rmtree(earlier)
        return wandb.init(
            project=self._section.project,
            entity=self._section.entity,
            dir=str(self._folder),
            id=run_id,
            name=name[:128],
            group=group,
            job_type=job[:64],
            tags=[sweep.name[:64], *self._section.tags],
            config=dict(config),
            mode="online" if self.is_live else "offline",
            # Offline the folder is whole: there is nothing to go on with.
            resume="allow" if self.is_live else None,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                disable_git=True,
                save_code=False,
                init_timeout=_START_SECONDS,
            ),
        )

    def _finish(self, run_id: str, *, exit_code: int) -> None:
        run = self._open.pop(run_id, None)
        if run is not None:
            run.finish(exit_code=exit_code)


def _next_step(run: Any) -> int:  # noqa: ANN401 - wandb's Run
    """Return the first step that a run takes: a resumed one says 0 for ``step`` until something is logged."""
    return max(int(run.step), int(run.starting_step))


def _end(run: Any, report: TrialReport, start: int) -> None:  # noqa: ANN401 - wandb's Run
    """Log what is said of a trial as a whole, with its last iteration.

    Args:
        run: the run.
        report: the trial.
        start: the first step that the server took when this began.
    """
    run.summary.update(report.summary)
    if start > report.last_iteration and report.state.may_go_on:
        return  # there is no room before the iterations to come; they bring cells and pictures of their own
    content = {name: _picture(png) for name, png in report.pictures.items()}
    if report.last_cells is not None:
        content["cells"] = _table(report.last_cells)
    if content:
        run.log(content, step=max(report.last_iteration, start))


def _table(table: Any) -> Any:  # noqa: ANN401
    rows: Any = [list(row.values()) for row in table.to_pylist()]
    return wandb.Table(columns=table.column_names, data=rows)


def _picture(png: bytes) -> Any:  # noqa: ANN401
    return wandb.Image(Image.open(io.BytesIO(png)))
