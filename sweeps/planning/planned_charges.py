"""What the trials of a sweep will cost, one by one, and the noise with which they cost a budget together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import dp_accounting

from fairsweep.analysis.accounting.epsilons import by_pld, by_rdp
from fairsweep.analysis.accounting.noise_calibration import least_noise
from fairsweep.analysis.accounting.release_prices import Charge, composed_epsilon, composed_events
from fairsweep.analysis.accounting.statement_charges import charge_of
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.trainables.privacy.plan import Outlook, PrivacyPlan
from fairsweep.trainables.privacy.privacy_numbers import check_delta

_PARTS = {"dataset", "imbalance", "learner", "seeds", "split"}
_COARSE = 0.05
_PRECISION = 1e4


def planned_charge(trial: PlannedTrial, outlook: Outlook) -> Charge:
    """Return what a trial will cost whoever it trains on."""
    config = trial.config.model_dump(mode="json", include=_PARTS)
    return charge_of(config, outlook.unit, outlook.event(), outlook.delta)


def check_delta_sweep(delta: float, plans: Iterable[PrivacyPlan]) -> None:
    """Refuse a delta of the whole sweep at which nothing is promised to the units of some trial.

    Raises:
        SweepError: with the reason.
    """
    for units, unit in {(plan.population, plan.unit) for plan in plans if plan.guarantees}:
        try:
            check_delta(delta, units, unit)
        except ValueError as error:
            raise SweepError(f"delta_sweep: {error}", ("privacy", "delta_sweep")) from error


def noise_of_budget(
    sweep: SweepSpec, known: Sequence[tuple[PlannedTrial, Outlook]], plans: Mapping[str, PrivacyPlan]
) -> float:
    """Return the noise multiplier that `epsilon_sweep` affords; refuse trials that have no fixed composition.

    Args:
        sweep: The sweep.
        known: Its trials of which a cost is known.
        plans: The privacy plans among them, by hash of the trial, with any noise.

    Raises:
        SweepError: with the reason.
    """
    place: Location = ("privacy", "epsilon_sweep")
    if sweep.search.is_guided:
        raise SweepError(
            f"epsilon_sweep needs all trials to be known beforehand, but {sweep.search.algorithm} chooses them by "
            "results: use grid, random or sobol, or give each learner its epsilon",
            place,
        )
    for trial, _ in known:
        if trial.trial not in plans:
            raise SweepError(
                f"epsilon_sweep sets the noise of dpsgd and dpfedavg, but {trial.config.learner.name} is private by "
                f"other means ({trial.config.learner.kind}): leave it, or epsilon_sweep, out",
                place,
            )
    planned = [(trial, plans[trial.trial]) for trial, _ in known]
    try:
        return shared_noise(planned, float(sweep.privacy.epsilon_sweep or 0), sweep.privacy.delta_sweep)
    except ValueError as error:
        raise SweepError(str(error), place) from error


def shared_noise(planned: Iterable[tuple[PlannedTrial, PrivacyPlan]], epsilon: float, delta: float | None) -> float:
    """Find one noise multiplier with which all private trials together cost no more than a budget.

    Trials of different units, or of pools that have none in common, each cost no more than the budget.

    Args:
        planned: Trials with their plans, whatever noise these have.
        epsilon: The budget, by PLD.
        delta: Of all together; None takes the smallest of the trials' own.

    Returns:
        The noise multiplier, rounded up, so that a resume on another machine finds the same.

    Raises:
        ValueError: If no trial is private, or no noise affords the budget.
    """
    pools: dict[tuple[str, str], list[tuple[Charge, PrivacyPlan]]] = {}
    for trial, plan in planned:
        if plan.guarantees:
            charge = planned_charge(trial, plan)
            pools.setdefault((charge.unit, charge.pool), []).append((charge, plan))
    if not pools:
        raise ValueError("epsilon_sweep needs a private learner whose noise it sets, but there is none: leave it out")

    def charges(noise_multiplier: float) -> list[tuple[list[Charge], float]]:
        events: dict[int, dp_accounting.DpEvent] = {}
        found = []
        for listed in pools.values():
            for _, plan in listed:  # trials of one setting share the object
                if id(plan) not in events:
                    changed = plan.model_copy(update={"noise_multiplier": noise_multiplier, "count_noise": None})
                    events[id(plan)] = changed.event()
            own = [replace(charge, event=events[id(plan)]) for charge, plan in listed]
            found.append((own, min(charge.delta for charge in own) if delta is None else delta))
        return found

    def cost(noise_multiplier: float) -> float:
        return max(composed_epsilon(listed, chosen).pld for listed, chosen in charges(noise_multiplier))

    def loose_cost(noise_multiplier: float) -> float:
        return max(_loose(listed, chosen) for listed, chosen in charges(noise_multiplier))

    count = sum(map(len, pools.values()))
    found = least_noise(loose_cost, cost, epsilon, f"{count} trials together")
    return math.ceil(found * _PRECISION) / _PRECISION


def _loose(charges: Sequence[Charge], delta: float) -> float:
    """Return an upper bound of what charges cost together: by RDP, or by coarse PLD where RDP has no theorem."""
    costs = []
    for event in composed_events(charges):
        rdp = by_rdp(event, delta)
        costs.append(by_pld(event, delta, _COARSE) if rdp is None else rdp)
    return max(costs)
