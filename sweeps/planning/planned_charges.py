"""What the trials of a sweep will cost, one by one, as far as it is known before they run."""

from __future__ import annotations

from collections.abc import Iterator

from fairsweep.analysis.accounting.release_prices import Charge
from fairsweep.analysis.accounting.statement_charges import fold_of, pool_of
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.preflight import SweepPlan, privacy_plans
from fairsweep.trainables.privacy.plan import Outlook

_PARTS = {"dataset", "imbalance", "learner", "seeds", "split"}


def outlooks(plan: SweepPlan) -> Iterator[tuple[PlannedTrial, Outlook]]:
    """Yield each trial of which a cost is known, with its privacy plan or what is known instead."""
    plans = privacy_plans(plan, plan.trials)
    for trial in plan.trials:
        outlook = plans.get(trial.trial) or trial.config.learner.outlook(plan.units[trial.trial])
        if outlook is not None:
            yield trial, outlook


def planned_charges(plan: SweepPlan) -> tuple[Charge, ...]:
    """Return what each trial with a guarantee will cost whoever it trains on."""
    charges = []
    for trial, outlook in outlooks(plan):
        event = outlook.own_event()
        config = trial.config.model_dump(mode="json", include=_PARTS)
        charges.append(Charge(outlook.unit, pool_of(config, outlook.unit), event, outlook.delta, fold_of(config)))
    return tuple(charges)
