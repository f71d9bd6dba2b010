"""Bars with intervals for one level: rates and changes by group or class; training counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import (
    PANEL_HEIGHT,
    Axis,
    Bars,
    Drawing,
    Hover,
    Panel,
    ReferenceLine,
    columns_for,
)
from fairsweep.analysis.drawing.palette import (
    COMMON_COLOUR,
    GROUP_COLOURS,
    LEARNER_COLOURS,
    RARE_COLOUR,
    group_colour,
    learner_colour,
)
from fairsweep.analysis.figures.line_styles import group_style, group_texts, is_many, is_rare, series_in
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.records.cell_records import group_column
from fairsweep.analysis.records.counts import FRAME_COLUMNS, JOINT
from fairsweep.analysis.results.frames import renamed
from fairsweep.analysis.results.imbalance_design import design_of, shown
from fairsweep.analysis.results.replicates import average, mean_differences
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At
from fairsweep.analysis.results.sweep_records import one_of

_LABELS = 140
"""Height of long labels below an axis."""


def rate_by_group(
    results: SweepResults,
    attribute: str,
    metric: str = "accuracy",
    *,
    mean_over: str | None = None,
    level: str | None = None,
    series: Sequence[str] | None = None,
    at: At = "last",
) -> Drawing:
    """Plot a rate by group (or class) at one level as bars with intervals, one colour per learner.

    More learners than there are colours stand side by side instead, one colour per group.

    Args:
        results: the sweep.
        attribute: a group attribute, or the label for accuracy by class.
        metric: a rate.
        mean_over: average over the values of this attribute within each group, as unlearning-fairness does over age
            bins within races.
        level: as in the column ``level``; None takes the most imbalanced.
        series: which ones are drawn, as in the column ``series``; None draws all.
        at: see `SweepResults.evaluations`.
    """
    design = design_of(results)
    level = level or design.levels[-1].text
    frame = results.rates([metric], by=attribute, at=at, mean_over=mean_over)
    means = average(frame[frame["level"] == level], results=results)
    names = series_in(results, means)
    drawn = names if series is None else [one for one in names if one in series]
    groups = [str(name) for name in dict.fromkeys(means["group"])]
    by_group = len(drawn) > len(LEARNER_COLOURS) and len(groups) <= len(GROUP_COLOURS)
    marks = []
    for name in groups if by_group else drawn:
        rows = means[(means["group" if by_group else "series"] == name) & means["series"].isin(drawn)]
        if by_group:
            text = shown(results, attribute, name)
            marks.append(_bars(rows["series"].tolist(), rows, text, group_colour(groups, name)))
        else:
            texts = group_texts(results, attribute, rows["group"].tolist())
            marks.append(_bars(texts, rows, name, learner_colour(names, name)))
    title = f"test {resolve(metric, results.classes).title.lower()}"
    over = f", mean over {mean_over}" if mean_over else ""
    x = Axis("" if by_group else attribute, style="category")
    panel = Panel("", tuple(marks), x, Axis(f"{title}{over}", style="percent"))
    return Drawing((panel,), height=PANEL_HEIGHT + _LABELS if by_group else PANEL_HEIGHT)


def rate_by_two_groups(
    results: SweepResults,
    attribute: str,
    colour: str,
    metric: str = "accuracy",
    *,
    level: str | None = None,
    at: At = "last",
) -> Drawing:
    """Plot a rate by intersections of two attributes as bars with intervals, one colour per group of the second.

    Args:
        results: the sweep.
        attribute: whose groups stand along the axis, such as age bins.
        colour: whose groups are shown by colour, such as races.
        metric: a rate.
        level: as in the column ``level``; None takes the most imbalanced.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure, one panel per learner.
    """
    design = design_of(results)
    level = level or design.levels[-1].text
    frame = results.rates([metric], by=(attribute, colour), at=at)
    means = average(frame[frame["level"] == level], results=results)
    series = series_in(results, means)
    title = f"test {resolve(metric, results.classes).title.lower()}"
    panels: list[Panel] = []
    for name in series:
        rows = means[means["series"] == name].set_index("group")
        marks = []
        for group in results.vocabulary(colour).values:
            places = results.vocabulary(attribute).values
            style = group_style(results, design, colour, group, in_legend=not panels)
            mine = rows.loc[[f"{place}{JOINT}{group}" for place in places]]
            marks.append(_bars(group_texts(results, attribute, places), mine, style.name, style.colour, not panels))
        panels.append(Panel(name, tuple(marks), Axis(attribute, style="category"), Axis(title, style="percent")))
    return Drawing(tuple(panels), columns=1, height=PANEL_HEIGHT - 40)


@renamed(against="baseline")
def change_by_group(
    results: SweepResults,
    attribute: str,
    metric: str = "accuracy",
    *,
    baseline: str = "twin",
    learners: Sequence[str] | None = None,
    level: str | None = None,
    at: At = "last",
) -> Drawing | None:
    """Plot the change of each group (or class) from a baseline as bars with intervals; rare ones stand out.

    Args:
        results: the sweep.
        attribute: a group attribute, or the label for the change by class.
        metric: a rate.
        baseline: ``"twin"``, or the name of a separately tuned learner.
        learners: names of learners or series; None takes all that have a baseline.
        level: as in the column ``level``; None takes the most imbalanced.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure; None if no trial has such a baseline.
    """
    design = design_of(results)
    level = level or design.levels[-1].text
    means = mean_differences(results, [metric], by=attribute, baseline=baseline, at=at)
    means = means[means["level"] == level]
    if learners is not None:
        means = means[means["learner"].isin(learners) | means["series"].isin(learners)]
    if means.empty:
        return None
    title = f"change in test {resolve(metric, results.classes).title.lower()}"
    panels: list[Panel] = []
    for name in series_in(results, means):
        rows = means[means["series"] == name]
        colours = [RARE_COLOUR if is_rare(design, attribute, g) else COMMON_COLOUR for g in rows["group"]]
        texts = group_texts(results, attribute, rows["group"].tolist())
        bars = _bars(texts, rows, name, colours, in_legend=False)
        against_what = f"{name} minus {rows['baseline'].iloc[0]}"
        x, y = Axis(attribute, style="category"), Axis(title, style="percent")
        panels.append(Panel(against_what, (bars, ReferenceLine(0.0)), x, y))
    return Drawing(tuple(panels), columns_for(len(panels)), shares_y=True, gap=0.3)


def training_counts(results: SweepResults, attribute: str | None = None) -> Drawing | None:
    """Plot the training images of each group by level; None if nothing is recorded yet.

    Args:
        results: the sweep.
        attribute: whose groups are counted, one of the sweep's groups or the label; None takes the one that is made
            imbalanced.

    Raises:
        ValueError: if it is another attribute: training images are recorded by groups and label.
    """
    design = design_of(results)
    attribute = one_of(attribute or design.attribute, (*results.groups, results.label), "attribute")
    column = group_column(attribute, FRAME_COLUMNS) if attribute in results.groups else "label"
    counts = results.training_counts()[["trial", column, "count"]].rename(columns={column: "value"})
    counts = counts.merge(results.trials[["trial", "level"]], on="trial")
    if counts.empty:
        return None
    totals = counts.groupby(["trial", "level", "value"], sort=False)["count"].sum().reset_index()
    means = totals.groupby(["level", "value"], sort=False)["count"].mean()
    names = list(results.vocabulary(attribute).values)
    levels = [level.text for level in design.levels]
    by_group = len(levels) == 1
    marks = []
    for name in names:
        values = np.array([float(means.get((level, name), 0.0)) for level in levels])
        text = shown(results, attribute, name)
        rare = RARE_COLOUR if is_rare(design, attribute, name) else COMMON_COLOUR
        marks.append(
            Bars(
                [text] if by_group else levels,
                values,
                text,
                rare if is_many(results, attribute) else group_colour(names, name),
                in_legend=not by_group,
                texts=[f"{value:,.0f}" for value in values],
                hover=Hover(f"%{{y:,.0f}} training {results.unit}s<extra>{text}</extra>"),
            )
        )
    panel = Panel("", tuple(marks), Axis(style="category"), Axis(f"training {results.unit}s", from_zero=True))
    return Drawing((panel,), height=PANEL_HEIGHT - 40)


def _bars(
    texts: Sequence[str], rows: pd.DataFrame, name: str, colour: str | Sequence[str], in_legend: bool = True
) -> Bars:
    """Return the bars with the intervals of `average`."""
    template = (
        "%{x}: %{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>n %{customdata[2]:,}, replicates "
        "%{customdata[3]}"
    )
    value, low, high = (rows[column].to_numpy(np.float64) for column in ("value", "low", "high"))
    hover = Hover(f"{template}<extra>{name}</extra>", rows[["low", "high", "n_min", "replicates"]].to_numpy())
    return Bars(list(texts), value, name, colour, in_legend=in_legend, low=low, high=high, hover=hover)
