"""Critical-difference diagrams: mean ranks of learners over datasets, and which of them cannot be told apart."""

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from fairsweep.analysis.figures.drawing import Axis, Drawing, Line, Note, Panel
from fairsweep.analysis.palette import NEUTRAL, learner_colour

_LEAST_DATASETS = 3


def critical_difference(scores: pd.DataFrame, *, higher_is_better: bool = True, confidence: float = 0.95) -> Drawing:
    """Mean ranks of learners over datasets; bars join those that Nemenyi's test does not tell apart.

    Datasets are the units: levels, seeds or groups of one sweep are not, for they share training and test images.

    Args:
        scores: one row a dataset, one column a learner: a mean over replicates each.
        higher_is_better: whether rank 1 has the highest score.
        confidence: of the family of all pairs.

    Raises:
        ValueError: if there are fewer than three datasets or two learners, or a score is missing.

    References:
        Demšar 2006, https://jmlr.org/papers/v7/demsar06a.html, section 3.2.2.
    """
    datasets, learners = scores.shape
    if datasets < _LEAST_DATASETS or learners < 2:
        raise ValueError(
            f"scores must have at least {_LEAST_DATASETS} datasets and 2 learners, but have {datasets} and {learners}: "
            "within one dataset compare learners by seed, with SweepResults.table"
        )
    if scores.isna().to_numpy().any():
        raise ValueError("every learner must have a score on every dataset; drop the datasets that lack one")
    ranks = scores.rank(axis=1, ascending=not higher_is_better).mean().sort_values()
    distance = nemenyi_distance(learners, datasets, confidence)
    marks: list[Line | Note] = []
    for place, (name, rank) in enumerate(ranks.items()):
        on_left = place < (learners + 1) // 2
        height = -1.0 - (place if on_left else learners - 1 - place)
        end = 0.6 if on_left else learners + 0.4
        colour = learner_colour([str(column) for column in scores.columns], str(name))
        x, y = np.array([rank, rank, end]), np.array([0.0, height, height])
        marks.append(Line(x, y, str(name), colour, in_legend=False, symbol=None, width=1.5))
        marks.append(Note(end, height, f"{name}  {rank:.2f}", side="left" if on_left else "right"))
    for row, (first, last) in enumerate(_alike(ranks.to_numpy(np.float64), distance)):
        bar = np.array([first - 0.03, last + 0.03]), np.full(2, -0.25 - 0.22 * row)
        marks.append(Line(*bar, "not told apart", NEUTRAL, in_legend=False, symbol=None, width=5))
    scale = np.array([1.0, 1.0 + distance]), np.array([0.9, 0.9])
    marks.append(Line(*scale, "critical difference", NEUTRAL, in_legend=False, symbol="cross", size=6, width=1.5))
    marks.append(Note(1.0 + distance / 2, 0.9, f"critical difference {distance:.2f}", side="above"))
    marks.append(Line(np.array([1.0, learners]), np.zeros(2), "ranks", NEUTRAL, in_legend=False, symbol=None, width=1))
    ticks = tuple(float(rank) for rank in range(1, learners + 1))
    x_axis = Axis(
        f"mean rank over {datasets} datasets",
        ticks=(ticks, tuple(f"{t:g}" for t in ticks)),
        range=(-0.9, learners + 1.9),
    )
    lowest = -1.0 - (learners + 1) // 2
    panel = Panel("", tuple(marks), x_axis, Axis(is_hidden=True, range=(lowest, 1.6)))
    return Drawing((panel,), height=150 + 34 * ((learners + 1) // 2))


def nemenyi_distance(learners: int, datasets: int, confidence: float = 0.95) -> float:
    """How far two mean ranks must be apart for Nemenyi's test to tell them apart.

    >>> round(nemenyi_distance(5, 30), 2)
    1.11
    """
    quantile = float(stats.studentized_range.ppf(confidence, learners, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(learners * (learners + 1) / (6 * datasets)))


def _alike(ranks: np.ndarray[tuple[int], np.dtype[np.float64]], distance: float) -> list[tuple[float, float]]:
    """The longest runs of ranks, ascending, of which no two differ by the distance or more."""
    ends = [int(np.searchsorted(ranks, rank + distance, side="left")) - 1 for rank in ranks]
    runs = [(i, end) for i, end in enumerate(ends) if end > i]
    longest = [run for before, run in pairwise([(-1, -1), *runs]) if run[1] > before[1]]
    return [(float(ranks[i]), float(ranks[end])) for i, end in longest]
