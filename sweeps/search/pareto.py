"""Successive halving with several objectives: non-dominated sorting, ties broken by crowding distance.

References:
    Asynchronous successive halving: Li et al. 2020, arXiv 1810.05934, algorithm 2 (here in its stopping form). Ranking
    and crowding: Deb et al. 2002, doi 10.1109/4235.996017, sections III-A and III-B. Both together: Schmucker et al.
    2021, arXiv 2106.12639.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def nondominated_ranks(values: Floats) -> npt.NDArray[np.int64]:
    """Return the front that each point belongs to.

    Args:
        values: float64 [N, M], more is better.

    Returns:
        int64 [N]: 0 for points that no other dominates, 1 for those that only points of front 0 dominate, …
    """
    no_worse = (values[:, None, :] >= values[None, :, :]).all(-1)
    dominates = no_worse & (values[:, None, :] > values[None, :, :]).any(-1)
    ranks = np.full(len(values), -1, np.int64)
    rank = 0
    while (ranks < 0).any():
        left = ranks < 0
        front = left & ~(dominates & left[:, None]).any(0)
        ranks[front] = rank
        rank += 1
    return ranks


def crowding_distances(values: Floats) -> Floats:
    """How far each point of a front is from its neighbours: infinite at the ends of any objective.

    Args:
        values: float64 [N, M], one front.
    """
    distances = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        distances[order[[0, -1]]] = np.inf
        spread = ordered[-1] - ordered[0]
        if spread > 0:
            distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / spread
    return distances


def positions(values: Floats) -> npt.NDArray[np.int64]:
    """Return the place of each point in the order from best to worst: by front, then by crowding, then by arrival."""
    ranks = nondominated_ranks(values)
    crowding = np.empty(len(values))
    for rank in np.unique(ranks):
        front = ranks == rank
        crowding[front] = crowding_distances(values[front])
    order = np.lexsort((np.arange(len(values)), -crowding, ranks))
    places = np.empty(len(values), np.int64)
    places[order] = np.arange(len(values))
    return places


class ParetoHalving:
    """Ends trials that are not among the best of those that came as far.

    Args:
        grace_period: iteration of the first rung.
        reduction: of the trials on a rung one in so many goes on; each rung is so many times as far as the one before.
    """

    def __init__(self, grace_period: int, reduction: float) -> None:
        self._grace_period = grace_period
        self._reduction = reduction
        self._rungs: dict[int, dict[str, Sequence[float]]] = {}

    def ends(self, trial: str, iteration: int, values: Sequence[float]) -> bool:
        """Take in what a trial has reached, more being better; returns whether it shall end here."""
        rung = self._highest(iteration)
        if rung is None or trial in self._rungs.setdefault(rung, {}):
            return False
        known = self._rungs[rung]
        known[trial] = tuple(values)
        place = int(positions(np.array(list(known.values()), np.float64))[-1])
        return place >= max(1, int(len(known) / self._reduction))

    def _highest(self, iteration: int) -> int | None:
        """Return the number of the highest rung that an iteration has reached."""
        rung = None
        number = 0
        while self._grace_period * self._reduction**number <= iteration:
            rung, number = number, number + 1
        return rung
