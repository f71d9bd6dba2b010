"""Running a guided search: as any sweep is run, except that its trials become known while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from rich.console import Console

from fairsweep.analysis.records.columns import RecordError
from fairsweep.sweeps.execution.run import describe
from fairsweep.sweeps.execution.run_callbacks import watching
from fairsweep.sweeps.execution.tasks import trial_tasks
from fairsweep.sweeps.planning.expand import PlannedTrial, trials_at
from fairsweep.sweeps.planning.feed_choice import settle_feed
from fairsweep.sweeps.planning.gpu_parts import GpuParts, with_gpu_parts
from fairsweep.sweeps.planning.machines import check_resources, machines, slots
from fairsweep.sweeps.planning.objectives import meaning_of
from fairsweep.sweeps.planning.preflight import SweepPlan, check_sweep, plan_trials, privacy_plans
from fairsweep.sweeps.planning.refusals import counted_causes, refusal_lines
from fairsweep.sweeps.runtime.cluster import check_nodes
from fairsweep.sweeps.runtime.launch import connected, run_trials, terminable
from fairsweep.sweeps.search.ask_tell import Conductor, Values
from fairsweep.sweeps.search.outcomes import recorded_values
from fairsweep.sweeps.search.scheduler import make_scheduler
from fairsweep.sweeps.search.search_budget import Extent, open_studies
from fairsweep.sweeps.search.searcher import SearchSource
from fairsweep.sweeps.spec.search_space import Chosen, SearchSpace
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.ledger import Entry, Ledger
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import InterruptedSweepError, SweepError
from fairsweep.sweeps.syntax.paths import resume_command, shown
from fairsweep.sweeps.tracking.tracker_process import tracked
from fairsweep.sweeps.views.display import show_progress
from fairsweep.sweeps.views.progress import Progress
from fairsweep.sweeps.views.status import Aim, Row
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.learning.objectives import Objective


def run_search(sweep: SweepSpec, *, text: str | None, address: str | None, console: Console, quiet: bool) -> None:
    """Run a guided search into its output folder, from wherever it stands there.

    Args:
        sweep: the sweep; its search is a guided one.
        text: the sweep file, to be kept as it is.
        address: of a Ray cluster.
        console: for lines on what happens.
        quiet: whether to show no progress.

    Raises:
        SweepError: if the sweep cannot run as asked; nothing has been started or overwritten then.
        InterruptedSweepError: on Ctrl-C.
    """
    plan = check_sweep(sweep)
    extent = Extent.of(sweep)
    output = OutputFolder.at(sweep.folder)
    if address is None:
        known = GpuParts(output.path).settled(plan.trials)
        check_resources(known, machines())
        settle_feed(sweep, plan.datasets, known, machines())
    output.check(name=sweep.name, content=plan.content, trials=(), needed_bytes=extent.needed_bytes(plan))
    privacy_plans(plan, plan.trials)
    with output.held():
        describe(plan, output, text, extent.trials)
        again = f"resume with: {resume_command(sweep.remote or shown(output.path), address)}"
        lines = partial(console.print, highlight=False, markup=False, soft_wrap=True)
        with tracked(sweep.tracking, output.path, lines), connected(address, again=again) as is_private:
            if not is_private:
                check_nodes(sweep, output.path, plan.datasets)
            _Run(plan, extent, output, console, address).go(quiet=quiet)


class _Run:
    """One run of a guided search; answers its conductor's questions on trials.

    Args:
        plan: the checked sweep; its trials are those by which the ends of the dimensions were checked.
        extent: how large the search is.
        output: the output folder, held.
        console: for lines on what happens.
        address: of a Ray cluster; None for none.
    """

    def __init__(
        self, plan: SweepPlan, extent: Extent, output: OutputFolder, console: Console, address: str | None = None
    ) -> None:
        self._extent, self._output, self._console, self._address = extent, output, console, address
        sweep, self._available = plan.sweep, machines()
        check_resources(GpuParts(output.path).settled(plan.trials), self._available)
        probes = with_gpu_parts(
            plan, plan.trials, output.path, self._available, lambda line: self._say(f"{sweep.name}: {line}")
        )
        plan = self._plan = replace(plan, trials=tuple(probes))
        self._parts = GpuParts(output.path)
        self._feeding = settle_feed(sweep, plan.datasets, plan.trials, self._available)
        if self._feeding.note:
            self._say(f"{sweep.name}: {self._feeding.note}")
        self._at_once = slots(plan.trials * extent.trials, self._available, self._feeding.max_concurrent)
        self._ledger: Ledger = output.ledger
        self._known: Mapping[str, Entry] = self._ledger.entries()
        self._queued: dict[str, Entry] = {}
        self._tasks: dict[str, TrialTask] = {}
        self._planned: dict[str, PlannedTrial] = {}
        meaning = meaning_of(sweep, plan.dataset)
        aims = [*(o.measure for o in sweep.search.objectives), *(c.measure for c in sweep.search.constraints)]
        self._meaning, self._measures = meaning, [measure.settled(meaning) for measure in aims]
        self._constraints = sweep.search.constraints
        self._values: dict[str, Values] = {}
        self._space = SearchSpace(sweep)
        self._studies = open_studies(sweep, plan.content, self._space, output.path, extent.batch(self._at_once))
        self._progress = Progress(
            (),
            self._queued,
            {},
            done_before=sum(entry.state.ended for entry in self._known.values()),
            slots=self._at_once,
            expected=extent.trials,
            name=sweep.name,
            aims=[self._aim(place, objective) for place, objective in enumerate(sweep.search.objectives)],
        )

    def go(self, *, quiet: bool) -> None:
        """Run until every setting is told.

        Raises:
            InterruptedSweepError: on Ctrl-C.
        """
        objectives = len(self._plan.sweep.search.objectives)
        told_before = sum(study.asked - len(study.waiting) for study in self._studies)
        self._say(self._announcement(told_before))
        conductor = Conductor(self._space, self._studies, self, objectives, self._say)
        source = SearchSource(conductor, self._prepare, self._closed)
        if told_before < self._extent.settings:
            self._run(source, quiet=quiet)
        self._note()
        refused = [cause for study in self._studies for cause in study.refusals]
        if len(refused) >= self._extent.settings:
            raise SweepError(
                f"all {len(refused)} settings that {self._plan.sweep.search.algorithm} proposed were refused, so "
                f"nothing was trained: {'; '.join(counted_causes(refused))}; change the dimensions so that their "
                "values go together"
            )
        for line in refusal_lines(counted_causes(refused)):
            self._say(f"{self._plan.sweep.name}: {line}")
        self._ledger.tidy(self._all_trials())

    def plan(self, chosen: Chosen) -> Sequence[PlannedTrial]:
        """See `Trials.plan`."""
        plan = self._plan
        trials = tuple(self._parts.settled(trials_at(plan.sweep, plan.dataset, plan.other, [chosen])))
        checked = plan_trials(plan.sweep, plan.dataset, plan.other, trials)
        privacy_plans(checked, trials)
        self._planned |= {trial.trial: trial for trial in trials}
        return trials

    def _note(self) -> None:
        """Bring up to date how many trials there will be: refused and repeated settings have none of their own."""
        each = self._extent.trials // self._extent.settings
        left = self._extent.settings - sum(study.asked for study in self._studies)
        self._progress.expected = len(self._known.keys() | self._queued.keys()) + left * each
        refused = counted_causes(cause for study in self._studies for cause in study.refusals)
        self._output.note_search(self._progress.expected, refused)

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
        return [*values[: len(values) - len(self._constraints)], *self._excesses(values)]

    # --- inside ---

    def _aim(self, place: int, objective: Objective) -> Aim:
        """Return an objective as views show it: of the trials that have ended and keep the constraints."""

        def value(trial: str, row: Row) -> float | None:
            values = self._values.get(trial)
            return values[place] if values is not None and self._is_feasible(values) else None

        return Aim(str(objective.measure), value, objective.sign)

    def _is_feasible(self, values: Values) -> bool:
        return all(excess <= 0 for excess in self._excesses(values))

    def _excesses(self, values: Values) -> list[float]:
        """By how much recorded values miss each constraint; they stand behind the objectives."""
        bounded = values[len(values) - len(self._constraints) :]
        return [constraint.excess(value) for constraint, value in zip(self._constraints, bounded, strict=True)]

    def _run(self, source: SearchSource, *, quiet: bool) -> None:
        sweep, output = self._plan.sweep, self._output.path
        try:
            with (
                terminable(),
                show_progress(self._progress, self._console, quiet=quiet) as callback,
                watching(sweep, output, self._queued, self._say) as watchers,
            ):
                if not source.has_trials():
                    return
                run_trials(
                    {},
                    output=output,
                    number=1 + max((entry.state.run for entry in self._known.values()), default=0),
                    retries=sweep.failures.retries,
                    max_concurrent=self._at_once,
                    callbacks=[callback, *watchers],
                    source=source,
                    scheduler=make_scheduler(sweep, self._plan.dataset, self._ledger, self._queued.__getitem__),
                )
        except KeyboardInterrupt as error:
            self._ledger.close(self._queued, unfinished="stopped", cause="stopped by the user")
            command = resume_command(sweep.remote or shown(output), self._address)
            raise InterruptedSweepError(f"stopped; resume with: {command}") from error
        self._ledger.close(
            self._queued, unfinished="failed", cause="the worker exited without an error message; run the sweep again"
        )

    def _prepare(self, new: list[PlannedTrial]) -> Mapping[str, TrialTask]:
        """Queue trials and make their tasks."""
        plan = self._plan
        checked = plan_trials(plan.sweep, plan.dataset, plan.other, tuple(new))
        queued = self._ledger.queue(new, self._known)
        self._queued |= queued
        self._note()
        tasks = trial_tasks(
            replace(checked, trials=tuple(new)),
            new,
            queued,
            privacy_plans(checked, new),
            self._output.path,
            self._feeding.choice,
            self._at_once,
        )
        self._progress.add(new, tasks)
        return tasks

    def _closed(self, trial: str, given_up: bool) -> bool:
        """Whether a trial is over, unlike one that the user stopped; one whose worker died too often has failed."""
        entry = self._queued[trial]
        if given_up:
            cause = self._progress.lost.get(trial, "the worker died")
            entry.mark({"state": "failed", "error": cause}, when=lambda state: state.state in ("queued", "running"))
        state = entry.now()
        return state is not None and (state.ended or state.state != "stopped")

    def _all_trials(self) -> list[PlannedTrial]:
        """Return the trials of every setting that has been asked for."""
        plan = self._plan
        trials: list[PlannedTrial] = []
        for study in self._studies:
            for number in range(study.asked):
                chosen = self._space.chosen(study.condition, study.suggested(number))
                with suppress(ValueError):  # a setting that was refused has none
                    trials += trials_at(plan.sweep, plan.dataset, plan.other, [chosen])
        return trials

    def _announcement(self, told: int) -> str:
        name, settings = self._plan.sweep.name, self._extent.settings
        into = f"into {shown(self._output.path)}"
        if told == 0:
            return f"{name}: a search over {settings} settings, about {self._extent.trials} trials, {into}."
        if told >= settings:
            return f"{name}: all {settings} settings are done in {shown(self._output.path)}; nothing to run."
        return f"{name}: {told} of {settings} settings are done; the search goes on, {into}."

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
