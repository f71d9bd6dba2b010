"""The trials of one run between their source and Tune: what shall start, what runs, and how it has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from fairsweep.analysis.records.trial_state import ENDED
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.sweeps.execution.stacking import in_stacks
from fairsweep.sweeps.execution.tasks import GRADIENT_MODES_FILE, GradientModes, trial_tasks
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.machines import beside
from fairsweep.sweeps.planning.preflight import SweepPlan, privacy_plans
from fairsweep.sweeps.store.ledger import Entry
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.views.progress import Progress
from fairsweep.sweeps.views.status import Aim
from fairsweep.trainables.adapter import TrialTask


class TrialSource(Protocol):
    """Where the trials of a run come from: a list, or a search that proposes some and is told how they ended.

    Attributes:
        samples: trials by which machines, budgets and privacy are checked: those that will run, or a search's extremes.
        members: hashes of all trials of the sweep; None where they become known while it runs.
        total: most trials that the sweep will have, as far as is known now.
        done_before: how many trials were done before this run.
        needed_bytes: estimate of what the run writes.
        aims: of what views show the best trial so far.
    """

    samples: Sequence[PlannedTrial]
    members: Sequence[str] | None
    total: int
    done_before: int
    needed_bytes: int
    aims: Sequence[Aim]

    def announcement(self) -> Sequence[str]:
        """Return lines on what the run will do."""
        ...

    def is_done(self) -> bool:
        """Return whether nothing is left to run."""
        ...

    def open(self, queued: Mapping[str, Entry], at_once: int) -> None:
        """Begin, with the trials of this run by hash, which grow while it lasts, and how many run at once."""
        ...

    def next(self) -> Sequence[PlannedTrial]:
        """Return trials that shall run now, each once; none for good, or until one that runs has ended."""
        ...

    def ended(self, trial: str) -> None:
        """Take note that a trial of this run has ended, well or badly."""
        ...

    def close(self) -> Sequence[PlannedTrial]:
        """Say what is to be said at the end; returns all trials of the sweep."""
        ...


class TrialQueue:
    """Takes trials from a source, queues them in the ledger, and says what became of those that have ended.

    Args:
        plan: the checked sweep.
        source: of its trials.
        output: the output folder, held.
        feed: where trials get their images.
        at_once: how many run at once.
        say: shows a line to the user.

    Attributes:
        queued: the trials of this run by hash; views and callbacks look at it.
        progress: what is known of them.
    """

    def __init__(
        self,
        plan: SweepPlan,
        source: TrialSource,
        output: OutputFolder,
        feed: FeedChoice,
        at_once: int,
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._source, self._output, self._feed, self._say = plan, source, output, feed, say
        self._ledger, self._at_once = output.ledger, at_once
        # A search queues a few trials at a time: looking through the folder each time would take longer and longer.
        self._modes = GradientModes(output.path / GRADIENT_MODES_FILE)
        self._known = None if source.members is not None else self._ledger.entries()
        self._ready: deque[tuple[str, TrialTask]] = deque()
        self._running: dict[str, TrialTask] = {}
        self._stacked: set[str] = set()
        self.queued: dict[str, Entry] = {}
        self.progress = Progress(
            (),
            self.queued,
            {},
            done_before=source.done_before,
            slots=at_once * beside(source.samples),
            expected=source.total,
            name=plan.sweep.name,
            aims=source.aims,
            is_simulated=plan.sweep.privacy.mode == "research",
        )
        source.open(self.queued, at_once)

    def fetch(self) -> bool:
        """Ask the source for trials if none is ready; return whether any shall start now."""
        if not self._ready and (new := self._source.next()):
            self._prepare(new)
        return bool(self._ready)

    def take(self) -> tuple[str, TrialTask] | None:
        """Return the next trial that shall start, others beside it in its task; None while there is none."""
        if not self.fetch():
            return None
        trial, task = self._ready.popleft()
        alone = [replace(task, others=()), *task.others]
        self._running |= {one.config.trial: one for one in alone}
        if task.others:
            self._stacked.update(one.config.trial for one in alone)
        return trial, task

    def ended(self, trial: str, given_up: bool) -> None:
        """Take note of the end of a trial.

        A trial that the user has stopped is not over: its source is not told. One that lacked GPU memory and had less
        than a whole GPU starts once more, and so does one that trained beside others and neither ended nor failed for
        good: alone.

        Args:
            trial: its hash.
            given_up: whether its worker died more often than it may, so that it has not said so itself.
        """
        task, entry = self._running.pop(trial), self.queued[trial]
        was_stacked = trial in self._stacked
        self._stacked.discard(trial)
        if was_stacked and self.progress.rows[trial].stage not in ENDED and (state := entry.now()) is not None:
            # Nothing was said of its end: its worker died, or it has left the others to start once more.
            if state.ended or state.state == "stopped":
                self.progress.settle(trial, state)
            else:
                self._ready.appendleft((trial, task))
                self.progress.wait(trial)
                return
        if given_up:
            cause = self.progress.lost.get(trial, "the worker died")
            entry.mark({"state": "failed", "error": cause}, when=lambda state: state.state in ("queued", "running"))
        state = entry.now()
        if state is not None and state.state == "failed" and task.shares_gpu:
            from fairsweep.sweeps.execution.oom_retry import with_more_gpu

            if (again := with_more_gpu(task, entry)) is not None:
                self.queued[trial], task = again
                self._ready.appendleft((trial, task))
                self.progress.wait(trial)
                self._say(
                    f"{entry.folder.name} ran out of GPU memory: retrying with twice the share of a GPU "
                    f"(gpu={max(task.gpu, task.worker_gpu):g})"
                )
                return
        if state is not None and (state.ended or state.state != "stopped"):
            self._source.ended(trial)

    def close(self, *, interrupted: bool) -> None:
        """Say of every trial that neither finished nor failed what became of it."""
        if interrupted:
            self._ledger.close(self.queued, unfinished="stopped", cause="stopped by the user")
        else:
            cause = "the worker exited without an error message; run the sweep again"
            self._ledger.close(self.queued, unfinished="failed", cause=cause)

    def _prepare(self, new: Sequence[PlannedTrial]) -> None:
        self.queued |= self._ledger.queue(new, self._known)
        privacy = privacy_plans(self._plan, new)
        together = self._at_once * beside(new)
        tasks = trial_tasks(self._plan, new, self.queued, privacy, self._output.path, self._feed, together, self._modes)
        self.progress.add(new, tasks)
        self.progress.expected = self._source.total
        self._ready.extend(in_stacks(new, tasks, self._at_once))
