"""Shards as Ray actors inside the trial's placement group: the trial in bundle 0, one worker in each other bundle.

With fewer workers than shards, shards wait their turn. A worker writes each slice's checkpoint as soon as it is
trained, so one that dies is replaced and its shard goes on from its last slice. A worker on a machine that does not
reach the trial's folder sends its slices back instead, all of a shard's together. Where a slice is trained makes no
difference to it: see `fairsweep.trainables.unlearning.shards`.
"""

from __future__ import annotations

import sys
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from fairsweep.datasets.feeds.feed import Feed
from fairsweep.trainables.learning.gpu_memory import assigned_gpus, cap_gpu_memory
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.unlearning.shards import InnerConfig, SequentialPool, ShardPool, ShardWork
from fairsweep.trainables.unlearning.sisa_config import ShardResources, SisaConfig, inner_of
from fairsweep.trainables.unlearning.slice_store import FolderStore, MemoryStore, SliceStore, TrainedSlice

PlacementGroup = Any  # Ray has no types, and this module works without it
# How often one shard's work is handed to a new worker after its worker died.
_MOST_DEATHS = 3


class ShardWorkerError(RuntimeError):
    """A shard's workers died again and again: the trial fails, and can be started again."""


def make_pool(config: SisaConfig, task: LearningTask, store: SliceStore) -> ShardPool:
    """Make what trains the shards: workers in the trial's placement group if it has bundles for them.

    Args:
        config: The config; without ``shard_resources`` shards are trained one after the other.
        task: The whole task; workers open their images by ``task.open_feed``.
        store: Where checkpoints go; workers need a folder.
    """
    resources = config.shard_resources
    inner = inner_of(config, task.size)
    group = None if resources is None else _placement_group()
    if resources is None or group is None or task.open_feed is None or not isinstance(store, FolderStore):
        return SequentialPool(task, inner, store, None if resources is None else resources.threads)
    return ActorPool(task, inner, store, resources, group)


class ActorPool:
    """Shards in parallel, each worker an actor in a bundle of its own.

    Args:
        task: The whole task.
        inner: Config of the inner learner.
        store: Where checkpoints go.
        resources: What each worker reserves.
        group: The trial's placement group; its bundles from 1 on are the workers'.
    """

    def __init__(
        self,
        task: LearningTask,
        inner: InnerConfig,
        store: FolderStore,
        resources: ShardResources,
        group: PlacementGroup,
    ) -> None:
        import ray

        self._ray = ray
        self._group = group
        self._resources = resources
        self._store = store
        # One copy in the object store serves every worker; each opens its own feed.
        without_feed = replace(task, feed=cast(Feed, _NoFeed()), device=torch.device("cpu"))
        self._task = ray.put(without_feed)
        self._inner = inner
        self._workers: dict[int, Any] = {}
        store.folder.parent.mkdir(parents=True, exist_ok=True)
        # Whoever sees this file can write checkpoints where they belong.
        self._probe = store.folder.with_name(f".{uuid.uuid4().hex}.tmp")
        self._probe.touch()

    @property
    def size(self) -> int:
        """Number of workers at once."""
        return int(self._group.bundle_count) - 1

    def train(self, work: Sequence[ShardWork]) -> None:
        """Hands each shard's work to the next free worker, in order.

        Raises:
            ShardWorkerError: If a shard's workers died too often.
        """
        ray = self._ray
        waiting = deque((line, 0) for line in work)
        free = list(range(1, self.size + 1))
        running: dict[Any, tuple[int, ShardWork, int]] = {}
        while waiting or running:
            while waiting and free:
                line, deaths = waiting.popleft()
                bundle = free.pop(0)
                running[self._worker(bundle).train.remote(line)] = (bundle, line, deaths)
            done, _ = ray.wait(list(running), num_returns=1)
            bundle, line, deaths = running.pop(done[0])
            free.append(bundle)
            try:
                for trained in ray.get(done[0]):
                    self._store.put(trained)
            except ray.exceptions.RayActorError as error:
                self._workers.pop(bundle, None)
                if deaths + 1 >= _MOST_DEATHS:
                    raise ShardWorkerError(
                        f"the workers of shard {line.jobs[0].shard + 1} died {deaths + 1} times ({error}): is there "
                        "enough memory for all of them? Lower shard_resources.workers"
                    ) from error
                rest = self._rest(line)
                if rest is not None:
                    waiting.appendleft((rest, deaths + 1))

    def close(self) -> None:
        """End the workers; may be called twice."""
        for worker in self._workers.values():
            self._ray.kill(worker)
        self._workers.clear()
        self._probe.unlink(missing_ok=True)

    def pids(self) -> list[int]:
        """Return the processes of the workers that there are."""
        return [int(pid) for pid in self._ray.get([worker.pid.remote() for worker in self._workers.values()])]

    def _rest(self, line: ShardWork) -> ShardWork | None:
        """Return what is left of a shard's work: all after the last slice whose checkpoint is there."""
        for done in range(len(line.jobs), 0, -1):
            found = self._store.get(line.jobs[done - 1].name)
            if found is not None:
                return ShardWork(line.jobs[done:], found.weights) if done < len(line.jobs) else None
        return line

    def _worker(self, bundle: int) -> Any:  # noqa: ANN401 - a handle of a Ray actor
        if bundle not in self._workers:
            from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

            place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)
            actor = self._ray.remote(ShardWorker).options(
                num_cpus=self._resources.cpu, num_gpus=self._resources.gpu, scheduling_strategy=place
            )
            self._workers[bundle] = actor.remote(
                self._task,
                self._inner,
                str(self._store.folder),
                str(self._probe),
                self._resources.threads,
                self._resources.gpu > 0,
            )
        return self._workers[bundle]


class ShardWorker:
    """A process that trains slices, one shard's after another's.

    Args:
        task: The whole task, without a feed.
        inner: Config of the inner learner.
        folder: Where checkpoints go.
        probe: A file that is there where that folder is the trial's own.
        threads: Threads of a training.
        gpu: Whether to train on a GPU, if there is one.
    """

    def __init__(
        self, task: LearningTask, inner: InnerConfig, folder: str, probe: str, threads: int, gpu: bool
    ) -> None:
        from pathlib import Path

        if task.open_feed is None:
            raise ValueError("a worker needs task.open_feed, to open the images by itself")
        cap_gpu_memory(assigned_gpus() or 0.0)
        device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
        opened = replace(task, feed=task.open_feed(), device=device)
        self._far = None if Path(probe).exists() else MemoryStore()
        self._pool = SequentialPool(opened, inner, self._far or FolderStore(Path(folder)), threads)

    def train(self, line: ShardWork) -> list[TrainedSlice]:
        """Trains consecutive slices of one shard; each is on the disk before the next begins.

        Returns:
            The slices if the trial's folder is out of reach; else nothing.
        """
        self._pool.train([line])
        if self._far is None:
            return []
        trained = [found for job in line.jobs if (found := self._far.get(job.name)) is not None]
        self._far.keep(())
        return trained

    def pid(self) -> int:
        """Return the process."""
        import os

        return os.getpid()


class _NoFeed:
    """Stands for the feed of a task that travels to another process, which opens its own."""


def _placement_group() -> Any:  # noqa: ANN401 - a Ray placement group
    """Return the placement group of the trial that runs in this process, if it has bundles beside the trial's."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    group = ray.util.get_current_placement_group()
    return group if group is not None and group.bundle_count > 1 else None
