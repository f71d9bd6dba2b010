"""Backend-independent description of a figure: panels with axes, lines, bars, heat maps and annotations.

Other modules describe figures with these classes; `plotly_backend` renders them for screens and
`matplotlib_backend` for papers. Rates are fractions; an axis says that they are shown in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.drawing.palette import NEUTRAL

Floats = npt.NDArray[np.float64]
PANEL_HEIGHT = 360
# Where a percent axis ends at the latest: whole markers at 100%.
MOST = 1.02
BEYOND = "beyond the axis"
"""Name of the marks where an axis cuts an interval: they are no numbers."""

_PANELS_IN_A_ROW = 3


@dataclass(frozen=True)
class Hover:
    """What is shown under the pointer, on screens only.

    Attributes:
        template: plotly's; ``%{customdata[0]}`` is the first column of the data.
        data: one row per point; None where the template needs none.
    """

    template: str
    data: Any = None


@dataclass(frozen=True)
class Band:
    """A shaded interval behind a line: lower and upper bounds, float64 [N], and how dense it is."""

    low: Floats
    high: Floats
    opacity: float


@dataclass(frozen=True)
class Line:
    """A line, with markers unless ``symbol`` is None.

    Attributes:
        x: positions, float64 [N].
        y: values, float64 [N].
        name: in legend and hover.
        colour: of everything that belongs to it.
        key: lines of one key are switched on and off together; default the name.
        in_legend: whether it stands in the legend.
        dash: one of `fairsweep.analysis.drawing.palette.DASHES`.
        symbol: one of `fairsweep.analysis.drawing.palette.SYMBOLS`.
        width: of the line; 0 shows the markers alone.
        size: of the markers.
        opacity: of the markers.
        bands: behind it.
        low: lower ends of the bars through its points, float64 [N].
        high: upper ends.
        labels: what the positions mean, such as levels; empty where they speak for themselves.
        hover: under the pointer; None shows nothing.
    """

    x: Floats
    y: Floats
    name: str
    colour: str
    key: str = ""
    in_legend: bool = True
    dash: str = "solid"
    symbol: str | None = "circle"
    width: float = 2.5
    size: float = 9
    opacity: float = 1.0
    bands: tuple[Band, ...] = ()
    low: Floats | None = None
    high: Floats | None = None
    labels: Sequence[str] = ()
    hover: Hover | None = None


@dataclass(frozen=True)
class Bars:
    """Bars, one a place.

    Attributes:
        x: names of the places, or their positions.
        y: heights, float64 [N].
        name: in legend and hover.
        colour: of all, or of each.
        outer: names of the parts of the axis in which the places stand, one a bar; empty where there are none.
        in_legend: whether they stand in the legend.
        key: see `Line`.
        low: lower ends of the intervals, float64 [N].
        high: upper ends.
        texts: above the bars.
        hover: under the pointer.
    """

    x: Sequence[str] | Floats
    y: Floats
    name: str
    colour: str | Sequence[str]
    outer: Sequence[str] = ()
    in_legend: bool = True
    key: str = ""
    low: Floats | None = None
    high: Floats | None = None
    texts: Sequence[str] = ()
    hover: Hover | None = None


@dataclass(frozen=True)
class HeatMap:
    """A heat map.

    Attributes:
        x: names of the columns.
        y: names of the rows, from the top.
        values: float64 [rows, columns]; NaN stays empty.
        texts: in the cells, [rows, columns].
        range: values of the first and the last colour.
        is_diverging: whether colours part at the middle of the range.
        hover: under the pointer; its data are [rows, columns, …].
    """

    x: Sequence[str]
    y: Sequence[str]
    values: Floats
    texts: Sequence[Sequence[str]]
    range: tuple[float, float]
    is_diverging: bool = False
    hover: Hover | None = None


@dataclass(frozen=True)
class ReferenceLine:
    """A straight line through a whole panel: at a ``y``, or along the diagonal."""

    y: float = 0.0
    is_diagonal: bool = False


@dataclass(frozen=True)
class Annotation:
    """A text in a panel, in the units of its axes; ``side`` is the side of the place on which it stands."""

    x: float
    y: float
    text: str
    colour: str = NEUTRAL
    side: Literal["left", "right", "above", "below"] = "above"


Mark: TypeAlias = Line | Bars | HeatMap | ReferenceLine | Annotation


@dataclass(frozen=True)
class Axis:
    """One axis of a panel.

    Attributes:
        title: below or beside it.
        style: how its numbers are written; percent never goes beyond -100% and 100%.
        ticks: positions and texts; ``<br>`` breaks a line.
        range: shown; None fits it to what is drawn.
        is_log: whether it is logarithmic.
        from_zero: whether it begins at 0.
        step: distance of ticks.
        has_labels: whether numbers or names stand at the ticks.
        is_hidden: whether nothing of it is drawn.
    """

    title: str = ""
    style: Literal["number", "percent", "category"] = "number"
    ticks: tuple[tuple[float, ...], tuple[str, ...]] | None = None
    range: tuple[float, float] | None = None
    is_log: bool = False
    from_zero: bool = False
    step: float | None = None
    has_labels: bool = True
    is_hidden: bool = False


@dataclass(frozen=True)
class Panel:
    """A panel: its title, what it shows, from behind to the front, and its axes."""

    title: str
    marks: tuple[Mark, ...]
    x: Axis = Axis()
    y: Axis = Axis()

    @property
    def drawn(self) -> tuple[Mark, ...]:
        """Return the marks, and a triangle at the edge wherever the y axis cuts an interval."""
        return (*self.marks, *(cut for mark in self.marks if isinstance(mark, Line) for cut in _cuts(mark, self.y)))


@dataclass(frozen=True)
class Drawing:
    """A whole figure.

    Attributes:
        panels: row by row.
        columns: panels in a row.
        height: of one row in pixels of a screen.
        shares_y: whether all panels have one y axis.
        x_title: once below all panels, in their middle.
        is_stacked: whether bars stand on one another instead of side by side.
        gap: between places with bars, as a share of their distance.
        meta: The numbers behind the figure.
    """

    panels: tuple[Panel, ...]
    columns: int = 1
    height: int = PANEL_HEIGHT
    shares_y: bool = False
    x_title: str = ""
    is_stacked: bool = False
    gap: float = 0.25
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return how many rows of panels there are."""
        return -(-len(self.panels) // self.columns)

    @property
    def legend(self) -> tuple[str, ...]:
        """Return the names in the legend."""
        marks = (mark for panel in self.panels for mark in panel.marks if isinstance(mark, Line | Bars))
        return tuple(dict.fromkeys(mark.name for mark in marks if mark.in_legend))


def _cuts(line: Line, y: Axis) -> list[Line]:
    """Return a triangle at each edge of the axis for the points whose interval goes on beyond it."""
    ends = [(band.low, band.high) for band in line.bands]
    ends += [(line.low, line.high)] if line.low is not None and line.high is not None else []
    if y.range is None or not ends:
        return []
    lowest, highest = (np.fmin.reduce([low for low, _ in ends]), np.fmax.reduce([high for _, high in ends]))
    bottom, top = y.range
    inside = 0.025 * (top - bottom)  # a marker on the edge itself would be cut in half
    cuts = ((lowest < bottom, bottom + inside, "triangle-down"), (highest > top, top - inside, "triangle-up"))
    hover = Hover("the interval goes on beyond the axis<extra></extra>")
    return [
        Line(
            line.x[cut],
            np.full(int(cut.sum()), place),
            BEYOND,
            line.colour,
            key=line.key or line.name,
            in_legend=False,
            symbol=symbol,
            width=0,
            hover=hover,
        )
        for cut, place, symbol in cuts
        if cut.any()
    ]


def columns_for(count: int) -> int:
    """Return how many of some panels stand in a row: at most three, and four as two by two."""
    return 2 if count == 4 else max(1, min(_PANELS_IN_A_ROW, count))
