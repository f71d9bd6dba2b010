"""Section on arbitrariness: whose prediction depends on the seed, or on which of equally good settings is taken."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fairsweep.analysis.disagreement.agreement import ALL_SEEDS
from fairsweep.analysis.disagreement.arbitrariness import arbitrariness
from fairsweep.analysis.figures import plots
from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.report_section import ReportSection, table_of
from fairsweep.analysis.report.summary_table import SummaryTable, interval_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named, shown
from fairsweep.analysis.results.results import SweepResults

_TITLE = "Arbitrariness: whose prediction depends on the seed"
_MARGIN = 0.01
_MOST_GROUPS = 6
_INTERVALS = (
    "95% intervals cover the sampling of test {unit}s (of people, where the data names them). The trained models are "
    "taken as they are: what further seeds would add is not in them."
)


def arbitrariness_section(results: SweepResults, design: ImbalanceDesign) -> ReportSection | None:
    """Return how often trainings of one setting disagree about a test image; None without replicates that can be told.

    Args:
        results: the sweep.
        design: its imbalance.
    """
    try:
        frame = arbitrariness(results, by=design.attribute, margin=_MARGIN)
    except ValueError:
        return None  # groups are not recorded by image
    between = frame[(frame["metric"] == "disagreement") & (frame["seeds"] == ALL_SEEDS) & frame["value"].notna()]
    if between.empty:
        return None
    sentences = _sentences(results, design, between)
    drawn = plots.arbitrariness_by_level(results, design.attribute, frame=frame)
    caption = (
        f"Share of test {results.unit}s, by {design.attribute}, for which two trainings of a learner that differ in "
        f"their seeds predict different classes. {_INTERVALS.format(unit=results.unit)}"
    )
    figures = (Figure("arbitrariness", drawn, caption),)
    tables = (_seeds_table(results, design, between), _settings_table(results, design, frame))
    shown_tables = tuple(table for table in tables if table is not None)
    return ReportSection("arbitrariness", "Arbitrariness", _TITLE, sentences, (), figures, shown_tables)


def _sentences(results: SweepResults, design: ImbalanceDesign, between: pd.DataFrame) -> tuple[str, ...]:
    """Return the learner and group with the largest disagreement at the most imbalanced level, beside the others."""
    levels = [level.text for level in design.levels if level.text in set(between["level"])]
    small = results.small_groups(design.attribute)
    rows = between[(between["level"] == levels[-1]) & ~between["group"].isin(list(small))]
    if rows.empty:
        return ()
    candidates = rows[rows["group"].isin(design.rare)] if set(rows["group"]) & set(design.rare) else rows
    worst = candidates.iloc[int(candidates["value"].argmax())]
    mine = rows[rows["setting"] == worst["setting"]]
    others = mine[mine["group"] != worst["group"]]
    text = (
        f"At {worst['level']}, two trainings of {worst['series']} that differ in their seeds predict different classes "
        f"for {_share(worst)} of the test {results.unit}s with {named(results, design.attribute, worst['group'])}"
    )
    if len(others) == 1:
        other = others.iloc[0]
        text += f", and for {_share(other)} of those with {named(results, design.attribute, other['group'])}"
    elif len(others):
        low, high = 100 * others["value"].min(), 100 * others["value"].max()
        text += f", and for {low:.1f}% to {high:.1f}% of those of each other {'class' if design.of_label else 'group'}"
    pairs = int(worst["pairs"])
    text += f" ({pairs} {'pair' if pairs == 1 else 'pairs'} of trainings)."
    twins = set(results.trials.loc[results.trials["twin_of"] == worst["learner"], "learner"])
    twin = rows[rows["learner"].isin(twins) & (rows["group"] == worst["group"])]
    return (f"{text} For its twin {twin.iloc[0]['series']} it is {_share(twin.iloc[0])}." if len(twin) == 1 else text,)


def _share(row: pd.Series) -> str:
    return f"{100 * row['value']:.1f}% [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _seeds_table(results: SweepResults, design: ImbalanceDesign, between: pd.DataFrame) -> SummaryTable:
    """Return the disagreement of each setting by group, of the rare ones where there are many."""
    caption = (
        f"Test {results.unit}s in % for which two trainings that differ in their seeds predict different classes, by "
        f"{design.attribute}: mean over all pairs of trainings (runs). {_INTERVALS.format(unit=results.unit)}"
    )
    rows = between.drop_duplicates("setting").set_index("setting")
    columns = {
        "learner": (rows["series"].tolist(), None),
        "level": (rows["level"].tolist(), rows["level_value"].tolist()),
        "ε": ([epsilon_text(value) for value in rows["epsilon"]], rows["epsilon"].tolist()),
        "runs": ([str(count) for count in rows["replicates"]], rows["replicates"].tolist()),
    }
    if not np.isfinite(rows["epsilon"]).any():
        del columns["ε"]
    columns |= _by_group(results, design, between, list(rows.index))
    return table_of("Disagreement between seeds", caption, columns, between)


def _settings_table(results: SweepResults, design: ImbalanceDesign, frame: pd.DataFrame) -> SummaryTable | None:
    """Return the ambiguity of each level's settings that are equally good; None where each level has one."""
    found = frame[(frame["metric"] == "ambiguity") & frame["value"].notna()]
    if found.empty:
        return None
    caption = (
        f"Test {results.unit}s in % for which at least one setting predicts another class than the best one, of the "
        f"settings whose mean validation accuracy is within {100 * _MARGIN:g} point of it (under the same seeds; the "
        f"Rashomon set of Marx et al. 2020, arXiv 1909.06677). {_INTERVALS.format(unit=results.unit)}"
    )
    rows = found.drop_duplicates("setting").set_index("setting")
    columns = {
        "level": (rows["level"].tolist(), rows["level_value"].tolist()),
        "best setting": (rows["series"].tolist(), None),
        "settings": ([str(count) for count in rows["settings"]], rows["settings"].tolist()),
    }
    columns |= _by_group(results, design, found, list(rows.index))
    return table_of("Ambiguity between equally good settings", caption, columns, found)


def _by_group(
    results: SweepResults, design: ImbalanceDesign, rows: pd.DataFrame, settings: list[str]
) -> dict[str, tuple[list[str], list[float]]]:
    """Return a column for each group, in the order of the settings."""
    groups = list(dict.fromkeys(rows["group"]))
    if len(groups) > _MOST_GROUPS:
        groups = [group for group in groups if group in design.rare] or groups[:_MOST_GROUPS]
    columns = {}
    for group in groups:
        mine = rows[rows["group"] == group].set_index("setting").reindex(settings)
        texts = [
            "n/a" if np.isnan(value) else interval_text(value, low, high)
            for value, low, high in zip(mine["value"], mine["low"], mine["high"], strict=True)
        ]
        columns[shown(results, design.attribute, group)] = (texts, mine["value"].tolist())
    return columns
