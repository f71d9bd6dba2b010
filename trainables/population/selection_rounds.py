"""Truncation selection: which members are replaced by which after a generation.

References:
    Jaderberg et al. 2017, "Population based training of neural networks", arXiv 1711.09846, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from fairsweep.datasets.selection.randomness import generator


def ranked(scores: Sequence[float]) -> list[int]:
    """Orders members from best to worst.

    Args:
        scores: Of each member, more is better; NaN where it is undefined, which is worse than any number.

    Returns:
        Members; of equal ones the lowest number first.

    Example:
        >>> ranked([0.5, float("nan"), 0.7, 0.5])
        [2, 0, 3, 1]
    """
    keys = [math.inf if math.isnan(score) else -score for score in scores]
    return sorted(range(len(scores)), key=lambda member: (keys[member], member))


def parents(scores: Sequence[float], quantile: float, key: bytes, generation: int) -> list[int]:
    """Decides from whom each member goes on.

    Args:
        scores: Of each member, as in `ranked`; at least one is a number.
        quantile: Share in [0, 0.5] of the members that can be replaced, rounded up, at most half of them.
        key: 32 bytes, public.
        generation: Which, for the draw.

    Returns:
        For each member itself, or the member that replaces it: one of the worst goes on from one drawn from as many of
        the best, unless that is no better. A member without a score is always replaced.

    Example:
        >>> parents([0.9, 0.8, 0.7, 0.1], 0.25, bytes(32), 1)
        [0, 1, 2, 0]
    """
    order = ranked(scores)
    count = min(math.ceil(Decimal(str(quantile)) * len(scores)), len(scores) // 2)
    sound = [member for member in order if not math.isnan(scores[member])]
    best = sound[: max(1, count)]
    worst = {*order[len(order) - count :], *(set(order) - set(sound))}
    chosen = list(range(len(scores)))
    for member in worst:
        parent = best[int(generator(key, "pbt parent", generation, member).integers(len(best)))]
        if math.isnan(scores[member]) or scores[member] < scores[parent]:
            chosen[member] = parent
    return chosen
