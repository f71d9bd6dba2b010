"""Trends: rates, disparities and changes over the levels of the imbalance, and disparities over ε."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairsweep.analysis.axes import (
    Look,
    fit_values,
    level_axis,
    level_bars,
    level_line,
    level_thread,
    points,
    style,
)
from fairsweep.analysis.focus import focus_of
from fairsweep.analysis.looks import (
    PANEL_HEIGHT,
    group_look,
    panels,
    series_of,
)
from fairsweep.analysis.metrics import resolve
from fairsweep.analysis.palette import NEUTRAL, learner_colour
from fairsweep.analysis.replicates import average
from fairsweep.analysis.results import At, SweepResults


def rate_by_level(
    results: SweepResults, attribute: str | None = None, metric: str = "accuracy", *, at: At = "last"
) -> go.Figure:
    """Trend of a rate of each group over the levels of the imbalance, one panel a learner.

    Args:
        results: the sweep.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.
        metric: a rate.
        at: see `SweepResults.evaluations`.
    """
    focus = focus_of(results)
    attribute = attribute or focus.attribute
    trials = results.rates([metric], by=attribute, at=at)
    means = average(trials)
    title = resolve(metric, results.classes).title
    series = [name for name in series_of(results) if name in set(means["series"])]
    axis = level_axis(focus)
    figure, places = panels(series)
    names = list(results.vocabulary(attribute).values)
    for name, (row, column) in zip(series, places, strict=True):
        for group in names:
            chosen = means[(means["series"] == name) & (means["group"] == group)]
            mine = trials[(trials["series"] == name) & (trials["group"] == group)]
            look = group_look(results, focus, attribute, group, in_legend=name == series[0])
            traces = [level_thread(axis, chosen, look)] if look.is_faint else level_line(axis, chosen, mine, look)
            figure.add_traces(traces, rows=row, cols=column)
    axis.apply(figure)
    fit_values(figure, means)
    figure.update_yaxes(tickformat=".3~p")
    figure.update_yaxes(title_text=f"test {title.lower()}", col=1)
    return style(figure, PANEL_HEIGHT * places[-1][0])


def disparity_by_level(
    results: SweepResults,
    attribute: str | None = None,
    metrics: Sequence[str] = ("accuracy_difference",),
    *,
    at: At = "last",
) -> go.Figure:
    """Disparities over the levels, one line a learner and one panel a metric.

    A dotted line is what equal groups of these sizes would show by luck alone.
    """
    focus = focus_of(results)
    attribute = attribute or focus.attribute
    means = average(results.disparities(metrics, by=attribute, at=at))
    series = [name for name in series_of(results) if name in set(means["series"])]
    titles = [resolve(metric, results.classes).title for metric in metrics]
    axis = level_axis(focus)
    columns = min(2, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = make_subplots(
        rows, columns, shared_yaxes="all", subplot_titles=titles, horizontal_spacing=0.05, vertical_spacing=0.34 / rows
    )
    for number, metric in enumerate(metrics):
        row, column = divmod(number, columns)
        for place, name in enumerate(series):
            chosen = (means["series"] == name) & (means["metric"] == metric)
            look = Look(name, learner_colour(series, name), name, number == 0, place)
            figure.add_trace(level_bars(axis, means[chosen], look, len(series)), row=row + 1, col=column + 1)
        luck = means[means["metric"] == metric].groupby("level", sort=False)["null"].mean()
        trace = go.Scatter(
            x=axis.positions(luck.index),
            y=luck.to_numpy(),
            mode="lines",
            line={"color": NEUTRAL, "dash": "dot", "width": 2},
            name="by luck, if groups were equal",
            legendgroup="luck",
            showlegend=number == 0,
            hovertemplate="%{y:.1%} by luck alone<extra></extra>",
        )
        figure.add_trace(trace, row=row + 1, col=column + 1)
    axis.apply(figure)
    fit_values(figure, means, least=0.0)
    figure.update_yaxes(tickformat=".3~p")
    return style(figure, PANEL_HEIGHT * rows)


def change_by_level(
    results: SweepResults,
    attribute: str | None = None,
    metric: str = "accuracy",
    *,
    against: str = "twin",
    learners: Sequence[str] | None = None,
    at: At = "last",
) -> go.Figure | None:
    """Change of each group against a baseline of the same imbalance and seeds, one panel a learner.

    Args:
        results: the sweep.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.
        metric: a rate.
        against: ``"twin"``, or the name of a separately tuned learner.
        learners: names of learners; None takes all that have a baseline.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure; None if no trial has such a baseline.
    """
    focus = focus_of(results)
    attribute = attribute or focus.attribute
    trials = results.frame([metric], by=attribute, against=against, at=at)
    trials = trials[trials["learner"].isin(trials["learner"] if learners is None else learners)]
    if trials.empty:
        return None
    means = average(trials)
    series = [name for name in series_of(results) if name in set(means["series"])]
    axis = level_axis(focus)
    titles = [f"{name} minus {means.loc[means['series'] == name, 'against'].iloc[0]}" for name in series]
    figure, places = panels(titles)
    names = list(results.vocabulary(attribute).values)
    for name, (row, column) in zip(series, places, strict=True):
        for group in names:
            chosen = means[(means["series"] == name) & (means["group"] == group)]
            mine = trials[(trials["series"] == name) & (trials["group"] == group)]
            look = group_look(results, focus, attribute, group, in_legend=name == series[0])
            traces = [level_thread(axis, chosen, look)] if look.is_faint else level_line(axis, chosen, mine, look)
            figure.add_traces(traces, rows=row, cols=column)
    axis.apply(figure)
    fit_values(figure, means, least=0.0)
    figure.add_hline(y=0, line={"color": NEUTRAL, "width": 1})
    figure.update_yaxes(tickformat=".3~p")
    title = resolve(metric, results.classes).title
    figure.update_yaxes(title_text=f"change of test {title.lower()}", col=1)
    return style(figure, PANEL_HEIGHT * places[-1][0])


def disparity_by_epsilon(
    results: SweepResults, attribute: str | None = None, metric: str = "accuracy_difference", *, at: At = "last"
) -> go.Figure | None:
    """A disparity against the ε spent, one line a level; None unless two finite ε were spent at one level."""
    focus = focus_of(results)
    attribute = attribute or focus.attribute
    means = average(results.disparities([metric], by=attribute, at=at))
    finite = means[np.isfinite(means["epsilon"])]
    if finite.empty or finite.groupby("level")["epsilon"].nunique().max() < 2:
        return None
    figure = go.Figure()
    levels = [level.text for level in focus.levels]
    for level in levels:
        rows = finite[finite["level"] == level].sort_values("epsilon")
        look = Look(level, learner_colour(levels, level), level, True, levels.index(level))
        figure.add_traces(points(rows["epsilon"].to_numpy(np.float64), rows, look))
    spent = np.unique(finite["epsilon"].round(2).to_numpy())
    figure.update_xaxes(type="log", title_text="ε spent (PLD)", tickvals=spent, ticktext=[f"{e:g}" for e in spent])
    fit_values(figure, finite, least=0.0)
    figure.update_yaxes(tickformat=".3~p", title_text=resolve(metric, results.classes).title)
    return style(figure, PANEL_HEIGHT)
