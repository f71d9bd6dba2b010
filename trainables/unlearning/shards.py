"""Training of slices: one job, and running the jobs of several shards in sequence.

A job's result is a function of the task's public data, of the job and of the weights before it; where it runs makes no
difference on the same type of device: the number of threads is pinned and kernels are deterministic.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from fairsweep.datasets.feeds.feed import Batch, Feed
from fairsweep.datasets.selection.randomness import derive
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.trainables.auditing.canaries import AuditConfig, Canaries
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.learning.learner import Learner, LearningTask, TrialKeys
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.sgd.sgd_learner import Sgd
from fairsweep.trainables.unlearning.slice_store import SliceCost, SliceStore, TrainedSlice, Weights

InnerConfig = Any  # a member of sisa_config.InnerConfig: what an inner learner is built from
INNER: dict[str, Callable[..., Learner]] = {"sgd": Sgd, "dpsgd": Dpsgd}
"""The learners that can train a slice."""


@dataclass(frozen=True)
class SliceJob:
    """One slice of one shard to train.

    Attributes:
        name: Content address of the result.
        shard: From 0.
        slice: From 0.
        positions: int64 [m], positions in the task of the union of the slices up to this one, in the frozen order.
        absent: int64 [k], which of these (indices into them) have been deleted. Only a private inner learner keeps
            such places: its sampling rate and number of steps belong to the sizes at the start.
        run: How often this slice was trained before: a retraining draws fresh noise.
        canaries: Of an audited training: who of these is a canary, by indices into them; None without an audit.
    """

    name: str
    shard: int
    slice: int
    positions: NDArray[np.int64]
    absent: NDArray[np.int64]
    run: int
    canaries: Canaries | None = None


@dataclass(frozen=True)
class ShardWork:
    """Consecutive slices of one shard to train.

    Attributes:
        jobs: The slices, in order; at least one.
        start: The weights before the first; None where the first slice is the first of all.
    """

    jobs: tuple[SliceJob, ...]
    start: Weights | None

    @classmethod
    def missing(cls, chain: Sequence[SliceJob], store: SliceStore) -> Self | None:
        """Return what has to be trained for the last slice of a chain to be there: all after the last one that is."""
        for done in range(len(chain), 0, -1):
            found = store.get(chain[done - 1].name)
            if found is not None:
                return cls(tuple(chain[done:]), found.weights) if done < len(chain) else None
        return cls(tuple(chain), None)

    @property
    def examples(self) -> int:
        """Examples of all jobs, as a measure of the work."""
        return sum(len(job.positions) for job in self.jobs)


class ShardPool(Protocol):
    """Does the work of several shards."""

    def train(self, work: Sequence[ShardWork]) -> None:
        """Trains, and keeps each slice in the store as soon as it is done."""
        ...

    def close(self) -> None:
        """Lets go of what the pool holds; may be called twice."""
        ...


class SequentialPool:
    """One shard after the other, in this process.

    Args:
        task: The whole task.
        inner: Config of the inner learner.
        store: Keeps each slice as soon as it is trained.
        threads: Threads that a training uses; None leaves them as they are.
    """

    def __init__(self, task: LearningTask, inner: InnerConfig, store: SliceStore, threads: int | None) -> None:
        self._task = task
        self._inner = inner
        self._store = store
        self._threads = threads

    def train(self, work: Sequence[ShardWork]) -> None:
        """Trains in order."""
        for line in work:
            weights = line.start
            for job in line.jobs:
                trained = train_slice(self._task, self._inner, job, weights, self._threads)
                weights = self._store.put(trained).weights

    def close(self) -> None:
        """Hold nothing."""


def train_slice(
    task: LearningTask, inner: InnerConfig, job: SliceJob, start: Weights | None, threads: int | None
) -> TrainedSlice:
    """Trains one slice.

    Args:
        task: The whole task.
        inner: Config of the inner learner; its epochs are those of a slice.
        job: The slice.
        start: The weights before; None begins with the shard's initial ones.
        threads: Threads to use; None leaves them as they are.

    Returns:
        The weights after the slice, and the cost. Without examples they are those before.
    """
    if start is None and job.slice > 0:
        raise ValueError(f"slice {job.slice} must continue from the slice before, but no weights were given")
    with pinned(threads, task.device):
        if len(job.positions) == 0:
            weights = start or initial_weights(task, job.shard)
            return TrainedSlice(job.name, weights, SliceCost())
        learner = _learner(task, inner, job)
        if start is not None:
            state = learner.state()
            state["network"]["model"] = start
            learner.load(state)
        reports = [learner.step() for _ in range(learner.iterations)]
        cost = SliceCost(
            examples=sum(report.examples for report in reports),
            steps=sum(report.steps for report in reports),
            seconds=sum(report.seconds for report in reports) if task.diagnostics else math.nan,
            loss=reports[-1].loss if reports else math.nan,
        )
        return TrainedSlice(job.name, learner.weights(), cost, learner.canary_scores())


def _learner(task: LearningTask, inner: InnerConfig, job: SliceJob) -> Learner:
    """Make what trains a slice; with the canaries in it, if there are any."""
    here = _inner_task(task, job)
    if job.canaries is None or not len(job.canaries.positions):
        return INNER[inner.kind](inner, here)
    audit = AuditConfig.model_construct(canaries=len(job.canaries.positions))  # drawn for all shards together
    return INNER[inner.kind](inner.model_copy(update={"audit": audit}), here, canaries=job.canaries)


def initial_weights(task: LearningTask, shard: int) -> Weights:
    """Return the weights that a shard begins with: a function of their key and the shard's number alone."""
    model = build_model(task.model, task.image_shape, task.classes, _keys(task, shard, 0).of_weights)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _keys(task: LearningTask, shard: int, slice_: int) -> TrialKeys:
    """Return the keys of a slice's initial weights, order and augmentation."""
    return task.keys.derived("sisa slice", shard, slice_)


def _inner_task(task: LearningTask, job: SliceJob) -> LearningTask:
    keys = replace(
        _keys(task, job.shard, job.slice),
        secret=derive(task.keys.secret, "sisa slice", task.keys.run, job.shard, job.slice),
        run=job.run,
    )
    feed: Feed = task.feed
    if len(job.absent):
        feed = _WithoutAbsent(task.feed, task.rows[job.positions], job.absent)
    return replace(task.subset(job.positions), keys=keys, feed=feed, folder=None)


class _WithoutAbsent:
    """A feed that never reads some positions: a private learner's deleted examples contribute nothing to any step."""

    def __init__(self, feed: Feed, rows: NDArray[np.int64], absent: NDArray[np.int64]) -> None:
        self._feed = feed
        self._absent = absent
        self._absent_rows = rows[absent]
        self._others = np.setdiff1d(rows, self._absent_rows)

    def batches(
        self, rows: NDArray[np.int64], sampler: Sampler, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Give the batches of steps [start, stop) without the absent."""
        return self._feed.batches(rows, _Present(sampler, self._absent), start=start, stop=stop)

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images for measurements, which nobody here keeps: those of another example for each absent one.

        Where nobody is left, and nothing but noise is added, they are black.
        """
        if not len(self._others):
            nobody = self._feed.images(rows[:0])
            return np.zeros((len(rows), *nobody.shape[1:]), nobody.dtype)
        return self._feed.images(np.where(np.isin(rows, self._absent_rows), self._others[0], rows))

    def close(self) -> None:
        """Do nothing: the feed belongs to the trial and stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class _Present:
    """A sampler whose draws leave out some positions; who else joins a step does not change."""

    sampler: Sampler
    absent: NDArray[np.int64]

    @property
    def steps(self) -> int:
        return self.sampler.steps

    def positions(self, step: int) -> NDArray[np.int64]:
        drawn = self.sampler.positions(step)
        return drawn[~np.isin(drawn, self.absent)]


@contextmanager
def pinned(threads: int | None, device: torch.device) -> Iterator[None]:
    """Fix what could change the last bit of a result: the number of threads, and kernels that race."""
    before = torch.get_num_threads()
    if threads is not None and threads != before:
        torch.set_num_threads(threads)
    deterministic = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.use_deterministic_algorithms(deterministic)
            torch.backends.cudnn.benchmark = benchmark
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
