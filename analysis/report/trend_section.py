"""Report section on trends: accuracy as a function of imbalance, tested on one slope per seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.figures import plots
from fairsweep.analysis.inference.trends import Trend
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.report.page_verdicts import (
    MOST_RARE,
    PageVerdicts,
    page_trends,
    page_verdicts,
    ranked_rare,
    step_of,
)
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.report_section import ReportSection, table_of
from fairsweep.analysis.report.statements import Statement, StatementGroup, accuracy_change, statement_of
from fairsweep.analysis.report.summary_table import SummaryTable, interval_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.verdicts.verdict import Question, Verdict
from fairsweep.analysis.verdicts.verdict_sentences import p_text

_TITLE = "Trend over imbalance"
_MOST_STATEMENTS = 12
Trends = Mapping[tuple[str, str], Trend]


def trend_section(
    results: SweepResults, design: ImbalanceDesign, verdicts: PageVerdicts | None = None
) -> ReportSection | None:
    """Return the section on the trend of the rare groups' accuracy over the levels, by learner.

    Args:
        results: the sweep.
        design: The sweep's imbalance.
        verdicts: Those of the whole report; None makes them.

    Returns:
        None if the levels have no order; a section of one sentence if no seed was run at several levels.
    """
    if not design.is_trend:
        return None
    groups = ranked_rare(results, design)[:MOST_RARE]
    found = page_trends(results, design)
    if not found:
        why = "No learner has a seed that was run at every level, so slopes per seed cannot be estimated."
        return ReportSection("trend", "Trend", _TITLE, (why,))
    table = trend_table(found, design, page_verdicts(results, design) if verdicts is None else verdicts)
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


def trend_table(found: Trends, design: ImbalanceDesign, verdicts: PageVerdicts) -> pd.DataFrame:
    """Return a table of the trends, one per row.

    Args:
        found: The trends by series and group.
        design: The sweep's imbalance, which gives the direction.
        verdicts: Of the whole report.

    Returns:
        ``series``, ``group``, ``step`` (in words), ``change``, ``low``, ``high`` (for that step), ``seeds``, ``n``,
        ``p_value``, ``p_holm`` (over the whole report) and ``verdict``. A step leads towards imbalance: to a tenfold
        smaller minority, or from the first to the last level if x is not a count.
    """
    rows = []
    for (series, group), one in found.items():
        verdict = verdicts.of(Question("slope", series, "", design.attribute, group))
        if verdict is not None:
            row = {"series": series, "group": group, "step": step_of(one, design)[0], "change": verdict.estimate}
            row |= {"low": verdict.low, "high": verdict.high, "seeds": verdict.seeds, "n": verdict.images}
            rows.append(row | {"p_value": verdict.p_value, "p_holm": verdict.p_adjusted, "verdict": verdict})
    columns = ["series", "group", "step", "change", "low", "high", "seeds", "n", "p_value", "p_holm", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def _lead(table: pd.DataFrame) -> str:
    family = max((verdict.family for verdict in table["verdict"]), default=0)
    if not table["p_value"].notna().any():
        return "With one seed, the variation of slopes between seeds is unknown, so there is no test."
    return f"One slope per seed; verdicts are corrected for the {family} questions of this report (Holm)."


def _statement(results: SweepResults, design: ImbalanceDesign, row: pd.Series[Any]) -> Statement:
    found: Verdict = row["verdict"]
    who = _who(results, design, row["group"])
    if found.word == "undefined":
        return statement_of(f"Learner {row['series']}: the trend of the test accuracy for {who} is undefined.", found)
    return statement_of(
        accuracy_change(row["step"], f"the test accuracy of learner {row['series']} for {who}", found), found
    )


def _who(results: SweepResults, design: ImbalanceDesign, group: str) -> str:
    return f"all {results.unit}s" if group == ALL else named(results, design.attribute, group)


def _summary(results: SweepResults, design: ImbalanceDesign, table: pd.DataFrame) -> SummaryTable:
    steps = " or ".join(dict.fromkeys(table["step"]))
    caption = (
        f"Change in test accuracy in percentage points for {steps}: mean slope over seeds with its 95% interval, "
        f"which covers variation between seeds and the sampling of test {results.unit}s. "
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
