"""Audit of one training: lower bounds on epsilon from guesses about canaries that were in or out by fair coins.

Whoever sees what a mechanism publishes, and knows all but the coins, guesses some of them. Many right guesses refute a
claim of privacy. The bounds hold for any dependence between the canaries, and for any way to guess that does not look
at the coins.

References:
    Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", arXiv 2305.08846, theorem 5.2 and
    appendix D. Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-differential privacy in one run", arXiv 2410.22235,
    algorithm 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from fairsweep.analysis.auditing.trade_offs import InverseBlowUp, gaussian, gaussian_mu

_FEWEST_GUESSES = 8
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Guesses:
    """How well the coins were guessed.

    Attributes:
        canaries: How many there are.
        guesses: For how many of them a guess was made.
        correct: How many guesses were right.
    """

    canaries: int
    guesses: int
    correct: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.guesses <= self.canaries or self.canaries < 1:
            raise ValueError(
                "there must be 0 <= correct <= guesses <= canaries and a canary, but got "
                f"correct={self.correct}, guesses={self.guesses}, canaries={self.canaries}"
            )


@dataclass(frozen=True)
class AuditBound:
    """What an audit found. Every bound holds with probability 1 - significance over coins and training.

    Attributes:
        canaries: How many canaries were guessed about.
        included: How many of them were in.
        significance: Probability of a false alarm.
        epsilon: The lower bound: the training is not (epsilon, delta)-private for any smaller epsilon.
        gaussian: The epsilon, at delta, of the largest mu for which it is not mu-Gaussian private: a lower bound for
            Gaussian mechanisms, and a comparison with them elsewhere.
        guesses: Of the guess rule that gives ``epsilon``.
        correct: Right ones among them.
        refuted: Whether the claim's own trade-off function is refuted; None where none was given.
    """

    canaries: int
    included: int
    significance: float
    epsilon: float
    gaussian: float
    guesses: int
    correct: int
    refuted: bool | None = None


def p_value(seen: Guesses, epsilon: float, delta: float) -> float:
    """Bound the probability of so many right guesses under (epsilon, delta)-differential privacy.

    References:
        arXiv 2305.08846, theorem 5.2; the function ``p_value_DP_audit`` of its appendix D.

    Example:
        >>> round(p_value(Guesses(1000, 100, 75), 0.673, 1e-4), 3)
        0.05
    """
    rate = float(special.expit(epsilon))
    tail = float(stats.binom.sf(seen.correct - 1, seen.guesses, rate))
    if delta == 0 or seen.correct == 0:
        return min(1.0, tail)
    below = np.arange(1, seen.correct + 1)
    gained = (stats.binom.sf(seen.correct - below - 1, seen.guesses, rate) - tail) / below
    return min(1.0, tail + 2 * seen.canaries * delta * float(gained.max(initial=0.0)))


def epsilon_bound(seen: Guesses, significance: float, delta: float) -> float:
    """Return the largest epsilon that so many right guesses refute at delta; 0 where they refute none."""
    return _largest(lambda epsilon: significance - p_value(seen, epsilon, delta))


def refutes(seen: Guesses, inverse: InverseBlowUp, significance: float) -> bool:
    """Return whether so many right guesses refute a trade-off function, given by its inverse blow-up."""
    return _excess(seen, inverse, significance) > 0


def gaussian_bound(seen: Guesses, significance: float, delta: float) -> float:
    """Return the epsilon at delta of the largest mu that so many right guesses refute; 0 where they refute none."""
    return _largest(lambda epsilon: _excess(seen, gaussian(gaussian_mu(epsilon, delta)), significance))


def guess_rules(canaries: int) -> Iterator[tuple[int, int]]:
    """Give the guess rules that are tried: of so many canaries the k highest are guessed in, and the l lowest out."""
    total = canaries
    while total >= min(_FEWEST_GUESSES, canaries):
        yield total - total // 2, total // 2
        if 2 * total <= canaries:
            yield total, 0
        total //= 2


def guess(scores: NDArray[np.float64], coins: NDArray[np.bool_], highest: int, lowest: int) -> Guesses:
    """Guess that canaries with high scores are in and those with low ones out, and count the right guesses.

    Args:
        scores: float64 [m], larger where a canary seems to be in.
        coins: bool [m], whether it was.
        highest: How many are guessed to be in.
        lowest: How many are guessed to be out.
    """
    order = np.argsort(scores, kind="stable")
    right = coins[order[len(order) - highest :]].sum() + (~coins[order[:lowest]]).sum()
    return Guesses(len(scores), highest + lowest, int(right))


def audit_scores(
    scores: NDArray[np.float64],
    coins: NDArray[np.bool_],
    *,
    delta: float,
    significance: float = 0.05,
    claim: InverseBlowUp | None = None,
) -> AuditBound:
    """Bound epsilon from below by the best of several guess rules, at a significance that is divided among them.

    Args:
        scores: float64 [m], larger where a canary seems to be in.
        coins: bool [m], whether it was; each by a fair coin of its own.
        delta: In [0, 1).
        significance: Probability of a false alarm, in (0, 1).
        claim: The inverse blow-up of what is claimed, if the claim shall be tested itself.

    Raises:
        ValueError: If there are no canaries, or a number is out of range.
    """
    scores, coins = np.asarray(scores, np.float64), np.asarray(coins, np.bool_)
    if not len(scores) or len(scores) != len(coins) or not (0 < significance < 1 and 0 <= delta < 1):
        raise ValueError(
            "an audit needs a score and a coin for each of its canaries, significance in (0, 1) and delta in [0, 1), "
            f"but got {len(scores)} scores, {len(coins)} coins, {significance=}, {delta=}"
        )
    if np.isnan(scores).any():
        raise ValueError(f"scores must be numbers, but {int(np.isnan(scores).sum())} of {len(scores)} are NaN")
    rules = list(guess_rules(len(scores)))
    each = significance / len(rules)
    tried = [guess(scores, coins, *rule) for rule in rules]
    found = [epsilon_bound(seen, each, delta) for seen in tried]
    best = int(np.argmax(found))
    return AuditBound(
        canaries=len(scores),
        included=int(coins.sum()),
        significance=significance,
        epsilon=found[best],
        gaussian=max(gaussian_bound(seen, each, delta) for seen in tried) if delta > 0 else math.nan,
        guesses=tried[best].guesses,
        correct=tried[best].correct,
        refuted=None if claim is None else any(refutes(seen, claim, each) for seen in tried),
    )


def audit_groups(
    scores: NDArray[np.float64],
    coins: NDArray[np.bool_],
    groups: Sequence[object] | NDArray[np.generic],
    *,
    delta: float,
    significance: float = 0.05,
    claim: InverseBlowUp | None = None,
) -> dict[object, AuditBound]:
    """Return the bound of each group of canaries; all of them hold together with probability 1 - significance.

    Args:
        scores: See `audit_scores`.
        coins: See `audit_scores`.
        groups: [m], the group of each canary; the significance is divided by their number (Bonferroni).
        delta: See `audit_scores`.
        significance: See `audit_scores`.
        claim: See `audit_scores`.
    """
    codes = np.asarray(groups)
    values = np.unique(codes)
    return {
        value.item(): audit_scores(
            scores[codes == value],
            coins[codes == value],
            delta=delta,
            significance=significance / len(values),
            claim=claim,
        )
        for value in values
    }


def _excess(seen: Guesses, inverse: InverseBlowUp, significance: float) -> float:
    """Return by how much guesses exceed what a trade-off function allows; positive where they refute it.

    References:
        arXiv 2410.22235, algorithm 3 (``audit_rh_with_cap``) for two choices.
    """
    right = significance * seen.correct / seen.canaries
    wrong = significance * (seen.guesses - seen.correct) / seen.canaries
    for index in range(seen.correct - 1, -1, -1):
        more = max(wrong, inverse(right))
        if more == wrong:
            break  # nothing changes any more
        right = min(right + index / (seen.guesses - index) * (more - wrong), 1.0)
        wrong = more
    return right + wrong - seen.guesses / seen.canaries


def _largest(excess: Callable[[float], float]) -> float:
    """Return the largest epsilon at which a decreasing function is positive; 0 where there is none."""
    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, 1.0
    while excess(high) > 0:
        low, high = high, 2 * high
    found, *_ = optimize.brentq(excess, low, high, xtol=_TOLERANCE, full_output=True)
    return max(0.0, float(found) - _TOLERANCE)
