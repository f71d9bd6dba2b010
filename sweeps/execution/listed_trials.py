"""Trials that are known beforehand: those of a grid, and those that are drawn without looking at results."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence

from fairsweep.analysis.wording import counted
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.preflight import SweepPlan
from fairsweep.sweeps.store.ledger import Entry
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.paths import shown
from fairsweep.sweeps.views.status import DEFAULT_AIMS, Aim


class ListedTrials:
    """A `TrialSource` that gives those trials of a list which the output folder lacks.

    Args:
        plan: the checked sweep.
        output: its output folder.
        only: hashes of trials; the others wait, whatever their state. None for all.
    """

    aims: Sequence[Aim] = DEFAULT_AIMS

    def __init__(self, plan: SweepPlan, output: OutputFolder, only: Collection[str] | None = None) -> None:
        self._plan, self._output = plan, output
        self.samples: Sequence[PlannedTrial] = output.ledger.missing(plan.trials, only)
        self.members: Sequence[str] | None = [trial.trial for trial in plan.trials]
        self.total = len(plan.trials)
        self.done_before = self.total - len(self.samples)
        self.needed_bytes = plan.needed_bytes(self.samples)
        self._left: Sequence[PlannedTrial] = self.samples

    def announcement(self) -> Sequence[str]:
        """See `TrialSource.announcement`."""
        if not self._plan.refused:
            return (self._sentence(),)
        from fairsweep.sweeps.planning.refusals import refusal_lines

        return (self._sentence(), *refusal_lines(self._plan.refused))

    def is_done(self) -> bool:
        """See `TrialSource.is_done`."""
        return not self.samples

    def open(self, queued: Mapping[str, Entry], at_once: int) -> None:
        """See `TrialSource.open`; a list needs neither."""

    def next(self) -> Sequence[PlannedTrial]:
        """See `TrialSource.next`."""
        now, self._left = self._left, ()
        return now

    def ended(self, trial: str) -> None:
        """See `TrialSource.ended`; nothing follows from it."""

    def close(self) -> Sequence[PlannedTrial]:
        """See `TrialSource.close`."""
        return self._plan.trials

    def _sentence(self) -> str:
        plan, missing, into = self._plan, self.samples, shown(self._output.path)
        total, entries, aside = len(plan.trials), self._output.ledger.entries(), self._aside()
        done = sum(trial.trial in entries and entries[trial.trial].state.ended for trial in plan.trials)
        others = len(entries.keys() - set(self.members or ()))
        kept = f" Kept there: {counted(others, 'trial')} of an earlier version of this sweep." if others else ""
        if len(missing) == total and not entries:
            return f"{plan.sweep.name}: {counted(total, 'trial')}, into {into}."
        part = f"all {total}" if done == total and not missing else f"{done} of {total}"
        now = f"{len(missing)} run now{_standing(missing, entries)}" if missing else "nothing to run"
        return f"{plan.sweep.name}: {part} trials are done in {into}; {now}.{kept}{aside}"

    def _aside(self) -> str:
        """Return a sentence on trials that do not run since their state is damaged; empty where there are none."""
        due = {trial.trial for trial in self.samples}
        damaged = self._output.ledger.damaged()
        count = sum(any(lost.is_of(t.trial) for lost in damaged) for t in self._plan.trials if t.trial not in due)
        if not count:
            return ""
        are = "1 trial is" if count == 1 else f"{count} trials are"
        retry = f"fairsweep retry-failed {shlex.quote(shown(self._output.path))}"
        return f" {are} damaged and set aside; to run again: {retry}"


def _standing(missing: Sequence[PlannedTrial], entries: Mapping[str, Entry]) -> str:
    """In brackets, how trials stand that will run: never started, or what became of their last attempt."""
    words = {"queued": "never started", "running": "cut short", "done": "damaged"}
    states = [entries[trial.trial].state.state if trial.trial in entries else "queued" for trial in missing]
    counts = [f"{states.count(state)} {words.get(state, state)}" for state in dict.fromkeys(states)]
    return f" ({', '.join(counts)})" if counts else ""
