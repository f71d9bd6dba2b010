"""Events for people with several examples: what a training does to all of one user's examples together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fairsweep.analysis.accounting.events import sampled_gaussian_numbers

if TYPE_CHECKING:
    import dp_accounting

# What is left of the binomial distribution is counted as if all of the user's examples had joined.
_LEAST_CHANCE = 1e-18


def event_of_user(event: dp_accounting.DpEvent, examples: int) -> dp_accounting.DpEvent | None:
    """Return what a training with Poisson batches does to a user who contributes up to so many examples.

    In each step Binomial(examples, q) of them join, and move the sum by at most so many clipping norms: a mixture of
    Gaussians. Where rates differ by group, the largest counts for each example.

    Args:
        event: What it does to one example.
        examples: Largest number of training examples of one user, at least 1.

    Returns:
        The event; None where there is no theorem: other samplers, and shards.

    References:
        Choquette-Choo et al. 2023, arXiv 2310.15526 (mixtures of Gaussians); for group privacy: Ganesh 2024, arXiv
        2401.10294.
    """
    import dp_accounting
    from scipy import stats

    if examples == 1 or isinstance(event, dp_accounting.NoOpDpEvent | dp_accounting.NonPrivateDpEvent):
        return event
    numbers = sampled_gaussian_numbers(event)
    if numbers is None:
        return None
    noise_multiplier, rate, steps = numbers
    joined = np.arange(examples + 1)
    beyond = stats.binom.sf(joined, examples, rate)
    last = int(np.argmax(beyond <= _LEAST_CHANCE))
    chances = stats.binom.pmf(joined[: last + 1], examples, rate)
    moved = joined[: last + 1]
    if last < examples:
        moved, chances = np.append(moved, examples), np.append(chances, max(beyond[last], np.finfo(float).tiny))
    mixture = dp_accounting.dp_event.MixtureOfGaussiansDpEvent(
        noise_multiplier, tuple(map(float, moved)), tuple(map(float, chances))
    )
    return dp_accounting.SelfComposedDpEvent(mixture, steps)
