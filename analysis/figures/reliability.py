"""Reliability diagrams: accuracy against confidence by group."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import Axis, Drawing, Hover, Line, Panel, ReferenceLine, columns_for
from fairsweep.analysis.drawing.palette import SYMBOLS
from fairsweep.analysis.figures.line_styles import group_style, series_in
from fairsweep.analysis.inference.calibration import reliability_frame
from fairsweep.analysis.metrics.rates import divide
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At
from fairsweep.analysis.statistics.intervals import NORMAL_95, wilson

BINS = 10


def reliability(
    results: SweepResults, attribute: str | None = None, *, level: str | None = None, bins: int = BINS, at: At = "last"
) -> Drawing | None:
    """Plot accuracy against confidence by group, one panel per learner; on the diagonal a model is calibrated.

    Args:
        results: the sweep.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.
        level: as in the column ``level``; None takes the most imbalanced.
        bins: of confidence; empty ones are left out.
        at: ``last`` or ``selected``: predictions are recorded at these only.

    Returns:
        The figure, replicates pooled, with Wilson's 95% intervals and under the pointer the debiased calibration error
        of each group; None where no predictions are recorded.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    level = level or design.levels[-1].text
    frame = reliability_frame(results, attribute, bins=bins, at=at)
    if frame.empty:
        return None
    frame = frame.merge(results.trials[["trial", "series", "level"]], on="trial")
    frame = frame[(frame["level"] == level) & (frame["n"] > 0)]
    errors = average(results.rates(["calibration_error"], by=attribute, at=at), results=results)
    errors = errors[errors["level"] == level].set_index(["series", "group"])[["value", "low", "high"]]
    panels: list[Panel] = []
    for name in series_in(results, frame):
        lines = []
        for group in results.vocabulary(attribute).values:
            rows = frame[(frame["series"] == name) & (frame["group"] == group)]
            style = group_style(results, design, attribute, group, in_legend=not panels)
            if len(rows) and not style.is_faint:
                value, low, high = errors.loc[[(name, group)]].to_numpy(np.float64)[0]
                said = f"{value:.1%} [{low:.1%}, {high:.1%}]" if np.isfinite(value) else "undefined"
                table = _pooled(rows)
                lines.append(_line(table, style.name, style.colour, style.place, said, in_legend=style.in_legend))
        x = Axis("confidence", style="percent", range=(0.0, 1.02))
        y = Axis("accuracy", style="percent", range=(0.0, 1.02))
        panels.append(Panel(f"{name}, {level}", (ReferenceLine(is_diagonal=True), *lines), x, y))
    return Drawing(tuple(panels), columns_for(len(panels)), shares_y=True) if panels else None


def _pooled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the bins of all replicates together; replicates judge the same images (or people), which count once."""
    replicates = rows["trial"].nunique()
    sums = rows.assign(right=rows["accuracy"] * rows["n"], sure=rows["confidence"] * rows["n"])
    table = sums.groupby("bin_low")[["n", "right", "sure", "worth"]].sum()
    table["confidence"], table["accuracy"] = divide(table["sure"], table["n"]), divide(table["right"], table["n"])
    worth = table["worth"].to_numpy(np.float64) / replicates
    table["low"], table["high"] = wilson(table["accuracy"].to_numpy(np.float64) * worth, worth, NORMAL_95)
    return table


def _line(table: pd.DataFrame, name: str, colour: str, place: int, error: str, *, in_legend: bool) -> Line:
    template = (
        "accuracy %{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}] at confidence %{x:.1%}"
        f"<br>n %{{customdata[2]:,.0f}}; calibration error of the group {error}"
    )
    column = {key: table[key].to_numpy(np.float64) for key in ("confidence", "accuracy", "low", "high")}
    return Line(
        column["confidence"],
        column["accuracy"],
        name,
        colour,
        in_legend=in_legend,
        symbol=SYMBOLS[place % len(SYMBOLS)],
        size=7,
        low=column["low"],
        high=column["high"],
        hover=Hover(f"{template}<extra>{name}</extra>", table[["low", "high", "n"]].to_numpy()),
    )
