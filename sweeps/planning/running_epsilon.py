"""Epsilon by iteration while a trial runs, from the privacy plans that the driver stores beside the records.

A plan is public, and what has been spent follows from it and the number of steps alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsweep.analysis.records.file_names import PLANS
from fairsweep.analysis.records.files import RecordError, read_json, write_json

if TYPE_CHECKING:
    from fairsweep.trainables.privacy.plan import PrivacyPlan

Spending = Callable[[int], float | None]


def write_plans(output: Path, plans: Mapping[str, PrivacyPlan]) -> None:
    """Add the plans of trials to those of an output folder.

    Args:
        output: the folder.
        plans: by hash of the trial.
    """
    if not plans:
        return
    from fairsweep.analysis.accounting.events import describe

    content = _read(output)
    for trial, plan in plans.items():
        mark = hashlib.blake2b(plan.model_dump_json().encode(), digest_size=8).hexdigest()
        if mark not in content["plans"]:
            content["plans"][mark] = plan.model_dump(mode="json")
        if mark not in content.setdefault("charges", {}):
            event = describe(plan.event())
            content["charges"][mark] = {"unit": plan.unit, "delta": plan.delta, "events": [event]}
        content["trials"][trial] = mark
    write_json(output / PLANS, content)


def planned_trials(output: Path) -> frozenset[str]:
    """Hashes of the trials of an output folder that have a plan."""
    return frozenset(_read(output)["trials"])


def read_plans(output: Path) -> dict[str, PrivacyPlan]:
    """Return the plans of an output folder, by hash of the trial; empty where there are none."""
    content = _read(output)
    if not content["plans"]:
        return {}
    from fairsweep.trainables.privacy.plan import PrivacyPlan

    plans = {mark: PrivacyPlan.model_validate(plan) for mark, plan in content["plans"].items()}
    return {trial: plans[mark] for trial, mark in content["trials"].items()}


class EpsilonCurves:
    """What the private trials of an output folder have spent; plans are read when they are first needed.

    Args:
        output: the folder.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._stamp = -1
        self._plans: dict[str, PrivacyPlan] = {}
        self._spent: Any = None

    def of(self, trial: str, iterations: int) -> Spending:
        """Epsilon after an iteration of a trial, as an upper bound; None for a trial without a plan.

        Args:
            trial: its hash.
            iterations: how many it has in all.
        """
        self._reread()
        plan = self._plans.get(trial)
        if plan is None or not iterations:
            return lambda _: None
        steps = plan.steps
        return lambda iteration: self._spent.after(trial, math.ceil(steps * iteration / iterations))

    def _reread(self) -> None:
        path = self._output / PLANS
        stamp = path.stat().st_mtime_ns if path.exists() else -1
        if stamp == self._stamp:
            return
        from fairsweep.sweeps.planning.spent_privacy import SpentPrivacy

        self._stamp = stamp
        self._plans = read_plans(self._output)
        self._spent = SpentPrivacy(self._plans)


def _read(output: Path) -> dict[str, Any]:
    try:
        return read_json(output / PLANS)
    except (FileNotFoundError, RecordError):
        return {"plans": {}, "trials": {}}
