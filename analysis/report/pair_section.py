"""Report section on pairwise comparisons of learners, paired by seed, with exact tests if there are enough seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.figures.line_styles import series_of
from fairsweep.analysis.inference.comparisons import FEWEST, compare_learners
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.report.report_section import ALPHA, ReportSection, p_text, p_words, split_kinds, table_of
from fairsweep.analysis.report.statements import Statement, StatementGroup, points_text
from fairsweep.analysis.report.summary_table import SummaryTable, interval_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.statistics.variance_components import ROUNDING
from fairsweep.analysis.verdicts.multiplicity import holm

_TITLE = "Pairwise comparison of learners"
_MOST_SERIES = 6
_MOST_RARE = 2


def pair_section(results: SweepResults, design: ImbalanceDesign) -> ReportSection | None:
    """Return the section that compares every pair of learners on the rare groups, paired by seed.

    Args:
        results: the sweep.
        design: The sweep's imbalance.

    Returns:
        None if there is one learner; a section of one sentence if the sweep does not identify the comparison.
    """
    series = series_of(results)
    if len(series) < 2:
        return None
    why = _reason_against(results, series)
    table = pd.DataFrame() if why else pair_table(results, design)
    if not why and (table.empty or table["replicates"].max() < 2):
        why = "No two learners share two seeds at a level, so differences cannot be separated from seed variation."
    if why:
        return ReportSection("pairs", "Pairs", _TITLE, (why,))
    hardest = table[table["level"] == design.levels[-1].text]
    statements = tuple(_statement(results, design, row) for _, row in hardest.iterrows())
    findings = (StatementGroup(f"At {design.levels[-1].text}", _lead(hardest), statements),) if statements else ()
    return ReportSection("pairs", "Pairs", _TITLE, (), findings, (), (_summary(results, design, table),))


def pair_table(results: SweepResults, design: ImbalanceDesign) -> pd.DataFrame:
    """Return `compare_learners` for the test accuracy of the rare groups (of all images if none is rare).

    ``p_holm`` is adjusted over the tests at a level; ``tests`` is their number.
    """
    groups = design.rare[:_MOST_RARE]
    table = compare_learners(results, by=design.attribute if groups else ())
    table = table[table["group"].isin(groups or (ALL,))].reset_index(drop=True)
    level = table.groupby("level", sort=False)["p_value"]
    return table.assign(p_holm=level.transform(lambda p: holm(p.to_numpy(np.float64))), tests=level.transform("count"))


def _reason_against(results: SweepResults, series: list[str]) -> str:
    if "folds" in split_kinds(results):
        return (
            "Learners are not compared in pairs: training sets of different folds overlap, which violates the "
            "assumptions of a sign-flip test. analysis.corrected_fold_test compares two learners over folds."
        )
    if len(series) > _MOST_SERIES:
        return (
            f"Learners are not compared in pairs: {len(series)} settings make {len(series) * (len(series) - 1) // 2} "
            "pairs, and correcting for so many tests leaves little power. analysis.compare_learners(results, "
            "learners=[…]) compares the ones you name."
        )
    return ""


def _lead(table: pd.DataFrame) -> str:
    seeds = table["replicates"].astype(int)
    fewest = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    text = f"Paired by seed ({fewest} seeds per pair), with t intervals over seeds only."
    tested = int(table["p_value"].notna().sum())
    if tested:
        return f"{text} p-values are corrected for the {tested} tests at this level (Holm)."
    smallest = f"with {seeds.max()}, the smallest possible p-value is {table['smallest_p'].min():.3g}"
    return f"{text} An exact test needs {FEWEST} seeds to reach the 5% level ({smallest}), so no p-value is given."


def _statement(results: SweepResults, design: ImbalanceDesign, row: pd.Series[Any]) -> Statement:
    first, second, difference = row["first"], row["second"], float(row["difference"])
    who = "all images" if row["group"] == ALL else named(results, design.attribute, str(row["group"]))
    seeds = int(row["replicates"])
    if seeds < 2:
        text = (
            f"For {who}, {first} and {second} share one seed, where they differ by {100 * abs(difference):.1f} points."
        )
        return Statement(text, "undefined", "One pair of runs says nothing about the variation between runs.")
    if not np.isfinite(row["low"]):
        text = (
            f"For {who}, {first} and {second} differ by {100 * abs(difference):.1f} points with each of {seeds} seeds."
        )
        return Statement(text, "undefined", "Runs that all agree do not show how much runs vary.")
    low, high = (row["low"], row["high"]) if difference >= 0 else (-row["high"], -row["low"])
    behind = [f"{seeds} seeds"]
    behind += [f"effect size {row['effect']:+.1f}".replace("-", "\N{MINUS SIGN}")] if np.isfinite(row["effect"]) else []
    tested = np.isfinite(row["p_holm"])
    if tested:
        smallest = (
            f" (smallest possible with {seeds} seeds: {p_text(row['smallest_p'])})"
            if np.isfinite(row["smallest_p"])
            else ""
        )
        behind.append(f"{p_words(row['p_value'])}{smallest}, Holm-adjusted {p_words(row['p_holm'])}")
    side = "above" if difference >= 0 else "below"
    text = f"For {who}, {first} is {points_text(abs(difference), low, high)} {side} {second} ({'; '.join(behind)})."
    if tested and row["p_holm"] < ALPHA:
        return Statement(text, "significant", "The difference is statistically significant.")
    is_apart = row["low"] > ROUNDING or row["high"] < -ROUNDING
    if is_apart and row["smallest_p"] * max(1, row["tests"]) >= ALPHA:
        reason = "The t interval excludes 0, but there are too few seeds for an exact test to be significant."
        return Statement(text, "inconclusive", reason)
    return Statement(text, "not_significant", "The difference is not statistically significant.")


def _summary(results: SweepResults, design: ImbalanceDesign, table: pd.DataFrame) -> SummaryTable:
    caption = (
        "Difference in test accuracy (first minus second) in percentage points: mean over shared seeds with its 95% "
        "t interval over seeds (not over test images, which both share). Effect size: mean divided by standard "
        f"deviation, with Hedges' correction. p: exact sign-flip test, from {FEWEST} seeds on; beside it the smallest "
        "possible p with that many seeds, and p adjusted over the tests at a level (Holm)."
    )
    texts = [
        interval_text(*row) if np.isfinite(row[1]) else f"{100 * row[0]:.1f}"
        for row in zip(*(table[name].tolist() for name in ("difference", "low", "high")), strict=True)
    ]
    levels = {level.text: level.value for level in design.levels}
    who = ["all images" if group == ALL else named(results, design.attribute, group) for group in table["group"]]
    effects = [f"{value:.2f}" if np.isfinite(value) else "none" for value in table["effect"]]
    seeds = table["replicates"].astype(int)
    columns = {
        "first": (table["first"].tolist(), None),
        "second": (table["second"].tolist(), None),
        "level": (table["level"].tolist(), [levels.get(level, np.nan) for level in table["level"]]),
        "group": (who, None),
        "difference": (texts, table["difference"].tolist()),
        "seeds": ([str(count) for count in seeds], seeds.tolist()),
        "effect size": (effects, table["effect"].tolist()),
        "p": ([p_text(p) for p in table["p_value"]], table["p_value"].tolist()),
        "smallest p": ([p_text(p) for p in table["smallest_p"]], table["smallest_p"].tolist()),
        "p (Holm)": ([p_text(p) for p in table["p_holm"]], table["p_holm"].tolist()),
    }
    return table_of("Pairs of learners", caption, columns, table)
