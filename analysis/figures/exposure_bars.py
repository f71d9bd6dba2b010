"""Bars with intervals for how well a membership attack recognises the examples of each group."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fairsweep.analysis.auditing.sweep_exposure import ALL, Of, exposure_frame
from fairsweep.analysis.drawing.drawing import Axis, Bars, Drawing, Hover, Panel, ReferenceLine
from fairsweep.analysis.drawing.palette import learner_colour
from fairsweep.analysis.figures.line_styles import group_texts, series_in
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_records import one_of

CHANCE = {"auc": 0.5, "tpr": 0.01}
TITLES = {"auc": "AUC", "tpr": "TPR at 1% FPR"}


def exposure_by_group(
    results: SweepResults,
    attribute: str | None = None,
    *,
    rate: Literal["auc", "tpr"] = "auc",
    attack: str = "LiRA",
    of: Of = "members",
    level: str | None = None,
) -> Drawing | None:
    """Plot how well members of each group are recognised as trained on, one colour per learner; the line is chance.

    Args:
        results: the sweep; see `fairsweep.analysis.auditing.sweep_exposure.exposure_frame` for what it needs.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.
        rate: ``auc``, or ``tpr``, the share recognised where 1% of the others are taken for members.
        attack: ``LiRA`` or ``RMIA``.
        of: whom the attack looks for: ``members``, or those whom a learner has ``forgotten``.
        level: as in the column ``level``; None takes the most imbalanced.

    Returns:
        The figure, with 95% intervals over shadows and examples; None without shadows at this level.

    Raises:
        ValueError: As `exposure_frame`.
    """
    one_of(rate, CHANCE, "rate")
    design = design_of(results)
    attribute = attribute or design.attribute
    level = level or design.levels[-1].text
    frame = exposure_frame(results, [attribute], attacks=[attack], permutations=0, of=of)
    frame = frame[(frame["level"] == level) & (frame["group"] != ALL) & frame[rate].notna()]
    if frame.empty:
        return None
    series, marks = series_in(results, frame), []
    for name in series:
        rows = frame[frame["series"] == name]
        value, low, high = (rows[column].to_numpy(np.float64) for column in (rate, f"{rate}_low", f"{rate}_high"))
        template = "%{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<br>examples %{customdata[2]:,}"
        hover = Hover(
            f"{template}<extra>{name}</extra>", rows[[f"{rate}_low", f"{rate}_high", "candidates"]].to_numpy()
        )
        texts, colour = group_texts(results, attribute, rows["group"].tolist()), learner_colour(series, name)
        marks.append(Bars(texts, value, name, colour, low=low, high=high, hover=hover))
    x, y = Axis(attribute, style="category"), Axis(TITLES[rate], from_zero=True)
    return Drawing((Panel("", (*marks, ReferenceLine(CHANCE[rate])), x, y),))
