"""Resources of the available machines against the needs of trials: a sweep that fits nowhere is refused."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fairsweep.datasets.feeds.feed_choice import FeedKind, cpus_outside_trials, machine_memory
from fairsweep.sweeps.planning.expand import PlannedTrial, seed_pairs
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.stacks.stack_choice import stack_size, why_alone

if TYPE_CHECKING:
    from fairsweep.sweeps.planning.preflight import SweepPlan

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Machine:
    """What one machine can give to trials.

    Attributes:
        cpu: CPUs.
        gpu: GPUs.
        memory: bytes of memory; in a cluster, what Ray counts as the machine's.
    """

    cpu: float
    gpu: float
    memory: int = 2**63

    def slots(self, cpu: float, gpu: float) -> int:
        """How many trials of one shape fit at once."""
        amounts = [(self.cpu, cpu), (self.gpu, gpu)]
        # Ray counts in steps of 1/10,000.
        return min(math.floor(round(have / need, 4)) for have, need in amounts if need > 0)


def this_machine() -> Machine:
    """CPUs that this process may use (its container's quota included) and CUDA devices."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        quota, period = _CPU_QUOTA.read_text().split()[:2]
        cpus = cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no quota
    return Machine(float(cpus), float(torch.cuda.device_count()), machine_memory())


def machines() -> list[Machine]:
    """Return the machines of the Ray that is connected; this machine if there is none."""
    import ray

    if not ray.is_initialized():
        return [this_machine()]
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [
        Machine(
            float(node.get("CPU", 0)),
            float(node.get("GPU", 0)),
            int(node.get("memory", 0) + node.get("object_store_memory", 0)) or machine_memory(),
        )
        for node in nodes
    ]


def check_resources(trials: Iterable[PlannedTrial], available: list[Machine]) -> None:
    """Refuse trials that no machine can ever run.

    Raises:
        SweepError: with what is needed and what there is.
    """
    trials = tuple(trials)
    for trial in trials:
        asked = trial.resources
        cpu, gpu = asked.cpu, asked.gpu
        if any(machine.slots(cpu, gpu) >= 1 for machine in available):
            continue
        there = "; ".join(sorted({f"cpu={m.cpu:g}, gpu={m.gpu:g}" for m in available})) or "none"
        raise SweepError(
            f"a trial of learner {trial.config.learner.name!r} needs cpu={cpu:g}, gpu={gpu:g} on one machine, but "
            f"there is {there}; lower its resources, or connect to a larger cluster",
            ("resources",),
        )
    for trial in trials:
        _check_workers(trial, available)
        _check_stack(trial)


def beside(trials: Iterable[PlannedTrial]) -> int:
    """How many trials train in one process, at most."""
    return max((stack_size(trial.config, trial.resources.stack) for trial in trials), default=1)


def _check_stack(trial: PlannedTrial) -> None:
    """Refuse a number of trials in one process where they must train alone."""
    stack = trial.resources.stack
    if stack not in (1, "auto") and (reason := why_alone(trial.config)):
        raise SweepError(
            f"stack: {stack} lets so many trials train side by side, but those of {trial.config.learner.name!r} must "
            f"train alone: {reason}; write stack: auto, under which such trials do",
            ("resources", "stack"),
        )


def large_enough(trials: Sequence[PlannedTrial], available: Sequence[Machine]) -> Machine:
    """Return a machine on which any of some trials fits with its workers, for a plan of what runs elsewhere."""
    largest = max(available, key=lambda machine: machine.cpu, default=Machine(1.0, 0.0))
    cpu, gpu = largest.cpu, largest.gpu
    for trial in trials:
        asked, learner = trial.resources, trial.config.learner
        count, each = asked.workers, (asked.worker_cpu, asked.worker_gpu)
        if (own_workers := learner.inner_workers()) is not None:
            count, each = own_workers.most, (own_workers.cpu, own_workers.gpu)
        cpu, gpu = max(cpu, asked.cpu + count * each[0]), max(gpu, asked.gpu + count * each[1])
    return replace(largest, cpu=float(math.ceil(cpu)), gpu=float(math.ceil(gpu)))


@dataclass(frozen=True)
class Workers:
    """The further processes of one trial, in bundles 1 to n of its placement group.

    Attributes:
        count: how many.
        cpu: CPUs of each.
        gpu: GPUs of each.
    """

    count: int = 0
    cpu: float = 1.0
    gpu: float = 0.0


def inner_workers(trial: PlannedTrial, available: list[Machine]) -> Workers:
    """Return the workers that a trial gets.

    These are the workers asked for, or as many workers of shards as there is room for beside the trial.

    Shards beyond the number of workers wait their turn, and results do not depend on it.

    Raises:
        SweepError: if there is no room for a trial with the workers asked for, or with a single one.
    """
    asked, learner = trial.resources, trial.config.learner
    own = learner.inner_workers()
    if own is not None:
        room = _room(asked.cpu, asked.gpu, own.cpu, own.gpu, available)
        if room < own.least:
            raise SweepError(
                f"a trial of learner {learner.name!r} (cpu={asked.cpu:g}, gpu={asked.gpu:g}) needs {own.least} "
                f"workers beside it (cpu={own.cpu:g}, gpu={own.gpu:g} each), but there is room for {room}; lower its "
                "resources, shard_resources, or shard_resources.workers",
                ("learners",),
            )
        return Workers(min(own.most, room), own.cpu, own.gpu)
    return Workers(asked.workers, asked.worker_cpu, asked.worker_gpu)


def beside_readers(available: Sequence[Machine], feed: FeedKind) -> list[Machine]:
    """Return what machines have for trials and their workers.

    A whole CPU of each stays free for what reads a stream.
    """
    outside = cpus_outside_trials(feed)
    return [replace(machine, cpu=machine.cpu - outside) for machine in available] if outside else list(available)


def needed_cpus(trial: PlannedTrial, available: list[Machine]) -> float:
    """CPUs of a trial and its workers together."""
    inner = inner_workers(trial, available)
    return trial.resources.cpu + inner.count * inner.cpu


def _room(cpu: float, gpu: float, worker_cpu: float, worker_gpu: float, available: list[Machine]) -> int:
    """How many workers fit beside a trial, wherever it goes."""
    best = 0
    for number, host in enumerate(available):
        if host.slots(cpu, gpu) < 1:
            continue
        rest = [replace(host, cpu=host.cpu - cpu, gpu=host.gpu - gpu), *available[:number], *available[number + 1 :]]
        best = max(best, sum(machine.slots(worker_cpu, worker_gpu) for machine in rest))
    return best


def _check_workers(trial: PlannedTrial, available: list[Machine]) -> None:
    """Refuse workers of a learner that has no use for them, or for which all machines together have no room."""
    asked, learner = trial.resources, trial.config.learner
    if asked.workers and not learner.takes_workers:
        raise SweepError(
            f"workers train the clients of federated learners, but {learner.name!r} is of kind {learner.kind!r}: give "
            "workers in the resources of a federated learner only",
            ("resources",),
        )
    inner = inner_workers(trial, available)
    need = Machine(asked.cpu + inner.count * inner.cpu, asked.gpu + inner.count * inner.gpu)
    have = Machine(sum(machine.cpu for machine in available), sum(machine.gpu for machine in available))
    if need.cpu > have.cpu or need.gpu > have.gpu:
        raise SweepError(
            f"a trial of learner {learner.name!r} and its {asked.workers} workers need cpu={need.cpu:g}, "
            f"gpu={need.gpu:g} together, but there is cpu={have.cpu:g}, gpu={have.gpu:g}; lower resources.workers",
            ("resources",),
        )


def check_budget(
    plan: SweepPlan, trials: Sequence[PlannedTrial], available: list[Machine], count: int | None = None
) -> None:
    """Refuse a budget for checkpoints that cannot hold those of the trials that run at once; arguments as `slots`.

    Raises:
        SweepError: with what is needed.
    """
    if plan.sweep.checkpoints.budget is None or not trials:
        return
    at_once = slots(trials, available, plan.sweep.resources.max_concurrent, count)
    # A guided search has the seeds of a setting ready at once.
    together = 1 if plan.sweep.remote is not None else beside(trials)
    together = together if count is None else min(together, len(seed_pairs(plan.sweep)))
    at_once = min(at_once * together, count or len(trials))
    plan.sweep.checkpoints.check_budget(map(plan.checkpoint_bytes, trials), at_once)


def slots(
    trials: Iterable[PlannedTrial], available: list[Machine], max_concurrent: int | None, count: int | None = None
) -> int:
    """How many trials run at once, for estimates; by the shape that most trials have.

    Args:
        trials: those that run, or some like them.
        available: the machines.
        max_concurrent: most trials at once; None for as many as fit.
        count: how many run in all; None for as many as are given.
    """
    listed = [(trial.resources, inner_workers(trial, available)) for trial in trials]
    shapes = [(own.cpu + inner.count * inner.cpu, own.gpu + inner.count * inner.gpu) for own, inner in listed]
    cpu, gpu = max(set(shapes), key=shapes.count)
    fitting = sum(machine.slots(cpu, gpu) for machine in available)
    return max(1, min(fitting, max_concurrent or fitting, count or len(shapes)))
