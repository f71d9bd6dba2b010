"""The feed of a sweep's trials, and how many can run at once beside the stream's readers.

A trial that streams waits for Ray Data's tasks, and those need a CPU that no trial holds: with all CPUs reserved the
sweep would hang. One whole CPU of each machine therefore stays outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairsweep.datasets.feeds.feed_choice import FeedChoice, choose_feed, cpus_outside_trials
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.machines import Machine, beside_readers, needed_cpus, slots
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import SweepError


@dataclass(frozen=True)
class Feeding:
    """How a sweep's trials get their images.

    Attributes:
        choice: the feed of every trial.
        max_concurrent: most trials at once; None for as many as fit.
        note: what was lowered and why; empty where nothing was.
    """

    choice: FeedChoice
    max_concurrent: int | None
    note: str = ""


def settle_feed(
    sweep: SweepSpec, datasets: Sequence[PreparedDataset], trials: Sequence[PlannedTrial], available: Sequence[Machine]
) -> Feeding:
    """Settle on a feed, and on how many trials run at once with it.

    Args:
        sweep: the sweep.
        datasets: what is trained on and, where it is another, tested on.
        trials: those that will run.
        available: the machines.

    Raises:
        SweepError: if a stream leaves no machine room for a trial, with the numbers.
    """
    memory = min((machine.memory for machine in available), default=None)
    choice = choose_feed(datasets, sweep.feed.kind, sweep.feed.limits(), memory)
    wished = sweep.resources.max_concurrent
    outside = cpus_outside_trials(choice.kind)
    if not outside or not any(trial.resources.cpu for trial in trials):
        return Feeding(choice, wished)
    left = beside_readers(available, choice.kind)
    for trial in trials:
        cpu, gpu = trial.resources.cpu, trial.resources.gpu
        if not any(machine.slots(cpu, gpu) >= 1 for machine in left):
            raise SweepError(
                f"with a stream feed {outside} whole CPU of each machine is reserved for what reads, so a "
                f"trial of learner {trial.config.learner.name!r} (cpu={cpu:g}, gpu={gpu:g}) needs a machine with "
                f"{cpu + outside:g} CPUs, but there is {_listed(available)}; lower resources.cpu, or write "
                "feed: resident",
                ("feed",),
            )
    # Workers of a trial need room beside what reads too.
    largest = max(_with_workers(trial, left, outside) for trial in trials)
    most = max(1, sum(max(0, machine.slots(largest, 0)) for machine in left))
    if wished is not None and wished <= most:
        return Feeding(choice, wished)
    before = slots(trials, list(available), wished)
    note = ""
    if before > most:
        note = f"{most} instead of {before} trials at once: {outside} CPU of each machine is reserved for the streams"
    return Feeding(choice, most, note)


def _with_workers(trial: PlannedTrial, left: list[Machine], outside: int) -> float:
    """CPUs of a trial and its workers; refused if they leave none of any machine to what reads."""
    try:
        needed = needed_cpus(trial, left)
    except SweepError as error:
        raise SweepError(
            f"{error.message}, {outside} whole CPU of each machine is reserved for reading the stream", ("feed",)
        ) from error
    have = sum(machine.cpu for machine in left)
    if needed > have:
        raise SweepError(
            f"a trial of learner {trial.config.learner.name!r} and its workers need cpu={needed:g} together, but with "
            f"a stream feed, for which {outside} whole CPU of each machine is reserved, there is cpu={have:g}; lower "
            "resources.workers, or write feed: resident",
            ("feed",),
        )
    return needed


def _listed(available: Sequence[Machine]) -> str:
    return "; ".join(sorted({f"cpu={machine.cpu:g}, gpu={machine.gpu:g}" for machine in available})) or "none"
