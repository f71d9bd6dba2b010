"""What the machines at hand can give, and what a trial needs: a sweep that no machine can run is refused at once."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fairsweep.datasets.feed_choice import machine_memory
from fairsweep.sweeps.errors import SweepError
from fairsweep.sweeps.expand import PlannedTrial
from fairsweep.trainables.learners import LEARNERS

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
    """The machines of the Ray that is connected; this machine if there is none."""
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
        cpu, gpu = trial.resources.cpu, trial.resources.gpu
        if any(machine.slots(cpu, gpu) >= 1 for machine in available):
            continue
        there = "; ".join(sorted({f"cpu={m.cpu:g}, gpu={m.gpu:g}" for m in available})) or "none"
        raise SweepError(
            f"a trial of learner {trial.config.learner.name!r} needs cpu={cpu:g}, gpu={gpu:g} on one machine, "
            f"but there is {there}; lower its resources, or connect to a larger cluster",
            ("resources",),
        )
    for trial in trials:
        _check_workers(trial, available)


def _check_workers(trial: PlannedTrial, available: list[Machine]) -> None:
    """Refuse workers of a learner that has no use for them, or for which all machines together have no room."""
    asked, learner = trial.resources, trial.config.learner
    if not asked.workers:
        return
    if LEARNERS[learner.kind].units is None:
        raise SweepError(
            f"workers train the clients of federated learners, but {learner.name!r} is of kind {learner.kind!r}: give "
            "workers in the resources of a federated learner only",
            ("resources",),
        )
    need = Machine(asked.cpu + asked.workers * asked.worker_cpu, asked.gpu + asked.workers * asked.worker_gpu)
    have = Machine(sum(machine.cpu for machine in available), sum(machine.gpu for machine in available))
    if need.cpu > have.cpu or need.gpu > have.gpu:
        raise SweepError(
            f"a trial of learner {learner.name!r} and its {asked.workers} workers need cpu={need.cpu:g}, "
            f"gpu={need.gpu:g} together, but there is cpu={have.cpu:g}, gpu={have.gpu:g}; lower resources.workers",
            ("resources",),
        )


def slots(trials: Iterable[PlannedTrial], available: list[Machine], max_concurrent: int | None) -> int:
    """How many trials run at once, for estimates; by the shape that most trials have."""
    shapes = [
        (r.cpu + r.workers * r.worker_cpu, r.gpu + r.workers * r.worker_gpu) for r in (t.resources for t in trials)
    ]
    cpu, gpu = max(set(shapes), key=shapes.count)
    fitting = sum(machine.slots(cpu, gpu) for machine in available)
    return max(1, min(fitting, max_concurrent or fitting, len(shapes)))
