"""Trade-offs: disparities and rates against ε, the clipping norm, and each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.drawing.drawing import Axis, Drawing, Floats, Hover, Line, Panel, columns_for
from fairsweep.analysis.drawing.palette import NEUTRAL, SYMBOLS, learner_colour
from fairsweep.analysis.figures.level_axes import mean_line, value_range
from fairsweep.analysis.figures.line_styles import LineStyle, group_style, series_in
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, design_of
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At

EPSILON = "epsilon"


def disparity_by_epsilon(
    results: SweepResults, attribute: str | None = None, metric: str = "accuracy_difference", *, at: At = "last"
) -> Drawing | None:
    """Return a disparity against the ε spent, one panel per learner and one line per level.

    Args:
        results: the sweep.
        attribute: between whose groups; None takes the one that is made imbalanced.
        metric: a disparity.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure; None unless a learner spent two finite ε at one level.
    """
    design = design_of(results)
    means = average(results.disparities([metric], by=attribute or design.attribute, at=at), results=results)
    finite = means[np.isfinite(means["epsilon"])]
    varied = finite.groupby(["learner", "level"], sort=False)["epsilon"].nunique().groupby("learner", sort=False).max()
    learners = varied[varied > 1].index.tolist()
    if not learners:
        return None
    finite = finite[finite["learner"].isin(learners)]
    levels = [level.text for level in design.levels]
    x = _logarithmic("ε spent (PLD)", finite["epsilon"].to_numpy(np.float64))
    y = Axis(resolve(metric, results.classes).title, style="percent", range=value_range(finite, least=0.0))
    panels: list[Panel] = []
    for learner in learners:
        lines = []
        for place, level in enumerate(levels):
            rows = finite[(finite["level"] == level) & (finite["learner"] == learner)].sort_values("epsilon")
            style = LineStyle(level, learner_colour(levels, level), level, in_legend=not panels, place=place)
            lines.append(mean_line(rows["epsilon"].to_numpy(np.float64), rows, style))
        panels.append(Panel(learner if len(learners) > 1 else "", tuple(lines), x, y))
    return Drawing(tuple(panels), columns_for(len(panels)), shares_y=True)


def rate_by_field(
    results: SweepResults,
    field: str = EPSILON,
    attribute: str | None = None,
    metric: str = "accuracy",
    *,
    level: str | None = None,
    at: At = "last",
) -> Drawing | None:
    """Return a rate of each group against a field of the learner that is swept, one panel per learner.

    Args:
        results: the sweep.
        field: ``epsilon`` for the ε spent, or a numeric field of the learner such as ``l2_clip_norm``,
            ``noise_multiplier`` or ``batch_size``.
        attribute: whose groups are drawn; None takes the one that is made imbalanced.
        metric: a rate.
        level: as in the column ``level``; None takes the most imbalanced.
        at: see `SweepResults.evaluations`.

    Returns:
        The figure; None unless some learner has the field with two finite values at this level.
    """
    design = design_of(results)
    attribute = attribute or design.attribute
    level = level or design.levels[-1].text
    means = average(results.rates([metric], by=attribute, at=at), results=results)
    means = means[means["level"] == level].assign(field=lambda rows: _field_values(results, rows, field))
    means = means[np.isfinite(means["field"])]
    varied = means.groupby("learner", sort=False)["field"].nunique()
    learners = varied[varied > 1].index.tolist()
    if not learners:
        return None
    means = means[means["learner"].isin(learners)]
    x = _logarithmic("ε spent (PLD)" if field == EPSILON else field.replace("_", " "), means["field"].to_numpy())
    y = Axis(f"test {resolve(metric, results.classes).title.lower()}", style="percent", range=value_range(means))
    panels: list[Panel] = []
    for learner in learners:
        lines = []
        for group in results.vocabulary(attribute).values:
            rows = means[(means["learner"] == learner) & (means["group"] == group)]
            style = group_style(results, design, attribute, group, in_legend=not panels)
            lines.append(mean_line(rows["field"].to_numpy(np.float64), rows, style))
        panels.append(Panel(f"{learner}, {level}", tuple(lines), x, y))
    return Drawing(tuple(panels), columns_for(len(panels)), shares_y=True)


def pareto_front(
    results: SweepResults,
    attribute: str | None = None,
    utility: str = "accuracy",
    disparity: str = "accuracy_difference",
    *,
    level: str | None = None,
    split: str = "test",
    at: At = "last",
) -> Drawing:
    """Return the utility against disparity, one point per setting; a line joins those that no other one beats in both.

    Settings of which a run has collapsed (`SweepResults.collapsed`) are named so, and the line passes them by.

    Args:
        results: the sweep.
        attribute: between whose groups; None takes the one that is made imbalanced.
        utility: a rate of all examples for which higher is better.
        disparity: one for which lower is better.
        level: as in the column ``level``; None draws one panel per level.
        split: ``validation`` to choose among settings, ``test`` to show what was chosen.
        at: see `SweepResults.evaluations`.
    """
    design = design_of(results)
    both = _two_means(results, design, attribute, utility, disparity, split, at)
    both = both.assign(collapsed=both["setting"].isin(results.collapsed(split=split, at=at)["setting"]))
    series = series_in(results, both)
    levels = [one.text for one in design.levels if level in (None, one.text)]
    x = Axis(resolve(disparity, results.classes).title, style="percent")
    y = Axis(f"{split} {resolve(utility, results.classes).title.lower()}", style="percent")
    panels: list[Panel] = []
    for one in levels:
        rows = both[both["level"] == one]
        points = [
            _point(rows[rows["series"] == name], learner_colour(series, name), series.index(name), not panels)
            for name in series_in(results, rows)
        ]
        panels.append(Panel(one, (_front(rows[~rows["collapsed"]], in_legend=not panels), *points), x, y))
    return Drawing(tuple(panels), columns_for(len(panels)), shares_y=True)


def _two_means(
    results: SweepResults,
    design: ImbalanceDesign,
    attribute: str | None,
    utility: str,
    disparity: str,
    split: str,
    at: At,
) -> pd.DataFrame:
    """Return one row per setting: the means of utility and disparity with their intervals."""
    one = average(results.rates([utility], by=(), split=split, at=at), results=results)
    gaps = results.disparities(
        [disparity], by=attribute or design.attribute, split=split, at=at, expected_if_equal=False
    )
    two = average(gaps, results=results)
    kept = ["setting", "value", "low", "high", "n_min"]
    return one.merge(two[kept], on="setting", suffixes=("", "_disparity"))


def _front(rows: pd.DataFrame, *, in_legend: bool) -> Line:
    """Step through the settings that are not dominated: none has less disparity and as much utility."""
    known = rows[np.isfinite(rows["value"]) & np.isfinite(rows["value_disparity"])]
    known = known.sort_values(["value_disparity", "value"], ascending=[True, False])
    best = known["value"].cummax()
    front = known[(known["value"] >= best) & ~best.duplicated()]
    x, y = front["value_disparity"].to_numpy(np.float64), front["value"].to_numpy(np.float64)
    name = "not dominated"
    return Line(
        np.repeat(x, 2)[1:],
        np.repeat(y, 2)[:-1],
        name,
        NEUTRAL,
        in_legend=in_legend,
        symbol=None,
        width=1.5,
        hover=Hover(f"not dominated<extra>{name}</extra>"),
    )


def _point(rows: pd.DataFrame, colour: str, place: int, in_legend: bool) -> Line:
    name = f"{rows['series'].iloc[0]}{' (collapsed)' if rows['collapsed'].all() else ''}"
    template = (
        "%{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}] at a disparity of %{x:.1%} [%{customdata[2]:.1%}, "
        "%{customdata[3]:.1%}]<br>%{customdata[4]}, n %{customdata[5]:,}, replicates %{customdata[6]}"
    )
    columns = ["low", "high", "low_disparity", "high_disparity", "level", "n_min", "replicates"]
    return Line(
        rows["value_disparity"].to_numpy(np.float64),
        rows["value"].to_numpy(np.float64),
        name,
        colour,
        in_legend=in_legend,
        symbol=SYMBOLS[place % len(SYMBOLS)],
        width=0,
        low=rows["low"].to_numpy(np.float64),
        high=rows["high"].to_numpy(np.float64),
        hover=Hover(f"{template}<extra>{name}</extra>", rows[columns].to_numpy()),
    )


def _field_values(results: SweepResults, rows: pd.DataFrame, field: str) -> Floats:
    """Return the value of a learner's field for the setting of each row; NaN where it has none."""
    if field == EPSILON:
        return rows["epsilon"].to_numpy(np.float64)
    configs = {(f.config or {}).get("setting"): (f.config or {}).get("learner", {}) for f in results.folders}
    return np.array([_number(configs.get(setting, {}).get(field)) for setting in rows["setting"]])


def _number(value: Any) -> float:  # noqa: ANN401 - any JSON value
    return float(value) if isinstance(value, int | float) else float("nan")


def _logarithmic(title: str, values: Sequence[float] | Floats) -> Axis:
    """Return a logarithmic axis with a tick at each value; a linear one where a value is 0."""
    places = np.unique(np.round(np.asarray(values, np.float64), 6))
    texts = tuple(f"{value:.3g}" for value in places)
    if places.min() <= 0:
        return Axis(title, ticks=(tuple(places.tolist()), texts))
    low, high = float(places.min()), float(places.max())
    margin = (high / low) ** 0.08 if high > low else 1.5
    return Axis(title, ticks=(tuple(places.tolist()), texts), is_log=True, range=(low / margin, high * margin))
