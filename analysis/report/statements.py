"""The research question of a sweep and its findings as sentences, each with an interval and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.metrics.catalogue import METRICS
from fairsweep.analysis.report.baselines import Comparison, comparisons
from fairsweep.analysis.report.page_verdicts import PageVerdicts, baseline_series, page_verdicts
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named
from fairsweep.analysis.results.pairs import TWIN
from fairsweep.analysis.results.people import has_people
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At
from fairsweep.analysis.statistics.variance_components import ROUNDING
from fairsweep.analysis.verdicts.verdict import Question, Verdict, Word
from fairsweep.analysis.verdicts.verdict_sentences import (
    estimate_text,
    margin_text,
    reason,
    sided_text,
    size_text,
    superiority_text,
)
from fairsweep.analysis.wording import counted

SIGNED = (
    "The interval is that of a signed difference between groups, which may reach below 0; a gap in a table or a figure "
    "has no sign, and a simultaneous interval that is cut at 0."
)
"""Which interval stands beside a difference between groups in a sentence."""

_FEW_REPLICATES = 5
Direction = Literal["harm", "benefit", "none"]
_HARM = {"difference": -1, "excess": 1, "growth": 1, "gap": -1, "slope": -1}


@dataclass(frozen=True)
class Statement:
    """One finding.

    Attributes:
        text: A sentence.
        verdict: ``different``, ``equivalent``, ``undecided`` or ``undefined``.
        reason: The verdict as a sentence, with what would decide what is undecided.
        found: The numbers; None where the sentence is no answer to a question.
        direction: ``harm`` if the estimate is a loss of the group, ``benefit`` if it is a gain, ``none`` if it is
            neither: where two learners are compared of which neither is the remedy.
    """

    text: str
    verdict: Word
    reason: str
    found: Verdict | None = None
    direction: Direction = "none"


@dataclass(frozen=True)
class StatementGroup:
    """Findings under one heading.

    Attributes:
        title: The heading.
        lead: Introduction that holds for all of them; may be empty.
        statements: The findings.
    """

    title: str
    lead: str
    statements: tuple[Statement, ...]


def question(results: SweepResults, design: ImbalanceDesign) -> str:
    """Return the research question of the sweep in one sentence."""
    private = bool(np.isfinite(results.trials["epsilon"]).any())
    unlearning = "sisa" in set(results.trials["kind"])
    causes = [cause for cause, there in (("differential privacy", private), ("unlearning", unlearning)) if there]
    who = f"each class of {results.label}" if design.of_label else f"each group of {design.attribute}"
    task = "" if design.of_label else f" when predicting {results.label}"
    verb = "do" if len(causes) > 1 else "does"
    asked = f"How {verb} {' and '.join(causes)} affect accuracy for {who}{task}"
    if not causes:
        asked = f"How accurate are the models for {who}{task}"
    if not design.rare:
        return f"{asked}?"
    if design.is_trend:
        return f"{asked}, as {results.unit}s with {rare_text(results, design)} become rarer in the training set?"
    return f"{asked}, with few training {results.unit}s with {rare_text(results, design)}?"


def rare_text(results: SweepResults, design: ImbalanceDesign) -> str:
    """Return the rare groups, such as ``digit = 8 and digit = 9``."""
    names = [named(results, design.attribute, group) for group in design.rare]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def level_text(results: SweepResults, design: ImbalanceDesign) -> str:
    """Return a sentence with the most imbalanced level and its number of rare images."""
    level = design.levels[-1]
    if not design.rare or not np.isfinite(level.rare_count):
        return ""
    which = f"most imbalanced training set ({level.text})" if len(design.levels) > 1 else "training set"
    counts = f"{level.rare_count:,.0f} {results.unit}s with {rare_text(results, design)} out of {level.train_size:,.0f}"
    return f"The {which} has {counts}."


def answer(
    results: SweepResults, design: ImbalanceDesign, *, at: At = "last", verdicts: PageVerdicts | None = None
) -> tuple[StatementGroup, ...]:
    """Return the findings on accuracy by group, excess loss of rare groups, effect of imbalance, and accuracy gaps.

    Args:
        results: the sweep.
        design: its imbalance.
        at: see `SweepResults.evaluations`.
        verdicts: of the whole report; None makes them.
    """
    known = page_verdicts(results, design, at=at) if verdicts is None else verdicts
    changes, excesses = [], []
    for comparison in comparisons(results):
        for series, other in baseline_series(results, comparison.learner, comparison.baseline, design.levels[-1].text):
            changes += _changes(results, design, comparison, (series, other), known)
            excesses += _excesses(results, design, comparison, (series, other), known)
    trends = [_growth(results, design, found) for found in known.kind("growth")]
    lead = level_text(results, design)
    sections = (
        StatementGroup("Collapsed learners", "", tuple(_collapsed(results, at))),
        StatementGroup("Effect of privacy on accuracy", lead, tuple(changes)),
        StatementGroup("Excess loss of rare groups", "", tuple(excesses)),
        StatementGroup("Effect of imbalance on the excess loss", "", tuple(trends)),
        StatementGroup(
            f"Accuracy gap between {design.members}",
            f"{'' if changes else lead} {SIGNED}".strip(),
            tuple(_gap(results, design, found) for found in known.kind("gap")),
        ),
    )
    return tuple(section for section in sections if section.statements)


def small_group_notes(results: SweepResults, design: ImbalanceDesign) -> tuple[str, ...]:
    """Return which groups are listed but not ranked, and why; a sentence for each attribute that has some."""
    unit = "people" if has_people(results) else f"{results.unit}s"
    few = f"fewer than {results.min_group_size} test {unit} (min_group_size)"
    notes = []
    for attribute in design.groupings:
        small = results.small_groups(attribute)
        ranked = [name for name in results.vocabulary(attribute).values if name not in small]
        if not small:
            continue
        listed = "; ".join(f"{named(results, attribute, name)} ({count})" for name, count in small.items())
        members = "classes" if attribute == results.label else "groups"
        text = f"Too small to be ranked, with {few}: {listed}. They are listed in tables and figures"
        if len(ranked) < 2:
            rest = f" but {ranked[0]}" if ranked else ""
            text += f"; these are all {members} of {attribute}{rest}, so that its {members} are not compared."
        else:
            text += f", and take no part in worst {members}, gaps, findings and selection."
        notes.append(text)
    return tuple(notes)


def caveats(results: SweepResults, sections: tuple[StatementGroup, ...]) -> tuple[str, ...]:
    """Return the limitations of the findings."""
    founds = [statement.found for section in sections for statement in section.statements]
    family = max((found.family for found in founds if found is not None), default=0)
    done = results.trials[results.trials["state"] == "done"]
    fewest = int(done.groupby("setting").size().min()) if len(done) else 0
    listed = []
    if family > 1:
        listed.append(
            f"Verdicts are corrected for the {family} questions that this report tests (Holm): at most one such report "
            "in 20 finds a difference where there is none. The 95% intervals are not corrected: about one in 20 is "
            "expected to miss the true value."
        )
    if fewest == 1:
        only = f"their intervals cover the sampling of test {results.unit}s only"
        listed.append(f"Some settings have only one replicate: {only}.")
    elif 1 < fewest < _FEW_REPLICATES:
        listed.append(
            f"With {fewest} replicates, t intervals are wide because the variation between runs is poorly known; "
            f"use at least {_FEW_REPLICATES} to narrow them."
        )
    seeds = done[["data_seed", "train_seed"]].drop_duplicates()
    if len(seeds) > max(seeds.nunique(), default=0):
        listed.append(
            "Replicates share data seeds or training seeds: where predictions are missing, or seeds are not crossed in "
            "full, t intervals treat them as independent and are too narrow."
        )
    if any(comparison.baseline != TWIN for comparison in comparisons(results)):
        listed.append(
            "A matched twin differs from its private learner only in clipping and noise. A separately tuned learner "
            "also differs in its hyperparameters, so the comparison mixes the effect of privacy with that of tuning."
        )
    return tuple(listed)


def accuracy_change(cause: str, what: str, found: Verdict, more: str = "") -> str:
    """Return what something does to the test accuracy of a group, as far as the verdict allows to say it.

    Args:
        cause: what changes the accuracy: ``learner private``.
        what: whose accuracy it is: ``test accuracy for tone = dark``.
        found: the verdict on the change, which is defined.
        more: what the change is relative to, with a space before it; may be empty.
    """
    size = f"by {size_text(found)}{more}"
    verb = "lowers" if found.estimate < -ROUNDING else "raises" if found.estimate > ROUNDING else "changes"
    begun = cause[:1].upper() + cause[1:]
    return told(
        found,
        question=f"{cause} {verb} {what}{more}",
        equal=f"{begun} changes {what}{more} by less than {_margin(found)}",
        claim=f"{begun} {verb} {what} {size}",
        estimate=f"is {estimate_text(found)}",
    )


def told(found: Verdict, *, question: str, equal: str, claim: str, estimate: str, more: str = "") -> str:
    """Return what was found as a sentence, as far as the verdict, which is defined, allows to say it.

    Args:
        found: the verdict.
        question: what is undecided: ``learner private lowers …``.
        equal: what is said of a difference within the margin.
        claim: what is said of a difference.
        estimate: of what is no claim: ``is a loss of 3.1 points``.
        more: what stands beside the counts of seeds and images.
    """
    if found.word == "undecided":
        return f"Whether {question} is undecided: the estimate {estimate}{_of(found, more)}."
    if found.word == "equivalent" and found.margin is not None:
        return f"{equal}: the estimate {estimate}{_of(found, more)}."
    return f"{claim}{_of(found, more)}."


def _collapsed(results: SweepResults, at: At) -> list[Statement]:
    """Return the settings in which runs predict one class for every test {results.unit}."""
    done = results.trials[results.trials["state"] == "done"].groupby("setting").size()
    statements = []
    for setting, runs in results.collapsed(at=at).groupby("setting", sort=False):
        classes = " or ".join(dict.fromkeys(runs["prediction"]))
        row = runs.iloc[0]
        text = (
            f"Learner {row['series']} ({row['level']}) has collapsed in {len(runs)} of {int(done[setting])} replicates"
            f": it predicts {results.label} = {classes} for every test {results.unit}."
        )
        share = f"the share of that class among the test {results.unit}s"
        reason = f"Its accuracy is {share}, so its groups cannot be compared."
        statements.append(Statement(text, "undefined", reason))
    return statements


def _changes(
    results: SweepResults,
    design: ImbalanceDesign,
    comparison: Comparison,
    series: tuple[str, str],
    verdicts: PageVerdicts,
) -> list[Statement]:
    """Return the changes of the rare groups (of all groups if none is rare) at the most imbalanced level."""
    statements = []
    for group in design.rare or results.vocabulary(design.attribute).values:
        found = verdicts.of(Question("difference", *series, design.attribute, group, design.levels[-1].text))
        if found is not None:
            who = named(results, design.attribute, group)
            cause = f"learner {series[0]}{_epsilon(results, series[0])}"
            text = f"{cause[:1].upper()}{cause[1:]} cannot be compared with {comparison.words} for {who}."
            if found.word != "undefined":
                text = accuracy_change(cause, f"test accuracy for {who}", found, f" compared with {comparison.words}")
            statements.append(statement_of(text, found))
    return statements


def _excesses(
    results: SweepResults,
    design: ImbalanceDesign,
    comparison: Comparison,
    series: tuple[str, str],
    verdicts: PageVerdicts,
) -> list[Statement]:
    """Return how much more accuracy the rare groups lose than the others."""
    statements = []
    for group in design.rare:
        found = verdicts.of(Question("excess", *series, design.attribute, group, design.levels[-1].text))
        if found is not None:
            learner = f"learner {series[0]}"
            text = _loses_more(results, design, found, learner, f"compared with {comparison.words}")
            statements.append(statement_of(text, found))
    return statements


def _growth(results: SweepResults, design: ImbalanceDesign, found: Verdict) -> Statement:
    """Return how much more a rare group loses than the others between the extreme levels."""
    levels = f"from {design.levels[0].text} to {design.levels[-1].text}"
    return statement_of(_loses_more(results, design, found, f"learner {found.question.learner}", levels), found)


def _loses_more(results: SweepResults, design: ImbalanceDesign, found: Verdict, learner: str, when: str) -> str:
    """Return how much more accuracy a group loses than the others, as far as the verdict allows to say it."""
    group = found.question.group
    who, others = named(results, design.attribute, group), others_text(results, design, group)
    if found.word == "undefined":
        return f"The excess loss for {who}, {when}, is undefined for {learner}."
    side = "more" if found.estimate >= 0 else "less"
    begun = when[:1].upper() + when[1:]
    return told(
        found,
        question=f"{learner} loses {side} accuracy for {who} than for {others}, {when},",
        equal=f"{begun}, {learner} loses as much accuracy for {who} as for {others}, within {_margin(found)}",
        claim=f"{begun}, {learner} loses {size_text(found)} {side} for {who} than for {others}",
        estimate=f"is {sided_text(found, 'less', 'more')}",
    )


def _gap(results: SweepResults, design: ImbalanceDesign, found: Verdict) -> Statement:
    """Return the accuracy of a group minus that of the others at the most imbalanced level."""
    group, learner = found.question.group, found.question.learner
    if found.word == "undefined":
        return statement_of(f"The accuracy gap of learner {learner} is undefined.", found)
    who, others = named(results, design.attribute, group), others_text(results, design, group)
    often = "" if found.superiority is None else f"; {superiority_text(found.superiority, 'group', 'others')}"
    size = sided_text(found, "below", "above")
    word = "lower" if found.estimate < 0 else "higher"
    text = told(
        found,
        question=f"the accuracy of learner {learner} is {word} for {who} than for {others}",
        equal=f"Learner {learner}: accuracy for {who} is that for {others}, within {_margin(found)}",
        claim=f"Learner {learner}: accuracy for {who} is {size} that for {others}",
        estimate=f"is {size}",
        more=often,
    )
    return statement_of(text, found)


def others_text(results: SweepResults, design: ImbalanceDesign, group: str) -> str:
    """Return the other groups for a sentence: the one other group by its name, or all others on average."""
    small = results.small_groups(design.attribute)
    others = [name for name in results.vocabulary(design.attribute).values if name != group and name not in small]
    if len(others) == 1:
        return named(results, design.attribute, others[0])
    return f"the other {design.members} on average"


def statement_of(text: str, found: Verdict, *, is_neutral: bool = False) -> Statement:
    """Return a sentence with its verdict and the direction of its estimate.

    It has none if the question is ``is_neutral``, or if neither direction of the metric is better.
    """
    row = METRICS.get(found.question.metric.split("[")[0])
    better = {"higher": 1, "lower": -1}.get("higher" if row is None else row.better, 0)
    sign = better * _HARM[found.question.kind] * found.estimate
    direction: Direction = "none"
    if not is_neutral and found.word in ("different", "undecided") and abs(sign) > ROUNDING:
        direction = "harm" if sign > 0 else "benefit"
    return Statement(text, found.word, reason(found), found, direction)


def compared_with(comparison: Comparison) -> str:
    """Return what a private learner is compared with, in words for the first sentence of a report."""
    name = comparison.words.partition("(")[2].rstrip(")")
    return f"the same training without privacy ({name})" if comparison.baseline == TWIN else comparison.words


def _epsilon(results: SweepResults, series: str) -> str:
    known = results.trials.loc[results.trials["series"].astype(str) == series, "epsilon"].to_numpy(np.float64)
    largest = known[np.isfinite(known)]
    return f" (ε = {epsilon_text(float(largest.max()))})" if len(largest) else ""


def _of(found: Verdict, more: str = "") -> str:
    """Return the counts behind a number."""
    if found.word == "undefined":
        return ""
    return f" ({counts_text(found)}{more})"


def _margin(found: Verdict) -> str:
    return "" if found.margin is None else margin_text(found.margin)


def counts_text(found: Verdict) -> str:
    """Return how many seeds and test images a number rests on: ``3 seeds, 600 test images``."""
    seeds = counted(found.seeds, "seed")
    return f"{seeds}, {counted(found.images, f'test {found.unit}')}" if found.images else seeds
