"""Privacy accounting: epsilon of a composition by two accountants, and noise calibration."""

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
_REFINEMENTS = (100.0, 10.0, 1.0, 0.1, 0.01, 1e-3, _FINE_INTERVAL)
_CALIBRATION_TOLERANCE = 1e-3
_LEAST_NOISE, _MOST_NOISE = 1e-2, 1e3


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
    """Return the event of DP-SGD: steps of a Gaussian mechanism on a Poisson sample.

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


def truncated_gaussian(
    noise_multiplier: float, sampling_rate: float, steps: int, population: int, max_batch_size: int
) -> dp_accounting.DpEvent:
    """Return the event of steps of a Gaussian mechanism on a Poisson sample that is cut at a largest batch.

    Of more than ``max_batch_size`` drawn, a uniformly random subset stays: an example in the batch may have pushed
    another one out, so that the sensitivity of such a step is 2. Under the zero-out relation a zeroed example is still
    drawn and still takes its place; the event's price bounds that too.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm, at least 0.
        sampling_rate: Probability q in [0, 1] of being drawn in a step.
        steps: Number of steps, at least 0.
        population: Number of units N, at least 1.
        max_batch_size: The cut, at least 1.

    Returns:
        The composed event; `NonPrivateDpEvent` without noise, `NoOpDpEvent` without steps. RDP has no theorem for it.

    References:
        Chua et al. 2024, arXiv 2411.04205, section 4; with the tighter analysis of arXiv 2508.15089.
    """
    if steps == 0:
        return dp_accounting.NoOpDpEvent()
    if noise_multiplier == 0:
        return dp_accounting.NonPrivateDpEvent()
    sampled = dp_accounting.TruncatedSubsampledGaussianDpEvent(
        dataset_size=int(population),
        sampling_probability=float(sampling_rate),
        truncated_batch_size=int(max_batch_size),
        noise_multiplier=float(noise_multiplier),
    )
    return dp_accounting.SelfComposedDpEvent(sampled, int(steps))


@lru_cache(maxsize=4096)
def epsilon_of(event: dp_accounting.DpEvent, delta: float) -> Epsilon:
    """Compute what an event costs under the zero-out relation.

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
    pld = _by_refined_pld(event, delta) if rdp is None else _by_pld(event, delta, _interval(rdp))
    if rdp is not None and pld > 1.01 * rdp + 0.01:
        raise AccountingError(
            f"PLD gives epsilon={pld:.6g}, but the looser RDP gives {rdp:.6g} for {event} at {delta=}: "
            "one of the two accountants is wrong; please report it"
        )
    return Epsilon(pld=pld, rdp=rdp)


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
        found = _by_rdp(sampled_gaussian(noise_multiplier, sampling_rate, steps), delta)
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
        for interval in _REFINEMENTS:
            found = _by_pld(event(noise_multiplier), delta, interval)
            if found <= epsilon or interval <= found / 100:
                break
        return found

    # Ten times coarser than what is reported: ten times as fast, never lower, and off by less than the tolerance.
    interval = _interval(epsilon) * (10 if epsilon >= 1 else 1)
    high = _bracket(loose_cost, epsilon, f"{delta=}, {sampling_rate=}, {steps=}, {population=}, {max_batch_size=}")
    found = _least(lambda noise_multiplier: _by_pld(event(noise_multiplier), delta, interval), epsilon, high)
    while epsilon_of(event(found), delta).pld > epsilon:
        found *= 1 + _CALIBRATION_TOLERANCE
    return found


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


def describe(event: dp_accounting.DpEvent) -> dict[str, Any]:
    """Return an event as JSON: its type and its fields, nested as it is.

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
    """Return epsilon by RDP at dp-accounting's default orders, or None where RDP has no theorem for the event."""
    accountant = RdpAccountant(neighboring_relation=RELATION)
    if not accountant.supports(event):
        return None
    with _expected_warnings_muted():
        accountant.compose(event)
        return float(accountant.get_epsilon(delta))


def _by_pld(event: dp_accounting.DpEvent, delta: float, interval: float) -> float:
    """Return epsilon by PLD with a discretisation interval; the result is an upper bound for any interval."""
    accountant = PLDAccountant(neighboring_relation=RELATION, value_discretization_interval=interval)
    accountant.compose(event)
    return float(accountant.get_epsilon(delta))


def _by_refined_pld(event: dp_accounting.DpEvent, delta: float) -> float:
    """Return epsilon by PLD where no other accountant says how fine the discretisation must be: from coarse to fine.

    Each refinement takes about ten times as long as the one before, so that all together cost little more than the
    last.
    """
    for interval in _REFINEMENTS:
        epsilon = _by_pld(event, delta, interval)
        if _interval(epsilon) >= interval:
            break
    return epsilon


def _interval(loose: float) -> float:
    """Return a discretisation interval in proportion to the cost: with the default, epsilon = 4,000 takes minutes."""
    if loose <= _FINE_EPSILON:
        return _FINE_INTERVAL
    return _FINE_INTERVAL * float(10.0 ** math.ceil(math.log10(min(loose, 1e6) / _FINE_EPSILON)))


@contextlib.contextmanager
def _expected_warnings_muted() -> Iterator[None]:
    """Drop dp-accounting's notes about single orders that it leaves out: the bound by the others holds."""

    def unexpected(record: logging.LogRecord) -> bool:
        return "Excluding this order" not in record.msg

    logger = logging.getLogger("absl")
    logger.addFilter(unexpected)
    try:
        yield
    finally:
        logger.removeFilter(unexpected)
