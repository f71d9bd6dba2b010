"""Noise calibration: the least noise with which an event costs no more than a budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from fairsweep.analysis.accounting.epsilons import REFINEMENTS, by_pld, by_rdp, epsilon_of, interval_for
from fairsweep.analysis.accounting.events import sampled_gaussian, truncated_gaussian

if TYPE_CHECKING:
    import dp_accounting

_CALIBRATION_TOLERANCE = 1e-3
_LEAST_NOISE, _MOST_NOISE = 1e-2, 1e3


@lru_cache(maxsize=1024)
def calibrate(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Find the noise that a budget affords.

    Args:
        epsilon: The budget by PLD, positive and finite.
        delta: In (0, 1).
        sampling_rate: Probability q in (0, 1] of joining a step.
        steps: Number of steps, at least 1.

    Returns:
        A noise multiplier z with ``epsilon_of(z) <= epsilon``, at most 0.1% above the smallest such z.

    Raises:
        ValueError: If the budget is outside the range in which noise can be found.
    """

    # RDP is fast and never below PLD: the noise that satisfies it brackets the answer from above.
    def loose_cost(noise_multiplier: float) -> float:
        found = by_rdp(sampled_gaussian(noise_multiplier, sampling_rate, steps), delta)
        return math.inf if found is None else found

    def cost(noise_multiplier: float) -> float:
        return epsilon_of(sampled_gaussian(noise_multiplier, sampling_rate, steps), delta).pld

    high = _bracket(loose_cost, epsilon, f"{delta=}, {sampling_rate=}, {steps=}")
    return _least(cost, epsilon, high)


@lru_cache(maxsize=1024)
def calibrate_truncated(
    epsilon: float, delta: float, sampling_rate: float, steps: int, population: int, max_batch_size: int
) -> float:
    """Find the noise that a budget affords under truncated Poisson sampling.

    Args:
        epsilon: See `calibrate`, as the three arguments that follow.
        delta: In (0, 1).
        sampling_rate: Probability q in (0, 1] of being drawn in a step.
        steps: Number of steps, at least 1.
        population: See `truncated_gaussian`.
        max_batch_size: The cut.

    Returns:
        A noise multiplier z within the budget, at most 0.2% above the smallest such z.

    Raises:
        ValueError: If the budget is outside the range in which noise can be found.
    """

    def event(noise_multiplier: float) -> dp_accounting.DpEvent:
        return truncated_gaussian(noise_multiplier, sampling_rate, steps, population, max_batch_size)

    # Coarse PLD takes RDP's part, and is refined as far as it needs to be to compare it with the budget.
    def loose_cost(noise_multiplier: float) -> float:
        for interval in REFINEMENTS:
            found = by_pld(event(noise_multiplier), delta, interval)
            if found <= epsilon or interval <= found / 100:
                break
        return found

    # Ten times coarser than what is reported: ten times as fast, never lower, and off by less than the tolerance.
    interval = interval_for(epsilon) * (10 if epsilon >= 1 else 1)
    high = _bracket(loose_cost, epsilon, f"{delta=}, {sampling_rate=}, {steps=}, {population=}, {max_batch_size=}")
    found = _least(lambda noise_multiplier: by_pld(event(noise_multiplier), delta, interval), epsilon, high)
    while epsilon_of(event(found), delta).pld > epsilon:
        found *= 1 + _CALIBRATION_TOLERANCE
    return found


def least_noise(
    loose_cost: Callable[[float], float], cost: Callable[[float], float], budget: float, given: str
) -> float:
    """Find the least noise multiplier, to 0.1% and from above, with which something costs no more than a budget.

    Args:
        loose_cost: Decreasing function of the noise multiplier, never below the cost, and fast.
        cost: Decreasing function of the noise multiplier.
        budget: The largest cost allowed.
        given: What the cost is computed for, for the error.

    Raises:
        ValueError: If the budget is outside the range in which noise can be found.
    """
    return _least(cost, budget, _bracket(loose_cost, budget, given))


def _bracket(loose_cost: Callable[[float], float], budget: float, given: str) -> float:
    """Find a noise multiplier within a budget, within 1% of the least by an upper bound of the cost.

    Args:
        loose_cost: Decreasing function of the noise multiplier, never below the cost.
        budget: The largest cost allowed.
        given: What the cost is computed for, for the error.

    Raises:
        ValueError: If there is none in the range that is searched.
    """
    low, high = _LEAST_NOISE, _MOST_NOISE
    if loose_cost(high) > budget or loose_cost(low) < budget:
        raise ValueError(
            f"epsilon must be affordable with a noise multiplier between {low} and {high}, but got epsilon={budget} "
            f"for {given}: give noise_multiplier instead"
        )
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if loose_cost(middle) > budget else (low, middle)
    return high


def _least(cost: Callable[[float], float], budget: float, high: float) -> float:
    """Find the least noise multiplier within a budget, to the tolerance and from above.

    The cost is nearly a power of the noise. Interpolation on logarithms, aimed a hair above and below the answer in
    turn, closes the bracket in about five evaluations; every third halves it, so that it always closes.

    Args:
        cost: Decreasing function of the noise multiplier.
        budget: The largest cost allowed.
        high: A noise multiplier that is within the budget.
    """
    cost_high = cost(high)
    # With enough noise a large delta pays for everything, and the cost is exactly 0.
    low = high * max(0.5, 0.97 * cost_high / budget)
    while (cost_low := cost(low)) <= budget:
        high, cost_high, low = low, cost_low, 0.9 * low
    hair = 1 + 0.4 * _CALIBRATION_TOLERANCE
    for aim in itertools.cycle((hair, 1 / hair, None)):
        if high / low <= 1 + _CALIBRATION_TOLERANCE:
            break
        guess = math.sqrt(low * high)
        if aim is not None and cost_high > 0:
            share = math.log(cost_low / budget) / math.log(cost_low / cost_high)
            aimed = low * (high / low) ** share * aim
            guess = aimed if low < aimed < high else guess
        if (found := cost(guess)) > budget:
            low, cost_low = guess, found
        else:
            high, cost_high = guess, found
    return high
