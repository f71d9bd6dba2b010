"""The course of training by group: learning curves, gradient norms, clipped share, and cosine with the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import MOST, PANEL_HEIGHT, Axis, Band, Drawing, Hover, Line, Panel, columns_for
from fairsweep.analysis.drawing.palette import COMMON_COLOUR
from fairsweep.analysis.figures.line_styles import OTHERS, LineStyle, group_style, is_many, is_rare, series_in
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.metrics.disparities import value_of
from fairsweep.analysis.metrics.rates import Rate
from fairsweep.analysis.metrics.scores import Score
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, design_of
from fairsweep.analysis.results.results import SweepResults

_MOST_POINTS = 100


def learning_curves(
    results: SweepResults,
    attribute: str | None = None,
    metric: str = "accuracy",
    *,
    split: str = "test",
    series: Sequence[str] | None = None,
    levels: Sequence[str] | None = None,
) -> Drawing | None:
    """Plot a rate of each group after each iteration, one panel per learner.

    Args:
        results: the sweep.
        attribute: whose groups are drawn, one of the sweep's groups or the label; None takes the one that is made
            imbalanced.
        metric: a rate or score of cells.
        split: ``test`` or ``validation``.
        series: which ones are drawn, as in the column ``series``; None draws all.
        levels: one or two of the column ``level``; None takes the most imbalanced one (solid) and the least (dotted).

    Returns:
        The figure; None where no trial was evaluated after more than one iteration. Lines are means over replicates;
        bands reach from the lowest replicate to the highest.

    Raises:
        ValueError: if the metric needs predictions or compares groups, or a level is not there.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    texts = [level.text for level in design.levels]
    shown = list(dict.fromkeys([texts[-1], texts[0]] if levels is None else levels))
    if not 1 <= len(shown) <= 2 or not set(shown) <= set(texts):
        raise ValueError(f"levels must be one or two of {texts}, but got {shown}")
    rows = _rates(results, design, attribute, metric, split)
    rows = rows[rows["level"].isin(shown) & rows["series"].isin(rows["series"] if series is None else list(series))]
    if rows["iteration"].nunique() < 2:
        return None
    drawn = series_in(results, rows)
    columns, last = columns_for(len(drawn)), int(rows["iteration"].max())
    x = Axis(step=max(1, -(-last // 6)))
    title = f"{split} {resolve(metric, results.classes).title.lower()}"
    values = rows["value"].dropna()
    margin = 0.06 * max(float(np.ptp(values)), 0.02) if len(values) else 0.0
    reach = (max(values.min() - margin, -MOST), min(values.max() + margin, MOST)) if len(values) else None
    panels: list[Panel] = []
    for name in drawn:
        lines = []
        for dash, level in zip(("solid", "dot"), shown, strict=False):
            for group in dict.fromkeys(rows["group"]):
                style = LineStyle(OTHERS, COMMON_COLOUR, OTHERS, in_legend=True)
                if group != OTHERS:
                    style = group_style(results, design, attribute, group, in_legend=True)
                text = f"{style.name}, {level}" if len(shown) > 1 else style.name
                mine = rows[(rows["series"] == name) & (rows["level"] == level) & (rows["group"] == group)]
                if len(mine):
                    lines.append(_spread_line(mine, text, style.colour, dash, in_legend=not panels))
        panels.append(Panel(name, tuple(lines), x, Axis(title, style="percent", range=reach)))
    return Drawing(tuple(panels), columns, shares_y=True, x_title="iteration")


def _rates(results: SweepResults, design: ImbalanceDesign, attribute: str, metric: str, split: str) -> pd.DataFrame:
    """Return ``series``, ``level``, ``group``, ``iteration`` and ``value`` of each trial; many groups are pooled."""
    found = resolve(metric, results.classes)
    row = found.row
    if not isinstance(row, Rate | Score):
        raise ValueError(f"metric must be a rate or score of cells, as describe() lists them, but got {metric!r}")
    counts = results.counts(attribute, split=split, at="all")
    cells, names = counts.values, list(counts.groups)
    if is_many(results, attribute):
        rare = np.array([is_rare(design, attribute, name) for name in names])
        cells = np.concatenate([cells[:, rare], cells[:, ~rare].sum(1, keepdims=True)], axis=1)
        names = [*(name for name, kept in zip(names, rare, strict=True) if kept), OTHERS]
    every = np.unique(counts.evaluations.iteration)
    kept = every[np.unique(np.linspace(0, len(every) - 1, min(len(every), _MOST_POINTS)).round().astype(np.int64))]
    table = pd.DataFrame(value_of(cells, row, found.positive), columns=names)
    table = table.assign(trial=list(counts.evaluations.trial), iteration=counts.evaluations.iteration)
    long = table[table["iteration"].isin(kept)].melt(["trial", "iteration"], var_name="group")
    return long.merge(results.trials[["trial", "series", "level"]], on="trial")


def _spread_line(rows: pd.DataFrame, name: str, colour: str, dash: str, *, in_legend: bool) -> Line:
    table = rows.groupby("iteration")["value"].agg(["mean", "min", "max", "count"])
    low, high = table["min"].to_numpy(np.float64), table["max"].to_numpy(np.float64)
    hover = (
        "%{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}] over %{customdata[2]} replicates<br>iteration %{x}"
        f"<extra>{name}</extra>"
    )
    return Line(
        table.index.to_numpy(np.float64),
        table["mean"].to_numpy(np.float64),
        name,
        colour,
        in_legend=in_legend,
        dash=dash,
        symbol=None,
        bands=(Band(low, high, 0.14),) if table["count"].max() > 1 else (),
        hover=Hover(hover, table[["min", "max", "count"]].to_numpy()),
    )


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
    x = Axis(step=max(1, -(-int(rows["iteration"].max()) // 6)))
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
    return Drawing(tuple(panels), columns=len(panels), height=PANEL_HEIGHT - 20, x_title="iteration")


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
