"""What is known of the cost of SISA with a private inner learner before anybody asks for a deletion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairsweep.analysis.accounting.epsilons import Epsilon, epsilon_of
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.privacy.privacy_statement import UserEpsilon

if TYPE_CHECKING:
    import dp_accounting

BEFORE_REQUESTS = "before any request"


@dataclass(frozen=True)
class FirstTraining:
    """What an example of the first slice spends in the first training, before anybody asks, in a shard of equal size.

    Attributes:
        plans: The plan of each slice's training, in their order.
    """

    plans: tuple[PrivacyPlan, ...]

    @property
    def delta(self) -> float:
        """In (0, 1)."""
        return self.plans[0].delta

    @property
    def trained_noise_multiplier(self) -> float:
        """The same in every slice."""
        return self.plans[0].trained_noise_multiplier

    @property
    def largest_rate(self) -> float:
        """Of the first slice, which is the smallest."""
        return self.plans[0].largest_rate

    @property
    def steps(self) -> int:
        """Of all slices of a shard."""
        return sum(plan.steps for plan in self.plans)

    @property
    def remark(self) -> str:
        """What a table says beside these numbers."""
        return BEFORE_REQUESTS

    @property
    def unit(self) -> str:
        """Whose contribution is hidden."""
        return self.plans[0].unit

    def epsilon(self) -> Epsilon:
        """Return what all slices of a shard cost together."""
        return epsilon_of(self.event(), self.delta)

    def epsilon_of_user(self, examples: int | None) -> UserEpsilon | None:
        """Say that there is no number for users, whose examples may lie in several shards; None without such users."""
        return None if examples is None or examples < 2 else UserEpsilon(examples=examples, epsilon=None)

    def event(self) -> dp_accounting.DpEvent:
        """Return what all slices of a shard do together."""
        import dp_accounting

        if self.plans[0].lacking():
            return dp_accounting.NonPrivateDpEvent()
        return dp_accounting.ComposedDpEvent(tuple(plan.event() for plan in self.plans))
