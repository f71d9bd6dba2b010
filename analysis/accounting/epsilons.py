"""What an event costs: epsilon by two accountants."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, field_serializer

if TYPE_CHECKING:
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

_FINE_INTERVAL = 1e-4  # dp-accounting's default discretisation of the privacy loss
_FINE_EPSILON = 20.0
_LEAST_PLD_DELTA = 1e-12
REFINEMENTS = (100.0, 10.0, 1.0, 0.1, 0.01, 1e-3, _FINE_INTERVAL)


class AccountingError(RuntimeError):
    """The accountants contradict each other, so no number can be trusted."""


class Epsilon(BaseModel):
    """The cost of a mechanism at some delta, by two accountants. Infinity is written as the string "inf" in JSON.

    Attributes:
        pld: By privacy loss distributions: the tight one, which is the headline. Where only RDP has a theorem, such as
            for the winner of a secret number of draws, that by RDP.
        rdp: By Rényi differential privacy: an independent and looser upper bound. None where it has no theorem.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pld: float
    rdp: float | None

    @field_serializer("pld", "rdp", when_used="json")
    def _explicit_infinity(self, value: float | None) -> float | str | None:
        return "inf" if value == math.inf else value


@lru_cache(maxsize=4096)
def epsilon_of(event: dp_accounting.DpEvent, delta: float, coarseness: float = 1.0) -> Epsilon:
    """Compute what an event costs under the zero-out relation.

    Args:
        event: The event; hashable, as all of dp-accounting's are.
        delta: In (0, 1).
        coarseness: By how much the privacy loss is discretised more coarsely, at least 1: so much faster, and PLD stays
            an upper bound.

    Returns:
        Epsilon by both accountants.

    Raises:
        AccountingError: If PLD, the tight bound, exceeds RDP by more than its discretisation can explain.

    References:
        PLD with connect-the-dots: Doroshenko et al. 2022, arXiv 2207.04380. RDP of the sampled Gaussian: Mironov et al.
        2019, arXiv 1908.10530, section 3.3; its conversion: Canonne et al. 2020, arXiv 2004.00010, proposition 12.
    """
    import dp_accounting

    if isinstance(event, dp_accounting.NoOpDpEvent):
        return Epsilon(pld=0.0, rdp=0.0)
    if isinstance(event, dp_accounting.NonPrivateDpEvent):
        return Epsilon(pld=math.inf, rdp=math.inf)
    rdp = by_rdp(event, delta)
    if rdp is not None and not _has_pld(event):
        return Epsilon(pld=rdp, rdp=rdp)
    pld = _by_refined_pld(event, delta) if rdp is None else by_pld(event, delta, coarseness * interval_for(rdp))
    if rdp is not None and delta < _LEAST_PLD_DELTA:
        pld = min(pld, rdp)  # both are upper bounds; below it PLD cuts tails that weigh as much as delta
    if rdp is not None and pld > 1.01 * rdp + 0.01:
        raise AccountingError(
            f"PLD gives epsilon={pld:.6g}, but the looser RDP gives {rdp:.6g} for {event} at {delta=}: "
            "one of the two accountants is wrong; please report it"
        )
    return Epsilon(pld=pld, rdp=rdp)


def by_rdp(event: dp_accounting.DpEvent, delta: float) -> float | None:
    """Return epsilon by RDP at dp-accounting's default orders, or None where RDP has no theorem for the event."""
    from dp_accounting.rdp import RdpAccountant

    from fairsweep.analysis.accounting.dp_accounting_internals import over_arrays

    accountant = RdpAccountant(neighboring_relation=zero_out())
    if not accountant.supports(event):
        return None
    with over_arrays():
        accountant.compose(event)
    return float(accountant.get_epsilon(delta))


def by_pld(event: dp_accounting.DpEvent, delta: float, interval: float) -> float:
    """Return epsilon by PLD with a discretisation interval; the result is an upper bound for any interval."""
    return float(pld_accountant(event, interval).get_epsilon(delta))


def _has_pld(event: dp_accounting.DpEvent) -> bool:
    """Return whether PLD has a theorem for an event."""
    from dp_accounting.pld import PLDAccountant

    return bool(PLDAccountant(neighboring_relation=zero_out()).supports(event))


def pld_accountant(event: dp_accounting.DpEvent, interval: float) -> PLDAccountant:
    """Return an accountant of the zero-out relation that has composed an event, with a discretisation interval."""
    from dp_accounting.pld import PLDAccountant

    from fairsweep.analysis.accounting.dp_accounting_internals import over_arrays

    accountant = PLDAccountant(neighboring_relation=zero_out(), value_discretization_interval=interval)
    with over_arrays():
        accountant.compose(event)
    return accountant


def zero_out() -> dp_accounting.NeighboringRelation:
    """Return the relation: in the neighbouring training set one example contributes nothing, its size is public."""
    import dp_accounting

    return dp_accounting.NeighboringRelation.REPLACE_SPECIAL


def _by_refined_pld(event: dp_accounting.DpEvent, delta: float) -> float:
    """Return epsilon by PLD where no other accountant says how fine the discretisation must be: from coarse to fine.

    Each refinement takes about ten times as long as the one before, so that all together cost little more than the
    last.
    """
    for interval in REFINEMENTS:
        epsilon = by_pld(event, delta, interval)
        if interval <= _fine_enough(event, epsilon):
            break
    return epsilon


def _fine_enough(event: dp_accounting.DpEvent, epsilon: float) -> float:
    """Return the coarsest interval that serves.

    Mixtures of Gaussians take long: for them PLD is about interval^2 / 5 too high for each step, and may be so by 1%.
    """
    steps = _mixtures(event)
    return math.sqrt(0.05 * epsilon / steps) if steps else interval_for(epsilon)


def _mixtures(event: dp_accounting.DpEvent) -> int:
    """Return how many mixtures of Gaussians an event is composed of."""
    import dp_accounting

    if isinstance(event, dp_accounting.SelfComposedDpEvent):
        return int(event.count) * _mixtures(event.event)
    if isinstance(event, dp_accounting.ComposedDpEvent):
        return sum(map(_mixtures, event.events))
    return int(isinstance(event, dp_accounting.dp_event.MixtureOfGaussiansDpEvent))


def interval_for(loose: float) -> float:
    """Return a discretisation interval in proportion to the cost: with the default, epsilon = 4,000 takes minutes."""
    if loose <= _FINE_EPSILON:
        return _FINE_INTERVAL
    return _FINE_INTERVAL * float(10.0 ** math.ceil(math.log10(min(loose, 1e6) / _FINE_EPSILON)))
