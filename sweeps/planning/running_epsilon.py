"""Epsilon by iteration while a trial runs, from the privacy plans that the driver stores beside the records.

A plan is public, and what has been spent follows from it and the number of steps alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsweep.analysis.records.file_names import MORE_PLANS, PLANS
from fairsweep.analysis.records.files import (
    RecordError,
    SweepLocation,
    append_line,
    check_record,
    read_json,
    write_json,
)
from fairsweep.analysis.records.learner_records import RecordedPlans

if TYPE_CHECKING:
    from fairsweep.sweeps.planning.spent_privacy import SpentPrivacy
    from fairsweep.trainables.privacy.plan import PrivacyPlan

Spending = Callable[[int], float | None]


def write_plans(output: Path, plans: Mapping[str, PrivacyPlan]) -> None:
    """Add the plans of trials to those of an output folder.

    A search brings them a few at a time. They are added as lines, and taken into one file once those are as long as it
    is: all of it together takes a few times what is written in the end.

    Args:
        output: the folder.
        plans: by hash of the trial.
    """
    if not plans:
        return
    first, further = output / PLANS, output / MORE_PLANS
    known = _known_marks(output, _stamp(first))
    new = _described(plans, known or frozenset())
    if known is not None and _stamp(further)[1] < _stamp(first)[1]:
        append_line(further, new)
        return
    recorded = RecordedPlans(SweepLocation.of(output)).look()
    write_json(first, {name: recorded[name] | content for name, content in new.items()})
    further.unlink(missing_ok=True)


def _described(plans: Mapping[str, PrivacyPlan], known: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return plans as `RecordedPlans` has them; those under known marks are left out."""
    from fairsweep.analysis.accounting.events import describe

    new: dict[str, dict[str, Any]] = {"plans": {}, "trials": {}, "charges": {}}
    for trial, plan in plans.items():
        mark = hashlib.blake2b(plan.model_dump_json().encode(), digest_size=8).hexdigest()
        if mark not in known and mark not in new["plans"]:
            new["plans"][mark] = plan.model_dump(mode="json")
            new["charges"][mark] = {"unit": plan.unit, "delta": plan.delta, "events": [describe(plan.event())]}
        new["trials"][trial] = mark
    return new


@lru_cache(maxsize=4)
def _known_marks(output: Path, _: tuple[int, int]) -> frozenset[str] | None:
    """Return the marks in ``plans.json`` with a certain stamp; None where it is to be written anew."""
    try:
        content = read_json(output / PLANS)
        with suppress(FileNotFoundError):
            check_record(output / MORE_PLANS)
    except (FileNotFoundError, RecordError):
        return None
    return frozenset(content.get("plans", {})) & frozenset(content.get("charges", {}))


def _stamp(path: Path) -> tuple[int, int]:
    """Return when a file was written, and its size; zeros where there is none."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    return 0, 0


def read_plans(output: Path) -> dict[str, PrivacyPlan]:
    """Return the plans of an output folder, by hash of the trial; empty where there are none."""
    curves = EpsilonCurves(output)
    found = {trial: curves.plan(trial) for trial in RecordedPlans(SweepLocation.of(output)).look()["trials"]}
    return {trial: plan for trial, plan in found.items() if plan is not None}


class EpsilonCurves:
    """What the private trials of an output folder have spent; a plan is read when it is first needed, and once.

    Args:
        output: the folder.
    """

    def __init__(self, output: Path) -> None:
        self._recorded = RecordedPlans(SweepLocation.of(output))
        self._plans: dict[str, PrivacyPlan] = {}
        self._spent: SpentPrivacy | None = None

    def is_planned(self, trial: str) -> bool:
        """Whether a trial has a plan."""
        return trial in self._recorded.look()["trials"]

    def plan(self, trial: str) -> PrivacyPlan | None:
        """Return the plan of a trial; None if it has none."""
        content = self._recorded.look()
        mark = content["trials"].get(trial, "")
        if mark not in self._plans and mark in content["plans"]:
            from fairsweep.trainables.privacy.plan import PrivacyPlan

            self._plans[mark] = PrivacyPlan.model_validate(content["plans"][mark])
        return self._plans.get(mark)

    def after(self, trial: str, steps: float | None) -> float | None:
        """Epsilon after so many steps, as an upper bound; None for a trial without a plan."""
        plan = self.plan(trial)
        return None if plan is None else self._after(trial, plan, steps)

    def of(self, trial: str, iterations: int) -> Spending:
        """Epsilon after an iteration of a trial, as an upper bound; None for a trial without a plan.

        Args:
            trial: its hash.
            iterations: how many it has in all.
        """
        plan = self.plan(trial)
        if plan is None or not iterations:
            return lambda _: None
        steps = plan.steps
        return lambda iteration: self._after(trial, plan, math.ceil(steps * iteration / iterations))

    def _after(self, trial: str, plan: PrivacyPlan, steps: float | None) -> float | None:
        from fairsweep.sweeps.planning.spent_privacy import SpentPrivacy

        self._spent = self._spent or SpentPrivacy({})
        self._spent.add({trial: plan})
        return self._spent.after(trial, steps)
