"""What a composition of private steps costs: epsilon by two accountants, and the noise that a budget affords."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import attrs
import dp_accounting
from dp_accounting import NeighboringRelation
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from pydantic import BaseModel, ConfigDict, field_serializer

# Zero-out: in the neighbouring training set one example contributes nothing, and the size stays public.
RELATION = NeighboringRelation.REPLACE_SPECIAL
_FINE_INTERVAL = 1e-4  # dp-accounting's default discretisation of the privacy loss
_FINE_EPSILON = 20.0
_CALIBRATION_TOLERANCE = 1e-3


class AccountingError(RuntimeError):
    """The accountants contradict each other, so no number can be trusted."""


class Epsilon(BaseModel):
    """The cost of a mechanism at some delta, by two accountants. Infinity is written as the string "inf" in JSON.

    Attributes:
        pld: By privacy loss distributions: the tight one, which is the headline.
        rdp: By Rényi differential privacy: an independent and looser upper bound. None where it has no theorem.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pld: float
    rdp: float | None

    @field_serializer("pld", "rdp", when_used="json")
    def _explicit_infinity(self, value: float | None) -> float | str | None:
        return "inf" if value == math.inf else value


def sampled_gaussian(noise_multiplier: float, sampling_rate: float, steps: int) -> dp_accounting.DpEvent:
    """Returns the event of DP-SGD: steps of a Gaussian mechanism on a Poisson sample.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm, at least 0.
        sampling_rate: Probability q in [0, 1] of joining a step.
        steps: Number of steps, at least 0.

    Returns:
        The composed event; `NonPrivateDpEvent` without noise, `NoOpDpEvent` without steps.
    """
    if steps == 0:
        return dp_accounting.NoOpDpEvent()
    if noise_multiplier == 0:
        return dp_accounting.NonPrivateDpEvent()
    # dp-accounting 0.6 silently drops events whose numbers are integers: they must be floats.
    gaussian = dp_accounting.GaussianDpEvent(float(noise_multiplier))
    sampled = dp_accounting.PoissonSampledDpEvent(float(sampling_rate), gaussian)
    return dp_accounting.SelfComposedDpEvent(sampled, int(steps))


@lru_cache(maxsize=4096)
def epsilon_of(event: dp_accounting.DpEvent, delta: float) -> Epsilon:
    """Computes what an event costs under the zero-out relation.

    Args:
        event: The event; hashable, as all of dp-accounting's are.
        delta: In (0, 1).

    Returns:
        Epsilon by both accountants.

    Raises:
        AccountingError: If PLD, the tight bound, exceeds RDP by more than its discretisation can explain.

    References:
        PLD with connect-the-dots: Doroshenko et al. 2022, arXiv 2207.04380. RDP of the sampled Gaussian: Mironov et al.
        2019, arXiv 1908.10530, section 3.3; its conversion: Canonne et al. 2020, arXiv 2004.00010, proposition 12.
    """
    if isinstance(event, dp_accounting.NoOpDpEvent):
        return Epsilon(pld=0.0, rdp=0.0)
    if isinstance(event, dp_accounting.NonPrivateDpEvent):
        return Epsilon(pld=math.inf, rdp=math.inf)
    rdp = _by_rdp(event, delta)
    pld = _by_pld(event, delta, _interval(rdp))
    if rdp is not None and pld > 1.01 * rdp + 0.01:
        raise AccountingError(
            f"PLD gives epsilon={pld:.6g}, but the looser RDP gives {rdp:.6g} for {event} at {delta=}: "
            "one of the two accountants is wrong; please report it"
        )
    return Epsilon(pld=pld, rdp=rdp)


@lru_cache(maxsize=1024)
def calibrate(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Finds the noise that a budget affords.

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

    def cost(noise_multiplier: float) -> float:
        return epsilon_of(sampled_gaussian(noise_multiplier, sampling_rate, steps), delta).pld

    def loose_cost(noise_multiplier: float) -> float:
        return _by_rdp(sampled_gaussian(noise_multiplier, sampling_rate, steps), delta) or math.inf

    # RDP is fast and never below PLD: the noise that satisfies it brackets the answer from above.
    low, high = 1e-2, 1e3
    if loose_cost(high) > epsilon or loose_cost(low) < epsilon:
        raise ValueError(
            f"epsilon must be affordable with a noise multiplier between {low} and {high}, but got {epsilon=} "
            f"for {delta=}, {sampling_rate=}, {steps=}: give noise_multiplier instead"
        )
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if loose_cost(middle) > epsilon else (low, middle)
    return _least(cost, epsilon, high)


def _least(cost: Callable[[float], float], budget: float, high: float) -> float:
    """Finds the least noise multiplier within a budget, to the tolerance and from above.

    The cost is nearly a power of the noise. Interpolation on logarithms, aimed a hair above and below the answer in
    turn, closes the bracket in about five evaluations; every third halves it, so that it always closes.

    Args:
        cost: Decreasing function of the noise multiplier.
        budget: The largest cost allowed.
        high: A noise multiplier that is within the budget.
    """
    cost_high = cost(high)
    low = 0.97 * high * (cost_high / budget)
    while (cost_low := cost(low)) <= budget:
        high, cost_high, low = low, cost_low, 0.9 * low
    hair = 1 + 0.4 * _CALIBRATION_TOLERANCE
    for aim in itertools.cycle((hair, 1 / hair, None)):
        if high / low <= 1 + _CALIBRATION_TOLERANCE:
            break
        share = math.log(cost_low / budget) / math.log(cost_low / cost_high)
        guess = math.sqrt(low * high) if aim is None else low * (high / low) ** share * aim
        if not low < guess < high:
            guess = math.sqrt(low * high)
        if (found := cost(guess)) > budget:
            low, cost_low = guess, found
        else:
            high, cost_high = guess, found
    return high


def describe(event: dp_accounting.DpEvent) -> dict[str, Any]:
    """Returns an event as JSON: its type and its fields, nested as it is.

    Example:
        >>> describe(sampled_gaussian(1.0, 0.01, 10))["event"]["sampling_probability"]
        0.01
    """
    described: dict[str, Any] = {"type": type(event).__name__}
    for name in (attribute.name for attribute in attrs.fields(type(event))):
        value = getattr(event, name)
        described[name] = describe(value) if isinstance(value, dp_accounting.DpEvent) else value
    return described


def _by_rdp(event: dp_accounting.DpEvent, delta: float) -> float | None:
    """Returns epsilon by RDP at dp-accounting's default orders, or None where RDP has no theorem for the event."""
    accountant = RdpAccountant(neighboring_relation=RELATION)
    if not accountant.supports(event):
        return None
    with _expected_warnings_muted():
        accountant.compose(event)
        return float(accountant.get_epsilon(delta))


def _by_pld(event: dp_accounting.DpEvent, delta: float, interval: float) -> float:
    """Returns epsilon by PLD with a discretisation interval; the result is an upper bound for any interval."""
    accountant = PLDAccountant(neighboring_relation=RELATION, value_discretization_interval=interval)
    accountant.compose(event)
    return float(accountant.get_epsilon(delta))


def _interval(rdp: float | None) -> float:
    """Returns a discretisation interval in proportion to the cost: with the default, epsilon = 4,000 takes minutes."""
    if rdp is None or rdp <= _FINE_EPSILON:
        return _FINE_INTERVAL
    return _FINE_INTERVAL * float(10.0 ** math.ceil(math.log10(min(rdp, 1e6) / _FINE_EPSILON)))


@contextlib.contextmanager
def _expected_warnings_muted() -> Iterator[None]:
    """Drops dp-accounting's notes about single orders that it leaves out: the bound by the others holds."""

    def unexpected(record: logging.LogRecord) -> bool:
        return "Excluding this order" not in record.msg

    logger = logging.getLogger("absl")
    logger.addFilter(unexpected)
    try:
        yield
    finally:
        logger.removeFilter(unexpected)
