"""Model selection: test against validation results, one point per setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import Axis, Drawing, Floats, Hover, Line, Panel, ReferenceLine
from fairsweep.analysis.drawing.palette import NEUTRAL, SYMBOLS, learner_colour
from fairsweep.analysis.inference.candidates import candidates, judged
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.metrics.rates import Bools
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At

_FRONT = "validation Pareto front"
_CHOSEN = "selected on validation"


def selection(
    results: SweepResults,
    attribute: str | None = None,
    utility: str = "accuracy",
    disparity: str = "accuracy_difference",
    *,
    level: str | None = None,
    at: At = "last",
) -> Drawing | None:
    """Plot test means against validation means, one point per setting, for a utility and for a disparity.

    Args:
        results: the sweep.
        attribute: between whose groups; None takes the one that is made imbalanced.
        utility: a rate of all examples.
        disparity: a disparity.
        level: as in the column ``level``; None takes the most imbalanced.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure; None where nothing was evaluated on validation, or the level has one setting. Pale discs mark the
        Pareto front of validation means (with ε, where it is finite), a pale square the best utility on validation.
        Bars are the intervals on test. On the diagonal, test and validation agree.
    """
    design = design_of(results)
    level = level or design.levels[-1].text
    try:
        results.evaluations(split="validation", at=at)
    except RecordError:
        return None
    table = candidates(results, by=attribute or design.attribute, utility=utility, disparity=disparity, at=at)
    table = table[(table["level"].astype(str) == level) & table["distance"].notna()].reset_index(drop=True)
    if len(table) < 2:
        return None
    learners = list(dict.fromkeys(name for name in results.trials["learner"] if name))
    metrics = [
        (utility, resolve(utility, results.classes).title),
        (disparity, resolve(disparity, results.classes).title),
    ]
    # A disparity is undefined on a test set whose groups are too small, though not on validation.
    metrics = [(name, title) for name, title in metrics if table[f"test {name}"].notna().any()]
    panels = [_panel(table, learners, name, title, utility, in_legend=not i) for i, (name, title) in enumerate(metrics)]
    if not panels:
        return None
    meta = {"judged by": judged(table, utility, disparity)}
    return Drawing(tuple(panels), columns=2, meta=meta)


def _panel(
    table: pd.DataFrame, learners: Sequence[str], metric: str, title: str, utility: str, *, in_legend: bool
) -> Panel:
    validation = table[f"validation {metric}"].to_numpy(np.float64)
    test = table[f"test {metric}"].to_numpy(np.float64)
    marks: list[Line | ReferenceLine] = [
        ReferenceLine(is_diagonal=True),
        _discs(
            validation,
            test,
            table["best"].to_numpy(np.bool_),
            f"{_CHOSEN} {utility}",
            32,
            in_legend=in_legend,
            symbol="square",
        ),
        _discs(validation, test, table["front"].to_numpy(np.bool_), _FRONT, 20, in_legend=in_legend),
    ]
    for name in dict.fromkeys(table["learner"].astype(str)):
        rows = table[table["learner"].astype(str) == name]
        marks.append(_points(rows, metric, name, learners, in_legend=in_legend))
    bounds = table[[f"test {metric} low", f"test {metric} high"]].to_numpy(np.float64)
    x = Axis(f"{title.lower()} on validation", style="percent", range=_span(validation))
    y = Axis(f"{title.lower()} on test", style="percent", range=_span(np.append(bounds, test)))
    return Panel(title, tuple(marks), x, y)


def _discs(
    x: Floats, y: Floats, chosen: Bools, name: str, size: float, *, in_legend: bool, symbol: str = "circle"
) -> Line:
    return Line(
        x[chosen], y[chosen], name, NEUTRAL, in_legend=in_legend, symbol=symbol, width=0, size=size, opacity=0.35
    )


def _points(rows: pd.DataFrame, metric: str, name: str, learners: Sequence[str], *, in_legend: bool) -> Line:
    template = (
        "%{customdata[0]}<br>test %{y:.1%} [%{customdata[1]:.1%}, %{customdata[2]:.1%}], validation %{x:.1%}<br>"
        "n %{customdata[3]:,}, replicates %{customdata[4]}, %{customdata[5]}"
    )
    columns = ["series", f"test {metric} low", f"test {metric} high", f"test {metric} n", "replicates"]
    data = rows[columns].astype(object)
    data["front"] = np.where(rows["front"], _FRONT, "dominated on validation")
    low, high = (rows[f"test {metric} {end}"].to_numpy(np.float64) for end in ("low", "high"))
    return Line(
        rows[f"validation {metric}"].to_numpy(np.float64),
        rows[f"test {metric}"].to_numpy(np.float64),
        name,
        learner_colour(learners, name),
        in_legend=in_legend,
        symbol=SYMBOLS[learners.index(name) % len(SYMBOLS)],
        width=0,
        low=low,
        high=high,
        hover=Hover(f"{template}<extra>{name}</extra>", data.to_numpy()),
    )


def _span(values: Floats) -> tuple[float, float]:
    """Return the range of some values with a margin; that of a share where none is defined."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    margin = 0.12 * max(float(np.ptp(known)), 0.02)
    return float(known.min()) - margin, float(known.max()) + margin
