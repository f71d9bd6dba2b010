"""Trade-off functions of a privacy claim, as the audit of one training needs them.

A claim says of every test between a training with and one without some unit: at type I error x, its type II error is
at least f(x). The audit needs the inverse blow-up, x -> f(1 - x): the least probability that an event has in one world
if it has probability x in the other.

References:
    Dong, Roth and Su 2019, "Gaussian differential privacy", arXiv 1905.02383, definition 2.3 and proposition 2.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, special

InverseBlowUp = Callable[[float], float]


def gaussian(mu: float) -> InverseBlowUp:
    """Return the inverse blow-up of mu-Gaussian differential privacy.

    Args:
        mu: Distance of the means over the standard deviation, at least 0; infinity claims nothing.
    """
    if math.isinf(mu):
        return lambda x: float(x >= 1)
    return lambda x: float(special.ndtr(special.ndtri(min(x, 1.0)) - mu))


def from_profile(epsilons: Sequence[float], deltas: Sequence[float]) -> InverseBlowUp:
    """Return the inverse blow-up of a mechanism that is (epsilon, delta)-private at every point of a privacy profile.

    Args:
        epsilons: At least 0.
        deltas: delta of each, in [0, 1].
    """
    epsilon, delta = np.asarray(epsilons, float), np.asarray(deltas, float)
    if len(epsilon) != len(delta) or not len(epsilon):
        raise ValueError(f"a profile has a delta for each epsilon, but got {len(epsilon)} and {len(delta)}")
    grows, shrinks = np.exp(epsilon), np.exp(-epsilon)

    def inverse(x: float) -> float:
        least = np.maximum(1 - delta - grows * (1 - x), shrinks * (x - delta))
        return float(max(0.0, least.max()))

    return inverse


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Return the delta of mu-Gaussian differential privacy at an epsilon.

    References:
        arXiv 1905.02383, corollary 2.13; Balle and Wang 2018, arXiv 1805.06530, theorem 8.

    Example:
        >>> round(gaussian_delta(1.0, 1.0), 4)
        0.1269
    """
    if mu == 0:
        return 0.0
    first = float(special.ndtr(mu / 2 - epsilon / mu))
    return first - math.exp(epsilon + float(special.log_ndtr(-mu / 2 - epsilon / mu)))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the mu whose Gaussian mechanism costs exactly epsilon at delta; the inverse of `gaussian_delta`."""
    if not (epsilon >= 0 and 0 < delta < 1):
        raise ValueError(f"epsilon must be >= 0 and delta in (0, 1), but got {epsilon=} and {delta=}")
    high = 1.0
    while gaussian_delta(epsilon, high) < delta:
        high *= 2
    found, *_ = optimize.brentq(lambda mu: gaussian_delta(epsilon, mu) - delta, 0.0, high, full_output=True)
    return float(found)
