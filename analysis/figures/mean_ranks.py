"""Critical-difference diagrams: mean ranks of learners over datasets, with groups that do not differ significantly."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import Annotation, Axis, Drawing, Line, Panel
from fairsweep.analysis.drawing.palette import NEUTRAL, learner_colour
from fairsweep.analysis.inference.comparisons import compare_over_datasets


def critical_difference(scores: pd.DataFrame, *, higher_is_better: bool = True, level: float = 0.05) -> Drawing:
    """Plot mean ranks of learners over datasets; bars join those that do not differ significantly (Nemenyi).

    Datasets are the units: levels, seeds or groups of one sweep are not, for they share training and test images.

    Args:
        scores: one row per dataset, one column per learner: a mean over replicates each.
        higher_is_better: whether rank 1 has the highest score.
        level: of the family of all pairs.

    Raises:
        ValueError: as `fairsweep.analysis.inference.comparisons.compare_over_datasets`.

    References:
        Demšar 2006, https://jmlr.org/papers/v7/demsar06a.html, section 3.2.2.
    """
    found = compare_over_datasets(scores, higher_is_better=higher_is_better, level=level)
    ranks, distance, learners = found.ranks, found.critical_difference, len(found.ranks)
    marks: list[Line | Annotation] = []
    for place, (name, rank) in enumerate(ranks.items()):
        on_left = place < (learners + 1) // 2
        height = -1.0 - (place if on_left else learners - 1 - place)
        end = 0.6 if on_left else learners + 0.4
        colour = learner_colour([str(column) for column in scores.columns], str(name))
        x, y = np.array([rank, rank, end]), np.array([0.0, height, height])
        marks.append(Line(x, y, str(name), colour, in_legend=False, symbol=None, width=1.5))
        marks.append(Annotation(end, height, f"{name}  {rank:.2f}", side="left" if on_left else "right"))
    for row, clique in enumerate(found.cliques):
        ends = np.array([ranks[clique[0]] - 0.03, ranks[clique[-1]] + 0.03])
        y = np.full(2, -0.25 - 0.22 * row)
        marks.append(Line(ends, y, "not significantly different", NEUTRAL, in_legend=False, symbol=None, width=5))
    scale = np.array([1.0, 1.0 + distance]), np.array([0.9, 0.9])
    marks.append(Line(*scale, "critical difference", NEUTRAL, in_legend=False, symbol="cross", size=6, width=1.5))
    marks.append(Annotation(1.0 + distance / 2, 0.9, f"critical difference {distance:.2f}", side="above"))
    marks.append(Line(np.array([1.0, learners]), np.zeros(2), "ranks", NEUTRAL, in_legend=False, symbol=None, width=1))
    ticks = tuple(float(rank) for rank in range(1, learners + 1))
    x_axis = Axis(
        f"mean rank over {found.datasets} datasets, Friedman p {found.p_value:.2g}",
        ticks=(ticks, tuple(f"{t:g}" for t in ticks)),
        range=(-0.9, learners + 1.9),
    )
    lowest = -1.0 - (learners + 1) // 2
    panel = Panel("", tuple(marks), x_axis, Axis(is_hidden=True, range=(lowest, 1.6)))
    return Drawing((panel,), height=150 + 34 * ((learners + 1) // 2))
