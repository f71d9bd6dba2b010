"""Content of a report: texts, tables and figures collected from the records, before layout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fairsweep.analysis.inference.fluctuations import explain_fluctuations
from fairsweep.analysis.inference.ledger_view import PrivacyLedger
from fairsweep.analysis.inference.privacy_ledger import (
    NO_GUARANTEE,
    SIMULATED_EPSILON,
    epsilon_text,
    guarantee_of,
    privacy_ledger,
)
from fairsweep.analysis.metrics.catalogue import METRICS
from fairsweep.analysis.records.failed_trials import FailureGroup, failure_groups, more_settings_command, retry_command
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.membership import describe_former
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.report import report_figures
from fairsweep.analysis.report.arbitrariness_section import arbitrariness_section
from fairsweep.analysis.report.example_images import ImageSheet, image_sheet
from fairsweep.analysis.report.exposure_section import exposure_section
from fairsweep.analysis.report.headline import Headline, headline, opened
from fairsweep.analysis.report.page_verdicts import PageVerdicts, page_verdicts
from fairsweep.analysis.report.pair_section import pair_section
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.report_section import ReportSection, split_kinds
from fairsweep.analysis.report.reproduction import Reproduction, dataset_name, reproduction
from fairsweep.analysis.report.selection_section import selection_section, series_of_settings
from fairsweep.analysis.report.statements import StatementGroup, answer, caveats, question, small_group_notes
from fairsweep.analysis.report.study_description import data_sentences, learners
from fairsweep.analysis.report.summary_table import (
    DISPARITIES_SHOWN,
    SummaryTable,
    is_defined,
    shown_metrics,
    summary_tables,
)
from fairsweep.analysis.report.trend_section import trend_section
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, design_of, shown
from fairsweep.analysis.results.people import sampling_unit
from fairsweep.analysis.results.results import SweepResults

_MOST_PARAGRAPHS = 4


@dataclass(frozen=True)
class Findings:
    """Findings from finished trials.

    Attributes:
        study: Description of the study, in sentences.
        pictures: example images by group and label.
        learners: one row per series.
        headline: The first screen; None if the sweep answers no question.
        search: What a guided search chose by its own objectives, of each condition; empty for other sweeps.
        answer: The most certain findings, as sentences.
        further: The others.
        caveats: Limitations of the findings.
        fluctuations: (series, paragraph) on the sources of variation of accuracy over the levels.
        overviews: Summary figures of all learners and levels.
        trends: accuracy over the levels.
        disparities: gaps over the levels.
        comparisons: Changes relative to baselines.
        sections: Trend over imbalance, pairwise comparisons and model selection, if the sweep allows them.
        predictions: Confusion and calibration.
        curves: accuracy by group over the iterations.
        reasons: diagnostics of the private learners.
        unlearning: Cost and accuracy of unlearning, by request.
        data: training counts.
        tables: summary tables.
        test_counts: test images by group and label.
        test_images: Sentences on which trials share them, and on what is taken as independent.
        metrics: Definitions of the metrics shown.
    """

    study: tuple[str, ...]
    pictures: ImageSheet
    learners: pd.DataFrame
    headline: Headline | None
    search: tuple[SummaryTable, ...]
    answer: tuple[StatementGroup, ...]
    further: tuple[StatementGroup, ...]
    caveats: tuple[str, ...]
    fluctuations: tuple[tuple[str, str], ...]
    overviews: tuple[Figure, ...]
    trends: tuple[Figure, ...]
    disparities: tuple[Figure, ...]
    comparisons: tuple[Figure, ...]
    sections: tuple[ReportSection, ...]
    predictions: tuple[Figure, ...]
    curves: tuple[Figure, ...]
    reasons: tuple[Figure, ...]
    unlearning: tuple[Figure, ...]
    data: tuple[Figure, ...]
    tables: tuple[SummaryTable, ...]
    test_counts: pd.DataFrame
    test_images: str
    metrics: pd.DataFrame


@dataclass(frozen=True)
class Content:
    """Content of a report.

    Attributes:
        name: of the sweep.
        question: in one sentence.
        notes: Warnings at the top of the page.
        states: number of trials by state.
        findings: Findings from finished trials; None if there are none.
        privacy: Guarantees of the private trials and their composition.
        trials: one row per trial.
        failures: failed trials by cause.
        retry: the command that runs failed trials again; None for a guided search.
        more: the command by which a search tries more settings.
        problems: files that could not be read.
        former: A sentence on excluded trials of earlier versions of the sweep; empty if there are none.
        reproduction: What is needed to run the sweep again.
        folder: of the sweep, as its file names it.
    """

    name: str
    question: str
    notes: tuple[str, ...]
    states: Mapping[str, int]
    findings: Findings | None
    privacy: PrivacyLedger | None
    trials: pd.DataFrame
    failures: tuple[FailureGroup, ...]
    retry: str | None
    more: str
    problems: pd.DataFrame
    former: str
    reproduction: Reproduction
    folder: str


def collect(results: SweepResults, *, pictures: bool = False, search: Sequence[SummaryTable] = ()) -> Content:
    """Collect a report; a sweep without finished trials gives one without findings.

    Args:
        results: the sweep.
        pictures: see `fairsweep.analysis.report.report_page.write_report`.
        search: what a guided search chose, of each condition; the numbers behind a table have a column ``setting``.
    """
    folder = results.named_folder
    notes = _notes(results)
    try:
        results.evaluations()
    except RecordError:
        findings, asked = None, "How accurate are the models for each group?"
    else:
        design = design_of(results)
        findings, asked = _findings(results, design, pictures, folder, search), question(results, design)
        notes = (*notes, *small_group_notes(results, design))
    return Content(
        name=results.name,
        question=asked,
        notes=notes,
        states={str(state): int(count) for state, count in results.trials["state"].value_counts().items()},
        findings=findings,
        privacy=privacy_ledger(results),
        trials=_trials(results),
        failures=failure_groups(results.folders),
        retry=retry_command(results.sweep, folder),
        more=more_settings_command(folder),
        # After the findings, which may have met more files that cannot be read.
        problems=results.problems,
        former=_describe_former(results),
        reproduction=reproduction(results),
        folder=folder,
    )


def _describe_former(results: SweepResults) -> str:
    if not results.former:
        return ""
    line = describe_former(len(results.former), results.location.path)
    return f"{line}. The privacy that they spent is not counted here"


def _findings(
    results: SweepResults, design: ImbalanceDesign, pictures: bool, folder: str, search: Sequence[SummaryTable]
) -> Findings:
    verdicts = page_verdicts(results, design)
    sections = answer(results, design, verdicts=verdicts)
    chosen = [series for table in search for series in series_of_settings(results, table.numbers["setting"])]
    first = headline(results, design, verdicts, sections, folder, chosen)
    shown_first, further = opened(sections, first)
    return Findings(
        study=data_sentences(results, design),
        pictures=image_sheet(results, design, pictures=pictures),
        learners=learners(results),
        headline=first,
        search=tuple(search),
        answer=shown_first,
        further=further,
        caveats=(*caveats(results, sections), *_divisions(results)),
        fluctuations=_fluctuations(results, design),
        overviews=report_figures.overviews(results, design),
        trends=report_figures.trends(results, design),
        disparities=report_figures.disparities(results, design),
        comparisons=report_figures.comparisons(results, design),
        sections=_sections(results, design, verdicts, search),
        predictions=report_figures.predictions(results, design),
        curves=report_figures.curves(results, design),
        reasons=report_figures.reasons(results, design),
        unlearning=report_figures.unlearning(results, design),
        data=report_figures.data(results, design),
        tables=summary_tables(results),
        test_counts=_test_counts(results),
        test_images=_test_images(results),
        metrics=_metrics(results),
    )


def _test_images(results: SweepResults) -> str:
    """Return which trials share the test images, and what intervals take as independent."""
    shared = split_kinds(results).isdisjoint({"folds", "hold_out"})
    same = (
        f"All trials use the same test {results.unit}s."
        if shared
        else f"Test {results.unit}s of one trial; other trials use about as many others."
    )
    return f"{same} {sampling_unit(results)}"


def _fluctuations(results: SweepResults, design: ImbalanceDesign) -> tuple[tuple[str, str], ...]:
    """Return the sources of variation of the rare group's accuracy over the levels, by learner."""
    if not design.is_trend:
        return ()
    over = "share" if results.trials["share"].notna().all() else "level_value"
    by, group = (design.attribute, design.rare[0]) if design.rare else ((), None)
    found = []
    for series in [name for name in dict.fromkeys(results.trials["series"]) if name][:_MOST_PARAGRAPHS]:
        try:
            explained = explain_fluctuations(results, "accuracy", over, by=by, group=group, learner=series)
        except ValueError:
            continue  # no level of this series has a finished trial, or its levels differ in their seeds
        found.append((series, explained.sources))  # verdicts on trends are those of the page
    return tuple(found)


def _sections(
    results: SweepResults, design: ImbalanceDesign, verdicts: PageVerdicts, search: Sequence[SummaryTable]
) -> tuple[ReportSection, ...]:
    found = (
        trend_section(results, design, verdicts),
        pair_section(results, design, verdicts),
        selection_section(results, design, search),
        arbitrariness_section(results, design),
        exposure_section(results, design),
    )
    return tuple(section for section in found if section is not None)


def _notes(results: SweepResults) -> tuple[str, ...]:
    notes = []
    beaten = (results.trials["stopped_by"] == "scheduler").sum()
    waiting = results.trials["state"].isin(["queued", "running", "stopped", "unknown"]).sum() - beaten
    failed = (results.trials["state"] == "failed").sum()
    if waiting:
        notes.append(
            f"{waiting} of {len(results.trials)} trials are not finished: the results below cover finished trials only."
        )
    if beaten:
        notes.append(
            f"{beaten} of {len(results.trials)} trials were stopped early by the scheduler and are excluded: those "
            "that ran to the end had the best validation results, which may bias the results."
        )
    if failed:
        notes.append(f"{failed} of {len(results.trials)} trials failed and are excluded.")
    return tuple(notes)


def _divisions(results: SweepResults) -> tuple[str, ...]:
    """Return the limitations that follow from how examples were split."""
    kinds, unit = split_kinds(results), results.unit
    listed = []
    if "folds" in kinds:
        listed.append(
            f"Trials of different folds use different test {unit}s, and the held-out {unit}s of one fold train the "
            "others: folds are not independent, and a privacy guarantee covers the training set of one trial only."
        )
    if "hold_out" in kinds:
        listed.append(
            f"Each data seed holds out its own test {unit}s: replicates also differ in their test {unit}s, and {unit}s "
            "held out by one train others."
        )
    other = (results.sweep.get("dataset", {}).get("evaluation") or {}).get("name")
    if other:
        listed.append(f"Models were trained on {dataset_name(results)} and tested on another data set, {other}.")
    return tuple(listed)


def _test_counts(results: SweepResults) -> pd.DataFrame:
    """Return the test images of one trial by group and label."""
    rows = []
    for attribute in results.groups:
        counts = results.counts(attribute).values[0].sum(-1)
        for i, group in enumerate(results.vocabulary(attribute).values):
            shares = {name: int(n) for name, n in zip(results.classes, counts[i], strict=True)}
            row = {
                "attribute": attribute,
                "group": shown(results, attribute, group),
                f"test {results.unit}s": int(counts[i].sum()),
            }
            few = len(results.classes) <= 8 and attribute != results.label
            rows.append(row | ({f"{results.label} {name}": n for name, n in shares.items()} if few else {}))
    return pd.DataFrame(rows)


def _metrics(results: SweepResults) -> pd.DataFrame:
    names = ["accuracy", "worst_group_accuracy", *DISPARITIES_SHOWN, *shown_metrics(results)]
    rows = [METRICS[name] for name in names if is_defined(results, name)]
    return pd.DataFrame([{"metric": row.title, "formula": row.formula, "defined in": row.reference} for row in rows])


# What a training cost beside seconds: the column of trials, and its unit. Release mode records none.
_COST = {
    "{}s per second": ("examples_per_second", 1),
    "peak memory, MiB": ("host_peak_bytes", 2**20),
    "peak GPU memory, MiB": ("device_peak_bytes", 2**20),
}


def _trials(results: SweepResults) -> pd.DataFrame:
    """Return a table of the trials for readers."""
    trials = results.trials
    table = trials[["trial", "series", "level", "replicate", "state", "iteration", "seconds"]].copy()
    table["ε"] = [epsilon_text(value) for value in trials["epsilon"]]
    deployed = [folder.simulated.get("pld") for folder in results.folders]
    if any(value is not None for value in deployed):
        table[SIMULATED_EPSILON] = ["" if value is None else epsilon_text(float(value)) for value in deployed]
    if any(folder.privacy for folder in results.folders):
        table["guarantee"] = [
            _guarantee(folder, epsilon) for folder, epsilon in zip(results.folders, trials["epsilon"], strict=True)
        ]
    table[f"train {results.unit}s"] = trials["train_size"]
    cost = {name.format(results.unit): (trials[column] / unit).round() for name, (column, unit) in _COST.items()}
    table = table.assign(**{name: values for name, values in cost.items() if values.notna().any()})
    table["hash"] = [str((folder.config or {}).get("trial", ""))[:12] for folder in results.folders]
    if table["seconds"].isna().all():
        table = table.drop(columns="seconds")  # release mode records none
    return table.rename(columns={"series": "learner", "iteration": "iterations"})


def _guarantee(folder: TrialFolder, epsilon: float) -> str:
    """Return which ε a trial's is; empty where it has stated none."""
    if epsilon == math.inf:
        return NO_GUARANTEE
    return guarantee_of(folder.privacy) if folder.privacy else ""
