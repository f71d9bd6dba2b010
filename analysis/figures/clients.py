"""Figures of federated clients: their training data and their accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import Axis, Bars, Drawing, Hover, Line, Panel, columns_for
from fairsweep.analysis.drawing.palette import NEUTRAL, RARE_COLOUR, group_colour
from fairsweep.analysis.figures.level_axes import LevelAxis, level_axis
from fairsweep.analysis.figures.line_styles import LineStyle, group_style, is_many, is_rare, series_in
from fairsweep.analysis.records.cell_records import group_column
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, design_of
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.trials import varying_fields

_MOST_PANELS = 6
_ALL = LineStyle("all clients", NEUTRAL, "", in_legend=False)


def client_accuracy(results: SweepResults, attribute: str | None = None) -> Drawing | None:
    """Plot the accuracy of clients on their own held-out examples after the last iteration, over the levels.

    Args:
        results: the sweep.
        attribute: clients are grouped by the value of it that most of their examples have; None takes the one that is
            made imbalanced.

    Returns:
        The figure, one panel per federated learner; None where nothing is recorded. Lines are means over clients and
        replicates; dotted ones the mean of the tenth of the clients that has the lowest accuracy.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    rows = _last(results)
    rows = rows[(rows["attribute"].isin([attribute, ""])) & (rows["clients"] > 0)]
    if is_many(results, attribute):
        rows = rows[rows["value"].isin(["", *design.rare])]
    series = series_in(results, rows)
    if not series:
        return None
    axis, columns = level_axis(design), columns_for(len(series))
    panels: list[Panel] = []
    for name in series:
        lines = []
        for value in dict.fromkeys(rows["value"]):
            style = _look(results, design, attribute, value)
            mine = rows[(rows["series"] == name) & (rows["value"] == value)]
            worst = LineStyle(f"{style.name}, worst decile", style.colour, "", in_legend=True)
            lines.append(_served(axis, mine, "accuracy_mean", style, "solid", in_legend=not panels))
            lines.append(_served(axis, mine, "accuracy_worst_decile", worst, "dot", in_legend=not panels))
        panels.append(Panel(name, tuple(lines), axis.axis(columns), Axis("accuracy of clients", style="percent")))
    return Drawing(tuple(panels), columns, shares_y=True, x_title=axis.title)


def _served(
    axis: LevelAxis, rows: pd.DataFrame, quantity: str, style: LineStyle, dash: str, *, in_legend: bool
) -> Line:
    means = rows.groupby("level", sort=False)[[quantity, "clients"]].agg(["mean", "size"])
    x = axis.positions(means.index)
    order = np.argsort(x)
    data = np.stack([means["clients", "mean"], means["clients", "size"]], axis=1)[order]
    template = "%{y:.1%}, clients %{customdata[0]:.4~g}, replicates %{customdata[1]}"
    return Line(
        x[order],
        means[quantity, "mean"].to_numpy(np.float64)[order],
        style.name,
        style.colour,
        in_legend=in_legend,
        dash=dash,
        hover=Hover(f"{template}<extra>{style.name}</extra>", data),
    )


def client_composition(results: SweepResults, attribute: str | None = None) -> Drawing | None:
    """Return the training data of each client: one stacked bar per client, one panel per distinct partition.

    Args:
        results: the sweep.
        attribute: whose values are counted, a group attribute or the label; None takes the one made imbalanced.

    Returns:
        The figure, of the most imbalanced level and the first replicate; None where there are no clients. Clients are
        in the order of what they hold most of.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    divisions = _divisions(results, design, attribute)
    if not divisions:
        return None
    vocabulary = results.vocabulary(attribute)
    panels: list[Panel] = []
    for title, composition in divisions.items():
        counts = np.array(composition["counts"])
        order = np.lexsort((*counts.T[::-1], -counts.argmax(axis=1)))[::-1]
        marks = []
        for index, code in enumerate(composition["values"]):
            name = vocabulary.values[code]
            colour = RARE_COLOUR if is_rare(design, attribute, name) else group_colour(vocabulary.values, name)
            if not is_many(results, attribute):
                colour = _look(results, design, attribute, name).colour
            marks.append(
                Bars(
                    np.arange(len(counts), dtype=np.float64),
                    counts[order, index].astype(np.float64),
                    vocabulary.shown(code),
                    colour,
                    key=name,
                    in_legend=not panels,
                    hover=Hover(f"%{{y:,}} {design.unit}s<extra>{vocabulary.shown(code)}, {title}</extra>"),
                )
            )
        x, y = Axis("clients", has_labels=False), Axis(f"training {design.unit}s")
        panels.append(Panel(title, tuple(marks), x, y))
    return Drawing(tuple(panels), columns_for(len(panels)), shares_y=True, is_stacked=True, gap=0)


def _look(results: SweepResults, design: ImbalanceDesign, attribute: str, value: str) -> LineStyle:
    return _ALL if value == "" else group_style(results, design, attribute, value, in_legend=True)


def _last(results: SweepResults) -> pd.DataFrame:
    """Return the clients of each finished trial after its last iteration, with series and level."""
    rows = results.clients()
    trials = results.trials[results.trials["state"] == "done"][["trial", "series", "level"]]
    rows = rows.merge(trials, on="trial")
    return rows[rows["iteration"] == rows.groupby("trial")["iteration"].transform("max")]


def _divisions(results: SweepResults, design: ImbalanceDesign, attribute: str) -> dict[str, Mapping[str, Any]]:
    """Return the composition of clients of each distinct division, by a title that says what is particular about it."""
    known = results.trials.set_index("trial")
    found: dict[tuple[str, ...], tuple[dict[str, str], Mapping[str, Any]]] = {}
    for folder in sorted(results.folders, key=lambda folder: int((folder.config or {}).get("replicate") or 0)):
        clients = (folder.data or {}).get("clients")
        if not clients or known.loc[folder.name, "level"] != design.levels[-1].text:
            continue
        listed = (clients["listed"] or {}).get("label" if attribute == results.label else group_column(attribute))
        fields = {k: v for k, v in varying_fields(folder.config or {}).items() if k.startswith("learner.clients.")}
        if listed is not None:
            found.setdefault(tuple(fields.values()), (fields, listed))
    chosen = list(found.values())[:_MOST_PANELS]
    different = {key for fields, _ in chosen for key in fields if len({f.get(key) for f, _ in chosen}) > 1}
    return {
        ", ".join(f"{key.split('.')[-1]} {fields[key]}" for key in fields if key in different) or "clients": listed
        for fields, listed in chosen
    }
