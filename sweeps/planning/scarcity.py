"""Warnings about missing groups: levels without minority examples, groups without test examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fairsweep.trainables.trial.trial_data import evaluation_sets, minority_of, training_plan

if TYPE_CHECKING:
    from fairsweep.sweeps.planning.preflight import SweepPlan

_MOST_LISTED = 5


def scarce_groups(plan: SweepPlan) -> Iterator[str]:
    """Say what a checked sweep cannot show, a line each."""
    yield from _levels_without_minority(plan)
    yield from _groups_without_tests(plan)


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
    trial, dataset = plan.trials[0], plan.other or plan.dataset
    test = evaluation_sets(plan.dataset, trial.config, plan.other)["test"]
    for name, codes in test.groups.items():
        attribute = dataset.attribute(name)
        counts = np.bincount(np.asarray(codes), minlength=len(attribute.values))
        missing = [attribute.shown(int(code)) for code in np.flatnonzero(counts == 0)]
        if missing:
            yield f"the test set has no example of {name} {_listed(missing)}: their rates cannot be estimated"


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
