"""Lines over the levels of imbalance for how often two trainings of one setting disagree about a test image."""

from __future__ import annotations

import pandas as pd

from fairsweep.analysis.disagreement.agreement import ALL_SEEDS
from fairsweep.analysis.disagreement.arbitrariness import arbitrariness
from fairsweep.analysis.drawing.drawing import Axis, Drawing, Panel, columns_for
from fairsweep.analysis.figures.level_axes import level_axis, level_bars, value_range
from fairsweep.analysis.figures.line_styles import group_style, series_in
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.results import SweepResults

TITLES = {
    "disagreement": "predictions that differ",
    "self_consistency": "self-consistency",
    "arbitrary": "predictions that are arbitrary",
}


def arbitrariness_by_level(
    results: SweepResults,
    attribute: str | None = None,
    metric: str = "disagreement",
    *,
    frame: pd.DataFrame | None = None,
) -> Drawing | None:
    """Plot how arbitrary predictions are for each group over the levels of the imbalance, one panel per learner.

    Args:
        results: the sweep.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.
        metric: ``disagreement``, ``self_consistency`` or ``arbitrary``; see `fairsweep.analysis.arbitrariness`.
        frame: what that function returned of this attribute; None calls it.

    Returns:
        The figure, with 95% intervals over test images (people, where known); None without replicates.
    """
    if metric not in TITLES:
        raise ValueError(f"metric must be one of {list(TITLES)}, but got {metric!r}")
    design = design_of(results)
    attribute = attribute or design.attribute
    found = arbitrariness(results, by=attribute) if frame is None else frame
    chosen = (found["metric"] == metric) & (found["seeds"] == ALL_SEEDS) & (found["attribute"] == attribute)
    bounds = {"images_low": found["low"], "images_high": found["high"], "n_min": found["n"]}
    rows = found.assign(**bounds)[chosen & found["value"].notna()]
    if rows.empty:
        return None
    axis, titles = level_axis(design), series_in(results, rows)
    columns = columns_for(len(titles))
    x, y = axis.axis(columns), Axis(TITLES[metric], style="percent", range=value_range(rows, least=0.0))
    panels: list[Panel] = []
    names = results.vocabulary(attribute).values
    for name in titles:
        mine = rows[rows["series"] == name]
        lines = []
        for group in names:
            style = group_style(results, design, attribute, group, in_legend=not panels)
            lines.append(level_bars(axis, mine[mine["group"] == group], style, len(names)))
        panels.append(Panel(name, tuple(lines), x, y))
    return Drawing(tuple(panels), columns, shares_y=True, x_title=axis.title)
