"""Trials that a guided search proposes while the sweep runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from fairsweep.analysis.records.failed_trials import counted_causes
from fairsweep.analysis.records.files import RecordError
from fairsweep.sweeps.planning.expand import PlannedTrial, trials_at
from fairsweep.sweeps.planning.objectives import meaning_of
from fairsweep.sweeps.planning.preflight import SweepPlan, plan_trials, privacy_plans
from fairsweep.sweeps.planning.refusals import refusal_lines
from fairsweep.sweeps.search.ask_tell import AskTell, Values
from fairsweep.sweeps.search.outcomes import recorded_values
from fairsweep.sweeps.search.search_budget import Extent, open_studies, told_settings
from fairsweep.sweeps.search.study import SearchStudy
from fairsweep.sweeps.spec.search_space import Chosen, SearchSpace
from fairsweep.sweeps.store.ledger import Entry
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.paths import shown
from fairsweep.sweeps.views.status import Aim, Row
from fairsweep.trainables.learning.objectives import Objective


class GuidedTrials:
    """A `TrialSource` that is told how trials ended; answers the questions of `AskTell` on them.

    Args:
        plan: the checked sweep; its trials are those by which the ends of the dimensions were checked.
        output: the output folder.
        say: shows a line to the user.
    """

    members: Sequence[str] | None = None

    def __init__(self, plan: SweepPlan, output: OutputFolder, say: Callable[[str], None]) -> None:
        self._plan, self._output, self._say = plan, output, say
        self._space, self._extent = SearchSpace(plan.sweep), Extent.of(plan.sweep)
        self._known: Mapping[str, Entry] = output.ledger.entries()
        self._queued: Mapping[str, Entry] = {}
        self._listed = set(self._known)
        self._noted: tuple[int, int] | None = None
        self._values: dict[str, Values] = {}
        self._batch = 1
        search, meaning = plan.sweep.search, meaning_of(plan.sweep, plan.dataset)
        measures = [*(o.measure for o in search.objectives), *(c.measure for c in search.constraints)]
        self._meaning, self._measures = meaning, [measure.settled(meaning) for measure in measures]
        self.samples: Sequence[PlannedTrial] = plan.trials
        self.total = self._extent.trials
        self.done_before = sum(entry.state.ended for entry in self._known.values())
        self.needed_bytes = self._extent.needed_bytes(plan)
        self.aims: Sequence[Aim] = [self._aim(place, objective) for place, objective in enumerate(search.objectives)]

    @cached_property
    def _told_before(self) -> int:
        return told_settings(self._plan.sweep, self._plan.content, self._space, self._output.path)

    @cached_property
    def _studies(self) -> tuple[SearchStudy, ...]:
        return open_studies(self._plan.sweep, self._plan.content, self._space, self._output.path, self._batch)

    @cached_property
    def _ask_tell(self) -> AskTell:
        return AskTell(self._space, self._studies, self, len(self._plan.sweep.search.objectives), self._say)

    def is_done(self) -> bool:
        """See `TrialSource.is_done`."""
        return self._told_before >= self._extent.settings

    def announcement(self) -> Sequence[str]:
        """See `TrialSource.announcement`."""
        name, settings, told = self._plan.sweep.name, self._extent.settings, self._told_before
        folder = shown(self._output.path)
        if told == 0:
            return (f"{name}: a search over {settings} settings, about {self._extent.trials} trials, into {folder}.",)
        if self.is_done():
            return (f"{name}: all {settings} settings are done in {folder}; nothing to run.",)
        return (f"{name}: {told} of {settings} settings are done; the search goes on, into {folder}.",)

    def open(self, queued: Mapping[str, Entry], at_once: int) -> None:
        """See `TrialSource.open`."""
        self._queued, self._batch = queued, self._extent.batch(at_once)

    def next(self) -> Sequence[PlannedTrial]:
        """See `TrialSource.next`."""
        new = self._ask_tell.advance()
        self._note(new)
        return new

    def ended(self, trial: str) -> None:
        """See `TrialSource.ended`."""
        self._ask_tell.ended(trial)

    def close(self) -> Sequence[PlannedTrial]:
        """See `TrialSource.close`.

        Raises:
            SweepError: if no setting could run.
        """
        self._note()
        refused = counted_causes(self._refusals)
        if sum(refused.values()) >= self._extent.settings:
            raise SweepError(
                f"all {self._extent.settings} settings that {self._plan.sweep.search.algorithm} proposed were refused, "
                f"so nothing was trained: {'; '.join(refused)}; change the dimensions so that their values go together"
            )
        for line in refusal_lines(refused):
            self._say(line)
        trials: list[PlannedTrial] = []
        for study in self._studies:
            for number in range(study.asked):
                with suppress(ValueError):  # a setting that was refused has none
                    trials += self._trials_at(self._space.chosen(study.condition, study.suggested(number)))
        return trials

    # --- what `AskTell` asks ---

    def plan(self, chosen: Chosen) -> Sequence[PlannedTrial]:
        """See `Trials.plan`."""
        plan, trials = self._plan, self._trials_at(chosen)
        checked = plan_trials(plan.sweep, plan.dataset, plan.other, trials)
        plan.add(checked)
        privacy_plans(plan, trials)
        return trials

    def has_ended(self, trial: PlannedTrial) -> bool:
        """See `Trials.has_ended`."""
        entry = self._known.get(trial.trial)
        return entry is not None and entry.state.ended

    def has_failed(self, trial: PlannedTrial) -> bool:
        """See `Trials.has_failed`."""
        entry = self._known.get(trial.trial)
        return entry is not None and entry.state.state == "failed"

    def values(self, trial: PlannedTrial) -> Values | None:
        """See `Trials.values`."""
        entry = self._queued.get(trial.trial) or self._known[trial.trial]
        state = entry.now()
        if state is None or not state.ended:
            return None
        try:
            values = recorded_values(entry.folder, self._measures, self._meaning)
        except (RecordError, OSError) as error:
            self._say(f"{entry.folder.name}: its records cannot be read ({error})")
            return None
        self._values[trial.trial] = values
        objectives = len(self._plan.sweep.search.objectives)
        return [*values[:objectives], *self._excesses(values)]

    # --- inside ---

    @property
    def _refusals(self) -> list[str]:
        return [cause for study in self._studies for cause in study.refusals]

    def _trials_at(self, chosen: Chosen) -> tuple[PlannedTrial, ...]:
        return trials_at(self._plan.sweep, self._plan.dataset, self._plan.other, [chosen])

    def _note(self, new: Sequence[PlannedTrial] = ()) -> None:
        """Bring up to date how many trials there will be: refused and repeated settings have none of their own."""
        each = self._extent.trials // self._extent.settings
        left = self._extent.settings - sum(study.asked for study in self._studies)
        self._listed.update(trial.trial for trial in new)
        self.total = len(self._listed) + left * each
        refusals = self._refusals
        if self._noted != (self.total, len(refusals)):
            self._output.note_search(self.total, counted_causes(refusals))
            self._noted = self.total, len(refusals)

    def _aim(self, place: int, objective: Objective) -> Aim:
        """Return an objective as views show it: of the trials that have ended and keep the constraints."""

        def value(trial: str, row: Row) -> float | None:
            values = self._values.get(trial)
            is_feasible = values is not None and all(excess <= 0 for excess in self._excesses(values))
            return values[place] if values is not None and is_feasible else None

        return Aim(str(objective.measure), value, objective.sign)

    def _excesses(self, values: Values) -> list[float]:
        """By how much recorded values miss each constraint; they stand behind the objectives."""
        search = self._plan.sweep.search
        bounded = values[len(search.objectives) :]
        return [constraint.excess(value) for constraint, value in zip(search.constraints, bounded, strict=True)]
