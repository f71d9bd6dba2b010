"""Membership inference from shadow models: how much a model's prediction of an example betrays that it was trained on.

Each of S models of one setting has trained on a random half of the candidates. Each is attacked in turn with the others
as shadows. Shapes: S models, N candidates.

References:
    Carlini et al. 2022, "Membership inference attacks from first principles", arXiv 2112.03570, algorithm 1 (LiRA,
    online). Zarifzadeh, Liu and Shokri 2024, "Low-cost high-power membership inference attacks", arXiv 2312.03262,
    equations 4 and 8 (RMIA, online).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FEWEST_SHADOWS = 8
_LEAST_STD = 1e-3


def scaled_logits(log_probabilities: Floats) -> Floats:
    """Return log p/(1-p) of the true class from its log probability, any shape; finite.

    References:
        arXiv 2112.03570, section 4.1: this is close to normal over models, which p is not.
    """
    log_p = np.minimum(np.asarray(log_probabilities, np.float64), -1e-7)
    return np.asarray(np.clip(log_p - np.log(-np.expm1(log_p)), -40.0, 40.0), np.float64)


def lira(log_probabilities: Floats, included: Bools, groups: NDArray[np.int64]) -> Floats:
    """Return each candidate's log likelihood ratio of in against out under each model, float64 [S, N].

    Means are of each example; spreads are pooled over the examples of a group, in and out apart: an example that few
    shadows know gets the spread of its own group, so that a harder group is not mistaken for a more exposed one.

    Args:
        log_probabilities: float64 [S, N], of the true class; NaN where a model has nothing to say of a candidate.
        included: bool [S, N], who trained on whom.
        groups: int64 [N], the group of each candidate.

    Returns:
        The scores; NaN where the other models were all in or all out.
    """
    logits = scaled_logits(log_probabilities)
    is_known = ~np.isnan(logits)
    scores = np.full(logits.shape, np.nan)
    for model in range(len(logits)):
        others = np.arange(len(logits)) != model
        known, states = is_known[others], included[others]
        inside, outside = (_fitted(logits[others], known & (states == state), groups) for state in (True, False))
        scores[model] = _log_density(logits[model], *inside) - _log_density(logits[model], *outside)
    return scores


def rmia(log_probabilities: Floats, included: Bools, groups: NDArray[np.int64]) -> Floats:
    """Return the share of the population that each candidate's likelihood ratio dominates, float64 [S, N].

    The population are the candidates of the same group that the model has not trained on.

    Args:
        log_probabilities: See `lira`, as the arguments that follow.
        included: See `lira`.
        groups: See `lira`.

    Returns:
        The scores in [0, 1]; NaN where the other models were all in or all out.
    """
    probabilities = np.exp(np.asarray(log_probabilities, np.float64))
    is_known = ~np.isnan(probabilities)
    scores = np.full(probabilities.shape, np.nan)
    for model in range(len(probabilities)):
        others = np.arange(len(probabilities)) != model
        known, states = is_known[others], included[others]
        usual = sum(_mean(probabilities[others], known & (states == state)) for state in (True, False)) / 2
        ratio = probabilities[model] / np.maximum(usual, 1e-12)
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            outside = ~included[model, members]
            population = np.sort(ratio[members][outside & ~np.isnan(ratio[members])])
            # Nobody of the population is compared with itself.
            below = np.searchsorted(population, ratio[members], side="right") - outside
            share = below / np.maximum(1, len(population) - outside)
            scores[model, members] = np.where(np.isnan(ratio[members]), np.nan, share)
    return scores


ATTACKS = {"LiRA": lira, "RMIA": rmia}


def _fitted(logits: Floats, chosen: Bools, groups: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return each example's mean over the chosen models, and the spread around it in its group, float64 [N] each."""
    means = _mean(logits, chosen)
    squares = np.where(chosen, (logits - means) ** 2, 0.0).sum(axis=0)
    freedom = np.maximum(chosen.sum(axis=0) - 1, 0)
    spreads = np.empty(len(means))
    for group in np.unique(groups):
        members = groups == group
        pooled = np.nansum(squares[members]) / max(1, int(freedom[members].sum()))
        spreads[members] = max(_LEAST_STD, float(np.sqrt(pooled)))
    return means, spreads


def _mean(values: Floats, chosen: Bools) -> Floats:
    counts = chosen.sum(axis=0)
    sums = np.where(chosen, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0), np.float64)


def _log_density(values: Floats, means: Floats, spreads: Floats) -> Floats:
    return np.asarray(-0.5 * ((values - means) / spreads) ** 2 - np.log(spreads), np.float64)
