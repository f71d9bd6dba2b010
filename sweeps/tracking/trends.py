"""Sweep-level results for trackers: the table of trials, and trends over its levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure

from fairsweep import analysis
from fairsweep.analysis.drawing.palette import group_colour, learner_colour
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.sweeps.tracking.pictures import as_png

_COLUMNS = ["trial", "learner", "series", "state", "level", "replicate", "epsilon", "iteration", "seconds", "error"]
_MOST_SERIES = 8
_DPI = 90


def trial_table(folder: Path) -> pa.Table:
    """One row a trial: what it is, how it ended, and accuracy and its worst group on the test split.

    Args:
        folder: the output folder.
    """
    results = analysis.load(folder)
    table = results.trials[_COLUMNS].copy()
    try:
        rates = results.rates(["accuracy"], by=())
        table = table.merge(_values(rates, "accuracy"), on="trial", how="left")
        worst = results.disparities(["worst_group_accuracy"], expected_if_equal=False)
        for attribute in results.groups:
            name = f"worst {attribute}"
            table = table.merge(_values(worst[worst["attribute"] == attribute], name), on="trial", how="left")
    except RecordError:
        pass  # no trial has ended well: the table says so by itself
    return pa.Table.from_pandas(table, preserve_index=False)


def _values(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[["trial", "value"]].rename(columns={"value": name})


def trend_pictures(folder: Path) -> dict[str, bytes]:
    """Means over replicates by level, test split: accuracy of each group, and the differences between groups.

    Args:
        folder: the output folder.

    Returns:
        PNG by name; empty where no trial is done.
    """
    results = analysis.load(folder)
    try:
        groups = results.rates(["accuracy"])
        gaps = results.disparities(["accuracy_difference"], expected_if_equal=False)
    except RecordError:
        return {}
    levels = design_of(results).level_name
    pictures = {}
    for attribute in results.groups:
        values = results.vocabulary(attribute).values
        rows = groups[groups["attribute"] == attribute]
        pictures[f"trends/accuracy/{attribute}"] = _by_series(rows, attribute, values, levels)
        rows = gaps[gaps["attribute"] == attribute]
        pictures[f"trends/accuracy_difference/{attribute}"] = _together(rows, attribute, levels)
    return pictures


def _by_series(rows: pd.DataFrame, attribute: str, values: tuple[str, ...], levels: str) -> bytes:
    """Accuracy: a panel for each series of trials, a line for each group."""
    series = list(dict.fromkeys(rows["series"]))[:_MOST_SERIES]
    columns = min(4, len(series))
    lines = -(-len(series) // columns)
    figure = Figure(figsize=(3.0 * columns + 1.2, 2.6 * lines + 0.5), dpi=_DPI, layout="constrained")
    figure.suptitle(f"accuracy by {attribute}, test", fontsize=10)
    figure.supxlabel(levels, fontsize=8)
    first: Any = None
    for place, name in enumerate(series):
        axes = figure.add_subplot(lines, columns, place + 1, sharey=first)
        first = first or axes
        axes.set_title(name, fontsize=9)
        for group in values:
            part = rows[(rows["series"] == name) & (rows["group"] == group)]
            _line(axes, part, group, group_colour(values, group), list(dict.fromkeys(rows["level"])))
    first.legend(fontsize=7, frameon=False)
    return as_png(figure)


def _together(rows: pd.DataFrame, attribute: str, levels: str) -> bytes:
    """Accuracy difference: one panel, a line for each series."""
    series = list(dict.fromkeys(rows["series"]))[:_MOST_SERIES]
    figure = Figure(figsize=(5.2, 3.4), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"accuracy difference by {attribute}, test", fontsize=10)
    axes.set_xlabel(levels, fontsize=8)
    for name in series:
        part = rows[rows["series"] == name]
        _line(axes, part, name, learner_colour(series, name), list(dict.fromkeys(rows["level"])))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, frameon=False)
    return as_png(figure)


def _line(
    axes: Any,  # noqa: ANN401 - matplotlib's Axes
    rows: pd.DataFrame,
    name: str,
    colour: str,
    levels: list[str],
) -> None:
    """Means over replicates, and every replicate as a point; levels without a number stand in the order given."""
    if rows.empty:
        return
    level = rows["level_value"].astype(float)
    if level.isna().all():
        level = rows["level"].map({name: float(place) for place, name in enumerate(levels)})
        axes.set_xticks(range(len(levels)), levels, fontsize=7)
    means = rows["value"].groupby(level).mean()
    axes.plot(means.index, means, "-", color=colour, label=name, linewidth=1.5)
    axes.plot(level, rows["value"], "o", color=colour, markersize=3, alpha=0.5)
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, alpha=0.25)
