"""The x axis of imbalance levels, and lines with bands along it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import MOST, Axis, Band, Floats, Hover, Line
from fairsweep.analysis.drawing.palette import DASHES, SYMBOLS
from fairsweep.analysis.figures.line_styles import OTHERS, LineStyle
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign

# Pixels of a page's column of figures, and of a letter at its ticks.
_WIDTH, _LETTER = 640, 7.5
OF_MEANS = ["low", "high", "n_min", "replicates", "level"]
HOVER_OF_MEANS = (
    "%{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>%{customdata[4]}<br>n %{customdata[2]:,}, "
    "replicates %{customdata[3]}"
)


@dataclass(frozen=True)
class LevelAxis:
    """The x axis of a trend: imbalance increases to the right.

    Attributes:
        x: position of each level by its text: minus log10 of the rare images where all are known and positive, so that
            a step to the right is the same loss in proportion; otherwise one step a level.
        texts: of the ticks, in the same order.
        title: of the axis.
    """

    x: dict[str, float]
    texts: tuple[str, ...]
    title: str

    def positions(self, levels: Iterable[str]) -> Floats:
        """Return the positions of some levels."""
        return np.array([self.x[level] for level in levels], np.float64)

    def axis(self, columns: int = 1) -> Axis:
        """Return the x axis, without a title, with ticks at the levels that there is room for.

        Args:
            columns: panels that stand side by side.
        """
        places = np.array(list(self.x.values()))
        margin = 0.08 * float(np.ptp(places)) or 0.5
        shown = spaced(
            places, _WIDTH / columns / (_LETTER * (2 + max(map(len, "<br>".join(self.texts).split("<br>")))))
        )
        ticks = tuple(places[shown].tolist()), tuple(self.texts[i] for i in shown)
        return Axis(ticks=ticks, range=(float(places.min()) - margin, float(places.max()) + margin))

    def shift(self, place: int, count: int) -> float:
        """Return the horizontal offset of one of several lines, so that their bars do not overlap."""
        apart = min(0.022, 0.11 / count)
        return apart * (max(self.x.values()) - min(self.x.values()) or 1.0) * (place - (count - 1) / 2)


def spaced(places: Floats, room: float) -> list[int]:
    """Return which places get a tick, so that no more than ``room`` texts would fit on the axis: always both ends.

    >>> spaced(np.array([0.0, 0.1, 0.2, 0.5, 1.0]), 5)
    [0, 2, 3, 4]
    """
    order = np.argsort(places, kind="stable").tolist()
    apart = float(np.ptp(places)) / max(room, 1.0)
    kept = order[:1]
    for i in order[1:-1]:
        if places[i] - places[kept[-1]] >= apart and places[order[-1]] - places[i] >= apart:
            kept.append(i)
    return [*kept, *order[1:][-1:]]


def level_axis(design: ImbalanceDesign) -> LevelAxis:
    """Return the axis for the levels of a sweep."""
    counts = [level.rare_count for level in design.levels]
    spread = len(set(counts)) == len(counts) and all(np.isfinite(count) and count > 0 for count in counts)
    x = {
        level.text: -float(np.log10(level.rare_count)) if spread else float(place)
        for place, level in enumerate(design.levels)
    }
    texts = tuple(
        (f"{level.value:g}" if np.isfinite(level.value) else level.text)
        + (f"<br>{level.rare_count:,.0f}" if np.isfinite(level.rare_count) else "")
        for level in design.levels
    )
    below = f"; below: number of rare training {design.unit}s" if any(np.isfinite(count) for count in counts) else ""
    return LevelAxis(x, texts, f"{design.level_name}{below}")


def mean_line(x: Floats, means: pd.DataFrame, style: LineStyle) -> Line:
    """Return a line through means with two bands: the interval, and the darker part of the test images.

    Args:
        x: positions.
        means: rows of `average`, in the order of x.
        style: of the line.
    """
    order = np.argsort(x, kind="stable")
    rows = means.iloc[order]
    column = {name: rows[name].to_numpy(np.float64) for name in ("low", "high", "images_low", "images_high", "value")}
    return Line(
        x[order],
        column["value"],
        style.name,
        style.colour,
        key=style.key,
        in_legend=style.in_legend,
        dash="solid" if style.is_solid else DASHES[style.place % len(DASHES)],
        symbol=SYMBOLS[style.place % len(SYMBOLS)],
        bands=(
            Band(column["low"], column["high"], 0.1),
            Band(column["images_low"], column["images_high"], 0.16),
        ),
        hover=Hover(f"{HOVER_OF_MEANS}<extra>{style.name}</extra>", rows[OF_MEANS].to_numpy()),
    )


def level_lines(axis: LevelAxis, means: pd.DataFrame, trials: pd.DataFrame, style: LineStyle) -> tuple[Line, ...]:
    """Return a line over the levels with bands and a dot per trial; one of many groups is a thin line only."""
    line = _named_line(axis, means, style)
    if style.is_faint:
        thin = {"width": 1.0, "size": 4.0, "bands": (), "name": OTHERS}
        return (Line(**{**vars(line), **thin}),)
    dots = Line(
        axis.positions(trials["level"]),
        trials["value"].to_numpy(np.float64),
        "one trial",
        style.colour,
        key=style.key,
        in_legend=False,
        width=0,
        size=4,
        opacity=0.7,
        labels=tuple(trials["level"].astype(str)),
        hover=Hover(
            "%{y:.1%}<br>%{customdata[0]}<br>n %{customdata[1]:,}<extra>one trial</extra>",
            trials[["trial", "n_min"]].to_numpy(),
        ),
    )
    return line, dots


def level_bars(axis: LevelAxis, means: pd.DataFrame, style: LineStyle, count: int) -> Line:
    """Return a line over the levels with a bar for each interval, moved aside a little: for several lines that overlap.

    Args:
        axis: the levels.
        means: rows of `average`.
        style: of the line; its place says how far it is moved.
        count: number of lines.
    """
    line = _named_line(axis, means, style)
    band = line.bands[0]
    moved = {"x": line.x + axis.shift(style.place, count), "low": band.low, "high": band.high, "bands": ()}
    return Line(**{**vars(line), **moved})


def _named_line(axis: LevelAxis, means: pd.DataFrame, style: LineStyle) -> Line:
    """Return the line through means at their levels, with the levels' names."""
    x = axis.positions(means["level"])
    names = means["level"].astype(str).to_numpy()
    return replace(mean_line(x, means, style), labels=tuple(names[np.argsort(x, kind="stable")]))


def value_range(means: pd.DataFrame, *, least: float | None = None) -> tuple[float, float] | None:
    """Return a range for the values and the error of the test images; wider bands run out of the picture.

    With few replicates a t interval may be as wide as the whole axis, and would press every trend flat.

    Args:
        means: rows of `average` that are shown.
        least: what the range must contain.
    """
    bounds = means[["images_low", "images_high"]].to_numpy(np.float64)
    values = np.append(bounds[np.isfinite(bounds)], [] if least is None else [least])
    if not len(values):
        return None
    margin = 0.06 * max(float(np.ptp(values)), 0.02)
    return max(float(values.min()) - margin, -MOST), min(float(values.max()) + margin, MOST)
