"""The research question of a sweep and its findings as sentences, each with an interval and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from fairsweep.analysis.inference.difference_in_differences import excess_between_levels, excess_loss_by_trial
from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named
from fairsweep.analysis.results.pairs import TWIN
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At
from fairsweep.analysis.statistics.variance_components import ROUNDING

Verdict = Literal["significant", "inconclusive", "not_significant", "undefined"]
_MINUS = "\N{MINUS SIGN}"
_FEW_REPLICATES = 5


@dataclass(frozen=True)
class Statement:
    """One finding.

    Attributes:
        text: A sentence.
        verdict: ``significant``; ``inconclusive``: larger than sampling of the test images explains, but not
            distinguishable from variation between training runs; ``not_significant``; or ``undefined``.
        reason: The verdict as a sentence.
    """

    text: str
    verdict: Verdict
    reason: str


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


@dataclass(frozen=True)
class Comparison:
    """A private learner and its baseline.

    Attributes:
        learner: The private learner.
        baseline: ``twin`` or a learner's name.
        words: Description of the baseline: a matched twin, or separately tuned.
    """

    learner: str
    baseline: str
    words: str


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
        return f"{asked}, as images with {rare_text(results, design)} become rarer in the training set?"
    return f"{asked}, with few training images with {rare_text(results, design)}?"


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
    counts = f"{level.rare_count:,.0f} images with {rare_text(results, design)} out of {level.train_size:,.0f}"
    return f"The {which} has {counts}."


def comparisons(results: SweepResults) -> tuple[Comparison, ...]:
    """Return the pairs to compare: each private learner with its matched twin and each separately tuned public learner.

    Twins of other private learners are left out.
    """
    trials = results.trials
    named = list(dict.fromkeys(name for name in trials["learner"] if name))
    private = [name for name in named if np.isfinite(trials.loc[trials["learner"] == name, "epsilon"]).any()]
    public = trials[np.isinf(trials["epsilon"]) & ~trials["twin_of"].isin(named)]
    tuned = [name for name in named if name in set(public["learner"]) and name not in private]
    found = []
    for name in private:
        twins = sorted({str(twin) for twin in trials.loc[trials["twin_of"] == name, "learner"]})
        found += [Comparison(name, TWIN, f"its matched twin ({twin})") for twin in twins[:1]]
        found += [Comparison(name, other, f"{other} (separately tuned)") for other in tuned]
    return tuple(found)


def answer(results: SweepResults, design: ImbalanceDesign, *, at: At = "last") -> tuple[StatementGroup, ...]:
    """Return the findings on accuracy by group, excess loss of rare groups, effect of imbalance, and accuracy gaps."""
    changes, excesses = [], []
    for comparison in comparisons(results):
        changes += _changes(results, design, comparison, at)
        excesses += _excesses(results, design, comparison, at)
    trends = _trends(results, design, at) if design.rare and design.is_trend else []
    lead = level_text(results, design)
    first, last = design.levels[0].text, design.levels[-1].text
    sections = (
        StatementGroup("Collapsed learners", "", tuple(_collapsed(results, at))),
        StatementGroup("Effect of privacy on accuracy", lead, tuple(changes)),
        StatementGroup("Excess loss of rare groups", "", tuple(excesses)),
        StatementGroup(
            "Effect of imbalance on the excess loss", f"From {first} to {last}, paired by seed.", tuple(trends)
        ),
        StatementGroup(
            f"Accuracy gap between {design.members}", "" if changes else lead, tuple(_gaps(results, design, at))
        ),
    )
    return tuple(section for section in sections if section.statements)


def caveats(results: SweepResults, sections: tuple[StatementGroup, ...]) -> tuple[str, ...]:
    """Return the limitations of the findings."""
    compared = sum(len(section.statements) for section in sections)
    done = results.trials[results.trials["state"] == "done"]
    fewest = int(done.groupby("setting").size().min()) if len(done) else 0
    listed = []
    if compared > 1:
        listed.append(
            "The 95% intervals are not corrected for multiple comparisons: about one in 20 of these "
            f"{compared} is expected to miss the true value."
        )
    if fewest == 1:
        listed.append("Some settings have only one replicate: their intervals cover the sampling of test images only.")
    elif 1 < fewest < _FEW_REPLICATES:
        listed.append(
            f"With {fewest} replicates, t intervals are wide because the variation between runs is poorly known; "
            f"use at least {_FEW_REPLICATES} to narrow them."
        )
    seeds = done[["data_seed", "train_seed"]].drop_duplicates()
    if len(seeds) > max(seeds.nunique(), default=0):
        listed.append(
            "Replicates share data seeds or training seeds, but the t intervals treat them as independent: they are "
            "too narrow if one kind of seed matters more than the other."
        )
    if any(comparison.baseline != TWIN for comparison in comparisons(results)):
        listed.append(
            "A matched twin differs from its private learner only in clipping and noise. A separately tuned learner "
            "also differs in its hyperparameters, so the comparison mixes the effect of privacy with that of tuning."
        )
    return tuple(listed)


def verdict(mean: pd.Series[float], trials: pd.DataFrame) -> Verdict:
    """Return whether a difference is statistically significant.

    Args:
        mean: A row of `average`.
        trials: The rows that it averages, each with its interval from the test images only.
    """
    if not np.isfinite(mean["value"]):
        return "undefined"
    if mean["low"] > ROUNDING or mean["high"] < -ROUNDING:
        return "significant" if mean["replicates"] >= 2 else "inconclusive"
    same_side = (trials["low"] > ROUNDING).all() or (trials["high"] < -ROUNDING).all()
    return "inconclusive" if mean["replicates"] >= 2 and len(trials) and same_side else "not_significant"


def verdict_text(found: Verdict, replicates: int) -> str:
    """Return the verdict as a sentence."""
    if found == "significant":
        return "The difference is statistically significant."
    if found == "inconclusive" and replicates == 1:
        return (
            "Sampling of the test images does not explain the difference, but one replicate says nothing about the "
            "variation between training runs."
        )
    if found == "inconclusive":
        return (
            f"In each of the {replicates} replicates the difference is larger than sampling of the test images "
            "explains, but it is not statistically distinguishable from the variation between training runs."
        )
    if found == "not_significant":
        return "The difference is not statistically significant."
    return "The difference is undefined for these test images."


def points_text(value: float, low: float, high: float) -> str:
    """Return a difference in percentage points with its interval.

    >>> points_text(0.138, 0.067, 0.208)
    '13.8 points [6.7, 20.8]'
    """
    texts = [f"{100 * number + 0.0:.1f}".replace("-", _MINUS) for number in (value, low, high)]
    return f"{texts[0]} points [{texts[1]}, {texts[2]}]"


def accuracy_change(who: str, value: float, low: float, high: float) -> str:
    """Return a change in test accuracy with its interval; the sign is in the verb.

    >>> accuracy_change("tone = dark", -0.121, -0.2, -0.05)
    'lowers test accuracy for tone = dark by 12.1 points [5.0, 20.0]'
    """
    verb, bounds = ("raises", (value, low, high)) if value >= 0 else ("lowers", (-value, -high, -low))
    return f"{verb} test accuracy for {who} by {points_text(*bounds)}"


def _collapsed(results: SweepResults, at: At) -> list[Statement]:
    """Return the settings in which runs predict one class for every test image."""
    done = results.trials[results.trials["state"] == "done"].groupby("setting").size()
    statements = []
    for setting, runs in results.collapsed(at=at).groupby("setting", sort=False):
        classes = " or ".join(dict.fromkeys(runs["prediction"]))
        row = runs.iloc[0]
        text = (
            f"Learner {row['series']} ({row['level']}) has collapsed in {len(runs)} of {int(done[setting])} replicates"
            f": it predicts {results.label} = {classes} for every test image."
        )
        reason = "Its accuracy is the share of that class among the test images, so its groups cannot be compared."
        statements.append(Statement(text, "undefined", reason))
    return statements


def _changes(results: SweepResults, design: ImbalanceDesign, comparison: Comparison, at: At) -> list[Statement]:
    """Return the changes of the rare groups (of all groups if none is rare) at the most imbalanced level."""
    frame = results.frame(["accuracy"], by=design.attribute, baseline=comparison.baseline, at=at)
    frame = frame[(frame["learner"] == comparison.learner) & (frame["level"] == design.levels[-1].text)]
    if frame.empty:
        return []
    means = average(frame)
    statements = []
    for group in design.rare or dict.fromkeys(means["group"]):
        for _, row in means[means["group"] == group].iterrows():
            mine = frame[(frame["series"] == row["series"]) & (frame["group"] == group)]
            text = (
                f"Learner {row['series']} (ε = {epsilon_text(float(row['epsilon']))}) "
                f"{accuracy_change(named(results, design.attribute, group), row['value'], row['low'], row['high'])} "
                f"compared with {comparison.words}{_of(row)}."
            )
            statements.append(_statement(text, row, mine))
    return statements


def _excesses(results: SweepResults, design: ImbalanceDesign, comparison: Comparison, at: At) -> list[Statement]:
    """Return how much more accuracy the rare groups lose than the others."""
    statements = []
    for group in design.rare:
        frame = excess_loss_by_trial(
            results, design.attribute, group, learner=comparison.learner, baseline=comparison.baseline, at=at
        )
        frame = frame[frame["level"] == design.levels[-1].text]
        for _, row in average(frame).iterrows():
            text = (
                f"Compared with {comparison.words}, learner {row['series']} loses {_more_or_less(row)} for "
                f"{named(results, design.attribute, group)} than for the other {design.members} on average"
                f"{_of(row, alone=True)}."
            )
            statements.append(_statement(text, row, frame[frame["series"] == row["series"]]))
    return statements


def _trends(results: SweepResults, design: ImbalanceDesign, at: At) -> list[Statement]:
    """Return how much more the rare groups lose than the others between the extreme levels, by series."""
    statements = []
    for group in design.rare:
        frame = excess_between_levels(results, design, group, at=at)
        for _, row in average(frame).iterrows():
            text = (
                f"Learner {row['series']} loses {_more_or_less(row)} for {named(results, design.attribute, group)} "
                f"than for the other {design.members} on average{_of(row, alone=True)}."
            )
            statements.append(_statement(text, row, frame[frame["series"] == row["series"]]))
    return statements


def _gaps(results: SweepResults, design: ImbalanceDesign, at: At) -> list[Statement]:
    """Return the accuracy gaps at the most imbalanced level, beside those expected of equal groups."""
    frame = results.disparities(["accuracy_difference"], by=design.attribute, at=at)
    frame = frame[frame["level"] == design.levels[-1].text]
    statements = []
    for _, row in average(frame).iterrows():
        if not np.isfinite(row["value"]):
            text = f"The accuracy gap of learner {row['series']} is undefined: fewer than two groups have test images."
            statements.append(Statement(text, "undefined", verdict_text("undefined", 0)))
            continue
        text = (
            f"Learner {row['series']}: accuracy differs by up to "
            f"{points_text(row['value'], row['low'], row['high'])} between the {design.members} of {design.attribute}"
            f"{_of(row)}; equal groups of these sizes would show {100 * row['expected_if_equal']:.1f} by chance."
        )
        statements.append(_statement(text, row, frame[frame["series"] == row["series"]]))
    return statements


def _statement(text: str, row: pd.Series[float], trials: pd.DataFrame) -> Statement:
    found = verdict(row, trials)
    return Statement(text, found, verdict_text(found, int(row["replicates"])))


def _more_or_less(row: pd.Series[float]) -> str:
    """Return ``13.8 points [6.7, 20.8] more``, or ``… less`` if the value is negative."""
    if row["value"] >= 0:
        return f"{points_text(row['value'], row['low'], row['high'])} more"
    return f"{points_text(-row['value'], -row['high'], -row['low'])} less"


def _of(row: pd.Series[float], *, alone: bool = False) -> str:
    """Return the counts behind a number, and with `alone` the t interval over replicates if it is known."""
    replicates = int(row["replicates"])
    text = f"{replicates} replicate{'s' if replicates != 1 else ''}, n {int(row['n_min']):,}"
    if alone and replicates >= 2:
        sign = 1 if row["value"] >= 0 else -1
        bounds = sorted((sign * 100 * row["training_low"], sign * 100 * row["training_high"]))
        text += f"; over replicates only [{bounds[0]:.1f}, {bounds[1]:.1f}]".replace("-", _MINUS)
    return f" ({text})"
