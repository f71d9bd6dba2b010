"""What publishing the winner of a secret number of draws costs, known before any is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from fairsweep.analysis.accounting.epsilons import Epsilon, epsilon_of
from fairsweep.analysis.accounting.release_prices import Charge
from fairsweep.analysis.accounting.winner import winner_epsilon, winner_event
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.planned_charges import planned_charge
from fairsweep.sweeps.planning.preflight import SweepPlan, privacy_plans
from fairsweep.sweeps.spec.search_section import DrawsSection
from fairsweep.sweeps.syntax.errors import SweepError


@dataclass(frozen=True)
class WinnerPrice:
    """The price of the winner.

    Attributes:
        draws: How many draws there are.
        alone: What one draw costs; the same for all.
    """

    draws: DrawsSection
    alone: Charge

    @classmethod
    def of(cls, plan: SweepPlan) -> WinnerPrice:
        """Return the price of a checked sweep with ``release: winner``.

        Raises:
            SweepError: if not all draws cost the same, or there is no theorem for the best of them.
        """
        draws = plan.sweep.search.draws
        charges = _charges(plan, plan.trials)
        if draws is None or None in charges:
            raise SweepError(
                "release: winner needs a learner whose privacy follows from one plan (dpsgd, dpfedavg), but got "
                f"{plan.trials[0].config.learner.kind}",
                ("learners", 0),
            )
        if len(set(charges)) > 1:
            raise SweepError(
                "every draw of release: winner must cost the same, but some add less noise, take more steps or have "
                "another sampling rate than others: give epsilon, noise_multiplier, delta, epochs, batch_size and the "
                "like one value each, and draw other fields",
                ("learners", 0),
            )
        alone = charges[0]
        if alone is None or winner_epsilon(alone.event, draws.law, draws.mean, alone.delta) is None:
            raise SweepError(
                "there is no theorem on the price of the winner for this sampler: use sampler: poisson",
                ("learners", 0),
            )
        return cls(draws, alone)

    @property
    def charge(self) -> Charge:
        """What publishing the winner costs, whoever it trained on."""
        return replace(self.alone, event=winner_event(self.alone.event, self.draws.law, self.draws.mean))

    def alone_epsilon(self) -> Epsilon:
        """Return what one draw would cost, had nothing been selected."""
        return epsilon_of(self.alone.event, self.alone.delta)

    def epsilon(self) -> Epsilon:
        """Return what publishing the winner costs, by RDP."""
        return epsilon_of(self.charge.event, self.alone.delta)

    def needed_bytes(self, plan: SweepPlan) -> int:
        """Estimate of what the draws write, if there are as many as on average."""
        largest = max(map(plan.trial_bytes, plan.trials))
        return math.ceil(self.draws.mean * largest) + plan.needed_bytes(plan.trials[:1])

    def holds_for(self, plan: SweepPlan, trials: Iterable[PlannedTrial]) -> bool:
        """Return whether draws cost what was said before."""
        return set(_charges(plan, trials)) == {self.alone}


def _charges(plan: SweepPlan, trials: Iterable[PlannedTrial]) -> list[Charge | None]:
    listed = list(trials)
    plans = privacy_plans(plan, listed)
    return [planned_charge(trial, plans[trial.trial]) if trial.trial in plans else None for trial in listed]
