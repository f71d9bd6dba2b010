"""What a mechanism claims, as a trade-off function that an audit can refute."""

from __future__ import annotations

from functools import lru_cache

import dp_accounting
import numpy as np

from fairsweep.analysis.accounting.epsilons import pld_accountant
from fairsweep.analysis.auditing.trade_offs import InverseBlowUp, from_profile

# Coarse, and still an upper bound of every delta: the claim that is tested is at most a little weaker.
_INTERVAL = 1e-2
_POINTS = 400


@lru_cache(maxsize=64)
def claim_of(event: dp_accounting.DpEvent, largest: float = 30.0) -> InverseBlowUp:
    """Return the inverse blow-up of an event's privacy profile.

    Args:
        event: What was run.
        largest: The profile's largest epsilon; less than that is claimed of what lies beyond.
    """
    if isinstance(event, dp_accounting.NonPrivateDpEvent):
        return from_profile([0.0], [1.0])
    accountant = pld_accountant(event, _INTERVAL)
    epsilons = np.linspace(0.0, largest, _POINTS)
    return from_profile(epsilons.tolist(), np.clip(accountant.get_delta(epsilons.tolist()), 0, 1).tolist())
