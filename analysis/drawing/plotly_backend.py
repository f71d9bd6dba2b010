"""Draws a `Drawing` with plotly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairsweep.analysis.drawing.drawing import (
    MOST,
    Annotation,
    Axis,
    Bars,
    Drawing,
    HeatMap,
    Line,
    Panel,
    ReferenceLine,
    columns_for,
)
from fairsweep.analysis.drawing.palette import DIVERGING, NEUTRAL, SEQUENTIAL, translucent

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_GRID = "rgba(128,134,142,0.25)"
# Of a page column: a wider one needs fewer lines of legend.
_WIDTH = 760
_LINE, _ABOVE, _TITLE = 20, 14, 30
_TICK, _TICK_LINE = 8, 17
X_TITLE = "x title"
"""Name of the annotation that is the title of the x axis below all panels."""

_SIDES = {"left": "middle left", "right": "middle right", "above": "top center", "below": "bottom center"}


def draw(drawing: Drawing) -> go.Figure:
    """Return the figure."""
    rows = drawing.rows
    figure = make_subplots(
        rows,
        drawing.columns,
        shared_yaxes="all" if drawing.shares_y else False,
        subplot_titles=[panel.title for panel in drawing.panels] if any(p.title for p in drawing.panels) else None,
        horizontal_spacing=(0.03 if drawing.shares_y else 0.08) if drawing.columns > 1 else 0,
        vertical_spacing=0.3 / rows,
    )
    for number, panel in enumerate(drawing.panels):
        place = {"row": number // drawing.columns + 1, "col": number % drawing.columns + 1}
        for mark in panel.drawn:
            if isinstance(mark, ReferenceLine):
                _add_rule(figure, mark, panel, place)
            else:
                for trace in traces(mark):
                    figure.add_trace(trace, **place)
        figure.update_xaxes(**_axis(panel.x), **place)
        inner = drawing.shares_y and place["col"] > 1
        # The first row of a heat map stands at the top, as in a table.
        turned = {"autorange": "reversed"} if any(isinstance(mark, HeatMap) for mark in panel.marks) else {}
        figure.update_yaxes(**_axis(panel.y, is_inner=inner), **turned, **place)
    figure.update_layout(barmode="stack" if drawing.is_stacked else "group", bargap=drawing.gap)
    _title_below(figure, drawing)
    return style(figure, drawing.height * rows, top=_top(drawing))


@singledispatch
def traces(mark: Any) -> list[Any]:  # noqa: ANN401 - one of the marks
    """Return the traces of a mark."""
    raise TypeError(f"a mark must be one of those in fairsweep.analysis.drawing.drawing, but is a {type(mark)}")


@traces.register
def _(line: Line) -> list[Any]:
    known = np.isfinite(line.x) & np.isfinite(line.y)
    bands = [
        go.Scatter(
            x=np.concatenate([line.x[known], line.x[known][::-1]]),
            y=np.concatenate([band.high[known], band.low[known][::-1]]),
            fill="toself",
            fillcolor=translucent(line.colour, band.opacity),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            legendgroup=line.key or line.name,
            showlegend=False,
        )
        for band in line.bands
    ]
    parts = [*(["lines"] if line.width else []), *(["markers"] if line.symbol else [])]
    trace = go.Scatter(
        x=line.x[known],
        y=line.y[known],
        mode="+".join(parts),
        line={"color": line.colour, "width": line.width, "dash": line.dash},
        marker={"color": line.colour, "size": line.size, "symbol": line.symbol, "opacity": line.opacity},
        name=line.name,
        legendgroup=line.key or line.name,
        showlegend=line.in_legend,
        **_hover(line, known),
    )
    if line.low is not None and line.high is not None:
        trace.error_y = _interval(line.y[known], line.low[known], line.high[known], line.colour)
    # For the file of numbers that a page makes of a figure.
    meta: dict[str, Any] = (
        {"labels": [name for name, is_known in zip(line.labels, known, strict=True) if is_known]} if line.labels else {}
    )
    if line.bands:
        meta |= {"low": line.bands[0].low[known].tolist(), "high": line.bands[0].high[known].tolist()}
    if meta:
        trace.meta = meta
    return [*bands, trace]


@traces.register
def _(bars: Bars) -> list[Any]:
    trace = go.Bar(
        x=[list(bars.outer), list(bars.x)] if len(bars.outer) else bars.x,
        y=bars.y,
        name=bars.name,
        marker={"color": bars.colour, "line": {"width": 0}},
        legendgroup=bars.key or bars.name,
        showlegend=bars.in_legend,
        **_hover(bars, slice(None)),
    )
    if bars.low is not None and bars.high is not None:
        trace.error_y = _interval(bars.y, bars.low, bars.high, NEUTRAL)
    if len(bars.texts):
        trace.update(text=list(bars.texts), textposition="outside", cliponaxis=False)
    return [trace]


@traces.register
def _(cells: HeatMap) -> list[Any]:
    trace = go.Heatmap(
        x=list(cells.x),
        y=list(cells.y),
        z=cells.values,
        text=[list(line) for line in cells.texts],
        texttemplate="%{text}",
        colorscale=[[i / (len(scale) - 1), c] for scale in [_scale(cells)] for i, c in enumerate(scale)],
        zmin=cells.range[0],
        zmax=cells.range[1],
        xgap=2,
        ygap=2,
        showscale=False,
        **_hover(cells, slice(None)),
    )
    return [trace]


@traces.register
def _(note: Annotation) -> list[Any]:
    return [
        go.Scatter(
            x=[note.x],
            y=[note.y],
            mode="text",
            text=[note.text],
            textposition=_SIDES[note.side],
            textfont={"color": note.colour, "size": 12},
            showlegend=False,
            hoverinfo="skip",
        )
    ]


def style(figure: go.Figure, height: int, *, top: int = 64) -> go.Figure:
    """Return the plain style: no background of its own (light and dark pages), legend above everything else, thin grid.

    Args:
        figure: changed in place.
        height: in pixels.
        top: room above the panels, for legend and titles.
    """
    figure.update_layout(
        template="none",
        height=height + max(0, top - 64),
        font={"family": _FONT, "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 64, "r": 48, "t": top, "b": 72},
        legend={"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"},
        hoverlabel={"font": {"family": _FONT}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": NEUTRAL, "activecolor": NEUTRAL, "orientation": "v"},
    )
    figure.update_annotations(font={"size": 14})
    figure.update_xaxes(gridcolor=_GRID, linecolor=_GRID, zeroline=False, ticks="outside", tickcolor=_GRID)
    figure.update_yaxes(gridcolor=_GRID, linecolor=_GRID, zeroline=False)
    return figure


def panels(titles: Sequence[str]) -> tuple[go.Figure, list[tuple[int, int]]]:
    """Return an empty figure with one panel per title, at most three in a row, and the place of each."""
    columns = columns_for(len(titles))
    rows = -(-len(titles) // columns)
    figure = make_subplots(
        rows,
        columns,
        shared_yaxes="all",
        subplot_titles=list(titles),
        horizontal_spacing=0.03,
        vertical_spacing=0.3 / rows,
    )
    return figure, [(number // columns + 1, number % columns + 1) for number in range(len(titles))]


def _top(drawing: Drawing) -> int:
    """Return the space above the panels: the legend in as many lines as it needs, and the titles of the panels."""
    names = drawing.legend
    titles = _TITLE if any(panel.title for panel in drawing.panels) else 0
    if len(names) < 2 and not any(len(panel.marks) > 1 for panel in drawing.panels):
        return max(_ABOVE + titles + 20, 48)
    # Plotly gives every entry the width of the widest one.
    widest = 48 + 7.4 * max((len(name) for name in names), default=0)
    lines = -(-len(names) // max(1, int(_WIDTH // widest)))
    return int(_ABOVE + _LINE * lines + titles + 10)


def _hover(mark: Line | Bars | HeatMap, known: Any) -> dict[str, Any]:  # noqa: ANN401 - an index
    if mark.hover is None:
        return {"hoverinfo": "skip"}
    data = {} if mark.hover.data is None else {"customdata": np.asarray(mark.hover.data)[known]}
    return {"hovertemplate": mark.hover.template, **data}


def _interval(value: Any, low: Any, high: Any, colour: str) -> dict[str, Any]:  # noqa: ANN401 - arrays
    return {
        "type": "data",
        "symmetric": False,
        "array": high - value,
        "arrayminus": value - low,
        "thickness": 1.5,
        "width": 4,
        "color": colour,
    }


def _scale(cells: HeatMap) -> tuple[str, ...]:
    return DIVERGING if cells.is_diverging else SEQUENTIAL


def _add_rule(figure: go.Figure, rule: ReferenceLine, panel: Panel, place: dict[str, int]) -> None:
    line = {"color": NEUTRAL, "width": 1, "dash": "dot" if rule.is_diagonal else "solid"}
    if not rule.is_diagonal:
        figure.add_hline(y=rule.y, line=line, **place)
        return
    low, high = panel.x.range or (0.0, 1.0)
    figure.add_trace(
        go.Scatter(x=[low, high], y=[low, high], mode="lines", line=line, showlegend=False, hoverinfo="skip"), **place
    )


def _axis(axis: Axis, *, is_inner: bool = False) -> dict[str, Any]:
    """Return the properties of a plotly axis."""
    if axis.is_hidden:
        return {"visible": False, **({"range": list(axis.range)} if axis.range else {})}
    found: dict[str, Any] = {} if is_inner or not axis.title else {"title": {"text": axis.title, "standoff": 8}}
    if axis.style == "percent":
        found |= {"tickformat": ".3~p", "autorangeoptions": {"clipmax": MOST, "clipmin": -MOST}}
    elif axis.style == "category":
        found |= {"type": "category", "automargin": True}
    if axis.is_log:
        found["type"] = "log"
    if axis.ticks is not None:
        found |= {"tickvals": list(axis.ticks[0]), "ticktext": list(axis.ticks[1]), "tickangle": 0}
    if axis.range is not None:
        found |= {"range": [np.log10(v) for v in axis.range] if axis.is_log else list(axis.range), "autorange": False}
    if axis.from_zero and axis.range is None:
        found["rangemode"] = "tozero"
    if axis.step is not None:
        found["dtick"] = axis.step
    if not axis.has_labels:
        found["showticklabels"] = False
    return found


def _title_below(figure: go.Figure, drawing: Drawing) -> None:
    """Add one title below the last row, centred below its panels: each is too narrow for one."""
    if not drawing.x_title:
        return
    first = (drawing.rows - 1) * drawing.columns
    lines = max(
        (text.count("<br>") + 1 for panel in drawing.panels[first:] for text in (panel.x.ticks or ((), ()))[1]),
        default=1,
    )
    ends = [
        next(figure.select_xaxes(row=drawing.rows, col=number + 1)).domain or (0.0, 1.0)
        for number in (0, len(drawing.panels) - first - 1)
    ]
    figure.add_annotation(
        text=drawing.x_title,
        xref="paper",
        yref="paper",
        x=(ends[0][0] + ends[1][1]) / 2,
        y=0,
        xanchor="center",
        yanchor="top",
        yshift=-(_TICK + _TICK_LINE * lines),
        showarrow=False,
        name=X_TITLE,
    )
