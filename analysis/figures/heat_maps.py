"""Heat maps: a metric for learners and levels, and confusion by group."""

from __future__ import annotations

import numpy as np

from fairsweep.analysis.drawing.drawing import PANEL_HEIGHT, Axis, Drawing, HeatMap, Hover, Panel, columns_for
from fairsweep.analysis.figures.line_styles import series_in
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.metrics.rates import divide
from fairsweep.analysis.results.imbalance_design import design_of, shown
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At

_ROW, _AROUND = 46, 150
_MOST_TEXTS = 12


def heat_map(
    results: SweepResults,
    metric: str = "accuracy",
    attribute: str | None = None,
    group: str | None = None,
    *,
    at: At = "last",
) -> Drawing:
    """Return a metric for each learner (rows) and level (columns), with the half-width of its interval.

    Args:
        results: the sweep.
        metric: a rate or a disparity.
        attribute: of a disparity, or whose group is shown; None takes the one that is made imbalanced.
        group: the group whose rate is shown; None takes all examples together.
        at: see `SweepResults.evaluations`.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    resolved = resolve(metric, results.classes)
    title = f"{resolved.title} in %"
    if isinstance(resolved.row, Disparity):
        frame = results.disparities([metric], by=attribute, at=at)
        title += f" between groups of {attribute}"
    else:
        frame = results.rates([metric], by=() if group is None else attribute, at=at)
        frame = frame if group is None else frame[frame["group"] == group]
        title += "" if group is None else f" of {shown(results, attribute, group)}"
    means = average(frame, results=results)
    series = series_in(results, means)
    levels = [level.text for level in design.levels]
    table = means.set_index(["series", "level"])
    names = ["value", "low", "high", "n_min", "replicates"]
    found = table.reindex([(name, level) for name in series for level in levels])
    grid = np.stack([found[name].to_numpy(np.float64).reshape(len(series), -1) for name in names], -1)
    value, half = grid[..., 0], (grid[..., 2] - grid[..., 1]) / 2
    known = value[np.isfinite(value)]
    template = (
        "%{z:.1%} [%{customdata[1]:.1%}, %{customdata[2]:.1%}]<br>n %{customdata[3]:,.0f}, replicates "
        "%{customdata[4]:.0f}<extra>%{y}, %{x}</extra>"
    )
    texts = [
        ["" if np.isnan(v) else f"{100 * v:.1f}<br>± {100 * h:.1f}" for v, h in zip(*line, strict=True)]
        for line in zip(value, half, strict=True)
    ]
    span = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    cells = HeatMap(levels, series, value, texts, span, hover=Hover(template, grid))
    panel = Panel(title, (cells,), Axis(style="category"), Axis(style="category"))
    return Drawing((panel,), height=_AROUND + _ROW * len(series))


def confusion(
    results: SweepResults, series: str, attribute: str | None = None, *, level: str | None = None, at: At = "last"
) -> Drawing | None:
    """Plot confusion matrices by group, normalised by true class; one panel per group.

    Args:
        results: the sweep.
        series: a learner, as in the column ``series``.
        attribute: whose groups are shown; None takes the one that is made imbalanced.
        level: as in the column ``level``; None takes the most imbalanced.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure, replicates summed; None where no trial of the series is done at this level.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    level = level or design.levels[-1].text
    trials = results.trials[(results.trials["series"] == series) & (results.trials["level"] == level)]
    counts = results.counts(attribute, at=at)
    mine = np.isin(counts.evaluations.trial.astype(str), trials["trial"].to_numpy(str))
    if not mine.any():
        return None
    summed = counts.values[mine].sum(0)
    names = list(results.vocabulary(results.label).display)
    height = max(PANEL_HEIGHT - 60, _AROUND + 26 * len(names))
    panels: list[Panel] = []
    for group, cells in zip(counts.groups, summed, strict=True):
        n = np.broadcast_to(cells.sum(-1, keepdims=True), cells.shape)
        share = divide(cells, n)
        texts = [
            [_share_text(s, c, len(names)) for s, c in zip(*line, strict=True)]
            for line in zip(share, cells, strict=True)
        ]
        hover = Hover(
            "%{z:.1%} of %{y} predicted as %{x}<br>%{customdata[0]:,} of n %{customdata[1]:,}<extra></extra>",
            np.stack([cells, n], -1),
        )
        title = f"{shown(results, attribute, group)}, n {int(cells.sum()):,}"
        marks = (HeatMap(names, names, share, texts, (0.0, 1.0), hover=hover),)
        panels.append(Panel(title, marks, Axis(style="category"), Axis(results.label, style="category")))
    return Drawing(tuple(panels), columns_for(len(panels)), height=height, shares_y=True, x_title="predicted")


def _share_text(share: float, count: int, classes: int) -> str:
    """Return what stands in a cell: with many classes the share alone, and nothing where it rounds to 0."""
    if np.isnan(share) or (classes > _MOST_TEXTS and share < 0.005):
        return ""
    if classes > _MOST_TEXTS // 2:
        return f"{100 * share:.0f}" if share >= 0.005 else ""
    return f"{100 * share:.1f}%<br>{count:,}"
