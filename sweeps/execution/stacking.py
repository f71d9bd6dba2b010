"""Which trials of a run train side by side in one process."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.stacks.stack_choice import stack_size


def in_stacks(
    trials: Iterable[PlannedTrial], tasks: Mapping[str, TrialTask], at_once: int
) -> list[tuple[str, TrialTask]]:
    """Return tasks, each with those that train beside it, by the hash of the first.

    Trials are dealt to at least as many processes as run at once, so that none of these idles while others are full.

    Args:
        trials: those that are ready, in their order.
        tasks: what workers are told of them, by hash.
        at_once: how many processes run at once.
    """
    groups: dict[Hashable, list[TrialTask]] = {}
    sizes: dict[Hashable, int] = {}
    for trial in trials:
        task = tasks[trial.trial]
        must_be_alone = task.publisher is not None or task.workers or task.feed.kind != "resident"
        size = 1 if must_be_alone else stack_size(task.config, trial.resources.stack)
        key = _kind(task) if size > 1 else trial.trial
        groups.setdefault(key, []).append(task)
        sizes[key] = size
    found = []
    for key, ready in groups.items():
        rounds = -(-len(ready) // (sizes[key] * at_once))
        found += [_stack(part) for part in _dealt(ready, min(len(ready), rounds * at_once))]
    return found


def _kind(task: TrialTask) -> Hashable:
    """Return what trials have in common that are worth training together: they take as many steps, of one size."""
    learner, config = task.config.learner, task.config
    steps = [getattr(learner, name, None) for name in ("batch_size", "epochs")]
    model = config.model.model_dump_json()
    return (learner.kind, *steps, model, config.dataset.content_hash, task.cpu, task.gpu, task.checkpoints)


def _dealt(tasks: Sequence[TrialTask], parts: int) -> list[Sequence[TrialTask]]:
    """Deal tasks to parts of about one size, in their order."""
    ends = [round(len(tasks) * part / parts) for part in range(parts + 1)]
    return [tasks[start:stop] for start, stop in itertools.pairwise(ends)]


def _stack(tasks: Sequence[TrialTask]) -> tuple[str, TrialTask]:
    first, *others = tasks
    return first.config.trial, replace(first, others=tuple(others)) if others else first
