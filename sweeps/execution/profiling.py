"""Cost estimates of a sweep, from a few measured steps of each learner and model on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import pyarrow as pa
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairsweep.datasets.feeds.feed_choice import decoded_bytes
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.feed_choice import Feeding, settle_feed
from fairsweep.sweeps.planning.machines import check_resources, inner_workers, machines, slots
from fairsweep.sweeps.planning.preflight import SweepPlan, check_sweep, privacy_plans
from fairsweep.sweeps.runtime.launch import connected
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.initial_weights import with_initial
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.views.number_format import duration
from fairsweep.trainables.adapter import use_threads
from fairsweep.trainables.learning.gpu_memory import PeakMemory, part_text
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.trial.profiling import TrialCost, measure_warm

LIMIT_SECONDS = 5.0


@dataclass(frozen=True)
class MeasuredLearner:
    """One learner with one model, and what a trial of it costs.

    Attributes:
        learner: name of the learner.
        model: name of the model.
        trials: how many of its trials are still to run.
        trial_seconds: estimated time of one, the mean over its training set sizes.
        cost: what was measured, on the trial with the largest training set.
        memory: how much of a GPU it took; nothing where it ran on the CPU.
    """

    learner: str
    model: str
    trials: int
    trial_seconds: float
    cost: TrialCost
    memory: PeakMemory


@dataclass(frozen=True)
class MeasuredSweep:
    """Estimates for what is missing of a sweep.

    Attributes:
        learners: by learner and model.
        slots: how many trials run at once.
        hours: wall-clock time of the sweep, without Ray's own start.
        checkpoint_bytes: of checkpoints at once on the disk while the sweep runs.
        weights_bytes: of models that stay.
        record_bytes: of records.
        cache_bytes: of the decoded copy of the dataset in the cache of each machine; 0 with a stream.
    """

    learners: tuple[MeasuredLearner, ...]
    slots: int
    hours: float
    checkpoint_bytes: int
    weights_bytes: int
    record_bytes: int
    cache_bytes: int


def measure_sweep(sweep: SweepSpec, *, limit_seconds: float = LIMIT_SECONDS) -> MeasuredSweep:
    """Time a few steps, one evaluation and one checkpoint of each learner with each model, in a temporary folder.

    A dataset's decoded copy is built in the cache if it is not there yet: the sweep will need it.

    Args:
        sweep: the sweep.
        limit_seconds: about how long to time steps of each learner with each model.

    Raises:
        SweepError: if the sweep cannot run as asked.
    """
    plan = check_sweep(with_initial(sweep))
    output = OutputFolder.at(sweep.folder)
    missing, available = output.ledger.missing(plan.trials), machines()
    check_resources(plan.trials, available)
    feeding = settle_feed(sweep, plan.datasets, plan.trials, available)
    privacy = privacy_plans(plan, missing)
    groups: dict[tuple[str, str], list[PlannedTrial]] = {}
    for trial in missing:
        groups.setdefault((trial.config.learner.name, trial.config.model.name), []).append(trial)
    with connected(None) if feeding.choice.kind == "stream" else nullcontext():
        lines = tuple(
            _measure(plan, names, trials, privacy, feeding, limit_seconds) for names, trials in groups.items()
        )
    at_once = slots(missing, available, feeding.max_concurrent) if missing else 0
    largest = max((line.cost.checkpoint_bytes for line in lines), default=0)
    kept = sweep.checkpoints.keep_final_weights
    return MeasuredSweep(
        learners=lines,
        slots=at_once,
        hours=_wall_seconds(lines, at_once) / 3600,
        # One more than is kept is on the disk while the older one is not yet deleted.
        checkpoint_bytes=largest * (sweep.checkpoints.keep + 1) * at_once,
        weights_bytes=sum(line.cost.weights_bytes * line.trials for line in lines) if kept else 0,
        record_bytes=sum(line.cost.record_bytes * line.trials for line in lines),
        cache_bytes=sum(map(decoded_bytes, plan.datasets)) if feeding.choice.kind == "resident" else 0,
    )


def print_measured(measured: MeasuredSweep, console: Console) -> None:
    """Print estimates as a table and a line.

    Args:
        measured: what `measure_sweep` found.
        console: where to.
    """
    columns = ("learner", "model", "trials", "a trial", "an iteration", "an evaluation", "a checkpoint")
    table = Table(*columns, box=None, header_style="bold")
    for line in measured.learners:
        cost = line.cost
        table.add_row(
            escape(line.learner),
            escape(line.model),
            str(line.trials),
            f"{line.trial_seconds:,.1f} s",
            f"{cost.iteration_seconds:.3g} s",
            f"{cost.evaluation_seconds:.3g} s",
            f"{cost.checkpoint_bytes / 1e6:,.2f} MB, {cost.checkpoint_seconds:.2g} s",
        )
    console.print(table)
    for line in measured.learners:
        if line.memory.part is not None:
            console.print(
                f"{escape(line.learner)}, {escape(line.model)}: at most {line.memory.needed_bytes / 1e9:,.2f} of "
                f"{line.memory.total_bytes / 1e9:,.1f} GB of the GPU: {part_text(line.memory.part)} is enough, "
                f"gpu: {line.memory.part:g}",
                soft_wrap=True,
                highlight=False,
            )
    sizes = (
        ("checkpoints", measured.checkpoint_bytes),
        ("models", measured.weights_bytes),
        ("records", measured.record_bytes),
        ("cache", measured.cache_bytes),
    )
    shown = ", ".join(f"{size / 1e9:,.3f} GB of {name}" for name, size in sizes)
    console.print(
        f"Measured here: {_time_needed(measured.hours)} with {measured.slots} trials at once; {shown}.",
        soft_wrap=True,
        highlight=False,
    )


def _time_needed(hours: float) -> str:
    return "less than a minute" if hours < 1 / 60 else f"about {duration(3600 * hours)}"


def _measure(
    plan: SweepPlan,
    names: tuple[str, str],
    trials: list[PlannedTrial],
    privacy: dict[str, PrivacyPlan],
    feeding: Feeding,
    limit_seconds: float,
) -> MeasuredLearner:
    """Measure the trial with the largest training set; the others cost in proportion to theirs."""
    trial = max(trials, key=lambda one: plan.sizes[one.trial])
    device = "cuda" if trial.resources.gpu > 0 and torch.cuda.is_available() else "cpu"
    with _threads(trial.resources.cpu):
        cost, memory = measure_warm(
            trial.config,
            feed=feeding.choice,
            plan=privacy.get(trial.trial),
            device=device,
            limit_seconds=limit_seconds,
        )
    checkpoints = plan.sweep.checkpoints
    whole = cost.seconds(checkpoints.every, checkpoints.seconds)
    learning = cost.iterations * cost.iteration_seconds
    mean = sum(plan.sizes[one.trial] for one in trials) / len(trials) / plan.sizes[trial.trial]
    workers = max(1, inner_workers(trial, machines()).count)
    return MeasuredLearner(*names, len(trials), whole - learning + learning * mean / workers, cost, memory)


def _wall_seconds(lines: tuple[MeasuredLearner, ...], at_once: int) -> float:
    """No sooner than all slots together need, nor than the longest trial."""
    work = sum(line.trial_seconds * line.trials for line in lines)
    return max([work / max(1, at_once), *(line.trial_seconds for line in lines)])


@contextmanager
def _threads(cpus: float) -> Iterator[None]:
    """As many threads as a trial has, for the time of a context."""
    torch_threads, arrow_threads = torch.get_num_threads(), pa.cpu_count()
    use_threads(cpus)
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        pa.set_cpu_count(arrow_threads)
