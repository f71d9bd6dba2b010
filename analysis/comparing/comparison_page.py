"""Comparison of two sweeps as one HTML page, in the style of the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from fairsweep.analysis.comparing.comparison import SweepComparison
from fairsweep.analysis.comparing.comparison_table import comparison_tables
from fairsweep.analysis.drawing.drawing import PANEL_HEIGHT
from fairsweep.analysis.drawing.palette import NEUTRAL
from fairsweep.analysis.drawing.plotly_backend import panels, style
from fairsweep.analysis.figures.line_styles import group_style
from fairsweep.analysis.records.files import write_whole
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.report_page import environment, packed_plotly, summary_table, verbatim
from fairsweep.analysis.results.imbalance_design import design_of, shown

_FEW = 8


@dataclass(frozen=True)
class ComparedSweep:
    """One of the two sweeps, for the head of the page.

    Attributes:
        letter: A or B.
        name: of the sweep.
        place: its folder or path.
        done: trials that are done, of all.
    """

    letter: str
    name: str
    place: str
    done: str


def write_comparison(comparison: SweepComparison, to: str | Path) -> Path:
    """Write a comparison as one HTML page that asks the network for nothing.

    Args:
        comparison: what `compare` found.
        to: the file.

    Returns:
        The file.
    """
    page = environment()
    page.filters |= {"summary_table": summary_table}
    figures = change_figures(comparison)
    text = page.get_template("comparison.html.j2").render(
        sides=[_side("A", comparison), _side("B", comparison)],
        sentences=comparison.sentences(),
        unchanged=comparison.unchanged,
        figures_drawn=figures,
        tables=comparison_tables(comparison),
        settings=_settings(comparison),
        changes=_changes(comparison),
        trials=comparison.trials.drop(columns="setting_b").rename(columns={"pairing": "paired by"}),
        style=verbatim("report.css"),
        theme=verbatim("theme.js"),
        script=verbatim("glossary.js") + verbatim("report.js"),
        plotly=packed_plotly() if figures else "",
    )
    path = Path(to)
    write_whole(path, lambda file: file.write(text.encode()))
    return path


def change_figures(comparison: SweepComparison) -> tuple[Figure, ...]:
    """Return the change of the accuracy of each group with its interval, one panel per learner, for each attribute."""
    frame = comparison.differences
    frame = frame[(frame["metric"] == "accuracy") & frame["difference"].notna()]
    attributes = [name for name in dict.fromkeys(frame["attribute"]) if name]
    return tuple(_figure(comparison, frame[frame["attribute"] == name], name) for name in attributes)


def _figure(comparison: SweepComparison, frame: pd.DataFrame, attribute: str) -> Figure:
    results, design = comparison.b, design_of(comparison.b)
    learners = list(dict.fromkeys(frame["learner"]))
    figure, places = panels(learners)
    groups = list(results.vocabulary(attribute).values)
    for learner, (row, column) in zip(learners, places, strict=True):
        for number, group in enumerate(groups):
            mine = frame[(frame["learner"] == learner) & (frame["group"] == group)]
            line = group_style(results, design, attribute, group, in_legend=learner == learners[0])
            aside = (number - (len(groups) - 1) / 2) * min(0.12, 0.7 / len(groups))
            levels = list(dict.fromkeys(frame.loc[frame["learner"] == learner, "level"]))
            trace = go.Scatter(
                x=[levels.index(level) + aside for level in mine["level"]],
                y=mine["difference"],
                mode="markers",
                name=line.name,
                legendgroup=line.key,
                showlegend=line.in_legend,
                marker={"color": line.colour, "size": 8},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": mine["high"] - mine["difference"],
                    "arrayminus": mine["difference"] - mine["low"],
                    "thickness": 1.5,
                    "width": 0 if len(groups) > _FEW else 4,
                },
                customdata=np.stack([mine["low"], mine["high"], mine["n_min"], mine["replicates"]], -1),
                hovertemplate="%{y:+.1%} [%{customdata[0]:+.1%}, %{customdata[1]:+.1%}]<br>n %{customdata[2]:,}, "
                f"pairs %{{customdata[3]}}<extra>{line.name}</extra>",
            )
            figure.add_trace(trace, row=row, col=column)
            figure.update_xaxes(
                tickvals=list(range(len(levels))), ticktext=levels, range=[-0.6, len(levels) - 0.4], row=row, col=column
            )
    figure.add_hline(y=0, line={"color": NEUTRAL, "width": 1})
    figure.update_yaxes(tickformat="+.3~p")
    figure.update_yaxes(title_text="change in test accuracy", col=1)
    who = ", ".join(shown(results, attribute, group) for group in groups[:_FEW])
    text = f"Change in test accuracy by {attribute} ({who}{' …' if len(groups) > _FEW else ''}), B minus A, with 95% "
    return Figure(f"change-{attribute}", style(figure, PANEL_HEIGHT * places[-1][0]), f"{text}intervals.")


def _side(letter: str, comparison: SweepComparison) -> ComparedSweep:
    results = comparison.a if letter == "A" else comparison.b
    done = int((results.trials["state"] == "done").sum())
    return ComparedSweep(
        letter, results.name, results.location.path, f"{done} of {len(results.trials)} trials are done"
    )


def _settings(comparison: SweepComparison) -> pd.DataFrame:
    table = comparison.settings.copy()
    table["same config"] = np.where(
        table["where"] != "both", "", np.where(table["setting_a"] == table["setting_b"], "yes", "no")
    )
    table = table[["learner", "level", "where", "same config", "done_a", "done_b", "pairs", "pairing"]]
    return table.rename(
        columns={"where": "in", "done_a": "done in A", "done_b": "done in B", "pairing": "paired by"}
    ).replace({"in": {"A": "only A", "B": "only B"}})


def _changes(comparison: SweepComparison) -> pd.DataFrame:
    return comparison.changes.rename(columns={"where": "learners", "a": "A", "b": "B"}).replace(
        {"learners": {"": "all"}}
    )
