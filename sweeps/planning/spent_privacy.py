"""The epsilon spent by private trials so far, for display."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fairsweep.analysis.accounting.epsilons import pld_accountant
from fairsweep.trainables.privacy.plan import PrivacyPlan

# Epsilon is computed at so many points of a training, and shown rounded up to the next one.
_EPSILON_POINTS = 16
_COARSE_INTERVAL = 1e-3


class SpentPrivacy:
    """What private trials have spent after so many steps, quickly: an upper bound for display, not the record.

    Args:
        plans: privacy plans by trial.
    """

    def __init__(self, plans: Mapping[str, PrivacyPlan]) -> None:
        self._plans = dict(plans)
        # Trials of one setting share the object.
        self._texts: dict[int, str] = {}
        self._known: dict[tuple[str, int], float] = {}

    def add(self, plans: Mapping[str, PrivacyPlan]) -> None:
        """Take up the plans of more trials."""
        self._plans.update(plans)

    def after(self, trial: str, steps: float | None) -> float | None:
        """Epsilon after ``steps`` steps, rounded up to the next of a few points; None for a trial without a plan."""
        plan = self._plans.get(trial)
        if plan is None or steps is None:
            return None
        if not plan.guarantees or steps <= 0:
            return math.inf if steps > 0 else 0.0
        point = math.ceil(steps / plan.steps * _EPSILON_POINTS)
        taken = min(plan.steps, math.ceil(plan.steps * point / _EPSILON_POINTS))
        key = (self._text(plan), taken)
        if key not in self._known:
            self._known[key] = _upper_bound(plan, taken)
        return self._known[key]

    def _text(self, plan: PrivacyPlan) -> str:
        if id(plan) not in self._texts:
            self._texts[id(plan)] = plan.model_dump_json()
        return self._texts[id(plan)]


def _upper_bound(plan: PrivacyPlan, steps: int) -> float:
    """Epsilon by PLD with a coarse discretisation, which rounds up."""
    # A weak plan's epsilon is large: a finer grid than a thousandth of it would take minutes.
    interval = _COARSE_INTERVAL * max(1.0, 1.0 / plan.trained_noise_multiplier**2)
    return float(pld_accountant(plan.event(steps), interval).get_epsilon(plan.delta))
