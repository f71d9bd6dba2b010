"""Report section on trends: accuracy as a function of imbalance, tested on one slope per seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.figures import plots
from fairsweep.analysis.inference.trends import LOG_MINORITY, Trend, trends_by_group
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.report_section import ALPHA, ReportSection, p_text, p_words, table_of
from fairsweep.analysis.report.statements import Statement, StatementGroup, accuracy_change
from fairsweep.analysis.report.summary_table import SummaryTable, interval_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.verdicts.multiplicity import holm

_TITLE = "Trend over imbalance"
_MOST_RARE = 2
_MOST_STATEMENTS = 12
Trends = Mapping[tuple[str, str], Trend]


def trend_section(results: SweepResults, design: ImbalanceDesign) -> ReportSection | None:
    """Return the section on the trend of the rare groups' accuracy over the levels, by learner.

    Args:
        results: the sweep.
        design: The sweep's imbalance.

    Returns:
        None if the levels have no order; a section of one sentence if no seed was run at several levels.
    """
    if not design.is_trend:
        return None
    groups = design.rare[:_MOST_RARE]
    found = trends_by_group(results, by=design.attribute if groups else (), groups=groups or None)
    if not found:
        why = "No learner has a seed that was run at every level, so slopes per seed cannot be estimated."
        return ReportSection("trend", "Trend", _TITLE, (why,))
    table = trend_table(found, design)
    statements = [_statement(results, design, row) for _, row in table.head(_MOST_STATEMENTS).iterrows()]
    listed = (
        f" The first {_MOST_STATEMENTS} are listed here; the table has all." if len(table) > len(statements) else ""
    )
    findings = (StatementGroup("Test accuracy", f"{_lead(table)}{listed}", tuple(statements)),)
    drawn = plots.slopes(results, design.attribute, groups=groups or None)
    caption = (
        "Thin lines: the values of each seed and a linear fit. The thick line has the mean slope, which the t test is "
        "about. Imbalance increases to the right."
    )
    figures = () if drawn is None else (Figure("slopes", drawn, caption),)
    return ReportSection("trend", "Trend", _TITLE, (), findings, figures, (_summary(results, design, table),))


def trend_table(found: Trends, design: ImbalanceDesign) -> pd.DataFrame:
    """Return a table of the trends, one per row.

    Args:
        found: The trends by series and group.
        design: The sweep's imbalance, which gives the direction.

    Returns:
        ``series``, ``group``, ``step`` (in words), ``change``, ``low``, ``high`` (for that step), ``seeds``,
        ``design``, ``n``, ``p_value`` and ``p_holm`` (over all rows). A step leads towards imbalance: to a tenfold
        smaller minority, or from the first to the last level if x is not a count.
    """
    rows = []
    for (series, group), one in found.items():
        step, scale = "a tenfold smaller minority", -1.0
        if one.x_name != LOG_MINORITY:
            ends = one.x[0], one.x[-1]
            first, last = ends if design.levels[0].value <= design.levels[-1].value else ends[::-1]
            step, scale = f"going from {first:g} to {last:g} ({design.level_name})", float(last - first)
        low, high = sorted((scale * one.low, scale * one.high))
        row = {"series": series, "group": group, "step": step, "change": scale * one.slope, "low": low, "high": high}
        row |= {"seeds": len(one.slopes), "design": one.table.seeds.design}
        rows.append(row | {"n": int(one.table.n.min()), "p_value": one.p_value})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p_value"].to_numpy(np.float64)))


def _lead(table: pd.DataFrame) -> str:
    tested = int(table["p_value"].notna().sum())
    if not tested:
        return "With one seed, the variation of slopes between seeds is unknown, so there is no test."
    what = "One slope per seed, and a t test on the slopes"
    return f"{what}; p-values are corrected for {tested} tests (Holm)." if tested > 1 else f"{what}."


def _statement(results: SweepResults, design: ImbalanceDesign, row: pd.Series[Any]) -> Statement:
    what, who = f"Learner {row['series']}: {row['step']}", _who(results, design, row["group"])
    if row["seeds"] < 2:
        verb = "raises" if row["change"] >= 0 else "lowers"
        points = f"{abs(100 * row['change']):.1f} points (1 seed, n {int(row['n']):,})"
        return Statement(
            f"{what} {verb} test accuracy for {who} by {points}.", "undefined", "A single slope has no interval."
        )
    if not np.isfinite(row["low"]):
        points = f"{abs(100 * row['change']):.1f} points with each of {int(row['seeds'])} seeds (n {int(row['n']):,})"
        return Statement(
            f"{what} changes test accuracy for {who} by {points}.",
            "undefined",
            "Slopes that all agree do not show how much slopes vary.",
        )
    replicates = "crossed replicates" if row["design"] == "crossed" else "seeds"
    text = (
        f"{what} {accuracy_change(who, row['change'], row['low'], row['high'])} ({int(row['seeds'])} {replicates}, "
        f"n {int(row['n']):,}; {p_words(row['p_value'])}, Holm-adjusted {p_words(row['p_holm'])})."
    )
    if row["p_holm"] < ALPHA:
        return Statement(text, "significant", "The trend is statistically significant.")
    return Statement(text, "not_significant", "The trend is not statistically significant.")


def _who(results: SweepResults, design: ImbalanceDesign, group: str) -> str:
    return "all images" if group == ALL else named(results, design.attribute, group)


def _summary(results: SweepResults, design: ImbalanceDesign, table: pd.DataFrame) -> SummaryTable:
    steps = " or ".join(dict.fromkeys(table["step"]))
    caption = (
        f"Change in test accuracy in percentage points for {steps}: mean slope over seeds with its 95% t interval, "
        "which covers variation between seeds and the part of the test sampling error that differs between trials. "
        "Ordinary regression over all trials would treat nested training sets as independent."
    )
    changes = [interval_text(*row) if np.isfinite(row[1]) else f"{100 * row[0]:.1f}" for row in _triples(table)]
    columns = {
        "learner": (table["series"].tolist(), None),
        "group": ([_who(results, design, group) for group in table["group"]], None),
        "change": (changes, table["change"].tolist()),
        "seeds": ([str(count) for count in table["seeds"]], table["seeds"].tolist()),
        "n": ([f"{count:,}" for count in table["n"]], table["n"].tolist()),
        "p": ([p_text(p) for p in table["p_value"]], table["p_value"].tolist()),
        "p (Holm)": ([p_text(p) for p in table["p_holm"]], table["p_holm"].tolist()),
    }
    return table_of("Trends", caption, columns, table)


def _triples(table: pd.DataFrame) -> list[tuple[float, float, float]]:
    return list(zip(*(table[name].tolist() for name in ("change", "low", "high")), strict=True))
