"""The Ray Tune trainable: Tune's life cycle mapped onto `Trial`.

An actor runs one trial after another (`reset_config`): each closes what the last one held and is built anew. Trials
write their own durable checkpoints, so a trial that Tune starts again after a crash finds the newest one by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairsweep.trainables.loading import uncollected

with uncollected():
    import pyarrow as pa
    import ray
    import torch
    from ray import tune

    from fairsweep.analysis.records.trial_folder import SHORT_HASH
    from fairsweep.datasets.feeds.feed_choice import FeedChoice
    from fairsweep.datasets.storage.layout import DatasetError
    from fairsweep.datasets.storage.prepared import PreparedDataset
    from fairsweep.trainables.learning.evaluation import DivergedError
    from fairsweep.trainables.learning.gpu_memory import assigned_gpus, cap_gpu_memory
    from fairsweep.trainables.learning.tensor_bytes import decode, encode
    from fairsweep.trainables.learning.trial_watch import Watch
    from fairsweep.trainables.privacy.plan import PrivacyPlan
    from fairsweep.trainables.stacks.trial_stack import TrialStack
    from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
    from fairsweep.trainables.trial.cohort_workers import RayCohortWorkers
    from fairsweep.trainables.trial.published_trial import PublishedTrial, Publisher
    from fairsweep.trainables.trial.state import StaleAttemptError, TrialStateFile
    from fairsweep.trainables.trial.trial import Metrics, Trial, TrialConfig
    from fairsweep.trainables.trial.trial_config import DatasetReference

_STATE = "state.pt"
_DESCRIBED = ("dataset", "label", "groups", "output", "learner")
# Errors that a second attempt would meet again: the trial ends as failed, and its actor goes on with the next one.
_ITS_OWN = (DivergedError, DatasetError, ValueError, StaleAttemptError)
_PERMANENT = (*_ITS_OWN, torch.OutOfMemoryError)


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
        feed: where its images come from.
        workers: how many further processes it may use, in bundles 1 to n of its placement group.
        worker_cpu: CPUs of each of them.
        worker_gpu: GPUs of each of them.
        report_seconds: least time between two reports to Tune: very short iterations are reported together, by the last
            of them. 0 reports each (schedulers that decide by iteration need that).
        publisher: publishes its records where nodes share no folder; None where ``folder`` is the output's own.
        watch: what is looked at after each iteration, and may end the trial.
        ids_key: keys the hashes of sets of ids in its records, the same for every trial of the sweep.
        scheduled: whether the driver's scheduler may end it, by a word in its state.
        others: trials that train beside it, in the same process; they reserve nothing of their own.
    """

    config: TrialConfig
    folder: Path
    run: int
    plan: PrivacyPlan | None = None
    cpu: float = 1.0
    gpu: float = 0.0
    checkpoints: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    feed: FeedChoice = field(default_factory=FeedChoice)
    workers: int = 0
    worker_cpu: float = 1.0
    worker_gpu: float = 0.0
    report_seconds: float = 0.25
    publisher: Publisher | None = None
    watch: Watch | None = None
    ids_key: bytes | None = field(default=None, repr=False)
    scheduled: bool = False
    others: tuple[TrialTask, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> TrialTask:
        """Return the task that a Tune config holds or, in a Tuner of one's own, describes.

        Args:
            config: ``{"task": task}``, or ``dataset`` (folder of a prepared dataset), ``label``, ``groups``, ``output``
                (trials go to ``output/trials``; both are absolute paths, since Tune's workers run elsewhere),
                ``learner`` and any other field of `TrialConfig` (``model``, ``imbalance``, ``split``, ``evaluation``,
                ``seeds``, …), and of this class ``cpu`` and ``gpu``.

        Raises:
            ValueError: If a field is missing, unknown or has no valid value.
        """
        if "task" in config:
            task: TrialTask = config["task"]
            return task
        missing = [name for name in _DESCRIBED if name not in config]
        if missing:
            raise ValueError(
                f"the config of SweepTrainable must have {', '.join(_DESCRIBED)}, but lacks {', '.join(missing)}"
            )
        for name in ("dataset", "output"):
            if not Path(config[name]).is_absolute():
                raise ValueError(
                    f"{name} must be an absolute path, for Tune's workers run elsewhere, but got {config[name]!r}"
                )
        dataset = PreparedDataset.open(config["dataset"])
        reference = DatasetReference(
            path=dataset.path,
            name=dataset.info.name,
            content_hash=dataset.info.content_hash,
            label=dataset.attribute(config["label"]).name,
            groups=tuple(dataset.attribute(name).name for name in config["groups"]),
            has_users=dataset.info.has_user,
        )
        learner = {"name": config["learner"].get("kind"), **config["learner"]}
        others = {name: value for name, value in config.items() if name not in (*_DESCRIBED, "cpu", "gpu")}
        trial = TrialConfig(dataset=reference, learner=learner, **others)
        folder = Path(config["output"], "trials", f"{trial.learner.name}-{trial.trial[:SHORT_HASH]}")
        run = TrialStateFile(folder).queue(trial.trial).run
        cpu, gpu = float(config.get("cpu", 1)), float(config.get("gpu", 0))
        return cls(trial, folder, run, cpu=cpu, gpu=gpu, report_seconds=0.0)

    @property
    def shares_gpu(self) -> bool:
        """Whether it, or a worker of it, reserves a part of a GPU."""
        return 0 < self.gpu < 1 or (self.workers > 0 and 0 < self.worker_gpu < 1)

    def open(self) -> Trial | PublishedTrial:
        """Build the trial, or continue it from its newest checkpoint."""
        if self.publisher is None:
            return self._open_in(self.folder)
        return PublishedTrial(self.publisher.open(self.folder.name, self.config.trial, self.run), self._open_in)

    def outcome(self) -> dict[str, Any] | None:
        """Return what its state says of a trial that has ended, or failed; None for any other."""
        state = TrialStateFile(self.folder).read()
        if state is None or state.trial != self.config.trial:
            return None
        if state.state == "failed":
            return {"done": True, "failed": 1.0}
        if not state.ended:
            return None
        return {**state.metrics, "done": True, "failed": 0.0, "stopped": float(state.state == "stopped")}

    def _open_in(self, folder: Path) -> Trial:
        device = "cuda" if self.gpu > 0 and torch.cuda.is_available() else "cpu"
        return Trial(
            self.config,
            folder,
            plan=self.plan,
            device=device,
            checkpoints=self.checkpoints,
            run=self.run,
            feed=self.feed,
            workers=self._workers(),
            node=ray.get_runtime_context().get_node_id() if ray.is_initialized() else None,
            watch=self.watch,
            ids_key=self.ids_key,
        )

    def _workers(self) -> RayCohortWorkers | None:
        # Others make their own workers, in the same bundles.
        if not self.workers or not self.config.learner.takes_workers:
            return None
        return RayCohortWorkers(self.config, self.feed, self.workers, self.worker_cpu, self.worker_gpu)


class SweepTrainable(tune.Trainable):
    """A Tune trial. Its config is ``{"trial": hash, "task": task}``, or describes a trial; see `TrialTask.of`.

    It can be the trainable of any `ray.tune.Tuner`: docs/after-training.md has an example.

    Every result has the fields of `Trial.iterate`. A trial that fails for good reports ``done`` and ``failed``; any
    other error goes on to Tune, which starts the trial again as often as its failure config says. Of a task with others
    beside it a result has the hash and the fields of each trial that has done anything, as ``trials``.
    """

    def setup(self, config: Mapping[str, Any]) -> None:
        """Remember which trial comes first.

        Nothing is opened yet: Tune also makes actors for trials that it then gives to a reused one, and whoever opens a
        trial takes it over.
        """
        self._current = TrialTask.of(config)
        self._trial: Trial | PublishedTrial | None = None
        self._stack: TrialStack | None = None

    def step(self) -> dict[str, Any]:
        """One iteration of the trial, or as many as fit into `TrialTask.report_seconds`."""
        due = time.monotonic() + self._current.report_seconds
        if self._current.others:
            return self._step_together(due)
        try:
            trial = self._opened()
            metrics = self._iterate(trial)
            while not metrics["done"] and time.monotonic() < due:
                metrics = trial.iterate()
        except _PERMANENT:
            self._close()
            return {"done": True, "failed": 1.0}
        return {**metrics, "failed": 0.0, "done": bool(metrics["done"])}

    def _step_together(self, due: float) -> dict[str, Any]:
        """One iteration of each trial of a stack, or more; a list of pairs, for Tune takes mappings apart."""
        task = self._current
        if self._stack is None:
            self._take_share()
            trials = {one.config.trial: one for one in (task, *task.others)}
            # Memory that is lacking beside others may do for one: the stack fails, and its trials train alone.
            self._stack = TrialStack(trials, _ITS_OWN, scheduled=task.scheduled)
        found = self._stack.iterate()
        while not self._stack.done and time.monotonic() < due:
            found |= self._stack.iterate()
        return {"done": self._stack.done, "failed": 0.0, "trials": list(found.items())}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trial's state where Tune asks for it (schedulers that move states between trials need it)."""
        Path(checkpoint_dir, _STATE).write_bytes(encode(self._opened().state()))

    def load_checkpoint(self, checkpoint: str) -> None:  # type: ignore[override]  # Tune hands over a folder or a dict
        """Continue from a state written by `save_checkpoint` into a folder."""
        self._opened().load(decode(Path(checkpoint, _STATE).read_bytes()))

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Go on with another trial in the same process."""
        self._close()
        self._current = TrialTask.of(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of everything when the actor ends."""
        self._close()

    def _iterate(self, trial: Trial | PublishedTrial) -> Metrics:
        """One iteration, or the end that the driver's scheduler wishes."""
        if self._current.scheduled and isinstance(trial, Trial) and (reason := trial.wish()) is not None:
            return trial.end(reason)
        return trial.iterate()

    def _opened(self) -> Trial | PublishedTrial:
        if self._trial is None:
            self._take_share()
            self._trial = self._current.open()
        return self._trial

    def _take_share(self) -> None:
        """Keep to what is reserved."""
        use_threads(self._current.cpu)
        assigned = assigned_gpus()
        cap_gpu_memory(self._current.gpu if assigned is None else assigned)

    def _close(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None
        if self._stack is not None:
            self._stack.close()
            self._stack = None


def use_threads(cpus: float) -> None:
    """Give torch, Arrow and OpenMP as many threads as the trial has CPUs, so that trials do not fight for cores."""
    threads = max(1, int(cpus))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if pa.cpu_count() != threads:
        pa.set_cpu_count(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
