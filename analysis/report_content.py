"""What a report says, before it is laid out: texts, tables and figures collected from the records."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from fairsweep.analysis import records, report_figures
from fairsweep.analysis.answers import Section, answer, caveats, question
from fairsweep.analysis.focus import Focus, focus_of, shown
from fairsweep.analysis.metrics import METRICS
from fairsweep.analysis.privacy_ledger import PrivacyLedger, privacy_ledger
from fairsweep.analysis.records import RecordError
from fairsweep.analysis.report_figures import Figure
from fairsweep.analysis.results import SweepResults
from fairsweep.analysis.table import DISPARITIES_SHOWN, SummaryTable, epsilon_text, is_defined, summary_tables

DRAWINGS = (
    "The images of this data set are drawings made by the software itself, not photographs. They show what the "
    "software does; the numbers prove nothing about people."
)


@dataclass(frozen=True)
class Findings:
    """What finished trials show.

    Attributes:
        answer: in sentences.
        caveats: what a reader of the answer must know.
        trends: accuracy over the levels.
        disparities: gaps over the levels.
        comparisons: changes against baselines.
        reasons: diagnostics of the private learners.
        unlearning: what learners that forget did, request by request.
        data: training counts.
        tables: summary tables.
        test_counts: test images by group and label.
        test_images: whose they are, in a sentence.
        metrics: how each metric shown is defined.
    """

    answer: tuple[Section, ...]
    caveats: tuple[str, ...]
    trends: tuple[Figure, ...]
    disparities: tuple[Figure, ...]
    comparisons: tuple[Figure, ...]
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
        problems: failures and unreadable files.
        facts: what the sweep ran on and with, to repeat it.
        sweep_file: the sweep file as given.
    """

    name: str
    question: str
    notes: tuple[str, ...]
    states: Mapping[str, int]
    findings: Findings | None
    privacy: PrivacyLedger | None
    trials: pd.DataFrame
    problems: pd.DataFrame
    facts: Mapping[str, str]
    sweep_file: str


def collect(results: SweepResults) -> Content:
    """Collect a report; a sweep without finished trials gives one without findings."""
    try:
        results.evaluations()
    except RecordError:
        findings, asked = None, "What happens to each group?"
        notes = (*_notes(results), "No trial has finished yet: this page has no findings.")
    else:
        focus = focus_of(results)
        findings, asked, notes = _findings(results, focus), question(results, focus), _notes(results)
    return Content(
        name=results.name,
        question=asked,
        notes=notes,
        states={str(state): int(count) for state, count in results.trials["state"].value_counts().items()},
        findings=findings,
        privacy=privacy_ledger(results),
        trials=_trials(results),
        # After the findings, which may have met more files that cannot be read.
        problems=_problems(results),
        facts=_facts(results),
        sweep_file=_sweep_file(results),
    )


def _findings(results: SweepResults, focus: Focus) -> Findings:
    sections = answer(results, focus)
    return Findings(
        answer=sections,
        caveats=(*caveats(results, sections), *_divisions(results)),
        trends=report_figures.trends(results, focus),
        disparities=report_figures.disparities(results, focus),
        comparisons=report_figures.comparisons(results, focus),
        reasons=report_figures.reasons(results, focus),
        unlearning=report_figures.unlearning(results, focus),
        data=report_figures.data(results, focus),
        tables=summary_tables(results),
        test_counts=_test_counts(results),
        test_images="The same test images for every trial."
        if _split_kinds(results).isdisjoint({"folds", "hold_out"})
        else "Those of one trial; others are tested on as many of other images, give or take a few.",
        metrics=_metrics(results),
    )


def _notes(results: SweepResults) -> tuple[str, ...]:
    notes = [DRAWINGS] if _dataset_name(results) == "faces" else []
    waiting = results.trials["state"].isin(["queued", "running", "stopped", "unknown"]).sum()
    failed = (results.trials["state"] == "failed").sum()
    if waiting:
        notes.append(
            f"{waiting} of {len(results.trials)} trials are not finished: the numbers below are of those done."
        )
    if failed:
        notes.append(f"{failed} of {len(results.trials)} trials failed and are missing from the numbers.")
    return tuple(notes)


def _divisions(results: SweepResults) -> tuple[str, ...]:
    """What the way in which examples were divided means for the numbers."""
    kinds = _split_kinds(results)
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
        listed.append(f"Trained on {_dataset_name(results)}, tested on {other}: another data set.")
    return tuple(listed)


def _split_kinds(results: SweepResults) -> set[str]:
    return {str(((folder.config or {}).get("split") or {}).get("kind")) for folder in results.folders}


def _dataset_name(results: SweepResults) -> str:
    name = results.sweep.get("dataset", {}).get("name")
    configs = (folder.config for folder in results.folders if folder.config)
    return str(name or next((config.get("dataset", {}).get("name") for config in configs), ""))


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
    return table.rename(columns={"series": "learner", "iteration": "iterations"})


def _problems(results: SweepResults) -> pd.DataFrame:
    """Failed trials with their cause, then files that could not be read."""
    failed = results.trials[results.trials["state"] == "failed"]
    rows = [
        {"trial": row.trial, "what": "failed", "message": row.error or "no cause recorded"}
        for row in failed.itertuples()
    ]
    rows += [{"trial": row.trial, "what": row.file, "message": row.message} for row in results.problems.itertuples()]
    return pd.DataFrame(rows, columns=["trial", "what", "message"])


def _facts(results: SweepResults) -> dict[str, str]:
    sweep = results.sweep
    dataset = sweep.get("dataset", {})
    facts = {
        "data set": _dataset_name(results),
        "content hash": str(dataset.get("content_hash", "")),
        "started": str(sweep.get("created", "")),
        "last run": str(sweep.get("updated", "")),
    }
    git = sweep.get("git") or {}
    if git.get("commit"):
        facts["git commit"] = git["commit"] + (" (with changes that are not committed)" if git.get("changed") else "")
    facts |= {str(name): str(version) for name, version in (sweep.get("versions") or {}).items()}
    return {name: value for name, value in facts.items() if value}


def _sweep_file(results: SweepResults) -> str:
    place = results.location / records.SWEEP_YAML
    if not place.exists():
        return ""
    with place.filesystem.open_input_stream(place.path) as stream:
        return str(stream.read().decode("utf-8", "replace"))
