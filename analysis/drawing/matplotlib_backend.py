"""Draws a `Drawing` with matplotlib, for papers: no global state, fonts and widths as a column of text needs them."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullLocator

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
)
from fairsweep.analysis.drawing.palette import DIVERGING, NEUTRAL, SEQUENTIAL

_DASHES = {
    "solid": "-",
    "dash": (0, (5, 2)),
    "dot": (0, (1, 1.5)),
    "dashdot": "-.",
    "longdash": (0, (8, 2)),
    "longdashdot": (0, (8, 2, 1, 2)),
}
_SYMBOLS = {
    "circle": "o",
    "diamond": "D",
    "square": "s",
    "triangle-up": "^",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
    "star": "*",
    "hexagon": "h",
}
_PIXELS = 110
_MOST_LETTERS = 30
_SETTINGS: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}
_SIDES = {
    "left": ("right", "center", (-4, 0)),
    "right": ("left", "center", (4, 0)),
    "above": ("center", "bottom", (0, 4)),
    "below": ("center", "top", (0, -4)),
}


def draw(drawing: Drawing) -> Figure:
    """Return the figure, two columns of a paper wide where it has more than one panel per row, else one and a half."""
    width = 7.0 if drawing.columns > 1 else 5.0
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, drawing.height * drawing.rows / _PIXELS * 0.85), dpi=150, layout="constrained")
        axes = figure.subplots(
            drawing.rows, drawing.columns, sharey="all" if drawing.shares_y else False, squeeze=False
        ).reshape(-1)
        for panel, ax in zip(drawing.panels, axes, strict=False):
            _draw_panel(ax, panel, drawing)
        for ax in axes[len(drawing.panels) :]:
            ax.set_axis_off()
        if drawing.shares_y:
            for number, ax in enumerate(axes[: len(drawing.panels)]):
                if number % drawing.columns:
                    ax.set_ylabel("")
        if drawing.x_title:
            figure.supxlabel(drawing.x_title, fontsize=8)
        _add_legend(figure, axes, drawing)
    return figure


def _draw_panel(ax: Axes, panel: Panel, drawing: Drawing) -> None:
    ax.set_title(panel.title)
    ax.grid(visible=True, color="#80868e", alpha=0.25, linewidth=0.5)
    ax.set_axisbelow(True)
    bars = [mark for mark in panel.marks if isinstance(mark, Bars)]
    if bars:
        _draw_bars(ax, bars, drawing)
    for mark in panel.drawn:
        if not isinstance(mark, Bars):
            add(mark, ax, panel)
    _apply(ax, "x", panel.x)
    _apply(ax, "y", panel.y)


@singledispatch
def add(mark: Any, ax: Axes, panel: Panel) -> None:  # noqa: ANN401 - one of the marks
    """Draw a mark."""
    raise TypeError(f"a mark must be one of those in fairsweep.analysis.drawing.drawing, but is a {type(mark)}")


@add.register
def _(line: Line, ax: Axes, panel: Panel) -> None:
    known = np.isfinite(line.x) & np.isfinite(line.y)
    x, y = line.x[known], line.y[known]
    for band in line.bands:
        ax.fill_between(x, band.low[known], band.high[known], color=line.colour, alpha=1.6 * band.opacity, linewidth=0)
    if line.low is not None and line.high is not None:
        ends = np.maximum(np.stack([y - line.low[known], line.high[known] - y]), 0)
        ax.errorbar(x, y, yerr=ends, fmt="none", ecolor=line.colour, elinewidth=0.8, capsize=2)
    ax.plot(
        x,
        y,
        label=line.name if line.in_legend else None,
        color=line.colour,
        linestyle=_DASHES[line.dash] if line.width else "none",
        linewidth=0.6 * line.width,
        marker=None if line.symbol is None else _SYMBOLS[line.symbol],
        markersize=0.5 * line.size,
        markeredgewidth=0,
        alpha=line.opacity,
    )


@add.register
def _(cells: HeatMap, ax: Axes, panel: Panel) -> None:
    colours = LinearSegmentedColormap.from_list("cells", list(DIVERGING if cells.is_diverging else SEQUENTIAL))
    low, high = cells.range
    ax.imshow(cells.values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    ax.grid(visible=False)
    for row, texts in enumerate(cells.texts):
        for column, text in enumerate(texts):
            value = cells.values[row, column]
            shade = to_rgb(colours((value - low) / (high - low or 1))) if np.isfinite(value) else (1, 1, 1)
            dark = float(np.dot(shade, (0.299, 0.587, 0.114))) < 0.5
            ax.text(
                column, row, text.replace("<br>", "\n"), ha="center", va="center", size=6.5, color="w" if dark else "k"
            )
    ax.set_xticks(range(len(cells.x)), [text.replace("<br>", "\n") for text in cells.x])
    if sum(map(len, cells.x)) > _MOST_LETTERS:
        ax.tick_params(axis="x", labelrotation=90)
    ax.set_yticks(range(len(cells.y)), list(cells.y))


@add.register
def _(rule: ReferenceLine, ax: Axes, panel: Panel) -> None:
    if rule.is_diagonal:
        ax.axline((0, 0), slope=1, color=NEUTRAL, linewidth=0.8, linestyle=(0, (1, 1.5)))
    else:
        ax.axhline(rule.y, color=NEUTRAL, linewidth=0.8)


@add.register
def _(note: Annotation, ax: Axes, panel: Panel) -> None:
    across, up, shift = _SIDES[note.side]
    ax.annotate(
        note.text, (note.x, note.y), shift, textcoords="offset points", ha=across, va=up, color=note.colour, size=7
    )


def _draw_bars(ax: Axes, bars: list[Bars], drawing: Drawing) -> None:
    """Draw bars of all series of a panel, side by side or stacked; parts of the axis stand apart."""
    keys = list(dict.fromkeys(key for one in bars for key in _keys(one)))
    outer = [key[0] for key in keys]
    position = {key: i + 0.8 * list(dict.fromkeys(outer)).index(key[0]) for i, key in enumerate(keys)}
    is_numeric = isinstance(bars[0].x, np.ndarray)
    if is_numeric:
        position = {key: float(key[1]) for key in keys}
    names = list(dict.fromkeys(one.name for one in bars))
    own = _are_apart(bars)
    width = (1 - drawing.gap) / (1 if drawing.is_stacked or own else len(names))
    floor = dict.fromkeys(keys, 0.0)
    for one in bars:
        aside = 0.0 if drawing.is_stacked or own else (names.index(one.name) - (len(names) - 1) / 2) * width
        x = np.array([position[key] + aside for key in _keys(one)])
        bottom = np.array([floor[key] if drawing.is_stacked else 0.0 for key in _keys(one)])
        drawn = ax.bar(
            x, one.y, width, bottom=bottom, color=one.colour, label=one.name if one.in_legend else None, linewidth=0
        )
        for key, value in zip(_keys(one), one.y, strict=True):
            floor[key] += float(np.nan_to_num(value))
        if one.low is not None and one.high is not None:
            ends = np.maximum(np.stack([one.y - one.low, one.high - one.y]), 0)
            ax.errorbar(x, one.y, yerr=ends, fmt="none", ecolor="#444444", elinewidth=0.8, capsize=1.5)
        if len(one.texts):
            ax.bar_label(drawn, list(one.texts), fontsize=6, padding=1)
    if is_numeric:
        return
    texts = [key[1].replace("<br>", "\n") for key in keys]
    for part in dict.fromkeys(name for name in outer if name):
        inside = [i for i, name in enumerate(outer) if name == part]
        texts[inside[(len(inside) - 1) // 2]] += f"\n{part}"
    ax.set_xticks(list(position.values()), texts)


def _are_apart(bars: list[Bars]) -> bool:
    """Return whether every place has bars of one series only."""
    keys = [key for one in bars for key in _keys(one)]
    return len(set(keys)) == len(keys)


def _keys(bars: Bars) -> list[tuple[str, str]]:
    outer = list(bars.outer) if len(bars.outer) else [""] * len(bars.y)
    return list(zip(outer, [str(name) for name in bars.x], strict=True))


def _apply(ax: Axes, which: str, axis: Axis) -> None:
    one = ax.xaxis if which == "x" else ax.yaxis
    if axis.is_hidden:
        one.set_visible(False)
        ax.spines["bottom" if which == "x" else "left"].set_visible(False)
        ax.grid(visible=False)
    if axis.title:
        one.set_label_text(axis.title)
    if axis.is_log:
        (ax.set_xscale if which == "x" else ax.set_yscale)("log")
        one.set_minor_locator(NullLocator())
    if axis.style == "percent":
        one.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))
        low, high = ax.get_xlim() if which == "x" else ax.get_ylim()
        (ax.set_xlim if which == "x" else ax.set_ylim)(max(low, -MOST), min(high, MOST))
    if axis.step is not None:
        one.set_major_locator(MultipleLocator(axis.step))
    if axis.ticks is not None:
        one.set_ticks(list(axis.ticks[0]), [text.replace("<br>", "\n") for text in axis.ticks[1]])
    if axis.range is not None:
        (ax.set_xlim if which == "x" else ax.set_ylim)(axis.range)
    elif axis.from_zero:
        (ax.set_xlim if which == "x" else ax.set_ylim)(0)
    if not axis.has_labels:
        one.set_ticklabels([])
        one.set_tick_params(length=0)


def _add_legend(figure: Figure, axes: Any, drawing: Drawing) -> None:  # noqa: ANN401 - an array of axes
    """Add one legend above all panels; the layout keeps room for it."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if len(found) > 1 or any(len(panel.marks) > 1 and found for panel in drawing.panels):
        figure.legend(
            found.values(),
            found.keys(),
            loc="outside upper left",
            ncols=max(1, min(len(found), int(figure.get_figwidth() * 13 // (4 + max(map(len, found)))))),
            frameon=False,
            handlelength=2.6,
        )
