"""Trend lines: rates, disparities and changes over the levels of imbalance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import Axis, Drawing, Hover, Line, Panel, ReferenceLine, columns_for
from fairsweep.analysis.drawing.palette import NEUTRAL, learner_colour
from fairsweep.analysis.figures.level_axes import LevelAxis, level_axis, level_bars, level_lines, value_range
from fairsweep.analysis.figures.line_styles import LineStyle, group_style, series_in
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.results.frames import renamed
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, design_of
from fairsweep.analysis.results.replicates import average, mean_differences
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At

_MOST_BANDS = 2


def rate_by_level(
    results: SweepResults,
    attribute: str | None = None,
    metric: str = "accuracy",
    *,
    series: Sequence[str] | None = None,
    at: At = "last",
) -> Drawing:
    """Plot a rate of each group over the levels of the imbalance, one panel per learner.

    Args:
        results: the sweep.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.
        metric: a rate.
        series: which ones are drawn, as in the column ``series``; None draws all.
        at: see `SweepResults.evaluations`.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    trials = results.rates([metric], by=attribute, at=at)
    trials = trials[trials["series"].isin(trials["series"] if series is None else list(series))]
    means = average(trials, results=results)
    drawn = series_in(results, means)
    title = f"test {resolve(metric, results.classes).title.lower()}"
    y = Axis(title, style="percent", range=value_range(means))
    return _by_group(results, design, attribute, trials, means, dict(zip(drawn, drawn, strict=True)), y)


@renamed(against="baseline")
def change_by_level(
    results: SweepResults,
    attribute: str | None = None,
    metric: str = "accuracy",
    *,
    baseline: str = "twin",
    learners: Sequence[str] | None = None,
    at: At = "last",
) -> Drawing | None:
    """Plot the change of each group from a baseline of the same imbalance and seeds, one panel per learner.

    Args:
        results: the sweep.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.
        metric: a rate.
        baseline: ``"twin"``, or the name of a separately tuned learner.
        learners: names of learners or series; None takes all that have a baseline.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure; None if no trial has such a baseline.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    trials = results.frame([metric], by=attribute, baseline=baseline, at=at)
    if learners is not None:
        trials = trials[trials["learner"].isin(learners) | trials["series"].isin(learners)]
    if trials.empty:
        return None
    means = mean_differences(results, [metric], by=attribute, baseline=baseline, at=at)
    means = means[means["series"].isin(trials["series"])]
    titles = {
        name: f"{name} minus {means.loc[means['series'] == name, 'baseline'].iloc[0]}"
        for name in series_in(results, means)
    }
    title = f"change in test {resolve(metric, results.classes).title.lower()}"
    y = Axis(title, style="percent", range=value_range(means, least=0.0))
    return _by_group(results, design, attribute, trials, means, titles, y, ReferenceLine(0.0))


def _by_group(
    results: SweepResults,
    design: ImbalanceDesign,
    attribute: str,
    trials: pd.DataFrame,
    means: pd.DataFrame,
    titles: dict[str, str],
    y: Axis,
    *rules: ReferenceLine,
) -> Drawing:
    """Plot one panel per series, in it one line per group; more than two groups have bars, as bands would merge."""
    axis = level_axis(design)
    columns = columns_for(len(titles))
    x, groups = axis.axis(columns), results.vocabulary(attribute).values
    panels: list[Panel] = []
    for name, title in titles.items():
        marks: list[Line | ReferenceLine] = []
        for group in groups:
            chosen, mine = (rows[(rows["series"] == name) & (rows["group"] == group)] for rows in (means, trials))
            style = group_style(results, design, attribute, group, in_legend=not panels)
            several = len(groups) > _MOST_BANDS and not style.is_faint
            marks += (
                [level_bars(axis, chosen, style, len(groups))] if several else level_lines(axis, chosen, mine, style)
            )
        panels.append(Panel(title, (*marks, *rules), x, y))
    return Drawing(tuple(panels), columns, shares_y=True, x_title=axis.title)


def disparity_by_level(
    results: SweepResults,
    attribute: str | None = None,
    metrics: Sequence[str] = ("accuracy_difference",),
    *,
    at: At = "last",
) -> Drawing:
    """Plot disparities over the levels, one line per learner and one panel per metric.

    A dotted line is what equal groups of these sizes would show by chance.

    Args:
        results: the sweep.
        attribute: between whose groups; None takes the one that is made imbalanced.
        metrics: names of disparities.
        at: see `SweepResults.evaluations`.
    """
    design = design_of(results)
    means = average(results.disparities(metrics, by=attribute or design.attribute, at=at), results=results)
    series = series_in(results, means)
    axis, columns = level_axis(design), min(2, len(metrics))
    y = Axis(style="percent", range=value_range(means, least=0.0))
    panels: list[Panel] = []
    for number, metric in enumerate(metrics):
        mine = means[means["metric"] == metric]
        lines = [
            level_bars(
                axis,
                mine[mine["series"] == name],
                LineStyle(name, learner_colour(series, name), name, number == 0, place),
                len(series),
            )
            for place, name in enumerate(series)
        ]
        lines.append(_luck(axis, mine, in_legend=number == 0))
        panels.append(Panel(resolve(metric, results.classes).title, tuple(lines), axis.axis(columns), y))
    return Drawing(tuple(panels), columns, shares_y=True, x_title=axis.title)


def _luck(axis: LevelAxis, means: pd.DataFrame, *, in_legend: bool) -> Line:
    by_level = means.groupby("level", sort=False)["expected_if_equal"].mean()
    x = axis.positions(by_level.index)
    order = np.argsort(x)
    return Line(
        x[order],
        by_level.to_numpy(np.float64)[order],
        "expected of equal groups",
        NEUTRAL,
        in_legend=in_legend,
        dash="dot",
        symbol=None,
        width=2,
        hover=Hover("%{y:.1%} expected of equal groups<extra></extra>"),
    )
