"""What all figures share: the axis of imbalance levels, lines with bands, bars with intervals, the plain style."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from fairsweep.analysis.focus import Focus
from fairsweep.analysis.palette import DASHES, NEUTRAL, SYMBOLS, translucent

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@dataclass(frozen=True)
class LevelAxis:
    """The x axis of a trend: imbalance grows to the right.

    Attributes:
        x: position of each level by its text: minus log10 of the rare images where all are known and positive, so that
            a step to the right is the same loss in proportion; otherwise one step a level.
        texts: of the ticks, in the same order.
        title: of the axis.
    """

    x: dict[str, float]
    texts: tuple[str, ...]
    title: str

    def positions(self, levels: Iterable[str]) -> npt.NDArray[np.float64]:
        """Positions of some levels."""
        return np.array([self.x[level] for level in levels], np.float64)

    def apply(self, figure: go.Figure) -> None:
        """Set the ticks of every x axis of a figure."""
        places = list(self.x.values())
        margin = 0.08 * (max(places) - min(places)) or 0.5
        figure.update_xaxes(
            tickvals=places, ticktext=list(self.texts), range=[min(places) - margin, max(places) + margin]
        )
        # One title below the last row, in its middle: panels are too narrow for one each.
        used = {trace.xaxis or "x": trace.yaxis or "y" for trace in figure.data}
        bottom = {x: figure.layout[y.replace("y", "yaxis")].domain for x, y in used.items()}
        lowest = min((domain or (0.0,))[0] for domain in bottom.values())
        last = [x for x, domain in bottom.items() if (domain or (0.0,))[0] == lowest]
        middle = figure.layout[last[(len(last) - 1) // 2].replace("x", "xaxis")]
        middle.title = {"text": self.title, "standoff": 8}

    def shift(self, place: int, count: int) -> float:
        """How far one of several lines is moved aside, so that their bars can be told apart."""
        return 0.022 * (max(self.x.values()) - min(self.x.values()) or 1.0) * (place - (count - 1) / 2)


def level_axis(focus: Focus) -> LevelAxis:
    """The axis for the levels of a sweep."""
    counts = [level.rare_count for level in focus.levels]
    spread = len(set(counts)) == len(counts) and all(np.isfinite(count) and count > 0 for count in counts)
    x = {
        level.text: -float(np.log10(level.rare_count)) if spread else float(place)
        for place, level in enumerate(focus.levels)
    }
    texts = tuple(
        (f"{level.value:g}" if np.isfinite(level.value) else level.text)
        + (f"<br>{level.rare_count:,.0f}" if np.isfinite(level.rare_count) else "")
        for level in focus.levels
    )
    below = "; below: rare training images" if any(np.isfinite(count) for count in counts) else ""
    return LevelAxis(x, texts, f"{focus.level_name}{below}")


@dataclass(frozen=True)
class Look:
    """How one line looks.

    Attributes:
        name: in legend and hover.
        colour: of line and band.
        key: lines with one key are switched on and off together.
        in_legend: whether this one stands in the legend.
        place: chooses symbol and dash, for readers who see no colour.
        is_faint: whether it is one of many that stand behind.
    """

    name: str
    colour: str
    key: str
    in_legend: bool
    place: int = 0
    is_faint: bool = False


def points(x: npt.NDArray[np.float64], rows: pd.DataFrame, look: Look) -> list[go.Scatter]:
    """A line through means with two bands: the interval, and within it, darker, the part of the test images alone.

    Args:
        x: positions, ascending.
        rows: those of `average`, in the order of x.
        look: of the line.

    Returns:
        The bands, then the line.
    """
    known = np.isfinite(rows["value"].to_numpy(np.float64))
    x, rows = x[known], rows[known]
    bands = [
        go.Scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([rows[high].to_numpy(), rows[low].to_numpy()[::-1]]),
            fill="toself",
            fillcolor=translucent(look.colour, opacity),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            legendgroup=look.key,
            showlegend=False,
        )
        for low, high, opacity in (("low", "high", 0.1), ("images_low", "images_high", 0.16))
    ]
    line = go.Scatter(
        x=x,
        y=rows["value"].to_numpy(),
        mode="lines+markers",
        line={"color": look.colour, "width": 2.5, "dash": DASHES[look.place % len(DASHES)]},
        marker={"color": look.colour, "size": 9, "symbol": SYMBOLS[look.place % len(SYMBOLS)]},
        customdata=rows[["low", "high", "n_min", "replicates", "level"]].to_numpy(),
        name=look.name,
        legendgroup=look.key,
        showlegend=look.in_legend,
        hovertemplate=(
            "%{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>%{customdata[4]}<br>n %{customdata[2]:,}, "
            "replicates %{customdata[3]}<extra>" + look.name + "</extra>"
        ),
    )
    return [*bands, line]


def level_bars(axis: LevelAxis, means: pd.DataFrame, look: Look, count: int) -> go.Scatter:
    """A line over the levels with a bar for each interval, moved aside a little: for several lines that overlap.

    Args:
        axis: the levels.
        means: rows of `average`.
        look: of the line; its place says how far it is moved.
        count: number of lines.
    """
    rows = means[np.isfinite(means["value"].to_numpy(np.float64))]
    x = axis.positions(rows["level"])
    order = np.argsort(x)
    line = points(x[order] + axis.shift(look.place, count), rows.iloc[order], look)[-1]
    line.error_y = _interval_bars(rows.iloc[order], look.colour)
    return line


def level_thread(axis: LevelAxis, means: pd.DataFrame, look: Look) -> go.Scatter:
    """A thin line without a band, for one of many groups; the legend has one entry for all of them."""
    x = axis.positions(means["level"])
    order = np.argsort(x)
    line = points(x[order], means.iloc[order], look)[-1]
    line.line.width, line.marker.size = 1, 4
    line.name = "the others"
    return line


def level_line(axis: LevelAxis, means: pd.DataFrame, trials: pd.DataFrame, look: Look) -> list[go.Scatter]:
    """A line over the levels with its band, and a small dot for each trial."""
    x = axis.positions(means["level"])
    order = np.argsort(x)
    dots = go.Scatter(
        x=axis.positions(trials["level"]),
        y=trials["value"].to_numpy(),
        mode="markers",
        marker={"color": look.colour, "size": 4, "opacity": 0.7},
        customdata=trials[["trial", "n_min"]].to_numpy(),
        legendgroup=look.key,
        showlegend=False,
        hovertemplate="%{y:.1%}<br>%{customdata[0]}<br>n %{customdata[1]:,}<extra>one trial</extra>",
    )
    return [*points(x[order], means.iloc[order], look), dots]


def fit_values(figure: go.Figure, means: pd.DataFrame, *, least: float | None = None) -> None:
    """Fit the y axes to the values and the error of the test images; wider bands run out of the picture.

    With few replicates a t interval may be as wide as the whole axis, and would press every trend flat.

    Args:
        figure: all its y axes get the same range.
        means: rows of `average` that it shows.
        least: what the range must contain.
    """
    bounds = means[["images_low", "images_high"]].to_numpy(np.float64)
    values = np.append(bounds[np.isfinite(bounds)], [] if least is None else [least])
    if len(values):
        margin = 0.06 * max(float(np.ptp(values)), 0.02)
        figure.update_yaxes(range=[float(values.min()) - margin, float(values.max()) + margin], autorange=False)


def bars(texts: Sequence[str], rows: pd.DataFrame, name: str, colour: str | Sequence[str]) -> go.Bar:
    """Bars with the intervals of `average`."""
    value = rows["value"].to_numpy(np.float64)
    return go.Bar(
        x=list(texts),
        y=value,
        name=name,
        marker={"color": colour},
        error_y=_interval_bars(rows, NEUTRAL),
        customdata=rows[["low", "high", "n_min", "replicates"]].to_numpy(),
        hovertemplate=(
            "%{x}: %{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>n %{customdata[2]:,}, replicates "
            "%{customdata[3]}<extra>" + name + "</extra>"
        ),
    )


def _interval_bars(rows: pd.DataFrame, colour: str) -> dict[str, object]:
    value = rows["value"].to_numpy(np.float64)
    return {
        "type": "data",
        "symmetric": False,
        "array": rows["high"].to_numpy(np.float64) - value,
        "arrayminus": value - rows["low"].to_numpy(np.float64),
        "thickness": 1.5,
        "width": 4,
        "color": colour,
    }


def style(figure: go.Figure, height: int) -> go.Figure:
    """The plain style: no background of its own (light and dark pages), legend below the title, thin grid."""
    grid = "rgba(128,134,142,0.25)"
    figure.update_layout(
        template="none",
        height=height,
        font={"family": _FONT, "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 64, "r": 48, "t": 64, "b": 72},
        legend={"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"},
        hoverlabel={"font": {"family": _FONT}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": NEUTRAL, "activecolor": NEUTRAL, "orientation": "v"},
    )
    figure.update_annotations(font={"size": 14})
    figure.update_xaxes(gridcolor=grid, linecolor=grid, zeroline=False, ticks="outside", tickcolor=grid)
    figure.update_yaxes(gridcolor=grid, linecolor=grid, zeroline=False)
    return figure
