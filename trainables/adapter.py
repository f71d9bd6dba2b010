"""Ray Tune's side of a trial: its life cycle mapped onto `Trial`, and nothing more.

An actor runs one trial after another (`reset_config`): each closes what the last one held and is built anew. Trials
write their own durable checkpoints, so a trial that Tune starts again after a crash finds the newest one by itself.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from ray import tune

from fairsweep.datasets.layout import DatasetError
from fairsweep.trainables.checkpoint import decode, encode
from fairsweep.trainables.evaluation import DivergedError
from fairsweep.trainables.privacy import PrivacyPlan
from fairsweep.trainables.state import StaleAttemptError
from fairsweep.trainables.trial import CheckpointPolicy, Trial, TrialConfig

_STATE = "state.pt"
# Errors that a second attempt would meet again: the trial ends as failed, and its actor goes on with the next one.
_PERMANENT = (DivergedError, DatasetError, ValueError, StaleAttemptError)


@dataclass(frozen=True)
class TrialTask:
    """What a worker needs to know about one trial.

    Attributes:
        config: the trial's config.
        folder: the trial's folder.
        run: number of the driver that queued it.
        plan: its privacy plan, calibrated by the driver; None for learners without one.
        cpu: CPUs that are reserved for it.
        gpu: GPUs that are reserved for it.
        checkpoints: which checkpoints it writes and keeps.
        report_seconds: least time between two reports to Tune: very short iterations are reported together, by the last
            of them. 0 reports each (schedulers that decide by iteration need that).
    """

    config: TrialConfig
    folder: Path
    run: int
    plan: PrivacyPlan | None = None
    cpu: float = 1.0
    gpu: float = 0.0
    checkpoints: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    report_seconds: float = 0.25

    def open(self) -> Trial:
        """Build the trial, or continue it from its newest checkpoint."""
        device = "cuda" if self.gpu > 0 and torch.cuda.is_available() else "cpu"
        return Trial(
            self.config, self.folder, plan=self.plan, device=device, checkpoints=self.checkpoints, run=self.run
        )


class SweepTrainable(tune.Trainable):  # type: ignore[misc]
    """A Tune trial. Its config is ``{"trial": hash}``; what the hash stands for comes beside it, not through Tune.

    Every result has the fields of `Trial.iterate`. A trial that fails for good reports ``done`` and ``failed``; any
    other error goes on to Tune, which starts the trial again as often as its failure config says.
    """

    def setup(self, config: Mapping[str, Any], tasks: Mapping[str, TrialTask] | None = None) -> None:
        """Start the first trial of this actor.

        Args:
            config: ``{"trial": hash}``.
            tasks: the trials of the sweep by hash; handed over once for each actor.
        """
        self._tasks = tasks or {}
        self._trial: Trial | None = None
        self._open(config)

    def step(self) -> dict[str, Any]:
        """One iteration of the trial, or as many as fit into `TrialTask.report_seconds`."""
        if self._trial is None:
            return dict(_FAILED)
        due = time.monotonic() + self._report_seconds
        try:
            metrics = self._trial.iterate()
            while not metrics["done"] and time.monotonic() < due:
                metrics = self._trial.iterate()
        except _PERMANENT:
            self._close()
            return dict(_FAILED)
        return {**metrics, "failed": 0.0, "done": bool(metrics["done"])}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trial's state where Tune asks for it (schedulers that move states between trials need it)."""
        if self._trial is not None:
            Path(checkpoint_dir, _STATE).write_bytes(encode(self._trial.state()))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from a state written by `save_checkpoint`."""
        path = Path(checkpoint_dir, _STATE)
        if self._trial is not None and path.exists():
            self._trial.load(decode(path.read_bytes()))

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Go on with another trial in the same process."""
        self._close()
        self._open(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of everything when the actor ends."""
        self._close()

    def _open(self, config: Mapping[str, Any]) -> None:
        task = self._tasks[config["trial"]]
        use_threads(task.cpu)
        self._report_seconds = task.report_seconds
        # A trial that cannot be opened has said so in its state; its step reports the failure.
        with suppress(*_PERMANENT):
            self._trial = task.open()

    def _close(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None


_FAILED: dict[str, Any] = {"done": True, "failed": 1.0}


def use_threads(cpus: float) -> None:
    """Give torch, Arrow and OpenMP as many threads as the trial has CPUs, so that trials do not fight for cores."""
    threads = max(1, int(cpus))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if pa.cpu_count() != threads:
        pa.set_cpu_count(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
