"""Audit of one mechanism that was run many times, or of canaries that are as good as so many runs.

Where the runs are independent, the rates at which a test errs are known to within binomial errors, and no claim
survives that allows less. That is far sharper than `one_run`, which allows any dependence: at distinct coordinates, the
canaries of a Gaussian mechanism are independent if it does what its plan says, so a claim about it can be tested so.

References:
    Jagielski et al. 2020, "Auditing differentially private machine learning", arXiv 2006.07709, section 4.2. Nasr et
    al. 2023, "Tight auditing of differentially private machine learning", arXiv 2302.07956, section 4 (by mu).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from fairsweep.analysis.auditing.trade_offs import InverseBlowUp, gaussian_delta

_MOST_EPSILON = 1e4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RepeatedBound:
    """Lower bounds from independent repetitions; each holds by itself with probability 1 - significance.

    Attributes:
        repetitions: How many there are, with and without.
        epsilon: At delta; by the better of the two directions.
        mu: The mechanism is not mu-Gaussian private for any smaller mu.
        gaussian: What a Gaussian mechanism of that mu costs at delta; 0 where mu is.
        refuted: Whether the claim's own trade-off function is refuted; None where none was given.
    """

    repetitions: int
    epsilon: float
    mu: float
    gaussian: float
    refuted: bool | None = None


@dataclass(frozen=True)
class _Errors:
    """Upper bounds of both error rates of the test "with, if the score is at least the threshold"."""

    thresholds: Floats
    false_alarm: Floats
    miss: Floats

    @classmethod
    def of(cls, scores: Floats, coins: NDArray[np.bool_], thresholds: Floats, significance: float) -> _Errors:
        with_it, without = np.sort(scores[coins]), np.sort(scores[~coins])
        misses = np.searchsorted(with_it, thresholds, side="left")
        alarms = len(without) - np.searchsorted(without, thresholds, side="left")
        each = significance / 2
        return cls(thresholds, _upper(alarms, len(without), each), _upper(misses, len(with_it), each))

    def epsilons(self, delta: float) -> Floats:
        """Return the larger of the two directions' bounds, at least 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            first = np.log((1 - self.miss - delta) / self.false_alarm)
            second = np.log((1 - self.false_alarm - delta) / self.miss)
        return np.nan_to_num(np.maximum(first, second), nan=0.0, posinf=_MOST_EPSILON, neginf=0.0).clip(min=0.0)

    def mus(self) -> Floats:
        found = -special.ndtri(self.false_alarm) - special.ndtri(self.miss)
        return np.nan_to_num(found, nan=0.0, neginf=0.0).clip(min=0.0)

    def excess(self, claim: InverseBlowUp) -> Floats:
        """Return by how much a claim's least rate of misses exceeds the greatest that was plausible."""
        least = np.array([claim(1 - alarm) for alarm in self.false_alarm])
        other = np.array([claim(1 - miss) for miss in self.miss])
        return np.maximum(least - self.miss, other - self.false_alarm)


def audit_repetitions(
    scores: Floats,
    coins: NDArray[np.bool_],
    *,
    delta: float,
    significance: float = 0.05,
    claim: InverseBlowUp | None = None,
    threshold: float | None = None,
) -> RepeatedBound:
    """Bound what independent runs of a mechanism reveal.

    Args:
        scores: float64 [n], of independent runs; larger where the unit seems to be in.
        coins: bool [n], whether it was. The order of the runs says nothing about either.
        delta: In [0, 1).
        significance: Probability of a false alarm, in (0, 1).
        claim: The inverse blow-up of what is claimed, if the claim shall be tested itself.
        threshold: From which score on the unit is said to be in, chosen before the scores were seen; None lets half of
            the runs choose it, and the others try it.

    Raises:
        ValueError: If one half has no run with, or none without, the unit.
    """
    scores, coins = np.asarray(scores, np.float64), np.asarray(coins, np.bool_)
    if threshold is not None:
        errors = _Errors.of(scores, coins, np.array([threshold]), significance)
        return _bound(len(scores), errors, errors, errors, delta, claim)
    halves = [np.arange(start, len(scores), 2) for start in (0, 1)]
    if any(len(set(coins[half].tolist())) < 2 for half in halves):
        raise ValueError(
            f"both halves of the runs need some with and some without the unit, but got {len(scores)} runs: repeat more"
        )
    first = _Errors.of(scores[halves[0]], coins[halves[0]], np.unique(scores[halves[0]]), significance)

    def tried(by: Floats) -> _Errors:
        return _Errors.of(scores[halves[1]], coins[halves[1]], first.thresholds[[int(by.argmax())]], significance)

    of_claim = first if claim is None else tried(first.excess(claim))
    return _bound(len(scores), tried(first.epsilons(delta)), tried(first.mus()), of_claim, delta, claim)


def _bound(
    runs: int, of_epsilon: _Errors, of_mu: _Errors, of_claim: _Errors, delta: float, claim: InverseBlowUp | None
) -> RepeatedBound:
    mu = float(of_mu.mus()[0])
    refuted = None if claim is None else bool(of_claim.excess(claim)[0] > 0)
    return RepeatedBound(runs, float(of_epsilon.epsilons(delta)[0]), mu, gaussian_epsilon(mu, delta), refuted)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return what mu-Gaussian differential privacy costs at delta, at least 0; infinite without delta."""
    if mu == 0 or gaussian_delta(0.0, mu) <= delta:
        return 0.0
    if delta == 0:
        return math.inf
    high = 1.0
    while gaussian_delta(high, mu) > delta:
        high *= 2
    found, *_ = optimize.brentq(lambda epsilon: gaussian_delta(epsilon, mu) - delta, 0.0, high, full_output=True)
    return float(found)


def _upper(count: NDArray[np.int64], total: int, significance: float) -> Floats:
    """Return the upper Clopper-Pearson bound of a rate, one-sided."""
    bound = special.betaincinv(count + 1.0, np.maximum(total - count, 1e-12), 1 - significance)
    return np.asarray(np.where(count < total, bound, 1.0), np.float64)
