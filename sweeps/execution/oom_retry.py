"""Retry of trials that ran out of GPU memory, at the end of the same run, with twice their share of the GPU.

Tune keeps a trial's resources for as long as it is started again, so a larger part needs a trial of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from fairsweep.sweeps.store.ledger import Entry
from fairsweep.trainables.adapter import TrialTask

_OUT_OF_MEMORY = "OutOfMemoryError"


def with_more_gpu(
    tasks: Mapping[str, TrialTask], queued: dict[str, Entry], say: Callable[[str], None]
) -> dict[str, TrialTask]:
    """Queue those trials again that failed for lack of GPU memory, and had less than a whole GPU.

    Args:
        tasks: what has run, by the trial's hash.
        queued: the trials of this run; those that run again get their new entry.
        say: shows a line to the user.

    Returns:
        The tasks of the second pass; empty if nobody lacks memory, or has a whole GPU already.
    """
    again = {}
    for trial, task in tasks.items():
        state = queued[trial].now()
        grown = _grown(task)
        if state is None or state.state != "failed" or _OUT_OF_MEMORY not in (state.error or "") or grown == task:
            continue
        entry = Entry(queued[trial].folder, queued[trial].file.queue(trial))
        queued[trial] = entry
        again[trial] = replace(grown, run=entry.state.run)
    if again:
        parts = sorted({task.gpu for task in again.values()} | {t.worker_gpu for t in again.values() if t.workers})
        shown = ", ".join(f"{part:g}" for part in parts if part)
        count = "1 trial" if len(again) == 1 else f"{len(again)} trials"
        say(f"{count} ran out of GPU memory: retrying with twice the share of a GPU (gpu={shown})")
    return again


def _grown(task: TrialTask) -> TrialTask:
    """The task with twice the part of a GPU for it and its workers; a learner's own take theirs from its config."""
    config = task.config.model_copy(update={"learner": task.config.learner.with_more_gpu(_doubled)})
    return replace(task, config=config, gpu=_doubled(task.gpu), worker_gpu=_doubled(task.worker_gpu))


def _doubled(gpus: float) -> float:
    """Twice a part of a GPU, at most a whole one; whole ones stay.

    >>> _doubled(0.25), _doubled(0.7), _doubled(1), _doubled(2), _doubled(0)
    (0.5, 1.0, 1, 2, 0)
    """
    return min(1.0, 2 * gpus) if 0 < gpus < 1 else gpus
