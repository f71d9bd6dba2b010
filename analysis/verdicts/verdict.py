"""Questions about a sweep and their verdicts: different, equivalent within a margin, or undecided.

All questions that one report answers are one family: p-values are corrected over it (Holm), intervals are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fairsweep.analysis.metrics.catalogue import width_of
from fairsweep.analysis.statistics.effects import Effect
from fairsweep.analysis.statistics.multiplicity import holm
from fairsweep.analysis.statistics.superiority import Superiority

ALPHA = 0.05

Word = Literal["different", "equivalent", "undecided", "undefined"]
Kind = Literal["difference", "excess", "growth", "gap", "slope", "step"]
_MOST: Mapping[Kind, float] = {"difference": 1, "gap": 1, "excess": 2, "growth": 2}
"""The largest value that the answer to a question about a rate can have."""


@dataclass(frozen=True)
class Question:
    """One question about a metric; two questions that are equal have one verdict.

    Attributes:
        kind: ``difference``: learner minus baseline for a group; ``excess``: how much more the group loses to the
            baseline than the others; ``growth``: how much more it loses than the others from the least to the most
            imbalanced level; ``gap``: the group minus the mean of the others; ``slope``: change of the metric for one
            step towards imbalance; ``step``: change from one level to the next.
        learner: a series.
        baseline: the other series, of ``difference`` and ``excess``.
        attribute: of the groups.
        group: a value of it, ``all`` for all examples.
        level: the level, but of ``growth`` and ``slope``.
        metric: a name in `METRICS`.
    """

    kind: Kind
    learner: str
    baseline: str = ""
    attribute: str = ""
    group: str = "all"
    level: str = ""
    metric: str = "accuracy"

    def reversed(self) -> Question:
        """Return the question with learner and baseline exchanged; its answer has the other sign."""
        return replace(self, learner=self.baseline, baseline=self.learner)


@dataclass(frozen=True)
class Verdict:
    """The answer to a question.

    Attributes:
        question: what was asked.
        word: ``different``, ``equivalent`` (within the margin), ``undecided``, or ``undefined`` where nothing can be
            asked (``note`` says why).
        estimate: mean over seeds; NaN if undefined.
        low: lower bound of its interval, not corrected for multiple tests; with one seed of the sampling of test images
            only.
        high: upper bound.
        p_value: of no difference; NaN with one seed.
        p_adjusted: corrected over the family.
        equivalence_p: of a difference of at least the margin; NaN without a margin.
        equivalence_adjusted: corrected over the family.
        margin: largest difference that does not matter; None if none was given.
        family: number of questions that were tested together.
        seeds: number of seeds (replicates).
        images: test images of the smallest group behind the estimate; 0 where unknown.
        detectable: smallest difference that would be found different with 80% power at this level of the family;
            infinite if not even the largest one that the metric can have would be.
        seeds_needed: number of seeds with which the margin (without one, a difference as large as the estimate) would
            be detectable; infinite if no number would do; NaN where unknown.
        images_needed: likewise of test images, with these seeds.
        superiority: probability that a run of the learner outperforms one of the baseline, or of a ``gap`` that a
            run's accuracy is higher for the group than for the others; None for other questions.
        note: why it is undefined, or what else must be known; empty if nothing.
        unit: what a test image is called, in the singular.
    """

    question: Question
    word: Word
    estimate: float
    low: float
    high: float
    p_value: float = float("nan")
    p_adjusted: float = float("nan")
    equivalence_p: float = float("nan")
    equivalence_adjusted: float = float("nan")
    margin: float | None = None
    family: int = 0
    seeds: int = 0
    images: int = 0
    detectable: float = float("nan")
    seeds_needed: float = float("nan")
    images_needed: float = float("nan")
    superiority: Superiority | None = None
    note: str = ""
    unit: str = "image"

    def reversed(self) -> Verdict:
        """Return the verdict on the question with learner and baseline exchanged."""
        return replace(
            self,
            question=self.question.reversed(),
            estimate=-self.estimate,
            low=-self.high,
            high=-self.low,
            superiority=self.superiority.reversed() if self.superiority else None,
        )


@dataclass(frozen=True)
class Finding:
    """What is known about a question before it is judged beside the others.

    Attributes:
        question: what was asked.
        effect: the numbers; None if undefined.
        superiority: see `Verdict.superiority`.
        note: see `Verdict.note`.
        most: the largest effect that there can be; None takes that of a rate.
    """

    question: Question
    effect: Effect | None
    superiority: Superiority | None = None
    note: str = ""
    most: float | None = None


def decide(
    findings: Sequence[Finding], *, margin: float | None = None, confidence: float = 0.95, alpha: float = ALPHA
) -> tuple[Verdict, ...]:
    """Return the verdicts of one family of questions.

    *Different*: the adjusted p of no difference is below ``alpha``. *Equivalent*: the adjusted p of a difference of at
    least ``margin`` is; it takes precedence, for a difference within the margin is one that does not matter. Each of
    the two kinds of false verdicts has at most the probability ``alpha`` in the whole family, where the p-values hold.

    Args:
        findings: every question of the family; those without an effect, or with one seed, are not tested.
        margin: largest difference that does not matter, as a share; None tests no equivalence.
        confidence: of the intervals.
        alpha: of the family.

    Raises:
        ValueError: if the margin is not positive.
    """
    if margin is not None and not margin > 0:
        raise ValueError(f"margin must be above 0, but got {margin=}: without one, give None")
    effects = [finding.effect for finding in findings]
    nothing = float("nan")
    differ = np.array([float(effect.p_value()) if effect else nothing for effect in effects])
    equal = np.full(len(findings), nothing)
    if margin is not None:
        equal = np.array([float(effect.equivalence_p(margin)) if effect else nothing for effect in effects])
    equal = np.where(np.isfinite(differ), equal, nothing)
    adjusted, equal_adjusted = holm(differ), holm(equal)
    family = int(np.isfinite(differ).sum())
    p = [differ, adjusted, equal, equal_adjusted]
    return tuple(
        _verdict(finding, [float(column[i]) for column in p], margin, family, confidence, alpha)
        for i, finding in enumerate(findings)
    )


def _verdict(
    finding: Finding, p: Sequence[float], margin: float | None, family: int, confidence: float, alpha: float
) -> Verdict:
    effect = finding.effect
    nan = float("nan")
    if effect is None or not np.isfinite(effect.estimate):
        note = finding.note or "the metric is undefined for this test set"
        return Verdict(finding.question, "undefined", nan, nan, nan, note=note)
    most = _MOST.get(finding.question.kind, np.inf) if finding.most is None else finding.most
    low, high = (float(bound) for bound in effect.interval(confidence, most))
    differ, adjusted, equal, equal_adjusted = p
    word: Word = "undecided"
    if adjusted < alpha:
        word = "different"
    if equal_adjusted < alpha:
        word = "equivalent"
    found = Verdict(
        finding.question,
        word,
        float(effect.estimate),
        low,
        high,
        differ,
        adjusted,
        equal,
        equal_adjusted,
        margin,
        family,
    )
    found = replace(
        found,
        seeds=effect.replicates,
        images=effect.images,
        superiority=finding.superiority,
        note=finding.note,
    )
    if word != "undecided" or not np.isfinite(differ):
        return found
    level, largest = alpha / max(1, family), most if np.isfinite(most) else width_of(finding.question.metric)
    target = margin if margin is not None else abs(float(effect.estimate))
    return replace(
        found,
        detectable=float(effect.detectable(level, most=largest)),
        seeds_needed=effect.seeds_needed(target, level),
        images_needed=effect.images_needed(target, level),
    )
