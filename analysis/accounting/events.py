"""Events: what a training does to its data, as dp-accounting has it; to JSON and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    import dp_accounting


def sampled_gaussian(noise_multiplier: float, sampling_rate: float, steps: int) -> dp_accounting.DpEvent:
    """Return the event of DP-SGD: steps of a Gaussian mechanism on a Poisson sample.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm, at least 0.
        sampling_rate: Probability q in [0, 1] of joining a step.
        steps: Number of steps, at least 0.

    Returns:
        The composed event; `NonPrivateDpEvent` without noise, `NoOpDpEvent` without steps.
    """
    import dp_accounting

    if steps == 0:
        return dp_accounting.NoOpDpEvent()
    if noise_multiplier == 0:
        return dp_accounting.NonPrivateDpEvent()
    # dp-accounting 0.6 silently drops events whose numbers are integers: they must be floats.
    gaussian = dp_accounting.GaussianDpEvent(float(noise_multiplier))
    sampled = dp_accounting.PoissonSampledDpEvent(float(sampling_rate), gaussian)
    return dp_accounting.SelfComposedDpEvent(sampled, int(steps))


def sampled_gaussian_numbers(event: dp_accounting.DpEvent) -> tuple[float, float, int] | None:
    """Return noise multiplier, sampling rate and steps of what `sampled_gaussian` has made; None for any other event.

    Example:
        >>> sampled_gaussian_numbers(sampled_gaussian(1.0, 0.01, 10))
        (1.0, 0.01, 10)
    """
    import dp_accounting

    count = 1
    if isinstance(event, dp_accounting.SelfComposedDpEvent):
        event, count = event.event, event.count
    match event:
        case dp_accounting.PoissonSampledDpEvent(
            sampling_probability=rate, event=dp_accounting.GaussianDpEvent(noise_multiplier=noise)
        ):
            return noise, rate, count
    return None


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
    import dp_accounting

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


def describe(event: dp_accounting.DpEvent) -> dict[str, Any]:
    """Return an event as JSON: its type and its fields, nested as it is.

    Example:
        >>> describe(sampled_gaussian(1.0, 0.01, 10))["event"]["sampling_probability"]
        0.01
    """
    described: dict[str, Any] = {"type": type(event).__name__}
    for name in (attribute.name for attribute in attrs.fields(type(event))):
        described[name] = _plain(getattr(event, name))
    return described


def rebuilt(described: Mapping[str, Any]) -> dp_accounting.DpEvent:
    """Return the event that `describe` has described.

    Raises:
        ValueError: If it is of no type that fairsweep accounts.

    Example:
        >>> event = sampled_gaussian(1.0, 0.01, 10)
        >>> rebuilt(describe(event)) == event
        True
    """
    kinds = _kinds()
    kind = kinds.get(str(described.get("type")))
    if kind is None:
        raise ValueError(f"an event must be one of {', '.join(kinds)}, but is {described.get('type')!r}")
    return kind(**{name: _rebuilt(value) for name, value in described.items() if name != "type"})


@cache
def _kinds() -> dict[str, type[dp_accounting.DpEvent]]:
    """Return the types that fairsweep accounts, by name."""
    import dp_accounting
    from dp_accounting.dp_event import MixtureOfGaussiansDpEvent, RepeatAndSelectDpEvent

    kinds = (
        dp_accounting.ComposedDpEvent,
        dp_accounting.GaussianDpEvent,
        dp_accounting.NoOpDpEvent,
        dp_accounting.NonPrivateDpEvent,
        dp_accounting.PoissonSampledDpEvent,
        dp_accounting.SelfComposedDpEvent,
        dp_accounting.TruncatedSubsampledGaussianDpEvent,
        MixtureOfGaussiansDpEvent,
        RepeatAndSelectDpEvent,
    )
    return {kind.__name__: kind for kind in kinds}


def _plain(value: object) -> object:
    import dp_accounting

    if isinstance(value, dp_accounting.DpEvent):
        return describe(value)
    if value == math.inf:  # the shape of a Poisson number of draws; JSON has no infinity
        return "inf"
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _rebuilt(value: object) -> object:
    if isinstance(value, Mapping):
        return rebuilt(value)
    if value == "inf":
        return math.inf
    return tuple(_rebuilt(item) for item in value) if isinstance(value, list | tuple) else value
