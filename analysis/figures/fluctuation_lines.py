"""Figure of `explain_fluctuations`: variance components of a metric, and the values behind them."""

from __future__ import annotations

import numpy as np

from fairsweep.analysis.drawing.drawing import PANEL_HEIGHT, Axis, Bars, Drawing, Hover, Line, Panel
from fairsweep.analysis.drawing.palette import COMMON_COLOUR, NEUTRAL
from fairsweep.analysis.inference.fluctuations import Fluctuations


def fluctuations(found: Fluctuations) -> Drawing:
    """Plot the standard deviation of each identified component, and one line per replicate.

    Args:
        found: what `fairsweep.analysis.explain_fluctuations` returned.

    Returns:
        The figure. Intervals are those of the components; a component below 0 is drawn as 0. What the design does not
        identify is left out: ``found.parts`` says why.
    """
    known = found.parts[np.isfinite(found.parts["variance"].to_numpy(np.float64))]
    low, high = (np.sqrt(np.maximum(known[name].to_numpy(np.float64), 0)) for name in ("low", "high"))
    deviation = known["std"].to_numpy(np.float64)
    template = "%{x}: %{y:.2%} [%{customdata[0]:.2%}, %{customdata[1]:.2%}]<br>%{customdata[2]}<extra></extra>"
    data = np.stack([low, high, known["reason"].to_numpy(object)], -1)
    bars = Bars(
        [name.replace(" ", "<br>") for name in known["component"]],
        deviation,
        "standard deviation",
        COMMON_COLOUR,
        in_legend=False,
        low=np.minimum(np.nan_to_num(low), deviation),
        high=np.maximum(np.where(np.isfinite(high), high, deviation), deviation),
        hover=Hover(template, data),
    )
    x = Axis(style="category")
    largest = float(np.nanmax(deviation, initial=0.001))
    highest = max(largest, min(3 * largest, 1.05 * float(np.nanmax(high, initial=0.0))))
    # An interval from few seeds may be many times as long as the bars, and would press them flat.
    y = Axis("standard deviation", style="percent", range=(0.0, highest))
    return Drawing((Panel("components", (bars,), x, y), _values(found)), columns=2, height=PANEL_HEIGHT)


def _values(found: Fluctuations) -> Panel:
    table = found.table
    places = np.arange(len(table.levels), dtype=np.float64)
    template = "%{y:.1%}<br>n %{customdata:,}"
    lines = [
        Line(
            places,
            values,
            f"replicate {number}",
            NEUTRAL,
            in_legend=False,
            width=1,
            size=5,
            hover=Hover(f"{template}<extra>replicate {number}</extra>", table.n[number]),
        )
        for number, values in enumerate(table.values)
    ]
    means = np.array(
        [values[np.isfinite(values)].mean() if np.isfinite(values).any() else np.nan for values in table.values.T]
    )
    mean = Line(
        places,
        means,
        "mean",
        COMMON_COLOUR,
        in_legend=False,
        symbol="diamond",
        hover=Hover("%{y:.1%}<extra>mean</extra>"),
    )
    x = Axis(table.over, ticks=(tuple(places.tolist()), tuple(f"{level}" for level in table.levels)))
    title = table.metric if table.group == "all" else f"{table.metric}, {table.group}"
    return Panel(title, (*lines, mean), x, Axis(style="percent"))
