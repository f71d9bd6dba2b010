"""How exposed groups are: rates of a membership attack inside each group, with intervals and a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairsweep.analysis.auditing.shadow_scores import Bools, Floats

FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Exposure:
    """What an attack achieves on a group, its threshold chosen inside the group.

    Attributes:
        group: Code of the group; None stands for all candidates, each attacked inside its own group.
        candidates: How many examples.
        pairs: How many examples under a model, in or out.
        auc: Probability that a member scores above a non-member.
        auc_low: Lower end of its interval.
        auc_high: Upper end.
        tpr: Share of the members that are recognised where 1% of the non-members are taken for one.
        tpr_low: Lower end of its interval.
        tpr_high: Upper end.
    """

    group: int | None
    candidates: int
    pairs: int
    auc: float
    auc_low: float
    auc_high: float
    tpr: float
    tpr_low: float
    tpr_high: float


def rates(scores: Floats, included: Bools, weights: Floats | None = None) -> tuple[float, float]:
    """Return AUC, and the rate of true positives at 1% false ones; between two thresholds lots are drawn.

    Args:
        scores: float64 [n], larger where an example seems to be a member; ties count half.
        included: bool [n], whether it is.
        weights: float64 [n], how often each counts; None counts each once.

    Returns:
        Both; NaN without members or without others.
    """
    if not len(scores):
        return float("nan"), float("nan")
    counted = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.where(included[order], counted[order], 0.0)
    alarms = counted[order] - hits
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    true = np.concatenate([[0.0], np.cumsum(hits)[ends]])
    false = np.concatenate([[0.0], np.cumsum(alarms)[ends]])
    if true[-1] == 0 or false[-1] == 0:
        return float("nan"), float("nan")
    true, false = true / true[-1], false / false[-1]
    last = int(np.searchsorted(false, FALSE_ALARMS, side="right")) - 1
    at = np.interp(FALSE_ALARMS, false[last : last + 2], true[last : last + 2])
    return float(np.trapezoid(true, false)), float(at)


def exposures(
    scores: Floats,
    included: Bools,
    groups: NDArray[np.int64],
    *,
    generator: np.random.Generator,
    draws: int = 200,
    confidence: float = 0.95,
) -> list[Exposure]:
    """Return how exposed all candidates are, then those of each group.

    Args:
        scores: float64 [S, N], of each model and candidate; NaN is left out.
        included: bool [S, N].
        groups: int64 [N].
        generator: Source of the bootstrap's draws: models and candidates are resampled crossed, since the scores of one
            model, and those of one candidate, are alike.
        draws: How many there are.
        confidence: Of the percentile intervals.

    References:
        Owen 2007, arXiv 0712.1111 (the crossed bootstrap does not understate the variance).
    """
    models, candidates = scores.shape
    weights = [
        np.outer(
            generator.multinomial(models, np.full(models, 1 / models)),
            generator.multinomial(candidates, np.full(candidates, 1 / candidates)),
        ).astype(np.float64)
        for _ in range(draws)
    ]
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    found = []
    for group, members in _parts(groups):
        usable = ~np.isnan(scores[:, members])
        values, states = scores[:, members][usable], included[:, members][usable]
        drawn = np.array([rates(values, states, each[:, members][usable]) for each in weights])
        auc, tpr = rates(values, states)
        known = drawn[~np.isnan(drawn).any(axis=1)]  # a draw may lack members, or others, of a small group
        ends = np.quantile(known, tails, axis=0) if len(known) else np.full((2, 2), np.nan)
        (auc_low, tpr_low), (auc_high, tpr_high) = ends
        found.append(
            Exposure(
                group=group,
                candidates=len(members),
                pairs=int(usable.sum()),
                auc=auc,
                auc_low=float(auc_low),
                auc_high=float(auc_high),
                tpr=tpr,
                tpr_low=float(tpr_low),
                tpr_high=float(tpr_high),
            )
        )
    return found


def most_exposed(
    scores: Floats,
    included: Bools,
    groups: NDArray[np.int64],
    *,
    generator: np.random.Generator,
    draws: int = 500,
) -> tuple[int, float]:
    """Return the group with the largest AUC, and a p-value of the largest gap between two groups.

    Under the null hypothesis groups are labels that say nothing about exposure: they are permuted among the candidates.

    Args:
        scores: See `exposures`.
        included: See `exposures`.
        groups: See `exposures`; at least two different ones.
        generator: Source of the permutations.
        draws: How many there are.

    References:
        Phipson and Smyth 2010, doi 10.2202/1544-6115.1585 (the observed one counts as one of them).
    """
    values = np.unique(groups)
    own = _aucs(scores, included, groups, values)
    gap = np.nanmax(own) - np.nanmin(own)
    extreme = 1
    for _ in range(draws):
        permuted = _aucs(scores, included, generator.permutation(groups), values)
        extreme += int(np.nanmax(permuted) - np.nanmin(permuted) >= gap - 1e-12)
    return int(values[int(np.nanargmax(own))]), extreme / (1 + draws)


def _aucs(scores: Floats, included: Bools, groups: NDArray[np.int64], values: NDArray[np.int64]) -> Floats:
    found = []
    for value in values:
        members = groups == value
        usable = ~np.isnan(scores[:, members])
        found.append(rates(scores[:, members][usable], included[:, members][usable])[0])
    return np.array(found)


def _parts(groups: NDArray[np.int64]) -> Iterator[tuple[int | None, NDArray[np.int64]]]:
    yield None, np.arange(len(groups))
    for value in np.unique(groups).tolist():
        yield value, np.flatnonzero(groups == value)
