"""Summary tables: accuracy by group and disparities, with intervals, by learner and level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.metrics.catalogue import METRICS, Metric, resolve
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, design_of, shown
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import DONE, At

_MOST_GROUPS = 6
DISPARITIES_SHOWN = (
    "accuracy_difference",
    "demographic_parity_difference",
    "base_rate_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
)
_SHORT_TITLES = {
    "accuracy_difference": "accuracy gap",
    "base_rate_difference": "base rate",
    "demographic_parity_difference": "dem. parity",
    "equal_opportunity_difference": "equal opp.",
    "equalized_odds_difference": "eq. odds",
}


_SIMULATED = (
    "ε is a simulated guarantee (research mode): what the same training would promise if its noise followed from a "
    "secret."
)


@dataclass(frozen=True)
class SummaryTable:
    """A table of texts, with the numbers behind it.

    Attributes:
        title: what it shows.
        caption: how to read it.
        header: names of the columns.
        rows: texts, one tuple a row.
        sort_values: numbers behind the texts, NaN where there are none; same shape as ``rows``.
        numbers: the averaged tidy rows that the texts were made from.
    """

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sort_values: tuple[tuple[float, ...], ...]
    numbers: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """Return the texts as a data frame."""
        return pd.DataFrame(list(self.rows), columns=list(self.header))

    def __repr__(self) -> str:
        return f"{self.title}\n{self.frame().to_string(index=False)}\n{self.caption}"

    def _repr_html_(self) -> str:
        return f"<h4>{escape(self.title)}</h4>{self.frame().to_html(index=False)}<p>{escape(self.caption)}</p>"

    def markdown(self) -> str:
        """Return the texts as a Markdown table."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def summary_tables(
    results: SweepResults, *, at: At = "last", states: Sequence[str] | None = DONE, confidence: float = 0.95
) -> tuple[SummaryTable, ...]:
    """Return the accuracy and disparities for each attribute, by learner and level, means over replicates.

    The first one says so where its ε are simulated.

    Args:
        results: the sweep.
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.
        confidence: of the intervals.
    """
    design = design_of(results)
    tables = []
    for attribute in design.groupings:
        tables.append(accuracy_table(results, design, attribute, at=at, states=states, confidence=confidence))
        tables.append(disparity_table(results, design, attribute, at=at, states=states, confidence=confidence))
        tables += [
            metric_table(results, design, attribute, metric, at=at, states=states, confidence=confidence)
            for metric in shown_metrics(results)
        ]
    is_simulated = any((folder.privacy or {}).get("mode") == "research" for folder in results.folders)
    if tables and "ε" in tables[0].header and is_simulated:
        tables[0] = replace(tables[0], caption=f"{tables[0].caption} {_SIMULATED}")
    return tuple(tables)


def accuracy_table(
    results: SweepResults,
    design: ImbalanceDesign,
    attribute: str,
    *,
    at: At = "last",
    states: Sequence[str] | None = DONE,
    confidence: float = 0.95,
) -> SummaryTable:
    """Return the accuracy of all, of each group (of the rare ones where there are many) and of the worst group."""
    return metric_table(results, design, attribute, "accuracy", at=at, states=states, confidence=confidence)


def shown_metrics(results: SweepResults) -> list[str]:
    """Return the metrics that the sweep file names and that are defined for its label."""
    return [name for name in results.further_metrics() if is_defined(results, name)]


def metric_table(
    results: SweepResults,
    design: ImbalanceDesign,
    attribute: str,
    metric: str,
    *,
    at: At = "last",
    states: Sequence[str] | None = DONE,
    confidence: float = 0.95,
) -> SummaryTable:
    """Return a rate or score of all, of each group (of the rare ones where there are many) and between the groups.

    That is the worst group; of a metric without a direction the largest difference.
    """
    row = METRICS[metric]
    gaps = {"worst group": f"worst_group_{metric}", "difference": f"{metric}_difference"}
    column, gap = next(((name, gap) for name, gap in gaps.items() if gap in METRICS), ("", ""))
    overall = results.rates([metric], by=(), at=at, states=states, confidence=confidence)
    groups = results.rates([metric], by=attribute, at=at, states=states, confidence=confidence)
    parts = [overall, groups]
    if gap:
        parts.append(
            results.disparities(
                [gap], by=attribute, at=at, states=states, confidence=confidence, expected_if_equal=False
            )
        )
    numbers = average(pd.concat(parts, ignore_index=True), confidence, results=results)
    names = list(dict.fromkeys(groups["group"]))
    if len(names) > _MOST_GROUPS:
        names = [name for name in names if attribute == design.attribute and name in design.rare]
    columns = {"all": (numbers["attribute"] == "")}
    small = results.small_groups(attribute, states=states)
    for name in names:
        head = f"{shown(results, attribute, name)}{'*' if name in small else ''}"
        columns[head] = (numbers["group"] == name) & (numbers["attribute"] == attribute)
    if gap:
        columns[column] = numbers["metric"] == gap
    what = "Test accuracy" if metric == "accuracy" else f"{row.title} on test {results.unit}s,"
    unit = "in %" if Metric(row, None, metric).range == (0.0, 1.0) else "times 100"
    caption = (
        f"{what} {unit} by {attribute}; means over replicates (runs) with {confidence:.0%} intervals: t over "
        f"replicates combined with the sampling of test {results.unit}s; with one replicate, that sampling only."
    )
    if any(name in small for name in names):
        caption += f" * Fewer than {results.min_group_size} test examples: listed, not ranked as the worst group."
    collapsed = results.collapsed(at=at, states=states)
    return _table(f"{row.title} by {attribute}", caption, numbers, columns, collapsed, results.unit)


def disparity_table(
    results: SweepResults,
    design: ImbalanceDesign,
    attribute: str,
    *,
    at: At = "last",
    states: Sequence[str] | None = DONE,
    confidence: float = 0.95,
) -> SummaryTable:
    """Return the disparities of `DISPARITIES_SHOWN` that the label allows, each with that expected of equal groups."""
    names = [name for name in DISPARITIES_SHOWN if is_defined(results, name)]
    frame = results.disparities(names, by=attribute, at=at, states=states, confidence=confidence)
    numbers = average(frame, confidence, results=results)
    columns = {_SHORT_TITLES[name]: numbers["metric"] == name for name in names}
    caption = (
        f"Largest differences between the groups of {attribute} in percentage points ({_listed(names)}), means over "
        f"replicates with simultaneous {confidence:.0%} intervals: over all pairs of groups at once, and cut at 0, for "
        "a gap has no sign. A signed difference in a sentence has an interval of its own, which may reach below 0. "
        "After ≈ stands what equal groups of these sizes would show by chance; it is not subtracted."
    )
    small = [shown(results, attribute, name) for name in results.small_groups(attribute, states=states)]
    if small:
        caption += f" Without {', '.join(small)}: fewer than {results.min_group_size} test examples."
    collapsed = results.collapsed(at=at, states=states)
    title = f"Disparities by {attribute}"
    return _table(title, caption, numbers, columns, collapsed, results.unit, expected_if_equal=True)


def _listed(names: Sequence[str]) -> str:
    """Return what the columns are, in full."""
    titles = [METRICS[name].title.lower().removesuffix(" difference") for name in names]
    text = ", ".join(titles)
    return f"{text}; the base rate is a property of the test set" if "base_rate_difference" in names else text


def is_defined(results: SweepResults, name: str) -> bool:
    """Return whether a metric is defined for the sweep's label without naming a class."""
    try:
        resolve(name, results.classes)
    except ValueError:
        return False
    return True


def _table(
    title: str,
    caption: str,
    numbers: pd.DataFrame,
    columns: Mapping[str, pd.Series[bool]],
    collapsed: pd.DataFrame,
    unit: str,
    *,
    expected_if_equal: bool = False,
) -> SummaryTable:
    """Return one row per setting, in the order of the averages; ``columns`` says which averages make a column.

    Learners with a run in ``collapsed`` (see `SweepFrames.collapsed`) are marked, and the caption says as what.
    """
    settings = numbers.drop_duplicates("setting").set_index("setting")
    shares = settings["share"].notna().all()
    level = "share" if shares else "level"
    levels = [f"{value:g}" for value in settings["share"]] if shares else settings["level"].tolist()
    texts: dict[str, list[str]] = {"learner": settings["series"].tolist(), level: levels}
    keys: dict[str, list[float]] = {
        "learner": [float("nan")] * len(settings),
        level: settings["level_value"].tolist(),
    }
    if np.isfinite(settings["epsilon"]).any():
        texts["ε"] = [epsilon_text(value) for value in settings["epsilon"].tolist()]
        keys["ε"] = settings["epsilon"].tolist()
    of = collapsed["setting"].value_counts()
    runs = {setting: int(of.get(setting, 0)) for setting in settings.index}
    texts["runs"] = [
        f"{count}, {runs[setting]} collapsed" if runs[setting] else str(count)
        for setting, count in settings["replicates"].items()
    ]
    if any(runs.values()):
        caption = f"{caption} Collapsed: the model predicts one class for every test {unit}."
    keys["runs"] = settings["replicates"].astype(np.float64).tolist()
    for name, chosen in columns.items():
        cells = numbers[chosen].set_index("setting").reindex(settings.index)
        texts[name] = [
            _cell_text(row, expected_if_equal=expected_if_equal)
            for row in cells[["metric", "value", "low", "high", "expected_if_equal", "n_min"]].itertuples()
        ]
        keys[name] = cells["value"].tolist()
    rows = tuple(zip(*texts.values(), strict=True))
    return SummaryTable(title, caption, tuple(texts), rows, tuple(zip(*keys.values(), strict=True)), numbers)


def _cell_text(row: Any, *, expected_if_equal: bool) -> str:  # noqa: ANN401 - a named tuple
    if not np.isfinite(row.value):
        return f"n/a (n {int(row.n_min)})"
    if row.metric == "base_rate_difference":
        return f"{100 * row.value:.1f}"
    return interval_text(row.value, row.low, row.high, row.expected_if_equal if expected_if_equal else float("nan"))


def interval_text(value: float, low: float, high: float, expected: float = float("nan"), decimals: int = 1) -> str:
    """Return a value with its interval in percent, ``83.2 [80.1,86.0]``, and the gap expected of equal groups if given.

    No space within the brackets: a narrow terminal then breaks the line before the interval, never inside.
    """
    text = f"{100 * value:.{decimals}f} [{100 * low:.{decimals}f},{100 * high:.{decimals}f}]"
    return f"{text} ≈{100 * expected:.{decimals}f}" if np.isfinite(expected) else text
