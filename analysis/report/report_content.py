"""What a report says, before it is laid out: texts, tables and figures collected from the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from fairsweep.analysis.inference.fluctuations import explain_fluctuations
from fairsweep.analysis.inference.privacy_ledger import PrivacyLedger, epsilon_text, privacy_ledger
from fairsweep.analysis.metrics.catalogue import METRICS
from fairsweep.analysis.records.columns import RecordError
from fairsweep.analysis.records.failed_trials import FailureGroup, failure_groups, more_settings_command, retry_command
from fairsweep.analysis.records.membership import describe_former
from fairsweep.analysis.report import report_figures
from fairsweep.analysis.report.example_images import ImageSheet, image_sheet
from fairsweep.analysis.report.pair_section import pair_section
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.report_section import ReportSection, split_kinds
from fairsweep.analysis.report.reproduction import Reproduction, dataset_name, reproduction
from fairsweep.analysis.report.selection_section import selection_section
from fairsweep.analysis.report.statements import StatementGroup, answer, caveats, question
from fairsweep.analysis.report.study_description import data_sentences, learners
from fairsweep.analysis.report.summary_tables import DISPARITIES_SHOWN, SummaryTable, is_defined, summary_tables
from fairsweep.analysis.report.trend_section import trend_section
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, design_of, shown
from fairsweep.analysis.results.results import SweepResults

DRAWINGS = (
    "The images of this data set are drawings made by the software itself, not photographs. They show what the "
    "software does; the numbers prove nothing about people."
)

_MOST_PARAGRAPHS = 4


@dataclass(frozen=True)
class Findings:
    """What finished trials show.

    Attributes:
        study: what was studied, in sentences.
        pictures: example images by group and label.
        learners: one row a series.
        answer: in sentences.
        caveats: what a reader of the answer must know.
        fluctuations: (series, paragraph) on what moves the accuracy over the levels.
        overviews: every learner and level at one glance.
        trends: accuracy over the levels.
        disparities: gaps over the levels.
        comparisons: changes against baselines.
        sections: trend over imbalance, learners in pairs, choice among settings, as far as the design allows.
        predictions: what is taken for what, and how sure the models are.
        reasons: diagnostics of the private learners.
        unlearning: what learners that forget did, request by request.
        data: training counts.
        tables: summary tables.
        test_counts: test images by group and label.
        test_images: whose they are, in a sentence.
        metrics: how each metric shown is defined.
    """

    study: tuple[str, ...]
    pictures: ImageSheet
    learners: pd.DataFrame
    answer: tuple[StatementGroup, ...]
    caveats: tuple[str, ...]
    fluctuations: tuple[tuple[str, str], ...]
    overviews: tuple[Figure, ...]
    trends: tuple[Figure, ...]
    disparities: tuple[Figure, ...]
    comparisons: tuple[Figure, ...]
    sections: tuple[ReportSection, ...]
    predictions: tuple[Figure, ...]
    reasons: tuple[Figure, ...]
    unlearning: tuple[Figure, ...]
    data: tuple[Figure, ...]
    tables: tuple[SummaryTable, ...]
    test_counts: pd.DataFrame
    test_images: str
    metrics: pd.DataFrame


@dataclass(frozen=True)
class Content:
    """Everything a report shows.

    Attributes:
        name: of the sweep.
        question: in one sentence.
        notes: what must be said before anything else.
        states: number of trials by state.
        findings: what finished trials show; None if there are none.
        privacy: the statements of the private trials, and what they add up to.
        trials: one row a trial.
        failures: failed trials by cause.
        retry: the command that runs failed trials again; None for a guided search.
        more: the command by which a search tries more settings.
        problems: files that could not be read.
        former: what to say of trials of earlier versions of the sweep that are left out; empty if there are none.
        reproduction: what is needed to run the sweep again.
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


def collect(results: SweepResults, *, pictures: bool = False) -> Content:
    """Collect a report; a sweep without finished trials gives one without findings.

    Args:
        results: the sweep.
        pictures: see `fairsweep.analysis.report.report_page.write_report`.
    """
    try:
        results.evaluations()
    except RecordError:
        findings, asked = None, "What happens to each group?"
        notes = (*_notes(results), "No trial has finished yet: this page has no findings.")
    else:
        design = design_of(results)
        findings, asked = _findings(results, design, pictures), question(results, design)
        notes = _notes(results)
    folder = str(results.sweep.get("sweep", {}).get("output") or results.name)
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
    return f"{line}. What they spent of privacy is not counted here"


def _findings(results: SweepResults, design: ImbalanceDesign, pictures: bool) -> Findings:
    sections = answer(results, design)
    return Findings(
        study=data_sentences(results, design),
        pictures=image_sheet(results, design, pictures=pictures),
        learners=learners(results),
        answer=sections,
        caveats=(*caveats(results, sections), *_divisions(results)),
        fluctuations=_fluctuations(results, design),
        overviews=report_figures.overviews(results, design),
        trends=report_figures.trends(results, design),
        disparities=report_figures.disparities(results, design),
        comparisons=report_figures.comparisons(results, design),
        sections=_inquiries(results, design),
        predictions=report_figures.predictions(results, design),
        reasons=report_figures.reasons(results, design),
        unlearning=report_figures.unlearning(results, design),
        data=report_figures.data(results, design),
        tables=summary_tables(results),
        test_counts=_test_counts(results),
        test_images="The same test images for every trial."
        if split_kinds(results).isdisjoint({"folds", "hold_out"})
        else "Those of one trial; others are tested on as many of other images, give or take a few.",
        metrics=_metrics(results),
    )


def _fluctuations(results: SweepResults, design: ImbalanceDesign) -> tuple[tuple[str, str], ...]:
    """Return what moves the rare group's accuracy over the levels, learner by learner."""
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
        found.append((series, explained.text))
    return tuple(found)


def _inquiries(results: SweepResults, design: ImbalanceDesign) -> tuple[ReportSection, ...]:
    found = (make(results, design) for make in (trend_section, pair_section, selection_section))
    return tuple(section for section in found if section is not None)


def _notes(results: SweepResults) -> tuple[str, ...]:
    notes = [DRAWINGS] if dataset_name(results) == "faces" else []
    beaten = (results.trials["stopped_by"] == "scheduler").sum()
    waiting = results.trials["state"].isin(["queued", "running", "stopped", "unknown"]).sum() - beaten
    failed = (results.trials["state"] == "failed").sum()
    if waiting:
        notes.append(
            f"{waiting} of {len(results.trials)} trials are not finished: the numbers below are of those done."
        )
    if beaten:
        notes.append(
            f"{beaten} of {len(results.trials)} trials were ended early because others did better, and are not in the "
            "numbers: those that were trained to the end are the ones that looked best on the validation split."
        )
    if failed:
        notes.append(f"{failed} of {len(results.trials)} trials failed and are missing from the numbers.")
    return tuple(notes)


def _divisions(results: SweepResults) -> tuple[str, ...]:
    """Return what the way in which examples were divided means for the numbers."""
    kinds = split_kinds(results)
    listed = []
    if "folds" in kinds:
        listed.append(
            "The trials of different folds are tested on different images, and what one fold holds out trains the "
            "others: folds are not independent, and a guarantee for one trial's training set covers that trial alone."
        )
    if "hold_out" in kinds:
        listed.append(
            "Each data seed holds out images of its own: replicates differ in their test images too, and what one "
            "holds out trains others."
        )
    other = (results.sweep.get("dataset", {}).get("evaluation") or {}).get("name")
    if other:
        listed.append(f"Trained on {dataset_name(results)}, tested on {other}: another data set.")
    return tuple(listed)


def _test_counts(results: SweepResults) -> pd.DataFrame:
    """Test images of one trial by group and label."""
    rows = []
    for attribute in results.groups:
        counts = results.counts(attribute).values[0].sum(-1)
        for i, group in enumerate(results.vocabulary(attribute).values):
            shares = {name: int(n) for name, n in zip(results.classes, counts[i], strict=True)}
            row = {
                "attribute": attribute,
                "group": shown(results, attribute, group),
                "test images": int(counts[i].sum()),
            }
            few = len(results.classes) <= 8 and attribute != results.label
            rows.append(row | ({f"{results.label} {name}": n for name, n in shares.items()} if few else {}))
    return pd.DataFrame(rows)


def _metrics(results: SweepResults) -> pd.DataFrame:
    names = ["accuracy", "worst_group_accuracy", *DISPARITIES_SHOWN]
    rows = [METRICS[name] for name in names if is_defined(results, name)]
    return pd.DataFrame([{"metric": row.title, "formula": row.formula, "defined in": row.reference} for row in rows])


def _trials(results: SweepResults) -> pd.DataFrame:
    """One row a trial, for people."""
    trials = results.trials
    table = trials[["trial", "series", "level", "replicate", "state", "iteration", "seconds"]].copy()
    table["ε"] = [epsilon_text(value) for value in trials["epsilon"]]
    table["train images"] = trials["train_size"]
    table["hash"] = [str((folder.config or {}).get("trial", ""))[:12] for folder in results.folders]
    return table.rename(columns={"series": "learner", "iteration": "iterations"})
