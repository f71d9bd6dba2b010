"""Federated clients: what each holds, and how each is served."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from fairsweep.analysis.axes import Look, level_axis, style
from fairsweep.analysis.focus import Focus, focus_of
from fairsweep.analysis.looks import PANEL_HEIGHT, group_look, is_many, is_rare, panels, series_of
from fairsweep.analysis.palette import NEUTRAL, RARE_COLOUR, group_colour
from fairsweep.analysis.results import SweepResults
from fairsweep.analysis.trials import varying_fields

_MOST_PANELS = 6
_ALL = Look("all clients", NEUTRAL, "", False)


def client_accuracy(results: SweepResults, attribute: str | None = None) -> go.Figure | None:
    """Accuracy of clients on their own held-out examples after the last iteration, over the levels.

    Args:
        results: the sweep.
        attribute: clients are grouped by the value of it that most of their examples have; None takes the one that is
            made imbalanced.

    Returns:
        The figure, one panel a federated learner; None where nothing is recorded. Lines are means over clients and
        replicates; dotted ones the mean of the tenth of the clients that is served worst.
    """
    focus = focus_of(results)
    attribute = attribute or focus.attribute
    rows = _last(results)
    rows = rows[(rows["attribute"].isin([attribute, ""])) & (rows["clients"] > 0)]
    if is_many(results, attribute):
        rows = rows[rows["value"].isin(["", *focus.rare])]
    series = [name for name in series_of(results) if name in set(rows["series"])]
    if not series:
        return None
    axis = level_axis(focus)
    figure, places = panels(series)
    for name, (row, column) in zip(series, places, strict=True):
        for value in dict.fromkeys(rows["value"]):
            look = _look(results, focus, attribute, value)
            mine = rows[(rows["series"] == name) & (rows["value"] == value)]
            for quantity, dash, text in (
                ("accuracy_mean", "solid", look.name),
                ("accuracy_worst_decile", "dot", f"{look.name}, worst tenth"),
            ):
                means = mine.groupby("level", sort=False)[[quantity, "clients"]].agg(["mean", "size"])
                x = axis.positions(means.index)
                order = np.argsort(x)
                figure.add_trace(
                    go.Scatter(
                        x=x[order],
                        y=means[quantity, "mean"].to_numpy()[order],
                        customdata=np.stack([means["clients", "mean"], means["clients", "size"]], axis=1)[order],
                        mode="lines+markers",
                        line={"color": look.colour, "dash": dash, "width": 2.5},
                        name=text,
                        legendgroup=text,
                        showlegend=(row, column) == places[0],
                        hovertemplate="%{y:.1%}, clients %{customdata[0]:.4~g}, replicates %{customdata[1]}<extra>"
                        + text
                        + "</extra>",
                    ),
                    row=row,
                    col=column,
                )
    axis.apply(figure)
    figure.update_yaxes(tickformat=".3~p")
    figure.update_yaxes(title_text="accuracy of clients", col=1)
    return style(figure, PANEL_HEIGHT * (1 + (len(series) - 1) // 3))


def client_composition(results: SweepResults, attribute: str | None = None) -> go.Figure | None:
    """What each client holds: one stacked bar a client, one panel a distinct division of the training set.

    Args:
        results: the sweep.
        attribute: whose values are counted, a group attribute or the label; None takes the one made imbalanced.

    Returns:
        The figure, of the most imbalanced level and the first replicate; None where there are no clients. Clients are
        in the order of what they hold most of.
    """
    focus = focus_of(results)
    attribute = attribute or focus.attribute
    divisions = _divisions(results, focus, attribute)
    if not divisions:
        return None
    vocabulary = results.vocabulary(attribute)
    figure, places = panels(list(divisions))
    for (title, composition), (row, column) in zip(divisions.items(), places, strict=True):
        counts = np.array(composition["counts"])
        order = np.lexsort((*counts.T[::-1], -counts.argmax(axis=1)))[::-1]
        for index, code in enumerate(composition["values"]):
            name = vocabulary.values[code]
            look = _look(results, focus, attribute, name)
            colour = look.colour if not is_many(results, attribute) else group_colour(vocabulary.values, name)
            colour = RARE_COLOUR if is_rare(focus, attribute, name) else colour
            figure.add_trace(
                go.Bar(
                    x=np.arange(len(counts)),
                    y=counts[order, index],
                    marker={"color": colour, "line": {"width": 0}},
                    name=vocabulary.shown(code),
                    legendgroup=name,
                    showlegend=(row, column) == places[0],
                    hovertemplate="%{y:,} examples<extra>" + f"{vocabulary.shown(code)}, {title}" + "</extra>",
                ),
                row=row,
                col=column,
            )
    figure.update_layout(barmode="stack", bargap=0)
    figure.update_xaxes(title_text="clients", showticklabels=False)
    figure.update_yaxes(title_text="training images", col=1)
    return style(figure, PANEL_HEIGHT * (1 + (len(divisions) - 1) // 3))


def _look(results: SweepResults, focus: Focus, attribute: str, value: str) -> Look:
    return _ALL if value == "" else group_look(results, focus, attribute, value, in_legend=True)


def _last(results: SweepResults) -> pd.DataFrame:
    """The clients of each finished trial after its last iteration, with series and level."""
    rows = results.clients()
    trials = results.trials[results.trials["state"] == "done"][["trial", "series", "level"]]
    rows = rows.merge(trials, on="trial")
    return rows[rows["iteration"] == rows.groupby("trial")["iteration"].transform("max")]


def _divisions(results: SweepResults, focus: Focus, attribute: str) -> dict[str, Mapping[str, Any]]:
    """The composition of clients of each distinct division, by a title that says what is particular about it."""
    known = results.trials.set_index("trial")
    found: dict[tuple[str, ...], tuple[dict[str, str], Mapping[str, Any]]] = {}
    for folder in sorted(results.folders, key=lambda folder: int((folder.config or {}).get("replicate") or 0)):
        clients = (folder.data or {}).get("clients")
        if not clients or known.loc[folder.name, "level"] != focus.levels[-1].text:
            continue
        listed = clients["listed"].get("label" if attribute == results.label else attribute)
        fields = {k: v for k, v in varying_fields(folder.config or {}).items() if k.startswith("learner.clients.")}
        if listed is not None:
            found.setdefault(tuple(fields.values()), (fields, listed))
    chosen = list(found.values())[:_MOST_PANELS]
    different = {key for fields, _ in chosen for key in fields if len({f.get(key) for f, _ in chosen}) > 1}
    return {
        ", ".join(f"{key.split('.')[-1]} {fields[key]}" for key in fields if key in different) or "clients": listed
        for fields, listed in chosen
    }
