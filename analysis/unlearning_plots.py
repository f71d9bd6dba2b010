"""Figures of trials that can forget: who sits where, and cost and groups along the requests."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairsweep.analysis.axes import style
from fairsweep.analysis.focus import focus_of
from fairsweep.analysis.looks import PANEL_HEIGHT, group_look
from fairsweep.analysis.palette import NEUTRAL, translucent
from fairsweep.analysis.results import SweepResults
from fairsweep.analysis.unlearning import along_requests, placements, requests


def placement_by_group(results: SweepResults, learner: str, attribute: str) -> go.Figure | None:
    """Who sits where: examples of each group in each slice of each shard, mean over the learner's trials.

    Args:
        results: the sweep.
        learner: its name.
        attribute: a group attribute.

    Returns:
        The figure; None where no placement is recorded.
    """
    rows = placements(results, attribute)
    rows = rows[rows["learner"] == learner]
    if rows.empty:
        return None
    trials = rows["trial"].nunique()
    table = rows.groupby(["shard", "slice", attribute])[["count", "deleted"]].sum() / trials
    focus = focus_of(results)
    figure = go.Figure()
    for group in results.vocabulary(attribute).values:
        if group not in table.index.get_level_values(attribute):
            continue
        own = table.xs(group, level=attribute)
        look = group_look(results, focus, attribute, group, in_legend=True)
        figure.add_trace(
            go.Bar(
                x=[
                    [f"shard {shard}" for shard in own.index.get_level_values("shard")],
                    [f"{part}" for part in own.index.get_level_values("slice")],
                ],
                y=own["count"].to_numpy(),
                customdata=own["deleted"].to_numpy(),
                name=look.name,
                marker={"color": look.colour},
                hovertemplate="%{y:,.4g} examples, %{customdata:,.3g} deleted since<extra>" + look.name + "</extra>",
            )
        )
    figure.update_layout(barmode="stack", bargap=0.15)
    figure.update_xaxes(title_text="slice within its shard")
    figure.update_yaxes(title_text="training examples")
    return style(figure, PANEL_HEIGHT)


def request_timeline(
    results: SweepResults, learner: str, attribute: str, disparity: str = "accuracy_difference"
) -> go.Figure | None:
    """Cost of each request as a share of training everything again, accuracy by group, and the gap between groups.

    Args:
        results: the sweep.
        learner: its name.
        attribute: a group attribute.
        disparity: what is drawn in the last panel.

    Returns:
        The figure, means over the learner's trials with bands of the error of one trial's test images; None where no
        request was served.
    """
    served = requests(results)
    served = served[(served["learner"] == learner) & (served["iteration"] > 0)]
    if served.empty:
        return None
    figure = make_subplots(
        3,
        1,
        shared_xaxes=True,
        vertical_spacing=0.08,
        subplot_titles=["cost, share of a full retraining", f"test accuracy by {attribute}", "largest gap"],
    )
    _add_costs(figure, served)
    rates = along_requests(results, ["accuracy", disparity], attribute)
    rates = rates[rates["learner"] == learner]
    focus = focus_of(results)
    for group in results.vocabulary(attribute).values:
        line = _means(rates[(rates["metric"] == "accuracy") & (rates["group"] == group)])
        if len(line):
            look = group_look(results, focus, attribute, group, in_legend=True)
            _add_line(figure, line, look.name, look.colour, row=2)
    _add_line(figure, _means(rates[rates["metric"] == disparity]), disparity.replace("_", " "), NEUTRAL, row=3)
    figure.update_xaxes(title_text="requests served", row=3, col=1)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(tickformat=".1%")
    return style(figure, 2 * PANEL_HEIGHT)


def _add_costs(figure: go.Figure, served: pd.DataFrame) -> None:
    shares = served.assign(share=served["examples"] / served["full_examples"].replace(0, np.nan))
    table = shares.groupby("number")[["share", "examples", "full_examples", "seconds", "deleted"]].mean()
    figure.add_trace(
        go.Bar(
            x=table.index.to_numpy(),
            y=table["share"].to_numpy(),
            customdata=table[["examples", "full_examples", "seconds", "deleted"]].to_numpy(),
            marker={"color": NEUTRAL},
            showlegend=False,
            hovertemplate=(
                "request %{x}: %{y:.1%} of a full retraining<br>%{customdata[0]:,.0f} of %{customdata[1]:,.0f} "
                "examples, %{customdata[2]:.2g} s, %{customdata[3]:,.3g} deleted<extra></extra>"
            ),
        ),
        row=1,
        col=1,
    )


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over trials by request; low and high are those of one trial's test images, averaged."""
    return rows.groupby("request").agg(
        value=("value", "mean"),
        low=("low", "mean"),
        high=("high", "mean"),
        n=("n", "sum"),
        trials=("trial", "nunique"),
    )


def _add_line(figure: go.Figure, line: pd.DataFrame, name: str, colour: str, row: int) -> None:
    x = line.index.to_numpy()
    figure.add_trace(
        go.Scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([line["high"].to_numpy(), line["low"].to_numpy()[::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=translucent(colour, 0.12),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        ),
        row=row,
        col=1,
    )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=line["value"].to_numpy(),
            customdata=line[["n", "trials"]].to_numpy(),
            mode="lines+markers",
            line={"color": colour, "width": 2.5},
            marker={"size": 5},
            name=name,
            hovertemplate=(
                "%{y:.2%} after %{x} requests, n %{customdata[0]:,} in %{customdata[1]} trials<extra>"
                + name
                + "</extra>"
            ),
        ),
        row=row,
        col=1,
    )
