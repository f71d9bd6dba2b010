"""Report section on model selection: the setting with the best validation mean at each level, and its test results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.figures import plots
from fairsweep.analysis.inference.candidates import candidates, judged
from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.inference.selection import CorrectedWinner, best_setting, corrected_winner
from fairsweep.analysis.metrics.rates import Floats
from fairsweep.analysis.records.failed_trials import objectives_of
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.report_section import ReportSection, split_kinds, table_of
from fairsweep.analysis.report.summary_table import SummaryTable, interval_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign
from fairsweep.analysis.results.outcomes import read_outcomes, users
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.wording import counted

_TITLE = "Model selection"
_UTILITY, _DISPARITY = "validation accuracy", "validation accuracy_difference"
_MOST_NAMED = 5
_MOST_ROWS = 300
_COLLAPSED = " Collapsed: a run predicts one class for every validation {}; such settings are left out."


def series_of_settings(results: SweepResults, settings: Iterable[object]) -> list[str]:
    """Return the series of settings that have a finished trial, in their order."""
    done = results.trials[results.trials["state"] == "done"]
    names = dict(zip(done["setting"].astype(str), done["series"].astype(str), strict=True))
    return [names[str(one)] for one in settings if str(one) in names]


def selection_section(
    results: SweepResults, design: ImbalanceDesign, search: Sequence[SummaryTable] = ()
) -> ReportSection | None:
    """Return the section on selection among settings by validation means over replicates, reported on test.

    Args:
        results: the sweep.
        design: The sweep's imbalance.
        search: what a guided search chose, of each condition.

    Returns:
        None if each level has one setting; a section of one sentence if selection would be biased.
    """
    done = results.trials[results.trials["state"] == "done"]
    if done.groupby("level")["setting"].nunique().max() < 2:
        return None
    if "folds" in split_kinds(results):
        why = (
            f"No setting is selected: each fold is a setting of its own; its held-out {results.unit}s train the others."
        )
        return ReportSection("selection", "Selection", _TITLE, (why,))
    try:
        results.evaluations(split="validation")
    except RecordError:
        return ReportSection("selection", "Selection", _TITLE, (_shared_split(results, design),))
    table = candidates(results, by=design.attribute)
    level = design.levels[-1].text
    there = table[table["level"].astype(str) == level]
    rows = there[there["distance"].notna()]
    left = _left_out(there, results.unit)
    chosen = _sentences(rows, design, results.unit) if len(rows) >= 2 else (_nothing_selected(results, design, there),)
    drawn = plots.selection(results, design.attribute)
    caption = (
        f"Test against validation results at {level}, one point per setting: means over replicates, bars are 95% "
        "intervals on test. Pale discs mark the Pareto front on validation; the square marks the best validation "
        "accuracy. On the diagonal, test and validation agree."
        f"{' Collapsed settings are not drawn.' if left else ''}"
    )
    figures = () if drawn is None else (Figure("selection", drawn, caption),)
    tables = (_summary(results, design, table),)
    told = (*_of_search(results, table, search), *chosen, *left)
    return ReportSection("selection", "Selection", _TITLE, told, (), figures, tables)


def _of_search(results: SweepResults, table: pd.DataFrame, search: Sequence[SummaryTable]) -> Iterator[str]:
    """Yield what the settings that a guided search chose reached on test, and that its objective is another one."""
    objectives = objectives_of(results.sweep)
    if objectives and not search:
        yield (
            f"This search chose by {objectives}, which is not what follows; `fairsweep report` of its folder says "
            "which setting that is."
        )
    for found in search:
        rows = table[table["setting"].astype(str).isin(found.numbers["setting"].astype(str))]
        for _, row in rows.head(_MOST_NAMED).iterrows():
            yield (
                f"The search ({objectives}) chose {row['series']} at {row['level']}: {_on_test(row, 'accuracy')} on "
                f"test, with a gap of {_on_test(row, 'accuracy_difference')}."
            )


def _left_out(there: pd.DataFrame, unit: str) -> tuple[str, ...]:
    """Return which settings of a level are not selected among, for a run of theirs has collapsed."""
    fallen = there[there["collapsed"] > 0]
    if fallen.empty:
        return ()
    pairs = zip(fallen["series"], fallen["collapsed"], fallen["replicates"], strict=True)
    named = [f"{name} ({count} of {counted(runs, 'run')})" for name, count, runs in pairs]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return (
        f"Left out of the selection: {len(fallen)} of {counted(len(there), 'setting')}, of which a run has collapsed: "
        f"it predicts one class for every validation {unit}, so that its groups differ in nothing that it has learnt. "
        f"{'These are' if len(fallen) > 1 else 'This is'} {'; '.join(named[:_MOST_NAMED])}{more}.",
    )


def _nothing_selected(results: SweepResults, design: ImbalanceDesign, there: pd.DataFrame) -> str:
    """Return why no setting of the most imbalanced level is selected."""
    level = design.levels[-1].text
    if len(there) - (there["collapsed"] > 0).sum() == 1 and len(there) > 1:
        (alone,) = there.loc[there["collapsed"] == 0, "series"]
        return f"At {level}, {alone} is the only setting that has not collapsed, so there is nothing to select."
    if (there["collapsed"] > 0).all():
        return f"No setting is selected: at {level} all have collapsed."
    if len(there) < 2:
        return f"At {level} there is only one setting, so there is nothing to select."
    small = results.small_groups(design.attribute, split="validation")
    why = f": groups with fewer than {results.min_group_size} validation examples are not compared" if small else ""
    return f"No setting is selected: at {level} the validation results of fewer than two settings are defined{why}."


def _sentences(rows: pd.DataFrame, design: ImbalanceDesign, unit: str) -> tuple[str, ...]:
    """Return sentences on the selected settings at the most imbalanced level."""
    best, fair = best_setting(rows, _UTILITY), best_setting(rows, _DISPARITY)
    rank = 1 + int((rows["test accuracy"] > best["test accuracy"]).sum())
    found = [
        f"At {design.levels[-1].text}, mean validation accuracy over replicates selects {best['series']} out of "
        f"{len(rows)} settings: {100 * best[_UTILITY]:.1f}% on validation and {_on_test(best, 'accuracy')} on test, "
        f"where it ranks {rank} of {len(rows)}."
    ]
    private = rows[np.isfinite(rows["epsilon"])]
    if len(private) and not np.isfinite(best["epsilon"]):
        chosen = best_setting(private, _UTILITY)
        found.append(
            f"Among settings with a finite ε it selects {chosen['series']} (ε = {epsilon_text(chosen['epsilon'])}): "
            f"{_on_test(chosen, 'accuracy')} on test."
        )
    found.append(
        f"Learner {fair['series']} has the smallest accuracy gap between {design.members} of {design.attribute} on "
        f"validation: {_on_test(fair, 'accuracy_difference')} on test, at an accuracy of {_on_test(fair, 'accuracy')}."
    )
    found.append(_of_front(rows))
    found.append(
        f"Settings are selected, not single trials, and on the validation split only. The test {unit}s took no part, "
        "but the models are the same: training noise that favours a setting on validation also favours it on test."
    )
    if rows["replicates"].min() < 2:
        found.append(
            "Some of these settings have only one replicate: selecting among them also selects among seeds, and their "
            f"intervals cover the sampling of test {unit}s only."
        )
    return tuple(found)


def _of_front(rows: pd.DataFrame) -> str:
    front = rows[rows["front"]]["series"].tolist()
    named = "; ".join(front[:_MOST_NAMED]) + (
        f" and {len(front) - _MOST_NAMED} more" if len(front) > _MOST_NAMED else ""
    )
    nearest = rows.iloc[int(rows["distance"].argmin())]
    verb = "is" if len(front) == 1 else "are"
    return (
        f"By validation {_criteria(rows)}, {len(front)} of {len(rows)} settings {verb} on the Pareto front: {named}. "
        f"Closest to the ideal point is {nearest['series']} (distance {nearest['distance']:.2f}, each criterion scaled "
        "to its range)."
    )


def _criteria(rows: pd.DataFrame) -> str:
    return "accuracy, accuracy gap and ε" if "epsilon" in judged(rows) else "accuracy and accuracy gap"


def _on_test(row: pd.Series[Any], metric: str) -> str:
    value, low, high = (100 * row[f"test {metric}{end}"] for end in ("", " low", " high"))
    unit = "%" if metric == "accuracy" else " points"
    return f"{value:.1f}{unit} [{low:.1f}, {high:.1f}]"


def _shared_split(results: SweepResults, design: ImbalanceDesign) -> str:
    """Return a sentence on the best setting on test, with its value corrected for selection on the same split."""
    found = _winner_on_test(results, design)
    why = f"Without validation evaluations, selection and reporting use the same test {results.unit}s"
    if found is None:
        return (
            f"{why}. The best result is then optimistically biased, and without two replicates of each setting and "
            f"predictions of all trials on the same {results.unit}s the bias cannot be corrected, so no setting is "
            "named."
        )
    series, winner = found
    return (
        f"{why}: {series} has the best accuracy at {design.levels[-1].text}, {100 * winner.naive:.1f}%, which is "
        f"optimistically biased (winner's curse). Selected on resampled {results.unit}s and all replicates but one, "
        f"and scored by that replicate on the {results.unit}s left out, the best setting reaches "
        f"{100 * winner.corrected:.1f}% [{100 * winner.low:.1f}, {100 * winner.high:.1f}]."
    )


def _winner_on_test(results: SweepResults, design: ImbalanceDesign) -> tuple[str, CorrectedWinner] | None:
    """Return the series of the best setting at the most imbalanced level, and its corrected value."""
    evaluations = results.evaluations()
    asked = pd.DataFrame({"trial": list(evaluations.trial), "iteration": evaluations.iteration})
    trials = results.trials.set_index("trial")
    asked = asked[trials["level"].reindex(asked["trial"]).to_numpy() == design.levels[-1].text]
    outcomes = read_outcomes(results, "test", asked) if len(asked) else None
    if outcomes is None or len(outcomes.row) < len(asked):
        return None
    right: Floats = (outcomes.prediction == outcomes.label).astype(np.float64)
    settings = trials["setting"].reindex([trial for trial, _ in outcomes.row]).to_numpy()
    names = list(dict.fromkeys(settings))
    runs = min((settings == name).sum() for name in names)
    if len(names) < 2 or runs < 2:
        return None
    each = np.stack([right[settings == name][:runs] for name in names])
    winner = corrected_winner(each, users=users(results, outcomes))
    series = str(trials.loc[trials["setting"] == names[winner.winner], "series"].iloc[0])
    fallen = names[winner.winner] in set(results.collapsed()["setting"])
    return f"{series} (collapsed: it predicts one class for every test {results.unit})" if fallen else series, winner


def _summary(results: SweepResults, design: ImbalanceDesign, table: pd.DataFrame) -> SummaryTable:
    """Return all settings by level, the most imbalanced first; of very many those closest to the ideal point."""
    place = {level.text: i for i, level in enumerate(design.levels)}
    level = table["level"].astype(str)
    ordered = table.assign(place=[-place.get(text, 0) for text in level]).sort_values(["place", "distance"])
    rows = ordered[ordered["distance"].notna() | (ordered["collapsed"] > 0)].head(_MOST_ROWS)
    timed = rows["seconds"].notna().any()  # release mode records none
    left = "" if len(rows) == len(table) else f" {len(rows)} of {len(table)} settings are shown."
    caption = (
        f"Means over replicates in %; test with 95% intervals. The gap is the largest difference between the "
        f"{design.members} of {design.attribute}. Front: not dominated by another setting of the level in validation "
        f"{_criteria(table)}. Distance: to the best validation value of each criterion, scaled to its "
        f"range.{_COLLAPSED.format(results.unit) if (rows['collapsed'] > 0).any() else ''}"
        f"{' Seconds: per trial.' if timed else ''}{left}"
    )
    marks = [
        "selected" if best else "front" if front else "collapsed" if fallen else ""
        for best, front, fallen in zip(rows["best"], rows["front"], rows["collapsed"] > 0, strict=True)
    ]
    columns = {
        "level": (rows["level"].astype(str).tolist(), [-value for value in rows["place"]]),
        "learner": (rows["series"].astype(str).tolist(), None),
        "ε": ([epsilon_text(value) for value in rows["epsilon"]], rows["epsilon"].tolist()),
        "runs": ([str(count) for count in rows["replicates"]], rows["replicates"].tolist()),
    }
    for metric, short in (("accuracy", "accuracy"), ("accuracy_difference", "gap")):
        values = rows[f"validation {metric}"].tolist()
        columns[f"validation {short}"] = ([f"{100 * value:.1f}" for value in values], values)
        triples = zip(*(rows[f"test {metric}{end}"].tolist() for end in ("", " low", " high")), strict=True)
        columns[f"test {short}"] = ([interval_text(*row) for row in triples], rows[f"test {metric}"].tolist())
    columns |= {
        "distance": (
            [f"{value:.2f}" if np.isfinite(value) else "n/a" for value in rows["distance"]],
            rows["distance"].tolist(),
        ),
        "seconds": (
            [f"{value:,.0f}" if np.isfinite(value) else "n/a" for value in rows["seconds"]],
            rows["seconds"].tolist(),
        ),
        "on validation": (marks, None),
    }
    if not timed:
        del columns["seconds"]
    return table_of("Settings", caption, columns, rows)
