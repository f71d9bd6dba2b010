"""Schedulers: Tune's rules for one objective, our own for several.

A scheduler of Tune's stops a trial by taking its actor away, which would leave its records half written. Here it only
judges: the verdict goes into the trial's state file before the next iteration begins, and the worker ends the trial
itself, with all of its records. A driver that is killed in between finds the verdict there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow.compute as pc
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.file_names import CELLS
from fairsweep.analysis.records.files import RecordError
from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.planning.objectives import meaning_of
from fairsweep.sweeps.search.outcomes import recorded_predictions
from fairsweep.sweeps.search.pareto import ParetoHalving
from fairsweep.sweeps.spec.scheduler_section import SchedulerSection
from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.sweeps.store.ledger import Entry, Ledger
from fairsweep.trainables.learning.measures import Meaning, Standing
from fairsweep.trainables.learning.objectives import Objective

if TYPE_CHECKING:
    from fairsweep.sweeps.spec.sweep_spec import SweepSpec

_VALUE, _TIME = "value", "iteration"
# Further rungs than any training has iterations.
_FAR = 10**9


class Judge(Protocol):
    """Decides which trials end early."""

    def ends(self, trial: str, iteration: int, values: Sequence[float]) -> bool:
        """Take in what a trial has reached, more being better; returns whether it shall end here."""
        ...


class TuneJudge:
    """Tune's schedulers as a judge; they see neither Tune's trials nor its controller.

    Args:
        scheduler_of: gives by a trial's hash the scheduler that judges it, made for the metric ``value``, to be
            maximised, by the time ``iteration``.
        is_final: whether what it lets end is not judged again: Tune's median rule takes no further results of it.
    """

    def __init__(self, scheduler_of: Callable[[str], TrialScheduler], *, is_final: bool = False) -> None:
        self._scheduler_of = scheduler_of
        self._controller = SimpleNamespace(get_live_trials=list)
        self._known: set[str] = set()
        self._is_final, self._over = is_final, set[str]()

    def ends(self, trial: str, iteration: int, values: Sequence[float]) -> bool:
        """See `Judge.ends`."""
        if trial in self._over:
            return True
        scheduler = self._scheduler_of(trial)
        if trial not in self._known:
            self._known.add(trial)
            with _global_generator_kept():
                scheduler.on_trial_add(self._controller, _Key(trial))  # type: ignore[arg-type]
        result = {_TIME: iteration, _VALUE: values[0]}
        decision = scheduler.on_trial_result(self._controller, _Key(trial), result)  # type: ignore[arg-type]
        if decision == TrialScheduler.STOP and self._is_final:
            self._over.add(trial)
        return bool(decision == TrialScheduler.STOP)


@contextmanager
def _global_generator_kept() -> Iterator[None]:
    """Tune draws the bracket of each trial from NumPy's global generator, also where there is one."""
    before = np.random.get_state()  # noqa: NPY002 - whoever else draws from it shall not notice
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


class _Key(str):
    """A trial's hash that has what Tune's rules ask of a trial."""

    @property
    def trial_id(self) -> str:
        """The hash."""
        return str(self)


def make_judge(section: SchedulerSection, key: int) -> Judge | None:
    """Return the judge of a section; None for no scheduler.

    Args:
        section: the section ``scheduler``.
        key: of the sweep's search; hyperband's brackets follow from it and a trial's hash.
    """
    if section.kind == "none":
        return None
    if section.kind == "pareto-asha":
        return ParetoHalving(section.grace_period, section.reduction)
    if section.kind == "median":
        rule = MedianStoppingRule(
            time_attr=_TIME,
            metric=_VALUE,
            mode="max",
            grace_period=section.grace_period,
            min_samples_required=section.min_trials,
        )
        return TuneJudge(lambda _: rule, is_final=True)
    brackets = section.brackets if section.kind == "hyperband" else 1
    # As Tune weighs them: each bracket e times as likely as the one that begins after it.
    weights = np.exp(-np.arange(brackets))
    shares = np.cumsum(weights / weights.sum())

    @cache
    def halving(bracket: int) -> TrialScheduler:
        # Tune's own brackets come from its global generator, and no argument names one: a scheduler for each.
        first = section.grace_period * section.reduction**bracket
        return AsyncHyperBandScheduler(
            time_attr=_TIME,
            metric=_VALUE,
            mode="max",
            # Whole or not, it only compares them with iterations.
            max_t=max(_FAR, first),  # type: ignore[arg-type]
            grace_period=first,  # type: ignore[arg-type]
            reduction_factor=section.reduction,
        )

    def halving_of(trial: str) -> TrialScheduler:
        draw = generator(seed_key(key, "search"), f"hyperband {trial}").random()
        return halving(min(int(np.searchsorted(shares, draw, side="right")), brackets - 1))

    return TuneJudge(halving_of)


class Verdicts(DriverOnly, FIFOScheduler):
    """Tune's side: shows every result to a judge and passes its verdicts on; to Tune, every trial goes on.

    Args:
        judge: decides.
        objectives: settled ones, whose measures the results carry.
        pass_on: takes hash, iteration and reason of a trial that shall end.
    """

    def __init__(self, judge: Judge, objectives: Sequence[Objective], pass_on: Callable[[str, int, str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._judge = judge
        self._objectives = objectives
        self._pass_on = pass_on

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ANN401
        """Look at what a trial has reported."""
        self._see(trial.config["trial"], result)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:  # noqa: ANN401
        """Note that a trial has ended: others are compared with it."""
        self._see(trial.config["trial"], result)

    def _see(self, trial: str, result: dict[str, Any]) -> None:
        values = [result.get(str(objective.measure)) for objective in self._objectives]
        known = [float(value) for value in values if value is not None]
        if len(known) < len(values) or result.get("failed"):
            return
        signed = [objective.sign * value for objective, value in zip(self._objectives, known, strict=True)]
        iteration = int(result["iteration"])
        if self._judge.ends(trial, iteration, signed) and not result.get("done"):
            self._pass_on(trial, iteration, f"others did better by {', '.join(map(str, self._objectives))}")


def make_scheduler(
    sweep: SweepSpec, dataset: PreparedDataset, ledger: Ledger, entry_of: Callable[[str], Entry]
) -> Verdicts | None:
    """Return the scheduler of a run, told of all that earlier runs have recorded; None for no scheduler.

    Args:
        sweep: the sweep.
        dataset: its dataset, opened.
        ledger: the trials on disk.
        entry_of: gives the entry of a trial of this run.
    """
    judge = make_judge(sweep.scheduler, sweep.search.seed)
    if judge is None:
        return None
    meaning = meaning_of(sweep, dataset)
    objectives = [objective.settled(meaning) for objective in sweep.scheduler.objectives]
    for entry in ledger.entries().values():
        for iteration, values in recorded_course(entry.folder, objectives, meaning):
            judge.ends(entry.state.trial, iteration, values)

    def pass_on(trial: str, iteration: int, reason: str) -> None:
        entry_of(trial).mark(
            {"stop_at": iteration, "reason": reason}, when=lambda state: state.state in ("queued", "running")
        )

    return Verdicts(judge, objectives, pass_on)


def recorded_course(folder: Path, objectives: Sequence[Objective], meaning: Meaning) -> list[tuple[int, list[float]]]:
    """Return what a trial has reached at each iteration on disk, more being better; undefined ones are left out."""
    try:
        table = read_cells(folder / CELLS).table
    except (FileNotFoundError, RecordError):
        return []
    table = table.filter(pc.equal(table.column("split"), "validation"))
    iterations = sorted(set(table.column("iteration").to_pylist()))
    predictions = None
    if not all(objective.measure.of_cells for objective in objectives):
        # Of each trial the last predictions are kept.
        iterations = iterations[-1:]
        with suppress(FileNotFoundError, RecordError):
            predictions = recorded_predictions(folder, meaning)
    course = []
    for iteration in iterations:
        standing = Standing(table.filter(pc.equal(table.column("iteration"), iteration)), predictions=predictions)
        values = [objective.sign * objective.measure.of(standing, meaning) for objective in objectives]
        if not any(map(math.isnan, values)):
            course.append((iteration, values))
    return course
