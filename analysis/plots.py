"""Figures of a sweep, as plotly figures: what a notebook shows and the report prints.

Group colours and learner marks are the same in every figure. Bands and bars are the joint intervals of `average`: t
over replicates and the error of the test images; small dots are single trials.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairsweep.analysis.axes import Look, bars, level_axis, level_bars, level_line, level_thread, points, style
from fairsweep.analysis.focus import Focus, focus_of, shown
from fairsweep.analysis.metrics import resolve
from fairsweep.analysis.palette import COMMON_COLOUR, NEUTRAL, RARE_COLOUR, group_colour, learner_colour
from fairsweep.analysis.replicates import average
from fairsweep.analysis.results import At, SweepResults

PANEL_HEIGHT = 360
_GROUPS_SHOWN = 8
_PANELS_IN_A_ROW = 3
_OTHERS = "the others"


def series_of(results: SweepResults) -> list[str]:
    """Names of the series (learners, with what varies under their name), in the order of the sweep."""
    return [name for name in dict.fromkeys(results.trials["series"]) if name]


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
    figure, places = _panels(series)
    names = list(results.vocabulary(attribute).values)
    for name, (row, column) in zip(series, places, strict=True):
        for group in names:
            chosen = means[(means["series"] == name) & (means["group"] == group)]
            mine = trials[(trials["series"] == name) & (trials["group"] == group)]
            look = _group_look(results, focus, attribute, group, in_legend=name == series[0])
            traces = [level_thread(axis, chosen, look)] if look.is_faint else level_line(axis, chosen, mine, look)
            figure.add_traces(traces, rows=row, cols=column)
    axis.apply(figure)
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
    figure.update_yaxes(tickformat=".3~p", rangemode="tozero")
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
    figure, places = _panels(titles)
    names = list(results.vocabulary(attribute).values)
    for name, (row, column) in zip(series, places, strict=True):
        for group in names:
            chosen = means[(means["series"] == name) & (means["group"] == group)]
            mine = trials[(trials["series"] == name) & (trials["group"] == group)]
            look = _group_look(results, focus, attribute, group, in_legend=name == series[0])
            traces = [level_thread(axis, chosen, look)] if look.is_faint else level_line(axis, chosen, mine, look)
            figure.add_traces(traces, rows=row, cols=column)
    axis.apply(figure)
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
    figure.update_xaxes(type="log", title_text="ε spent (PLD)")
    figure.update_yaxes(tickformat=".3~p", rangemode="tozero", title_text=resolve(metric, results.classes).title)
    return style(figure, PANEL_HEIGHT)


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
        figure.add_trace(bars(_texts(results, attribute, rows), rows, name, colour))
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
    figure, places = _panels(titles)
    for name, (row, column) in zip(series, places, strict=True):
        rows = means[means["series"] == name]
        colours = [RARE_COLOUR if _is_rare(focus, attribute, g) else COMMON_COLOUR for g in rows["group"]]
        figure.add_trace(bars(_texts(results, attribute, rows), rows, name, colours), row=row, col=column)
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
        rare = RARE_COLOUR if _is_rare(focus, attribute, name) else COMMON_COLOUR
        figure.add_trace(
            go.Bar(
                x=[text] if by_group else levels,
                y=values,
                name=text,
                marker={"color": rare if _is_many(results, attribute) else group_colour(names, name)},
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


def diagnostics(results: SweepResults, series: str, attribute: str | None = None) -> go.Figure | None:
    """Why a group loses: gradient norm, clipped share and cosine by group over training, at the extreme levels.

    Args:
        results: the sweep.
        series: a private learner, as in the column ``series``.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.

    Returns:
        The figure; None where no diagnostics are recorded. Solid lines are the most imbalanced level, dotted ones the
        least; each is the mean over labels (by count) and replicates.
    """
    focus = focus_of(results)
    attribute = attribute or focus.attribute
    rows = results.diagnostics()
    rows = rows[(rows["attribute"] == attribute) & (rows["count"] > 0)]
    rows = rows.merge(results.trials[["trial", "series", "level"]], on="trial")
    rows = rows[rows["series"] == series]
    if rows.empty:
        return None
    panels = {
        "mean_gradient_norm": "gradient norm before clipping",
        "clipped_share": "share of clipped examples",
        "cosine": "cosine with the update",
    }
    if _is_many(results, attribute):
        rows["value"] = [name if _is_rare(focus, attribute, name) else _OTHERS for name in rows["value"]]
    figure = make_subplots(1, 3, subplot_titles=list(panels.values()), horizontal_spacing=0.06)
    extremes = list(dict.fromkeys([focus.levels[-1].text, focus.levels[0].text]))
    for column, quantity in enumerate(panels, start=1):
        for dash, level in zip(("solid", "dot"), extremes, strict=False):
            for name in dict.fromkeys(rows["value"]):
                line = _weighted(rows[(rows["level"] == level) & (rows["value"] == name)], quantity)
                look = Look(_OTHERS, COMMON_COLOUR, _OTHERS, True)
                if name != _OTHERS:
                    look = _group_look(results, focus, attribute, name, in_legend=True)
                text = f"{look.name}, {level}" if len(extremes) > 1 else look.name
                figure.add_trace(
                    go.Scatter(
                        x=line.index.to_numpy(),
                        y=line["mean"].to_numpy(),
                        customdata=line["count"].to_numpy(),
                        mode="lines",
                        line={"color": look.colour, "dash": dash, "width": 2.5},
                        name=text,
                        legendgroup=text,
                        showlegend=column == 1,
                        hovertemplate="%{y:.3g} at iteration %{x}, n %{customdata:,}<extra>" + text + "</extra>",
                    ),
                    row=1,
                    col=column,
                )
    last = int(rows["iteration"].max())
    figure.update_xaxes(title_text="iteration", dtick=max(1, -(-last // 6)))
    figure.update_yaxes(tickformat=".3~p", row=1, col=2)
    return style(figure, PANEL_HEIGHT - 20)


def _panels(titles: Sequence[str]) -> tuple[go.Figure, list[tuple[int, int]]]:
    """A figure with one panel a title, at most three in a row, and the place of each."""
    columns = min(_PANELS_IN_A_ROW, len(titles))
    rows = -(-len(titles) // columns)
    figure = make_subplots(
        rows,
        columns,
        shared_yaxes=True,
        subplot_titles=list(titles),
        horizontal_spacing=0.03,
        vertical_spacing=0.3 / rows,
    )
    return figure, [(number // columns + 1, number % columns + 1) for number in range(len(titles))]


def _weighted(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Mean of a diagnostic by iteration, weighted by counts; columns ``mean`` and ``count``."""
    table = rows.assign(mean=rows[quantity] * rows["count"]).groupby("iteration")[["mean", "count"]].sum()
    table["mean"] /= table["count"]
    return table


def _is_many(results: SweepResults, attribute: str) -> bool:
    return len(results.vocabulary(attribute).values) > _GROUPS_SHOWN


def _is_rare(focus: Focus, attribute: str, group: str) -> bool:
    return attribute == focus.attribute and group in focus.rare


def _group_look(results: SweepResults, focus: Focus, attribute: str, group: str, *, in_legend: bool) -> Look:
    """A colour for each group while they are few; of many, the rare ones stand out and the others are faint."""
    names = results.vocabulary(attribute).values
    text = shown(results, attribute, group)
    if not _is_many(results, attribute):
        return Look(text, group_colour(names, group), group, in_legend)
    if _is_rare(focus, attribute, group):
        return Look(text, RARE_COLOUR, group, in_legend)
    first = next(name for name in names if not _is_rare(focus, attribute, name))
    return Look(text, NEUTRAL, _OTHERS, in_legend and group == first, is_faint=True)


def _texts(results: SweepResults, attribute: str, rows: pd.DataFrame) -> list[str]:
    """Groups as shown below a bar: the attribute stands in the axis' title."""
    vocabulary = results.vocabulary(attribute)
    return [vocabulary.display[vocabulary.values.index(name)] for name in rows["group"]]
