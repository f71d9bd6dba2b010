"""Figures of unlearning: shard placement by group, and cost and accuracy over the requests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import PANEL_HEIGHT, Axis, Band, Bars, Drawing, Hover, Line, Panel
from fairsweep.analysis.drawing.palette import NEUTRAL
from fairsweep.analysis.figures.line_styles import group_style
from fairsweep.analysis.inference.unlearning import PLACEMENT_COLUMNS, along_requests, placements, requests
from fairsweep.analysis.records.cell_records import group_column
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.results import SweepResults


def placement_by_group(results: SweepResults, learner: str, attribute: str) -> Drawing | None:
    """Plot the shard placement: examples of each group in each slice of each shard, mean over the learner's trials.

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
    column = group_column(attribute, PLACEMENT_COLUMNS)
    table = rows.groupby(["shard", "slice", column])[["count", "deleted"]].sum() / trials
    design = design_of(results)
    marks = []
    for group in results.vocabulary(attribute).values:
        if group not in table.index.get_level_values(column):
            continue
        own = table.xs(group, level=column)
        style = group_style(results, design, attribute, group, in_legend=True)
        template = "%{y:,.4g} examples, %{customdata:,.3g} deleted since"
        marks.append(
            Bars(
                [f"{part}" for part in own.index.get_level_values("slice")],
                own["count"].to_numpy(np.float64),
                style.name,
                style.colour,
                outer=[f"shard {shard}" for shard in own.index.get_level_values("shard")],
                hover=Hover(f"{template}<extra>{style.name}</extra>", own["deleted"].to_numpy()),
            )
        )
    panel = Panel("", tuple(marks), Axis("slice within its shard"), Axis("training examples"))
    return Drawing((panel,), is_stacked=True, gap=0.15)


def request_timeline(
    results: SweepResults, learner: str, attribute: str, disparity: str = "accuracy_difference"
) -> Drawing | None:
    """Plot the cost of each request as a share of full retraining, accuracy by group, and the accuracy gap.

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
    rates = along_requests(results, ["accuracy", disparity], attribute)
    rates = rates[rates["learner"] == learner]
    design = design_of(results)
    lines = []
    for group in results.vocabulary(attribute).values:
        rows = _means(rates[(rates["metric"] == "accuracy") & (rates["group"] == group)])
        if len(rows):
            style = group_style(results, design, attribute, group, in_legend=True)
            lines.append(_line(rows, style.name, style.colour))
    gap = _line(_means(rates[rates["metric"] == disparity]), disparity.replace("_", " "), NEUTRAL)
    first, last = 0.4, float(served["number"].max()) + 0.6
    x = Axis(range=(first - 1, last))
    percent = Axis(style="percent")
    panels = (
        Panel("cost, share of a full retraining", (_costs(served),), x, Axis(style="percent", from_zero=True)),
        Panel(f"test accuracy by {attribute}", tuple(lines), x, percent),
        Panel("largest gap", (gap,), Axis("requests served", range=x.range), percent),
    )
    return Drawing(panels, columns=1, height=2 * PANEL_HEIGHT // 3)


def _costs(served: pd.DataFrame) -> Bars:
    shares = served.assign(share=served["examples"] / served["full_examples"].replace(0, np.nan))
    table = shares.groupby("number")[["share", "examples", "full_examples", "seconds", "deleted"]].mean()
    template = (
        "request %{x}: %{y:.1%} of a full retraining<br>%{customdata[0]:,.0f} of %{customdata[1]:,.0f} "
        "examples, %{customdata[2]:.2g} s, %{customdata[3]:,.3g} deleted<extra></extra>"
    )
    data = table[["examples", "full_examples", "seconds", "deleted"]].to_numpy()
    x, y = table.index.to_numpy(np.float64), table["share"].to_numpy(np.float64)
    return Bars(x, y, "cost", NEUTRAL, in_legend=False, hover=Hover(template, data))


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the means over trials by request; low and high are those of one trial's test images, averaged."""
    return rows.groupby("request").agg(
        value=("value", "mean"),
        low=("low", "mean"),
        high=("high", "mean"),
        n=("n", "sum"),
        trials=("trial", "nunique"),
    )


def _line(rows: pd.DataFrame, name: str, colour: str) -> Line:
    value, low, high = (rows[column].to_numpy(np.float64) for column in ("value", "low", "high"))
    template = "%{y:.2%} after %{x} requests, n %{customdata[0]:,} in %{customdata[1]} trials"
    return Line(
        rows.index.to_numpy(np.float64),
        value,
        name,
        colour,
        size=5,
        bands=(Band(low, high, 0.12),),
        hover=Hover(f"{template}<extra>{name}</extra>", rows[["n", "trials"]].to_numpy()),
    )
