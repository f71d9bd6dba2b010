"""Running a sweep: check, hold the output folder, run what is missing, and read the results."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from fairsweep import analysis
from fairsweep.analysis.records.columns import EXAMPLES, write_examples
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.copies.mirror import mirrored
from fairsweep.sweeps.copies.remote_output import published
from fairsweep.sweeps.execution.oom_retry import with_more_gpu
from fairsweep.sweeps.execution.remote_states import state_callbacks
from fairsweep.sweeps.execution.run_callbacks import watching
from fairsweep.sweeps.execution.tasks import trial_tasks
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.feed_choice import settle_feed
from fairsweep.sweeps.planning.gpu_parts import GpuParts, with_gpu_parts
from fairsweep.sweeps.planning.machines import check_budget, check_resources, machines, slots
from fairsweep.sweeps.planning.preflight import SweepPlan, check_sweep, privacy_plans
from fairsweep.sweeps.planning.refusals import refusal_lines
from fairsweep.sweeps.runtime.cluster import check_nodes, run_from_afar
from fairsweep.sweeps.runtime.cluster_address import check_address, cluster_of, is_client
from fairsweep.sweeps.runtime.launch import connected, run_trials, terminable
from fairsweep.sweeps.search.scheduler import make_scheduler
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.description import Description
from fairsweep.sweeps.store.difference import folder_difference
from fairsweep.sweeps.store.erased_examples import erased_ids, without
from fairsweep.sweeps.store.known_places import remember_places
from fairsweep.sweeps.store.ledger import Entry, Ledger
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import InterruptedSweepError, SweepError
from fairsweep.sweeps.syntax.paths import resume_command, shown, shown_from_here
from fairsweep.sweeps.tracking.tracker_process import tracked
from fairsweep.sweeps.views.display import show_progress
from fairsweep.sweeps.views.progress import Progress
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.trial.other_dataset import recorded_examples


def run_sweep(
    sweep: SweepSpec,
    *,
    text: str | None = None,
    address: str | None = None,
    quiet: bool = False,
    only: Collection[str] | None = None,
) -> analysis.SweepResults:
    """Run those trials of a sweep that its output folder lacks.

    Args:
        sweep: the sweep.
        text: the sweep file, to be kept as it is.
        address: of a Ray cluster; None takes ``RAY_ADDRESS``, or this machine.
        quiet: whether to show nothing.
        only: hashes of trials; the others wait, whatever their state. None for all.

    Returns:
        The results.

    Raises:
        SweepError: if the sweep cannot run as asked; nothing has been started or overwritten then.
        InterruptedSweepError: on Ctrl-C.
    """
    console = Console(stderr=True, quiet=quiet)
    # As Ray reads it: a cluster's machines, and not this one, say what there is room for.
    address = cluster_of(address)
    remember_places(sweep)
    output = OutputFolder.at(sweep.folder)
    found = Description.read(output.path)
    for problem in (*(found.problems if found else ()), *output.file_problems()):
        console.print(f"{sweep.name}: {problem}; it is rebuilt", highlight=False, markup=False, soft_wrap=True)
    if is_client(address):
        run_from_afar(sweep, text, str(address), quiet, run_sweep)
        return analysis.load(sweep.remote or sweep.folder)
    if address is not None:
        check_address(address)
    with published(sweep, console), mirrored(sweep, console):
        results = _run(sweep, text, address, console, quiet, only)
    return results if sweep.remote is None else analysis.load(sweep.remote)


def _run(
    sweep: SweepSpec, text: str | None, address: str | None, console: Console, quiet: bool, only: Collection[str] | None
) -> analysis.SweepResults:
    if sweep.search.is_guided:
        from fairsweep.sweeps.execution.running import run_search

        _refuse_choice(only)
        run_search(sweep, text=text, address=address, console=console, quiet=quiet)
        return analysis.load(sweep.folder)
    plan = check_sweep(sweep)
    output = OutputFolder.at(sweep.folder)
    missing = output.ledger.missing(plan.trials, only)
    if address is None:
        known = GpuParts(output.path).settled(missing)
        check_resources(known, machines())
        check_budget(plan, known, machines())
        settle_feed(sweep, plan.datasets, known, machines())
    output.check(
        name=sweep.name,
        content=plan.content,
        trials=[trial.trial for trial in plan.trials],
        needed_bytes=plan.needed_bytes(missing),
    )
    privacy = privacy_plans(plan, missing)
    with output.held():
        # Another driver may have finished some while this one was checking.
        missing = output.ledger.missing(plan.trials, only)
        console.print(announce(plan, output, missing), highlight=False, markup=False, soft_wrap=True)
        for line in (*refusal_lines(plan.refused), *folder_difference(plan, output).lines()):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        describe(plan, output, text, len(plan.trials), [trial.trial for trial in plan.trials])
        if plan.refused:
            output.note_search(len(plan.trials), plan.refused)
        if missing:
            lines = partial(console.print, highlight=False, markup=False, soft_wrap=True)
            with tracked(sweep.tracking, output.path, lines):
                _run_missing(plan, output, missing, privacy, address=address, console=console, quiet=quiet)
        output.ledger.tidy(plan.trials)
    return analysis.load(output.path)


def _refuse_choice(only: Collection[str] | None) -> None:
    if only is not None:
        raise SweepError(
            "a guided search has already counted its failed trials as failures, so they cannot be retried alone: "
            "change search.seed to start a new search; finished trials are skipped"
        )


def announce(plan: SweepPlan, output: OutputFolder, missing: Sequence[PlannedTrial]) -> str:
    """One sentence on what a run will do in its output folder."""
    total, todo = len(plan.trials), len(missing)
    entries = output.ledger.entries()
    done = sum(trial.trial in entries and entries[trial.trial].state.ended for trial in plan.trials)
    aside = _aside(plan, output, missing)
    others = len(entries.keys() - {trial.trial for trial in plan.trials})
    kept = f" {others} trials of an earlier version of this sweep are kept there." if others else ""
    if done == 0 and todo == total and not entries:
        return f"{plan.sweep.name}: {total} trials, into {shown(output.path)}.{kept}"
    if todo == 0 and aside:
        return f"{plan.sweep.name}: {done} of {total} trials are done in {shown(output.path)}; nothing to run.{aside}"
    if done == total and todo == 0:
        return f"{plan.sweep.name}: all {total} trials are done in {shown(output.path)}; nothing to run.{kept}"
    return (
        f"{plan.sweep.name}: {done} of {total} trials are done in {shown(output.path)}; "
        f"{todo} run now{_standing(missing, entries)}.{kept}{aside}"
    )


def _aside(plan: SweepPlan, output: OutputFolder, missing: Sequence[PlannedTrial]) -> str:
    """Return a sentence on trials that do not run since their state is damaged; empty where there are none."""
    due = {trial.trial for trial in missing}
    damaged = output.ledger.damaged()
    count = sum(any(lost.is_of(t.trial) for lost in damaged) for t in plan.trials if t.trial not in due)
    if not count:
        return ""
    are = "1 trial is" if count == 1 else f"{count} trials are"
    return f" {are} damaged and set aside; to run again: fairsweep retry-failed {shlex.quote(shown(output.path))}"


def _standing(missing: Sequence[PlannedTrial], entries: Mapping[str, Entry]) -> str:
    """In brackets, how trials stand that will run: never started, or what became of their last attempt."""
    words = {"queued": "never started", "running": "cut short", "done": "damaged"}
    states = [entries[trial.trial].state.state if trial.trial in entries else "queued" for trial in missing]
    counts = [f"{states.count(state)} {words.get(state, state)}" for state in dict.fromkeys(states)]
    return f" ({', '.join(counts)})" if counts else ""


def describe(
    plan: SweepPlan, output: OutputFolder, text: str | None, trials: int, members: Sequence[str] | None = None
) -> None:
    """Write into the output folder what it holds: the sweep, its file, its examples.

    Args:
        plan: the checked sweep.
        output: the folder, held.
        text: the sweep file; None writes the resolved sweep instead.
        trials: how many trials the sweep has.
        members: their hashes; None for a search, which finds its trials as it runs.

    Raises:
        SweepError: if the examples must be written anew, and what was erased from them is not known.
    """
    sweep = plan.sweep
    dataset = _reference(plan.dataset, sweep.dataset.path) | {
        "label": sweep.dataset.label,
        "groups": list(sweep.dataset.groups),
        "shown": {
            attribute.name: dict(zip(attribute.values, attribute.display, strict=True))
            for attribute in plan.dataset.info.attributes
            if attribute.display is not None
        },
    }
    if plan.other is not None and sweep.evaluation.dataset is not None:
        dataset["evaluation"] = _reference(plan.other, sweep.evaluation.dataset)
    output.describe(text, shown_from_here(sweep.model_dump(mode="json")), dataset, trials, members)
    if not output.has_examples:
        with_paths = sweep.privacy.mode == "research"
        table = recorded_examples(plan.dataset, plan.other, with_source_paths=with_paths)
        write_examples(output.path / EXAMPLES, without(table, erased_ids(output.path, plan.dataset)))


def _reference(dataset: PreparedDataset, path: Path) -> dict[str, Any]:
    return {"name": dataset.info.name, "path": str(path), "content_hash": dataset.info.content_hash}


def _run_missing(
    plan: SweepPlan,
    output: OutputFolder,
    missing: Sequence[PlannedTrial],
    privacy: dict[str, PrivacyPlan],
    *,
    address: str | None,
    console: Console,
    quiet: bool,
) -> None:
    ledger = output.ledger

    def say(line: str) -> None:
        console.print(f"{plan.sweep.name}: {line}", highlight=False, markup=False, soft_wrap=True)

    command = resume_command(plan.sweep.remote or shown(output.path), address)
    with connected(address, again=f"resume with: {command}") as is_private:
        available = machines()
        check_resources(GpuParts(output.path).settled(missing), available)
        if not is_private:
            check_nodes(plan.sweep, output.path, plan.datasets)
        missing = with_gpu_parts(plan, missing, output.path, available, say)
        feeding = settle_feed(plan.sweep, plan.datasets, missing, available)
        if feeding.note:
            say(feeding.note)
        queued = ledger.queue(missing)
        at_once = slots(missing, available, feeding.max_concurrent)
        tasks = trial_tasks(plan, missing, queued, privacy, output.path, feeding.choice, at_once)
        progress = Progress(missing, queued, tasks, done_before=len(plan.trials) - len(missing), slots=at_once)
        try:
            with (
                terminable(),
                show_progress(progress, console, quiet=quiet) as callback,
                watching(plan.sweep, output.path, queued, say) as watchers,
            ):
                while tasks:
                    run_trials(
                        tasks,
                        output=output.path,
                        number=max(entry.state.run for entry in queued.values()),
                        retries=plan.sweep.failures.retries,
                        max_concurrent=feeding.max_concurrent,
                        callbacks=[callback, *watchers, *state_callbacks(plan.sweep, queued)],
                        scheduler=make_scheduler(plan.sweep, plan.dataset, ledger, queued.__getitem__),
                    )
                    tasks = with_more_gpu(tasks, queued, say)
        except KeyboardInterrupt as error:
            ledger.close(queued, unfinished="stopped", cause="stopped by the user")
            raise InterruptedSweepError(f"stopped; resume with: {command}") from error
        _close(ledger, queued, progress)


def _close(ledger: Ledger, queued: dict[str, Entry], progress: Progress) -> None:
    """Trials whose worker died too often have not said so themselves."""
    for trial, cause in progress.lost.items():
        queued[trial].mark({"state": "failed", "error": cause}, when=lambda state: state.state in ("queued", "running"))
    ledger.close(queued, unfinished="failed", cause="the worker exited without an error message; run the sweep again")
