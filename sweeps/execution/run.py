"""Running a sweep: check, hold the output folder, run what is missing, and read the results."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fairsweep import analysis
from fairsweep.analysis.records.file_names import EXAMPLES, TRIALS
from fairsweep.analysis.records.prediction_records import write_examples
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.execution.listed_trials import ListedTrials
from fairsweep.sweeps.execution.run_callbacks import run_callbacks
from fairsweep.sweeps.execution.trial_queue import TrialQueue, TrialSource
from fairsweep.sweeps.planning.feed_choice import Feeding, settle_feed
from fairsweep.sweeps.planning.machines import Machine, check_budget, check_resources, machines, slots
from fairsweep.sweeps.planning.preflight import SweepPlan, check_sweep, privacy_plans
from fairsweep.sweeps.runtime.cluster_address import check_address, cluster_of, is_client
from fairsweep.sweeps.runtime.launch import TUNE_FOLDER, connected, run_trials, terminable
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.description import Description
from fairsweep.sweeps.store.difference import folder_difference
from fairsweep.sweeps.store.erased_examples import erased_ids, without
from fairsweep.sweeps.store.initial_weights import with_initial
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.store.trusted_addresses import remember_addresses
from fairsweep.sweeps.syntax.errors import InterruptedSweepError, SweepError
from fairsweep.sweeps.syntax.paths import resume_command, shown, shown_from_here
from fairsweep.trainables.trial.other_dataset import recorded_examples
from fairsweep.trainables.trial.trial_data import published_examples

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


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
    remember_addresses(sweep)
    output = OutputFolder.at(sweep.folder)
    found = Description.read(output.path)
    for problem in (*(found.problems if found else ()), *output.file_problems()):
        console.print(f"{sweep.name}: {problem}; it is rebuilt", highlight=False, markup=False, soft_wrap=True)
    if is_client(address):
        from fairsweep.sweeps.runtime.cluster import run_from_afar

        run_from_afar(sweep, text, str(address), quiet, run_sweep)
        return analysis.load(sweep.remote or sweep.folder)
    if address is not None:
        check_address(address)
    with ExitStack() as ending:
        if sweep.remote is not None:
            from fairsweep.sweeps.copies.remote_output import published

            ending.enter_context(published(sweep, console))
        if sweep.mirror is not None:
            from fairsweep.sweeps.copies.mirror import mirrored

            ending.enter_context(mirrored(sweep, console))
        results = _run(sweep, text, address, console, quiet, only)
    return results if sweep.remote is None else analysis.load(sweep.remote)


def _run(
    sweep: SweepSpec, text: str | None, address: str | None, console: Console, quiet: bool, only: Collection[str] | None
) -> analysis.SweepResults:
    """Plan, hold the folder, run, and read what there is."""
    plan, output = check_sweep(with_initial(sweep)), OutputFolder.at(sweep.folder)
    if sweep.search.is_secret:
        return _run_secretly(plan, output, text, address, console, only)
    lines = partial(console.print, highlight=False, markup=False, soft_wrap=True)

    def say(line: str) -> None:
        lines(f"{sweep.name}: {line}")

    source = _trials_of(plan, output, only, say)
    if address is None:
        _settle(plan, source, machines())
    output.check(
        name=sweep.name,
        content=plan.content,
        former=plan.former_content,
        trials=source.members or (),
        needed_bytes=source.needed_bytes,
    )
    privacy_plans(plan, source.samples)
    with output.held():
        # Another driver may have finished some while this one was checking.
        source = _trials_of(plan, output, only, say)
        for line in (*source.announcement(), *folder_difference(plan, output).lines()):
            lines(line)
        describe(plan, output, text, source.total, source.members)
        if plan.refused:
            output.note_search(source.total, plan.refused)
        if not source.is_done():
            with ExitStack() as ending:
                if sweep.tracking is not None and sweep.tracking.names:
                    from fairsweep.sweeps.tracking.tracker_process import tracked

                    ending.enter_context(tracked(sweep.tracking, output.path, lines))
                _run_source(plan, output, source, address, None if quiet else console, say)
        output.ledger.tidy(source.close())
    return analysis.load(output.path)


def _run_secretly(
    plan: SweepPlan,
    output: OutputFolder,
    text: str | None,
    address: str | None,
    console: Console,
    only: Collection[str] | None,
) -> analysis.SweepResults:
    """Train a secret number of draws without a word on them, publish the best, and delete the others."""
    from fairsweep.sweeps.execution.winner import SecretRun

    if only is not None:
        raise SweepError("a sweep of which only the winner is published has no trials to run alone: resume it")
    secret, name = SecretRun(plan, output), plan.sweep.name

    def say(line: str) -> None:
        console.print(f"{name}: {line}", highlight=False, markup=False, soft_wrap=True)

    secret.check(address)
    check_resources(plan.trials, machines())
    output.check(
        name=name,
        content=plan.content,
        former=plan.former_content,
        trials=(),
        needed_bytes=secret.price.needed_bytes(plan),
    )
    with output.held():
        if secret.is_over:
            say("the winner is published; nothing to run")
            secret.purge()
            return analysis.load(output.path)
        describe(plan, output, text, 1)
        draws, hidden, source = secret.begin()
        say(f"draws are trained in secret, into {shown(output.path)}; nothing is shown before the winner is published")
        if not source.is_done():
            _run_source(draws, hidden, source, None, None, lambda _: None, output, secret.note_folder)
        say(secret.publish(draws, hidden))
    return analysis.load(output.path)


def _trials_of(
    plan: SweepPlan, output: OutputFolder, only: Collection[str] | None, say: Callable[[str], None]
) -> TrialSource:
    if not plan.sweep.search.is_guided:
        return ListedTrials(plan, output, only)
    from fairsweep.sweeps.execution.guided_trials import GuidedTrials

    if only is not None:
        raise SweepError(
            "a guided search has already counted its failed trials as failures, so they cannot be retried alone: "
            "change search.seed to start a new search; finished trials are skipped"
        )
    return GuidedTrials(plan, output, say)


def _settle(plan: SweepPlan, source: TrialSource, available: list[Machine]) -> tuple[Feeding, int]:
    """Check that machines can run the trials of a source; returns how they get their images, and how many run at once.

    Raises:
        SweepError: with what is needed and what there is.
    """
    trials = source.samples
    count = None if source.members is not None else source.total
    check_resources(trials, available)
    feeding = settle_feed(plan.sweep, plan.datasets, trials, available)
    if not trials:
        return feeding, 1
    check_budget(plan, trials, available, count)
    return feeding, slots(trials, available, feeding.max_concurrent, count)


def _run_source(
    plan: SweepPlan,
    output: OutputFolder,
    source: TrialSource,
    address: str | None,
    console: Console | None,
    say: Callable[[str], None],
    home: OutputFolder | None = None,
    made: Callable[[Path], None] = lambda _: None,
) -> None:
    """Run the trials of a source to their end.

    ``home`` is the folder that the user resumes, if it is another one; ``made`` is told the folders of a private Ray.
    """
    sweep = plan.sweep
    again = f"resume with: {resume_command(sweep.remote or shown((home or output).path), address)}"
    with connected(address, again=again, made=made) as is_private:
        feeding, at_once = _settle(plan, source, machines())
        if not is_private:
            from fairsweep.sweeps.runtime.cluster import check_nodes

            check_nodes(sweep, output.path, plan.datasets)
        if feeding.note:
            say(feeding.note)
        queue = TrialQueue(plan, source, output, feeding.choice, at_once, say)
        try:
            with (
                _without_times(sweep, output),
                terminable(),
                run_callbacks(sweep, output.path, queue, console, say, nodes=not is_private) as callbacks,
            ):
                if queue.fetch():
                    run_trials(
                        queue.take,
                        queue.ended,
                        output=output.path,
                        retries=sweep.failures.retries,
                        max_concurrent=feeding.max_concurrent,
                        callbacks=callbacks,
                        scheduler=_scheduler_of(plan, output, queue),
                    )
        except KeyboardInterrupt as error:
            queue.close(interrupted=True)
            raise InterruptedSweepError(f"stopped; {again}") from error
        queue.close(interrupted=False)


@contextmanager
def _without_times(sweep: SweepSpec, output: OutputFolder) -> Iterator[None]:
    """In release mode leave none of Tune's own files, which hold the time of each result; nothing reads them again."""
    try:
        yield
    finally:
        if sweep.privacy.mode == "release":
            shutil.rmtree(output.path / TUNE_FOLDER, ignore_errors=True)


def _scheduler_of(plan: SweepPlan, output: OutputFolder, queue: TrialQueue) -> TrialScheduler | None:
    if plan.sweep.scheduler.kind == "none":
        return None
    from fairsweep.sweeps.search.scheduler import make_scheduler

    return make_scheduler(plan.sweep, plan.dataset, output.ledger, queue.queued.__getitem__)


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
    dataset = _reference(plan.dataset, sweep.dataset.path, sweep.privacy.mode) | {
        "label": sweep.dataset.label,
        "groups": list(sweep.dataset.groups),
        "shown": {
            attribute.name: dict(zip(attribute.values, attribute.display, strict=True))
            for attribute in plan.dataset.info.attributes
            if attribute.display is not None
        },
    }
    if sweep.privacy.mode == "research":  # values of attributes that are no groups may name people who are trained on
        dataset["values"] = {attribute.name: list(attribute.values) for attribute in plan.dataset.info.attributes}
    if plan.other is not None and sweep.evaluation.dataset is not None:
        dataset["evaluation"] = _reference(plan.other, sweep.evaluation.dataset, "research")
    output.describe(text, shown_from_here(sweep.model_dump(mode="json")), dataset, trials, members)
    if not output.has_examples:
        is_release = sweep.privacy.mode == "release"
        table = recorded_examples(plan.dataset, plan.other, with_source_paths=not is_release)
        if is_release:
            table = published_examples(table, plan.dataset, plan.trials[0].config, plan.other)
        if any((output.path / TRIALS).glob("*")):
            table = without(table, erased_ids(output.path, plan.dataset))
        write_examples(output.path / EXAMPLES, table)


def _reference(dataset: PreparedDataset, path: Path, mode: str) -> dict[str, Any]:
    return {"name": dataset.info.name, "path": str(path), "content_hash": dataset.recorded_hash(mode)}
