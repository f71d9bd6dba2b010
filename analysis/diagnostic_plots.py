"""Why a group loses: gradient norms, clipping and direction, by group."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairsweep.analysis.axes import (
    Look,
    style,
)
from fairsweep.analysis.focus import Focus, focus_of
from fairsweep.analysis.looks import (
    OTHERS,
    PANEL_HEIGHT,
    group_look,
    is_many,
    is_rare,
)
from fairsweep.analysis.palette import COMMON_COLOUR
from fairsweep.analysis.results import SweepResults


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
    panels = {
        "mean_gradient_norm": "gradient norm before clipping",
        "clipped_share": "share of clipped examples",
        "cosine": "cosine with the update",
    }
    focus = focus_of(results)
    return _course(results, results.diagnostics(), focus, series, attribute or focus.attribute, panels)


def client_diagnostics(results: SweepResults, series: str, attribute: str | None = None) -> go.Figure | None:
    """Whose updates shape a federated model: as `diagnostics`, for clients by the group of most of their examples.

    Args:
        results: the sweep.
        series: a federated learner, as in the column ``series``.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.

    Returns:
        The figure; None where no updates are recorded.
    """
    panels = {
        "mean_update_norm": "norm of a client's update",
        "clipped_share": "share of clipped updates",
        "cosine": "cosine with the mean update",
    }
    focus = focus_of(results)
    rows = results.clients().rename(columns={"updates": "count"})
    return _course(results, rows, focus, series, attribute or focus.attribute, panels)


def _course(
    results: SweepResults, rows: pd.DataFrame, focus: Focus, series: str, attribute: str, panels: dict[str, str]
) -> go.Figure | None:
    """Lines over the iterations, one panel a quantity, one line a group and extreme level."""
    rows = rows[(rows["attribute"] == attribute) & (rows["count"] > 0)]
    rows = rows.merge(results.trials[["trial", "series", "level"]], on="trial")
    rows = rows[rows["series"] == series]
    if rows.empty:
        return None
    if is_many(results, attribute):
        rows["value"] = [name if is_rare(focus, attribute, name) else OTHERS for name in rows["value"]]
    figure = make_subplots(1, 3, subplot_titles=list(panels.values()), horizontal_spacing=0.06)
    extremes = list(dict.fromkeys([focus.levels[-1].text, focus.levels[0].text]))
    for column, quantity in enumerate(panels, start=1):
        for dash, level in zip(("solid", "dot"), extremes, strict=False):
            for name in dict.fromkeys(rows["value"]):
                line = _weighted(rows[(rows["level"] == level) & (rows["value"] == name)], quantity)
                look = Look(OTHERS, COMMON_COLOUR, OTHERS, True)
                if name != OTHERS:
                    look = group_look(results, focus, attribute, name, in_legend=True)
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


def _weighted(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Mean of a diagnostic by iteration, weighted by counts; columns ``mean`` and ``count``."""
    table = rows.assign(mean=rows[quantity] * rows["count"]).groupby("iteration")[["mean", "count"]].sum()
    table["mean"] /= table["count"]
    return table
