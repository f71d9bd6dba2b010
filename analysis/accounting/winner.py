"""The price of publishing the winner of a secret, random number of independent draws, and nothing else of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import dp_accounting
from dp_accounting.dp_event import RepeatAndSelectDpEvent

from fairsweep.analysis.accounting.epsilons import by_rdp
from fairsweep.analysis.accounting.events import sampled_gaussian, sampled_gaussian_numbers

Draws = Literal["logarithmic", "geometric", "poisson"]
# Of the truncated negative binomial distribution, eta in the paper; Poisson is its limit.
_SHAPES: dict[Draws, float] = {"logarithmic": 0.0, "geometric": 1.0, "poisson": math.inf}
DRAWS: tuple[Draws, ...] = ("logarithmic", "geometric", "poisson")


@lru_cache(maxsize=1024)
def winner_epsilon(event: dp_accounting.DpEvent, draws: Draws, mean: float, delta: float) -> float | None:
    """Compute what the best of K runs costs, where K and all other runs stay secret.

    The runs are independent and identical: each draws its settings from one distribution that is fixed beforehand. The
    choice among them looks at their outputs and at data that the guarantee need not protect.

    Args:
        event: What one run costs; with settings that are drawn, an event that dominates all of them.
        draws: Distribution of K; logarithmic and geometric ones are at least 1.
        mean: Its mean, at least 1.
        delta: In (0, 1).

    Returns:
        Epsilon by RDP, for which alone there is a theorem; None where RDP has none for the event.

    References:
        Papernot & Steinke 2022, arXiv 2110.03620, theorem 2 (truncated negative binomial, of which the logarithmic and
        the geometric distribution are cases) and theorem 6 (Poisson).
    """
    if isinstance(event, dp_accounting.NonPrivateDpEvent):
        return math.inf
    if by_rdp(event, delta) is None:
        return None
    return by_rdp(winner_event(event, draws, mean), delta)


def winner_event(event: dp_accounting.DpEvent, draws: Draws, mean: float) -> RepeatAndSelectDpEvent:
    """Return what publishing the winner alone does; arguments as `winner_epsilon` takes them."""
    return RepeatAndSelectDpEvent(event, float(mean), _SHAPES[draws])


def selection_of(event: dp_accounting.DpEvent) -> tuple[Draws, float] | None:
    """Return of which number of draws, and of which mean, an event is the winner; None for any other event.

    Example:
        >>> selection_of(winner_event(dp_accounting.GaussianDpEvent(1.0), "poisson", 20))
        ('poisson', 20.0)
    """
    if not isinstance(event, RepeatAndSelectDpEvent):
        return None
    return next(draws for draws, shape in _SHAPES.items() if shape == event.shape), event.mean


def dominating(events: Iterable[dp_accounting.DpEvent]) -> dp_accounting.DpEvent | None:
    """Return an event that costs at least as much as each of several, at any delta and in any composition.

    Of sampled Gaussians it is the one with the largest rate, the least noise and the most steps.

    Args:
        events: The events, at least one.

    Returns:
        The event; None where they are of several kinds.
    """
    distinct = list(dict.fromkeys(events))
    if len(distinct) == 1:
        return distinct[0]
    numbers = [sampled_gaussian_numbers(event) for event in distinct]
    known = [found for found in numbers if found is not None]
    if len(known) < len(numbers):
        return None
    noises, rates, steps = zip(*known, strict=True)
    return sampled_gaussian(min(noises), max(rates), max(steps))
