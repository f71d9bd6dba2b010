"""Trend lines as tested: a linear fit per seed, and the mean slope."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairsweep.analysis.drawing.drawing import Axis, Band, Drawing, Floats, Hover, Line, Panel, columns_for
from fairsweep.analysis.drawing.palette import NEUTRAL, SYMBOLS
from fairsweep.analysis.figures.line_styles import LineStyle, group_style
from fairsweep.analysis.inference.trends import LOG_MINORITY, Trend, trends_by_group
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, design_of
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At
from fairsweep.analysis.results.sweep_records import one_of

_MOST_TICKS = 8


def slopes(
    results: SweepResults,
    attribute: str | None = None,
    metric: str = "accuracy",
    *,
    groups: Sequence[str] | None = None,
    learners: Sequence[str] | None = None,
    at: At = "last",
) -> Drawing | None:
    """Return the line through each seed's values over log10 of the minority's count, one panel per learner.

    Args:
        results: the sweep.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.
        metric: a rate.
        groups: which groups; None takes the rare ones, and all examples together where none is rare.
        learners: names of learners or series; None takes all.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure; None where no seed was run at two levels. Thin lines are those of the seeds, whose slopes
        `fairsweep.analysis.trend` tests; the thick one has their mean slope, with a band for its t interval. Imbalance
        grows to the right; where minorities are not counted, x are the levels.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    for group in groups or ():
        one_of(group, results.vocabulary(attribute).values, "group")
    chosen = groups or (design.rare if attribute == design.attribute else ())
    found = trends_by_group(results, metric, by=attribute if chosen else (), groups=chosen or None, at=at)
    if learners is not None:
        of = dict(zip(results.trials["series"], results.trials["learner"], strict=True))
        found = {key: one for key, one in found.items() if {key[0], of[key[0]]} & set(learners)}
    if not found:
        return None
    y = Axis(f"test {resolve(metric, results.classes).title.lower()}", style="percent")
    x, title = _axis(design, list(found.values()))
    panels: list[Panel] = []
    for series in dict.fromkeys(name for name, _ in found):
        marks: list[Line] = []
        for (name, group), one in found.items():
            if name == series:
                style = _look(results, design, attribute, group, in_legend=not panels)
                marks += _lines(design, one, style)
        panels.append(Panel(series, tuple(marks), x, y))
    return Drawing(tuple(panels), columns_for(len(panels)), shares_y=True, x_title=title)


def _look(results: SweepResults, design: ImbalanceDesign, attribute: str, group: str, *, in_legend: bool) -> LineStyle:
    if group == ALL:
        return LineStyle(f"all {design.unit}s", NEUTRAL, "", in_legend)
    return group_style(results, design, attribute, group, in_legend=in_legend)


def _sign(design: ImbalanceDesign, one: Trend) -> float:
    """Return the direction of x in which imbalance increases."""
    if one.x_name == LOG_MINORITY:
        return -1.0
    return 1.0 if design.levels[0].value <= design.levels[-1].value else -1.0


def _axis(design: ImbalanceDesign, trends: Sequence[Trend]) -> tuple[Axis, str]:
    """Return the axis with a tick at each level, and its title."""
    is_log = trends[0].x_name == LOG_MINORITY
    places = np.unique(np.round(np.concatenate([_sign(design, one) * one.x for one in trends]), 6))
    places = places[np.isfinite(places)]
    margin = 0.08 * float(np.ptp(places)) or 0.5
    shown = places if len(places) <= _MOST_TICKS else places[np.linspace(0, len(places) - 1, _MOST_TICKS).astype(int)]
    texts = [f"{10**-place:,.0f}" if is_log else f"{abs(place):g}" for place in shown]
    span = (float(places[0]) - margin, float(places[-1]) + margin)
    title = f"rare training {design.unit}s, on a logarithmic scale" if is_log else design.level_name
    return Axis(ticks=(tuple(shown.tolist()), tuple(texts)), range=span), title


def _lines(design: ImbalanceDesign, one: Trend, style: LineStyle) -> list[Line]:
    """Return the values and line of each seed, and the line with the mean slope."""
    known = np.isfinite(one.x)
    order = np.argsort(_sign(design, one) * one.x[known])
    x = (_sign(design, one) * one.x[known])[order]
    away = (one.x[known] - one.x[known].mean())[order]
    step = -1.0 if one.x_name == LOG_MINORITY else 1.0
    unit = "a tenfold smaller minority" if one.x_name == LOG_MINORITY else "one unit of x"
    marks = []
    values, n = one.table.values[:, known][:, order], one.table.n[:, known][:, order]
    for number, (mine, slope) in enumerate(zip(values, one.slopes, strict=True), start=1):
        name = f"{style.name}, seed {number}"
        data = np.stack([np.full(len(x), step * slope), n[number - 1]], -1)
        template = (
            f"%{{y:.1%}}, n %{{customdata[1]:,}}<br>slope %{{customdata[0]:+.1%}} for {unit}<extra>{name}</extra>"
        )
        marks.append(_line(x, mine.mean() + slope * away, name, style, hover=Hover(template, data)))
        symbol = SYMBOLS[(number - 1) % len(SYMBOLS)]
        marks.append(_line(x, mine, name, style, hover=Hover(template, data), symbol=symbol, width=0.0))
    middle = float(values.mean())
    low, high = (middle + bound * away for bound in (one.low, one.high))
    bands = (Band(np.minimum(low, high), np.maximum(low, high), 0.12),) if np.isfinite(one.low) else ()
    ends = sorted((step * one.low, step * one.high))
    template = (
        "mean slope %{customdata[0]:+.1%} [%{customdata[1]:+.1%}, %{customdata[2]:+.1%}]<br>"
        f"for {unit}; seeds %{{customdata[3]}}, n %{{customdata[4]:,}}<extra>{style.name}</extra>"
    )
    data = np.tile([step * one.slope, *ends, len(one.slopes), n.min()], (len(x), 1))
    y = middle + one.slope * away
    mean = Line(
        x,
        y,
        style.name,
        style.colour,
        style.key,
        style.in_legend,
        symbol=None,
        bands=bands,
        hover=Hover(template, data),
    )
    return [*marks, mean]


def _line(
    x: Floats, y: Floats, name: str, style: LineStyle, *, hover: Hover, symbol: str | None = None, width: float = 0.8
) -> Line:
    """Return one thin line, or dots where its width is 0."""
    key = style.key or style.name
    return Line(
        x, y, name, style.colour, key, in_legend=False, symbol=symbol, width=width, size=6, opacity=0.75, hover=hover
    )
