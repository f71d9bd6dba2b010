"""The question of a sweep and its answer in sentences, generated from the numbers and no bolder than they are."""

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

Verdict = Literal["told", "images", "noise", "unknown"]
_MINUS = "\N{MINUS SIGN}"
_FEW_REPLICATES = 5


@dataclass(frozen=True)
class Statement:
    """One finding in words.

    Attributes:
        text: a sentence.
        verdict: ``told`` from noise; ``images``: more than the test images explain, but not told from the luck of
            training; ``noise``: no difference can be told from noise; ``unknown``: undefined.
        reason: the verdict as a sentence.
    """

    text: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class StatementGroup:
    """Findings that belong together.

    Attributes:
        title: what they are about.
        lead: what holds for all of them; may be empty.
        statements: the findings.
    """

    title: str
    lead: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Comparison:
    """A private learner and what it is compared with.

    Attributes:
        learner: the private one.
        baseline: ``twin`` or a learner's name.
        words: the baseline in words: a matched twin, or separately tuned.
    """

    learner: str
    baseline: str
    words: str


def question(results: SweepResults, design: ImbalanceDesign) -> str:
    """Return what the sweep asks, in one sentence."""
    private = bool(np.isfinite(results.trials["epsilon"]).any())
    forgetful = "sisa" in set(results.trials["kind"])
    ways = [
        way for way, there in (("with differential privacy", private), ("so that it can forget", forgetful)) if there
    ]
    how = " ".join([f"{results.label} is learnt", " or ".join(ways)]).strip()
    who = f"each class of {results.label}" if design.of_label else f"each group of {design.attribute}"
    if not design.rare:
        return f"What happens to {who} when {how}?"
    rare = f"images of {rare_text(results, design)}"
    if design.is_trend:
        return f"What happens to {who} when {how}, as {rare} become rarer in the training set?"
    return f"What happens to {who} when {how} and {rare} are rare in the training set?"


def rare_text(results: SweepResults, design: ImbalanceDesign) -> str:
    """Return the rare groups in words."""
    names = [named(results, design.attribute, group) for group in design.rare]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def level_text(results: SweepResults, design: ImbalanceDesign) -> str:
    """Return the most imbalanced level in words, with the rare images that it leaves."""
    level = design.levels[-1]
    if not design.rare or not np.isfinite(level.rare_count):
        return ""
    which = f"most imbalanced training set ({level.text})" if len(design.levels) > 1 else "training set"
    counts = f"{level.rare_count:,.0f} images of {rare_text(results, design)} among {level.train_size:,.0f}"
    return f"The {which} has {counts}."


def comparisons(results: SweepResults) -> tuple[Comparison, ...]:
    """Each private learner against its matched twin, and against every separately tuned learner without privacy.

    The twin of another private learner is neither of them.
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
    """The answer: who loses how much, whether the rare pay more than the rest, and how that grows with imbalance."""
    changes, excesses = [], []
    for comparison in comparisons(results):
        changes += _changes(results, design, comparison, at)
        excesses += _excesses(results, design, comparison, at)
    trends = _trends(results, design, at) if design.rare and design.is_trend else []
    lead = level_text(results, design)
    first, last = design.levels[0].text, design.levels[-1].text
    sections = (
        StatementGroup("What privacy changes", lead, tuple(changes)),
        StatementGroup("Whether the rare pay more", "", tuple(excesses)),
        StatementGroup("How the loss grows with imbalance", f"From {first} to {last}, seed by seed.", tuple(trends)),
        StatementGroup(
            f"How far apart the {design.members} are", "" if changes else lead, tuple(_gaps(results, design, at))
        ),
    )
    return tuple(section for section in sections if section.statements)


def caveats(results: SweepResults, sections: tuple[StatementGroup, ...]) -> tuple[str, ...]:
    """Return what a reader of the answer must know."""
    compared = sum(len(section.statements) for section in sections)
    done = results.trials[results.trials["state"] == "done"]
    fewest = int(done.groupby("setting").size().min()) if len(done) else 0
    listed = []
    if compared > 1:
        listed.append(
            f"Each 95% interval stands for itself: of {compared} findings like these about one in 20 misses its truth."
        )
    if fewest == 1:
        listed.append("Some settings have one replicate: their intervals know the test images only.")
    elif 1 < fewest < _FEW_REPLICATES:
        listed.append(
            f"With {fewest} replicates a t interval is wide, for so few runs say little about how much runs differ; "
            f"{_FEW_REPLICATES} or more would narrow it."
        )
    seeds = done[["data_seed", "train_seed"]].drop_duplicates()
    if len(seeds) > max(seeds.nunique(), default=0):
        listed.append(
            "Replicates share data seeds or training seeds with one another, and the t intervals take them as "
            "independent: they are too narrow where one of the two kinds of seed matters more than the other."
        )
    if any(comparison.baseline != TWIN for comparison in comparisons(results)):
        listed.append(
            "A matched twin differs from its private learner in clipping and noise alone. A separately tuned learner "
            "differs in more: its comparison mixes the effect of privacy with that of the tuning."
        )
    return tuple(listed)


def verdict(mean: pd.Series[float], trials: pd.DataFrame) -> Verdict:
    """Return what an interval around a difference allows to say.

    Args:
        mean: a row of `average`.
        trials: the rows it averages, each with its interval from the test images alone.
    """
    if not np.isfinite(mean["value"]):
        return "unknown"
    if mean["low"] > 0 or mean["high"] < 0:
        return "told" if mean["replicates"] >= 2 else "images"
    same_side = (trials["low"] > 0).all() or (trials["high"] < 0).all()
    return "images" if mean["replicates"] >= 2 and len(trials) and same_side else "noise"


def verdict_text(found: Verdict, replicates: int) -> str:
    """Return the verdict as a sentence."""
    if found == "told":
        return "This can be told from noise."
    if found == "images" and replicates == 1:
        return "The luck of the test images does not explain it; one replicate says nothing about the luck of training."
    if found == "images":
        return (
            f"In each of the {replicates} replicates it is more than the luck of the test images, but {replicates} "
            "replicates are too few to tell it from the luck of training."
        )
    if found == "noise":
        return "No difference can be told from noise."
    return "It is undefined for these test images."


def points_text(value: float, low: float, high: float, *, signed: bool = False) -> str:
    """Return a difference in percentage points with its interval.

    >>> points_text(0.138, 0.067, 0.208)
    '13.8 points [6.7, 20.8]'
    """
    form = "{:+.1f}" if signed else "{:.1f}"
    texts = [form.format(100 * number + 0.0).replace("-", _MINUS) for number in (value, low, high)]
    return f"{texts[0]} points [{texts[1]}, {texts[2]}]"


def _changes(results: SweepResults, design: ImbalanceDesign, comparison: Comparison, at: At) -> list[Statement]:
    """Change of the rare groups (of all groups where none is rare) at the most imbalanced level."""
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
                f"Learner {row['series']} (ε = {epsilon_text(float(row['epsilon']))}) changes the test accuracy of "
                f"{named(results, design.attribute, group)} by "
                f"{points_text(row['value'], row['low'], row['high'], signed=True)} against {comparison.words}"
                f"{_of(row)}."
            )
            statements.append(_statement(text, row, mine))
    return statements


def _excesses(results: SweepResults, design: ImbalanceDesign, comparison: Comparison, at: At) -> list[Statement]:
    """Whether the rare groups pay more for privacy than the rest."""
    statements = []
    for group in design.rare:
        frame = excess_loss_by_trial(
            results, design.attribute, group, learner=comparison.learner, baseline=comparison.baseline, at=at
        )
        frame = frame[frame["level"] == design.levels[-1].text]
        for _, row in average(frame).iterrows():
            text = (
                f"Against {comparison.words}, learner {row['series']} loses {_more_or_less(row)} on "
                f"{named(results, design.attribute, group)} than on the other {design.members} on average"
                f"{_of(row, alone=True)}."
            )
            statements.append(_statement(text, row, frame[frame["series"] == row["series"]]))
    return statements


def _trends(results: SweepResults, design: ImbalanceDesign, at: At) -> list[Statement]:
    """How much more the rare groups lose than the rest between the extreme levels, by series."""
    statements = []
    for group in design.rare:
        frame = excess_between_levels(results, design, group, at=at)
        for _, row in average(frame).iterrows():
            text = (
                f"Learner {row['series']} loses {_more_or_less(row)} on {named(results, design.attribute, group)} than "
                f"on the other {design.members} on average{_of(row, alone=True)}."
            )
            statements.append(_statement(text, row, frame[frame["series"] == row["series"]]))
    return statements


def _gaps(results: SweepResults, design: ImbalanceDesign, at: At) -> list[Statement]:
    """Return the accuracy gap at the most imbalanced level beside what luck alone would show."""
    frame = results.disparities(["accuracy_difference"], by=design.attribute, at=at)
    frame = frame[frame["level"] == design.levels[-1].text]
    statements = []
    for _, row in average(frame).iterrows():
        if not np.isfinite(row["value"]):
            text = f"The accuracy gap of learner {row['series']} is undefined: fewer than two groups have test images."
            statements.append(Statement(text, "unknown", verdict_text("unknown", 0)))
            continue
        text = (
            f"Learner {row['series']}: the accuracies of the {design.members} of {design.attribute} differ by up to "
            f"{points_text(row['value'], row['low'], row['high'])}{_of(row)}; equal groups of these sizes would show "
            f"{100 * row['expected_if_equal']:.1f} by luck."
        )
        statements.append(_statement(text, row, frame[frame["series"] == row["series"]]))
    return statements


def _statement(text: str, row: pd.Series[float], trials: pd.DataFrame) -> Statement:
    found = verdict(row, trials)
    return Statement(text, found, verdict_text(found, int(row["replicates"])))


def _more_or_less(row: pd.Series[float]) -> str:
    """``13.8 points [6.7, 20.8] more``, or the same turned round where the value is below zero."""
    if row["value"] >= 0:
        return f"{points_text(row['value'], row['low'], row['high'])} more"
    return f"{points_text(-row['value'], -row['high'], -row['low'])} less"


def _of(row: pd.Series[float], *, alone: bool = False) -> str:
    """Replicates and counts behind a number, with the t interval alone where it is asked for and known."""
    replicates = int(row["replicates"])
    text = f"{replicates} replicate{'s' if replicates != 1 else ''}, n {int(row['n_min']):,}"
    if alone and replicates >= 2:
        sign = 1 if row["value"] >= 0 else -1
        bounds = sorted((sign * 100 * row["training_low"], sign * 100 * row["training_high"]))
        text += f"; replicates alone [{bounds[0]:.1f}, {bounds[1]:.1f}]".replace("-", _MINUS)
    return f" ({text})"
