"""What the report says on learners compared in pairs: by seeds, with exact tests where there are enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.figures.line_styles import series_of
from fairsweep.analysis.inference.comparisons import FEWEST, compare_learners, holm
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.report.report_section import ALPHA, ReportSection, p_text, p_words, split_kinds, table_of
from fairsweep.analysis.report.statements import Statement, StatementGroup, points_text
from fairsweep.analysis.report.summary_tables import SummaryTable, interval_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named
from fairsweep.analysis.results.results import SweepResults

_TITLE = "Learners in pairs"
_MOST_SERIES = 6
_MOST_RARE = 2


def pair_section(results: SweepResults, design: ImbalanceDesign) -> ReportSection | None:
    """Every pair of learners on the rare groups, paired by seeds.

    Args:
        results: the sweep.
        design: what it is about.

    Returns:
        None for a sweep of one learner; one sentence where its design does not identify the comparison.
    """
    series = series_of(results)
    if len(series) < 2:
        return None
    why = _not_told(results, series)
    table = pd.DataFrame() if why else pair_table(results, design)
    if not why and (table.empty or table["replicates"].max() < 2):
        why = "No two learners share two seeds at a level, so nothing tells their difference from the luck of a seed."
    if why:
        return ReportSection("pairs", "Pairs", _TITLE, (why,))
    hardest = table[table["level"] == design.levels[-1].text]
    statements = tuple(_statement(results, design, row) for _, row in hardest.iterrows())
    findings = (StatementGroup(f"With {design.levels[-1].text}", _lead(hardest), statements),) if statements else ()
    return ReportSection("pairs", "Pairs", _TITLE, (), findings, (), (_summary(results, design, table),))


def pair_table(results: SweepResults, design: ImbalanceDesign) -> pd.DataFrame:
    """`compare_learners` of the test accuracy of the rare groups (of all images where none is rare).

    ``p_holm`` is corrected over the tests of a level, and ``tests`` counts them: a level is one question.
    """
    groups = design.rare[:_MOST_RARE]
    table = compare_learners(results, by=design.attribute if groups else ())
    table = table[table["group"].isin(groups or (ALL,))].reset_index(drop=True)
    level = table.groupby("level", sort=False)["p_value"]
    return table.assign(p_holm=level.transform(lambda p: holm(p.to_numpy(np.float64))), tests=level.transform("count"))


def _not_told(results: SweepResults, series: list[str]) -> str:
    if "folds" in split_kinds(results):
        return (
            "Learners are not compared in pairs: trainings on different folds share examples, so signs cannot be "
            "flipped freely. analysis.corrected_fold_test compares two learners over folds."
        )
    if len(series) > _MOST_SERIES:
        return (
            f"Learners are not compared in pairs: {len(series)} settings make {len(series) * (len(series) - 1) // 2} "
            "pairs, and after a correction for so many little could be told. analysis.compare_learners(results, "
            "learners=[…]) compares those that you name."
        )
    return ""


def _lead(table: pd.DataFrame) -> str:
    seeds = table["replicates"].astype(int)
    fewest = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    text = f"Paired by seeds ({fewest} a pair), with t intervals over seeds alone."
    tested = int(table["p_value"].notna().sum())
    if tested:
        return f"{text} p is corrected for the {tested} tests of this level (Holm)."
    smallest = f" of {seeds.max()} the smallest that one can reach is {table['smallest_p'].min():.3g}, so"
    return f"{text} No exact test of fewer than {FEWEST} seeds can reach 5%:{smallest} no p is given."


def _statement(results: SweepResults, design: ImbalanceDesign, row: pd.Series[Any]) -> Statement:
    first, second, difference = row["first"], row["second"], float(row["difference"])
    who = "all images" if row["group"] == ALL else named(results, design.attribute, str(row["group"]))
    seeds = int(row["replicates"])
    if seeds < 2:
        text = (
            f"On {who}, {first} and {second} share one seed; they differ by {100 * abs(difference):.1f} points there."
        )
        return Statement(text, "unknown", "One pair of runs says nothing about how much runs differ.")
    low, high = (row["low"], row["high"]) if difference >= 0 else (-row["high"], -row["low"])
    behind = [f"{seeds} seeds"]
    behind += [f"effect {row['effect']:+.1f}".replace("-", "\N{MINUS SIGN}")] if np.isfinite(row["effect"]) else []
    tested = np.isfinite(row["p_holm"])
    if tested:
        smallest = (
            f" (the smallest of {seeds} seeds: {p_text(row['smallest_p'])})" if np.isfinite(row["smallest_p"]) else ""
        )
        behind.append(f"{p_words(row['p_value'])}{smallest}, {p_words(row['p_holm'])} by Holm")
    side = "above" if difference >= 0 else "below"
    text = f"On {who}, {first} lies {points_text(abs(difference), low, high)} {side} {second} ({'; '.join(behind)})."
    if tested and row["p_holm"] < ALPHA:
        return Statement(text, "told", "This can be told from the luck of seeds.")
    is_apart = row["low"] > 0 or row["high"] < 0
    if is_apart and row["smallest_p"] * max(1, row["tests"]) >= ALPHA:
        return Statement(text, "images", "The t interval leaves 0 out, but for an exact test the seeds are too few.")
    return Statement(text, "noise", "No difference can be told from the luck of seeds.")


def _summary(results: SweepResults, design: ImbalanceDesign, table: pd.DataFrame) -> SummaryTable:
    caption = (
        "Difference of the test accuracy, first minus second, in percentage points: mean over the seeds that both "
        "share, with the 95% t interval over seeds (not over test images, which both share). Effect: mean over "
        f"standard deviation with Hedges's correction. p: signs flipped exactly, from {FEWEST} seeds on; beside it the "
        "smallest that so many seeds can reach, and p by Holm over the tests of a level."
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
        "effect": (effects, table["effect"].tolist()),
        "p": ([p_text(p) for p in table["p_value"]], table["p_value"].tolist()),
        "smallest p": ([p_text(p) for p in table["smallest_p"]], table["smallest_p"].tolist()),
        "p (Holm)": ([p_text(p) for p in table["p_holm"]], table["p_holm"].tolist()),
    }
    return table_of("Pairs of learners", caption, columns, table)
