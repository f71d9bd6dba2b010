"""Retry of trials that ran out of GPU memory, in the same run, with twice their share of the GPU.

Tune keeps a trial's resources for as long as it is started again, so a larger part needs a trial of its own.
"""

from __future__ import annotations

from dataclasses import replace

from fairsweep.sweeps.store.ledger import Entry
from fairsweep.trainables.adapter import TrialTask

_OUT_OF_MEMORY = "OutOfMemoryError"


def with_more_gpu(task: TrialTask, entry: Entry) -> tuple[Entry, TrialTask] | None:
    """Queue a trial again if it failed for lack of GPU memory and had less than a whole GPU.

    Args:
        task: what has run.
        entry: the trial in the ledger.

    Returns:
        Its new entry and task; None if it lacked no memory, or has a whole GPU already.
    """
    state, grown = entry.now(), _grown(task)
    if state is None or state.state != "failed" or _OUT_OF_MEMORY not in (state.error or "") or grown == task:
        return None
    queued = Entry(entry.folder, entry.file.queue(state.trial))
    return queued, replace(grown, run=queued.state.run)


def _grown(task: TrialTask) -> TrialTask:
    """Return the task with twice the part of a GPU for it and its workers.

    A learner's own take theirs from its config.
    """
    config = task.config.model_copy(update={"learner": task.config.learner.with_more_gpu(_doubled)})
    return replace(task, config=config, gpu=_doubled(task.gpu), worker_gpu=_doubled(task.worker_gpu))


def _doubled(gpus: float) -> float:
    """Twice a part of a GPU, at most a whole one; whole ones stay.

    >>> _doubled(0.25), _doubled(0.7), _doubled(1), _doubled(2), _doubled(0)
    (0.5, 1.0, 1, 2, 0)
    """
    return min(1.0, 2 * gpus) if 0 < gpus < 1 else gpus
