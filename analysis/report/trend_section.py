"""What the report says on trends: how a rate changes as the minority gets rarer, tested on one slope a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.figures import plots
from fairsweep.analysis.inference.comparisons import holm
from fairsweep.analysis.inference.trends import LOG_MINORITY, Trend, trends_by_group
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.report_section import ALPHA, ReportSection, p_text, p_words, table_of
from fairsweep.analysis.report.statements import Statement, StatementGroup, points_text
from fairsweep.analysis.report.summary_tables import SummaryTable, interval_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named
from fairsweep.analysis.results.results import SweepResults

_TITLE = "Trend over imbalance"
_MOST_RARE = 2
_MOST_STATEMENTS = 12
Trends = Mapping[tuple[str, str], Trend]


def trend_section(results: SweepResults, design: ImbalanceDesign) -> ReportSection | None:
    """Return the trend of the rare groups' accuracy over the levels, learner by learner.

    Args:
        results: the sweep.
        design: what it is about.

    Returns:
        None for a sweep whose levels have no order; one sentence where no seed was run at several levels.
    """
    if not design.is_trend:
        return None
    groups = design.rare[:_MOST_RARE]
    found = trends_by_group(results, by=design.attribute if groups else (), groups=groups or None)
    if not found:
        why = "No learner has a seed that was run at every level: a slope for each seed cannot be told."
        return ReportSection("trend", "Trend", _TITLE, (why,))
    table = trend_table(found, design)
    statements = [_statement(results, design, row) for _, row in table.head(_MOST_STATEMENTS).iterrows()]
    listed = (
        f" The first {_MOST_STATEMENTS} are below, all of them in the table." if len(table) > len(statements) else ""
    )
    findings = (StatementGroup("Test accuracy", f"{_lead(table)}{listed}", tuple(statements)),)
    drawn = plots.slopes(results, design.attribute, groups=groups or None)
    caption = (
        "One thin line a seed: its values and the straight line through them. The thick line has the mean slope, on "
        "which the t test is made. Imbalance grows to the right."
    )
    figures = () if drawn is None else (Figure("slopes", drawn, caption),)
    return ReportSection("trend", "Trend", _TITLE, (), findings, figures, (_summary(results, design, table),))


def trend_table(found: Trends, design: ImbalanceDesign) -> pd.DataFrame:
    """One row a trend.

    Args:
        found: by series and group.
        design: which way imbalance grows.

    Returns:
        ``series``, ``group``, ``step`` (in words), ``change``, ``low``, ``high`` (for that step), ``seeds``,
        ``design``, ``n``, ``p_value`` and ``p_holm`` (over all rows). A step leads towards imbalance: to a minority
        ten times as small, or from the first to the last level where x is no count.
    """
    rows = []
    for (series, group), one in found.items():
        step, scale = "a minority ten times as small", -1.0
        if one.x_name != LOG_MINORITY:
            ends = one.x[0], one.x[-1]
            first, last = ends if design.levels[0].value <= design.levels[-1].value else ends[::-1]
            step, scale = f"the way from {first:g} to {last:g} ({design.level_name})", float(last - first)
        low, high = sorted((scale * one.low, scale * one.high))
        row = {"series": series, "group": group, "step": step, "change": scale * one.slope, "low": low, "high": high}
        row |= {"seeds": len(one.slopes), "design": one.table.seeds.design}
        rows.append(row | {"n": int(one.table.n.min()), "p_value": one.p_value})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p_value"].to_numpy(np.float64)))


def _lead(table: pd.DataFrame) -> str:
    tested = int(table["p_value"].notna().sum())
    if not tested:
        return "With one seed there is one slope: nothing is known about how much slopes differ, so there is no test."
    what = f"One slope a seed, and a t test on the slopes; p is corrected for {tested} tests (Holm)"
    return f"{what}." if tested > 1 else "One slope a seed, and a t test on the slopes."


def _statement(results: SweepResults, design: ImbalanceDesign, row: pd.Series[Any]) -> Statement:
    what = (
        f"Learner {row['series']}: {row['step']} changes the test accuracy of {_who(results, design, row['group'])} by"
    )
    if row["seeds"] < 2:
        sign = "+" if row["change"] >= 0 else "\N{MINUS SIGN}"
        text = f"{what} {sign}{abs(100 * row['change']):.1f} points (1 seed, n {int(row['n']):,})."
        return Statement(text, "unknown", "One slope has no interval and no test.")
    replicates = "crossed replicates" if row["design"] == "crossed" else "seeds"
    text = (
        f"{what} {points_text(row['change'], row['low'], row['high'], signed=True)} ({int(row['seeds'])} {replicates}, "
        f"n {int(row['n']):,}; {p_words(row['p_value'])}, {p_words(row['p_holm'])} by Holm)."
    )
    if row["p_holm"] < ALPHA:
        return Statement(text, "told", "This trend can be told from noise.")
    return Statement(text, "noise", "No trend can be told from noise.")


def _who(results: SweepResults, design: ImbalanceDesign, group: str) -> str:
    return "all images" if group == ALL else named(results, design.attribute, group)


def _summary(results: SweepResults, design: ImbalanceDesign, table: pd.DataFrame) -> SummaryTable:
    steps = " or ".join(dict.fromkeys(table["step"]))
    caption = (
        f"Change of the test accuracy in percentage points for {steps}: the mean of one slope a seed with its 95% t "
        "interval, which knows the luck of seeds and what of the test images' error differs between trials. Ordinary "
        "regression over all trials would take nested training sets as independent."
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
