"""Warnings about missing and small groups: levels without minority examples, groups with few test examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fairsweep.sweeps.planning.objectives import aims_of
from fairsweep.trainables.learning.evaluation import EvaluationSet
from fairsweep.trainables.trial.trial_data import evaluation_sets, minority_of, training_plan

if TYPE_CHECKING:
    from fairsweep.sweeps.planning.preflight import SweepPlan

_MOST_LISTED = 5


def scarce_groups(plan: SweepPlan) -> Iterator[str]:
    """Say what a checked sweep cannot show, a line each."""
    yield from _levels_without_minority(plan)
    yield from _groups_without_tests(plan)
    yield from _small_groups_of_aims(plan)


def _levels_without_minority(plan: SweepPlan) -> Iterator[str]:
    empty: dict[str, str] = {}
    seen = set()
    for trial in plan.trials:
        imbalance = trial.config.imbalance
        key = imbalance and imbalance.model_dump_json()
        if imbalance is None or key in seen:
            continue
        seen.add(key)
        found = minority_of(plan.dataset, trial.config, training_plan(plan.dataset, trial.config))
        if found is not None and found["count"] == 0:
            attribute = plan.dataset.attribute(found["attribute"])
            names = [attribute.shown(attribute.values.index(value)) for value in found["values"]]
            fields = {"share", "minority_size", "keep"} & set(type(imbalance).model_fields)
            level = ", ".join(f"{name}={getattr(imbalance, name)}" for name in sorted(fields))
            empty[level] = _listed(names)
    for level, listed in list(empty.items())[:_MOST_LISTED]:
        yield f"at {level} no training example is {listed}: results on them show a model that never saw any"


def _groups_without_tests(plan: SweepPlan) -> Iterator[str]:
    dataset, test = plan.other or plan.dataset, _sets(plan)["test"]
    least = plan.sweep.analysis.min_group_size
    for name, codes in test.groups.items():
        attribute = dataset.attribute(name)
        counts = np.bincount(np.asarray(codes), minlength=len(attribute.values))
        missing = [attribute.shown(int(code)) for code in np.flatnonzero(counts == 0)]
        if missing:
            yield f"the test set has no example of {name} {_listed(missing)}: their rates cannot be estimated"
        small = [attribute.shown(int(code)) for code in np.flatnonzero((counts > 0) & (counts < least))]
        if small:
            yield (
                f"the test set has fewer than analysis.min_group_size={least} examples of {name} {_listed(small)}: "
                "tables list them, but no group is compared with them"
            )


def _small_groups_of_aims(plan: SweepPlan) -> Iterator[str]:
    """Say which aims rank groups that the report does not: trials know nothing of the analysis that follows."""
    groupings = dict.fromkeys(aim.measure.by for _, aim in aims_of(plan.sweep) if aim.measure.by)
    if not groupings:
        return
    validation, least = _sets(plan)["validation"], plan.sweep.analysis.min_group_size
    for names in groupings:
        columns = [np.asarray(validation.groups.get(name, validation.labels)) for name in names]
        codes, counts = np.unique(np.stack(columns, 1), axis=0, return_counts=True)
        shown = [
            " & ".join(plan.dataset.attribute(name).shown(int(code)) for name, code in zip(names, row, strict=True))
            for row in codes[counts < least]
        ]
        if shown:
            yield (
                f"objectives, constraints and rules by {' & '.join(names)} rank {_listed(shown)} too, with fewer than "
                f"analysis.min_group_size={least} validation examples: their worst group may be one by chance"
            )


def _sets(plan: SweepPlan) -> Mapping[str, EvaluationSet]:
    return evaluation_sets(plan.dataset, plan.trials[0].config, plan.other)


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
