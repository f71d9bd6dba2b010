"""Bars with intervals for one level: rates and changes by group or class; training counts."""

from collections.abc import Sequence

import plotly.graph_objects as go

from fairsweep.analysis.axes import (
    bars,
    style,
)
from fairsweep.analysis.focus import focus_of, shown
from fairsweep.analysis.looks import (
    PANEL_HEIGHT,
    group_texts,
    is_many,
    is_rare,
    panels,
    series_of,
)
from fairsweep.analysis.metrics import resolve
from fairsweep.analysis.palette import COMMON_COLOUR, NEUTRAL, RARE_COLOUR, group_colour, learner_colour
from fairsweep.analysis.replicates import average
from fairsweep.analysis.results import At, SweepResults


def rate_by_group(
    results: SweepResults, attribute: str, metric: str = "accuracy", *, level: str | None = None, at: At = "last"
) -> go.Figure:
    """Bars with intervals: a rate of each group (or class), one colour a learner; for one level.

    Args:
        results: the sweep.
        attribute: a group attribute, or the label for accuracy by class.
        metric: a rate.
        level: as in the column ``level``; None takes the most imbalanced.
        at: see `SweepResults.evaluations`.
    """
    focus = focus_of(results)
    level = level or focus.levels[-1].text
    frame = results.rates([metric], by=attribute, at=at)
    means = average(frame[frame["level"] == level])
    series = [name for name in series_of(results) if name in set(means["series"])]
    figure = go.Figure()
    for name in series:
        colour = learner_colour(series, name)
        rows = means[means["series"] == name]
        figure.add_trace(bars(group_texts(results, attribute, rows), rows, name, colour))
    figure.update_yaxes(tickformat=".3~p", title_text=f"test {resolve(metric, results.classes).title.lower()}")
    figure.update_xaxes(title_text=attribute, type="category")
    figure.update_layout(barmode="group", bargap=0.25)
    return style(figure, PANEL_HEIGHT)


def change_by_group(
    results: SweepResults,
    attribute: str,
    metric: str = "accuracy",
    *,
    against: str = "twin",
    learners: Sequence[str] | None = None,
    level: str | None = None,
    at: At = "last",
) -> go.Figure | None:
    """Bars with intervals: the change of each group (or class) against a baseline; rare ones stand out.

    Args:
        results: the sweep.
        attribute: a group attribute, or the label for the change by class.
        metric: a rate.
        against: ``"twin"``, or the name of a separately tuned learner.
        learners: names of learners; None takes all that have a baseline.
        level: as in the column ``level``; None takes the most imbalanced.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure; None if no trial has such a baseline.
    """
    focus = focus_of(results)
    level = level or focus.levels[-1].text
    frame = results.frame([metric], by=attribute, against=against, at=at)
    frame = frame[(frame["level"] == level) & frame["learner"].isin(frame["learner"] if learners is None else learners)]
    if frame.empty:
        return None
    means = average(frame)
    series = [name for name in series_of(results) if name in set(means["series"])]
    titles = [f"{name} minus {means.loc[means['series'] == name, 'against'].iloc[0]}" for name in series]
    figure, places = panels(titles)
    for name, (row, column) in zip(series, places, strict=True):
        rows = means[means["series"] == name]
        colours = [RARE_COLOUR if is_rare(focus, attribute, g) else COMMON_COLOUR for g in rows["group"]]
        figure.add_trace(bars(group_texts(results, attribute, rows), rows, name, colours), row=row, col=column)
    figure.add_hline(y=0, line={"color": NEUTRAL, "width": 1})
    figure.update_yaxes(tickformat=".3~p")
    title = resolve(metric, results.classes).title
    figure.update_yaxes(title_text=f"change of test {title.lower()}", col=1)
    figure.update_xaxes(title_text=attribute, type="category")
    figure.update_layout(showlegend=False, bargap=0.3)
    return style(figure, PANEL_HEIGHT * places[-1][0])


def training_counts(results: SweepResults, attribute: str | None = None) -> go.Figure | None:
    """Training images of each group by level, as realised; None if nothing is recorded yet."""
    focus = focus_of(results)
    attribute = attribute or focus.attribute
    column = attribute if attribute in results.groups else "label"
    counts = results.training_counts().merge(results.trials[["trial", "level"]], on="trial")
    if counts.empty:
        return None
    totals = counts.groupby(["trial", "level", column], sort=False)["count"].sum().reset_index()
    means = totals.groupby(["level", column], sort=False)["count"].mean()
    names = list(results.vocabulary(attribute).values)
    levels = [level.text for level in focus.levels]
    figure = go.Figure()
    by_group = len(levels) == 1
    for name in names:
        values = [float(means.get((level, name), 0.0)) for level in levels]
        text = shown(results, attribute, name)
        rare = RARE_COLOUR if is_rare(focus, attribute, name) else COMMON_COLOUR
        figure.add_trace(
            go.Bar(
                x=[text] if by_group else levels,
                y=values,
                name=text,
                marker={"color": rare if is_many(results, attribute) else group_colour(names, name)},
                text=[f"{value:,.0f}" for value in values],
                textposition="outside",
                cliponaxis=False,
                showlegend=not by_group,
                hovertemplate="%{y:,.0f} training images<extra>" + text + "</extra>",
            )
        )
    figure.update_yaxes(title_text="training images", rangemode="tozero")
    figure.update_xaxes(type="category")
    figure.update_layout(barmode="group", bargap=0.25)
    return style(figure, PANEL_HEIGHT - 40)
