"""Report section on pairwise comparisons of learners, paired by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fairsweep.analysis.figures.line_styles import series_of
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.report.page_verdicts import (
    MOST_RARE,
    MOST_SERIES,
    PageVerdicts,
    page_verdicts,
    ranked_rare,
    series_names,
)
from fairsweep.analysis.report.report_section import ReportSection, split_kinds, table_of
from fairsweep.analysis.report.statements import Statement, StatementGroup, statement_of, told
from fairsweep.analysis.report.summary_table import SummaryTable, interval_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.statistics.superiority import THRESHOLD
from fairsweep.analysis.statistics.variance_components import ROUNDING
from fairsweep.analysis.verdicts.verdict import Question, Verdict
from fairsweep.analysis.verdicts.verdict_sentences import margin_text, p_text, sided_text, superiority_text, word_text

_TITLE = "Pairwise comparison of learners"


def pair_section(
    results: SweepResults, design: ImbalanceDesign, verdicts: PageVerdicts | None = None
) -> ReportSection | None:
    """Return the section that compares every pair of learners on the rare groups, paired by seed.

    Args:
        results: the sweep.
        design: The sweep's imbalance.
        verdicts: Those of the whole report; None makes them.

    Returns:
        None if there is one learner; a section of one sentence if the sweep does not identify the comparison.
    """
    series = series_of(results)
    if len(series) < 2:
        return None
    why = _reason_against(results, series)
    known = page_verdicts(results, design) if verdicts is None else verdicts
    found = [] if why else _pairs(results, design, known)
    if not why and max((one.seeds for one in found), default=0) < 2:
        why = "No two learners share two seeds at a level, so differences cannot be separated from seed variation."
    if why:
        return ReportSection("pairs", "Pairs", _TITLE, (why,))
    lead = f"Paired by seed; verdicts are corrected for the {known.family} questions of this report (Holm)."
    statements = tuple(_statement(results, design, one) for one in found)
    findings = (StatementGroup(f"At {design.levels[-1].text}", lead, statements),)
    return ReportSection("pairs", "Pairs", _TITLE, (), findings, (), (_summary(results, design, found),))


def _pairs(results: SweepResults, design: ImbalanceDesign, verdicts: PageVerdicts) -> list[Verdict]:
    """Return the verdicts on all pairs for the rare groups (for all images if none is rare), at the last level."""
    names = series_names(results)
    questions = (
        Question("difference", one, other, design.attribute, group, design.levels[-1].text)
        for group in ranked_rare(results, design)[:MOST_RARE] or (ALL,)
        for i, one in enumerate(names)
        for other in names[i + 1 :]
    )
    found = (verdicts.of(question) for question in questions)
    return [one for one in found if one is not None]


def _reason_against(results: SweepResults, series: list[str]) -> str:
    if "folds" in split_kinds(results):
        return (
            "Learners are not compared in pairs: training sets of different folds overlap, which violates the "
            "assumptions of a paired test. analysis.corrected_fold_test compares two learners over folds."
        )
    if len(series) > MOST_SERIES:
        return (
            f"Learners are not compared in pairs: {len(series)} settings make {len(series) * (len(series) - 1) // 2} "
            "pairs, and correcting for so many tests leaves little power. analysis.compare_learners(results, "
            "learners=[…]) compares the ones you name."
        )
    return ""


def _who(results: SweepResults, design: ImbalanceDesign, group: str) -> str:
    return f"all {results.unit}s" if group == ALL else named(results, design.attribute, group)


def _statement(results: SweepResults, design: ImbalanceDesign, found: Verdict) -> Statement:
    asked = found.question
    who = _who(results, design, asked.group)
    if found.word == "undefined":
        return statement_of(f"For {who}, {asked.learner} and {asked.baseline} cannot be compared.", found)
    one, other = asked.learner, asked.baseline
    differs = abs(found.estimate) > ROUNDING
    size = f"{sided_text(found, 'below', 'above')}{f' that of {other}' if differs else ''}"
    margin = "" if found.margin is None else margin_text(found.margin)
    text = told(
        found,
        question=f"{one} or {other} is more accurate for {who}",
        equal=f"For {who}, {one} and {other} are equally accurate, within {margin}",
        claim=f"For {who}, the accuracy of {one} is {size}",
        estimate=f"{f'for {one} ' if differs else ''}is {size}",
        more="" if found.superiority is None else f"; {superiority_text(found.superiority, one, other)}",
    )
    return statement_of(text, found, is_neutral=True)


def _summary(results: SweepResults, design: ImbalanceDesign, found: list[Verdict]) -> SummaryTable:
    caption = (
        f"Difference in test accuracy at {design.levels[-1].text} (first minus second) in percentage points: mean over "
        f"shared seeds with its 95% interval over seeds and test {results.unit}s. P(first > second): probability that "
        f"a run of the first outperforms one of the second, with its 95% interval; from {THRESHOLD} on, an improvement "
        "counts as meaningful (Bouthillier et al. 2021). p (Holm): corrected for all questions of this report."
    )
    numbers = pd.DataFrame(
        {
            "first": [one.question.learner for one in found],
            "second": [one.question.baseline for one in found],
            "group": [one.question.group for one in found],
            "difference": [one.estimate for one in found],
            "low": [one.low for one in found],
            "high": [one.high for one in found],
            "seeds": [one.seeds for one in found],
            "p_value": [one.p_value for one in found],
            "p_holm": [one.p_adjusted for one in found],
        }
    )
    texts = [interval_text(*row) if np.isfinite(row[1]) else f"{100 * row[0]:.1f}" for row in _triples(numbers)]
    often = [one.superiority for one in found]
    columns = {
        "first": (numbers["first"].tolist(), None),
        "second": (numbers["second"].tolist(), None),
        "group": ([_who(results, design, group) for group in numbers["group"]], None),
        "difference": (texts, numbers["difference"].tolist()),
        "seeds": ([str(count) for count in numbers["seeds"]], numbers["seeds"].tolist()),
        "P(first > second)": (
            [f"{one.probability:.2f} [{one.low:.2f},{one.high:.2f}]" if one else "none" for one in often],
            [one.probability if one else float("nan") for one in often],
        ),
        "p (Holm)": ([p_text(p) for p in numbers["p_holm"]], numbers["p_holm"].tolist()),
        "verdict": ([word_text(one) for one in found], None),
    }
    return table_of("Pairs of learners", caption, columns, numbers)


def _triples(table: pd.DataFrame) -> list[tuple[float, float, float]]:
    return list(zip(*(table[name].tolist() for name in ("difference", "low", "high")), strict=True))
