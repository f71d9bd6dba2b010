"""The result of a guided search: the best settings, or the Pareto front of several objectives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from fairsweep.analysis.report.summary_table import SummaryTable
from fairsweep.sweeps.search.pareto import nondominated_ranks
from fairsweep.sweeps.search.search_budget import study_names
from fairsweep.sweeps.search.storage import open_storage
from fairsweep.sweeps.search.study import REFUSED, SETTING
from fairsweep.sweeps.spec.search_section import GUIDED
from fairsweep.sweeps.spec.search_space import LEARNER, GridCell, Parameter, SearchSpace
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.store.trusted_addresses import STORAGE, named_addresses
from fairsweep.trainables.learning.objectives import Objective

_MOST_ROWS = 12


def search_fronts(folder: Path, collapsed: Set[str] = frozenset()) -> Iterator[SummaryTable]:
    """Return a table for each condition of the search that an output folder holds; none for other sweeps.

    Args:
        folder: the output folder.
        collapsed: settings of which a run predicts one class for the whole validation split. They are best in nothing
            as long as there are others.

    Returns:
        Of the settings that are best by the objectives; the numbers behind a table have a column ``setting``.

    Raises:
        SweepError: if the storage cannot be opened.
    """
    try:
        for found in _kept_studies(folder):
            yield _table(*found, collapsed)
    except _ForeignStorageError as error:
        caption = f"Not read from {error}: no sweep that you have run here names it."
        yield SummaryTable("Best settings", caption, (), (), (), pd.DataFrame({"setting": []}))


def mark_infeasible(tables: Iterable[SummaryTable], folder: Path) -> tuple[SummaryTable, ...]:
    """Mark in the tables of a search the settings that miss its constraints, as the search was told.

    Args:
        tables: of the results in the folder.
        folder: the output folder.

    Returns:
        The same tables, a star behind the learner of each such setting, and a caption that says so.

    Raises:
        SweepError: if the storage cannot be opened.
    """
    missed: set[str] = set()
    constraints = ""
    with suppress(_ForeignStorageError):
        for sweep, _, _, study in _kept_studies(folder):
            constraints = ", ".join(map(str, sweep.search.constraints))
            for trial in study.get_trials(deepcopy=False):
                if any(excess > 0 for excess in trial.constraints.values()):
                    missed.add(str(trial.user_attrs.get(SETTING)))
    return tuple(_marked(table, missed, constraints) for table in tables)


def _marked(table: SummaryTable, missed: Set[str], constraints: str) -> SummaryTable:
    settings = table.numbers["setting"].drop_duplicates().tolist()
    if not missed & set(settings):
        return table
    rows = tuple(
        (f"{first} *", *rest) if setting in missed else (first, *rest)
        for setting, (first, *rest) in zip(settings, table.rows, strict=True)
    )
    caption = f"{table.caption} * misses a constraint of the search on the validation split: {constraints}."
    return replace(table, rows=rows, caption=caption)


class _ForeignStorageError(Exception):
    """The storage of a search is a place that the user has not named."""


def _kept_studies(folder: Path) -> Iterator[tuple[SweepSpec, SearchSpace, GridCell, optuna.Study]]:
    """Return the studies of the search that an output folder holds; none for other sweeps."""
    description = OutputFolder.at(folder).description()
    search = (description or {}).get("sweep", {}).get("search", {})
    if description is None or search.get("algorithm") not in GUIDED:
        return  # and nothing more is read: the sweep may be one that a former version wrote
    # Trackers play no part here, and need not be installed.
    sweep = SweepSpec.from_mapping({key: value for key, value in description["sweep"].items() if key != "tracking"})
    dataset = description["dataset"]
    other = (dataset.get("evaluation") or {}).get("content_hash")
    content = [dataset["content_hash"], *([other] if other else [])]
    foreign = [place for place in named_addresses(sweep) if place.role == STORAGE and not place.is_known]
    if foreign:
        raise _ForeignStorageError(str(foreign[0]))
    space = SearchSpace(sweep)
    storage = open_storage(sweep.search.storage, folder)
    known = set(optuna.get_all_study_names(storage))
    for name, condition in zip(study_names(sweep, content, space), space.conditions, strict=True):
        if name in known:
            yield sweep, space, condition, optuna.load_study(study_name=name, storage=storage)


def _table(
    sweep: SweepSpec, space: SearchSpace, condition: GridCell, study: optuna.Study, collapsed: Set[str]
) -> SummaryTable:
    objectives = sweep.search.objectives
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.values is not None]
    feasible = [trial for trial in complete if all(excess <= 0 for excess in trial.constraints.values())]
    settings = _distinct(feasible)
    sound = [trial for trial in settings if trial.user_attrs.get(SETTING) not in collapsed]
    best = _not_dominated(objectives, sound or settings)
    shown, mark = best[:_MOST_ROWS], "" if sound else " (collapsed)"
    what = "Pareto front" if len(objectives) > 1 else "Best setting"
    constraints = f", {len(feasible)} of them within {', '.join(map(str, sweep.search.constraints))}"
    more = f" The first {_MOST_ROWS} of {len(best)} are shown." if len(best) > _MOST_ROWS else ""
    return SummaryTable(
        title=f"{what}{f', {condition.label}' if condition.label else ''}",
        caption=f"On the validation split, means over replicates; of {len(complete)} settings"
        f"{constraints if sweep.search.constraints else ''}{_left_out(trials)}{_fallen(len(settings), len(sound))}. "
        "What was chosen by looking at it looks better than it is: "
        f"compare settings on the test split.{more}",
        header=("setting", "learner and values", *map(str, objectives)),
        rows=tuple(
            (f"{one.number}", f"{_described(space, condition, one.params)}{mark}", *(f"{v:.4g}" for v in one.values))
            for one in shown
        ),
        sort_values=tuple((float(one.number), float("nan"), *one.values) for one in shown),
        numbers=pd.DataFrame({"setting": [str(one.user_attrs.get(SETTING)) for one in shown]}),
    )


def _not_dominated(objectives: Sequence[Objective], trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that no other dominates, the best by the first objective first; of equal ones all."""
    if not trials:
        return []
    signed = np.array([[o.sign * v for o, v in zip(objectives, one.values, strict=True)] for one in trials])
    front = np.flatnonzero(nondominated_ranks(signed) == 0).tolist()
    return [trials[place] for place in sorted(front, key=lambda place: (-signed[place]).tolist())]


def _fallen(settings: int, sound: int) -> str:
    """Return how many settings have collapsed, and whether they take part."""
    if settings == sound:
        return ""
    left = " and left out" if sound else ", so that none is left out"
    return f", {settings - sound} collapsed (a run predicts one class for the whole validation split){left}"


def _distinct(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Each setting once, though it was proposed several times."""
    found: dict[str, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        found.setdefault(str(trial.user_attrs.get(SETTING, trial.number)), trial)
    return list(found.values())


def _left_out(trials: list[FrozenTrial]) -> str:
    """How many proposals have no result, and how many repeat another one."""
    refused = sum(bool(trial.user_attrs.get(REFUSED)) for trial in trials)
    failed = sum(trial.state == TrialState.FAIL for trial in trials) - refused
    known = [trial for trial in trials if trial.values is not None]
    repeated = len(known) - len(_distinct(known))
    counts = ((refused, "refused"), (failed, "failed"), (repeated, "proposed before"))
    return "".join(f", {count} {word}" for count, word in counts if count)


def _described(space: SearchSpace, condition: GridCell, params: dict[str, Any]) -> str:
    learner = params.get(LEARNER, space.competitors[0].name)
    values = [
        f"{parameter.name.split('.')[-1]} {_shown(_value(parameter, params))}"
        for parameter in space.needed(learner)
        if parameter.name in params and space.exists(parameter, condition, params)
    ]
    return ", ".join([learner, *values])


def _value(parameter: Parameter, params: dict[str, Any]) -> Any:  # noqa: ANN401 - a number or a word
    suggested = params[parameter.name]
    return suggested if parameter.dimension.kind == "choice" else parameter.value(suggested)


def _shown(value: Any) -> str:  # noqa: ANN401 - a number or a word
    return f"{value:.4g}" if isinstance(value, float) else str(value)
