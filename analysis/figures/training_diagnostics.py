"""Training diagnostics by group: gradient norms, clipped share, and cosine with the update."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import PANEL_HEIGHT, Axis, Drawing, Hover, Line, Panel
from fairsweep.analysis.drawing.palette import COMMON_COLOUR
from fairsweep.analysis.figures.line_styles import OTHERS, LineStyle, group_style, is_many, is_rare
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, design_of
from fairsweep.analysis.results.results import SweepResults


def diagnostics(results: SweepResults, series: str, attribute: str | None = None) -> Drawing | None:
    """Plot gradient norm, clipped share and cosine by group over training, at the extreme levels.

    Args:
        results: the sweep.
        series: a private learner, as in the column ``series``.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.

    Returns:
        The figure; None where no diagnostics are recorded. Solid lines are the most imbalanced level, dotted ones the
        least; each is the mean over labels (by count) and replicates.
    """
    quantities = {
        "mean_gradient_norm": "gradient norm before clipping",
        "clipped_share": "share of clipped examples",
        "cosine": "cosine with the update",
    }
    design = design_of(results)
    return _course(results, results.diagnostics(), design, series, attribute or design.attribute, quantities)


def client_diagnostics(results: SweepResults, series: str, attribute: str | None = None) -> Drawing | None:
    """Plot norm, clipped share and cosine of client updates, by the group of most of a client's examples.

    Args:
        results: the sweep.
        series: a federated learner, as in the column ``series``.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.

    Returns:
        The figure; None where no updates are recorded.
    """
    quantities = {
        "mean_update_norm": "norm of a client's update",
        "clipped_share": "share of clipped updates",
        "cosine": "cosine with the mean update",
    }
    design = design_of(results)
    rows = results.clients().rename(columns={"updates": "count"})
    return _course(results, rows, design, series, attribute or design.attribute, quantities)


def _course(
    results: SweepResults,
    rows: pd.DataFrame,
    design: ImbalanceDesign,
    series: str,
    attribute: str,
    quantities: Mapping[str, str],
) -> Drawing | None:
    """Return lines over the iterations, one panel per quantity, one line per group and extreme level."""
    rows = rows[(rows["attribute"] == attribute) & (rows["count"] > 0)]
    rows = rows.merge(results.trials[["trial", "series", "level"]], on="trial")
    rows = rows[rows["series"] == series]
    if rows.empty:
        return None
    if is_many(results, attribute):
        rows["value"] = [name if is_rare(design, attribute, name) else OTHERS for name in rows["value"]]
    extremes = list(dict.fromkeys([design.levels[-1].text, design.levels[0].text]))
    x = Axis("iteration", step=max(1, -(-int(rows["iteration"].max()) // 6)))
    panels: list[Panel] = []
    for quantity, title in quantities.items():
        lines = []
        for dash, level in zip(("solid", "dot"), extremes, strict=False):
            for name in dict.fromkeys(rows["value"]):
                style = LineStyle(OTHERS, COMMON_COLOUR, OTHERS, in_legend=True)
                if name != OTHERS:
                    style = group_style(results, design, attribute, name, in_legend=True)
                text = f"{style.name}, {level}" if len(extremes) > 1 else style.name
                mine = _weighted(rows[(rows["level"] == level) & (rows["value"] == name)], quantity)
                lines.append(_line(mine, text, style.colour, dash, in_legend=not panels))
        y = Axis(style="percent" if quantity == "clipped_share" else "number")
        panels.append(Panel(title, tuple(lines), x, y))
    return Drawing(tuple(panels), columns=len(panels), height=PANEL_HEIGHT - 20)


def _line(rows: pd.DataFrame, name: str, colour: str, dash: str, *, in_legend: bool) -> Line:
    hover = Hover(f"%{{y:.3g}} at iteration %{{x}}, n %{{customdata:,}}<extra>{name}</extra>", rows["count"].to_numpy())
    return Line(
        rows.index.to_numpy(np.float64),
        rows["mean"].to_numpy(np.float64),
        name,
        colour,
        in_legend=in_legend,
        dash=dash,
        symbol=None,
        hover=hover,
    )


def _weighted(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return the mean of a diagnostic by iteration, weighted by counts; columns ``mean`` and ``count``."""
    table = rows.assign(mean=rows[quantity] * rows["count"]).groupby("iteration")[["mean", "count"]].sum()
    table["mean"] /= table["count"]
    return table
