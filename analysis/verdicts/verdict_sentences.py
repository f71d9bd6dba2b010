"""Sentences of verdicts, all of them: numbers, what was found, and what would decide what was not.

`sentences` lists one of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fairsweep.analysis.statistics.superiority import Superiority
from fairsweep.analysis.statistics.variance_components import ROUNDING
from fairsweep.analysis.verdicts.verdict import Question, Verdict
from fairsweep.analysis.wording import counted

_MINUS = "\N{MINUS SIGN}"
_MANY_SEEDS = 1000
_TINY = 0.001
"""Differences below it cannot sensibly be the target of a larger sweep."""


def points(value: float) -> str:
    """Return a share in percentage points; a number that is not 0 never reads as 0.

    >>> points(0.138), points(0.0003), points(-0.0), points(float("inf"))
    ('13.8', '0.03', '0.0', '∞')
    """
    if not np.isfinite(value):
        return "n/a" if np.isnan(value) else ("∞" if value > 0 else f"{_MINUS}∞")
    number = 100 * value
    if abs(value) <= ROUNDING:
        return "0.0"
    text = f"{number:.1f}" if abs(number) >= 0.05 else f"{float(f'{number:.1g}'):f}".rstrip("0")
    return text.replace("-", _MINUS)


def points_text(value: float, low: float, high: float) -> str:
    """Return a difference in percentage points with its interval; without one that is unknown.

    >>> points_text(0.138, 0.067, 0.208)
    '13.8 points [6.7, 20.8]'
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        return f"{points(value)} points"
    return f"{points(value)} points [{points(low)}, {points(high)}]"


def size_text(found: Verdict) -> str:
    """Return the size of a difference, without its sign, with its interval."""
    low, high = (found.low, found.high) if found.estimate >= 0 else (-found.high, -found.low)
    return points_text(abs(found.estimate), low, high)


def estimate_text(found: Verdict, falls: str = "a loss", rises: str = "a gain") -> str:
    """Return the estimate of what is undecided, without a claim: ``a loss of 3.1 points [0.2, 7.0]``."""
    if abs(found.estimate) <= ROUNDING:
        return f"no difference: {points_text(0.0, found.low, found.high)}"
    return f"{falls if found.estimate < 0 else rises} of {size_text(found)}"


def sided_text(found: Verdict, below: str, above: str) -> str:
    """Return a difference with its side in a word: ``3.1 points [1.0, 7.0] below``."""
    if abs(found.estimate) <= ROUNDING:
        return f"no difference, {points_text(0.0, found.low, found.high)}"
    return f"{size_text(found)} {below if found.estimate < 0 else above}"


def p_text(p: float) -> str:
    """Return a p-value for a table.

    >>> p_text(0.03125), p_text(0.00002), p_text(float("nan"))
    ('0.031', '<0.001', 'none')
    """
    if not np.isfinite(p):
        return "none"
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def p_words(p: float) -> str:
    """Return a p-value for a sentence.

    >>> p_words(0.03125), p_words(0.00002)
    ('p = 0.031', 'p < 0.001')
    """
    text = p_text(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def word_text(found: Verdict) -> str:
    """Return the verdict as a word or three: ``equivalent within 2 points``."""
    if found.word == "equivalent" and found.margin is not None:
        return f"equivalent within {margin_text(found.margin)}"
    return found.word


def margin_text(margin: float) -> str:
    """Return a margin in points.

    >>> margin_text(0.02), margin_text(0.01), margin_text(0.005)
    ('2 points', '1 point', '0.5 points')
    """
    text = f"{100 * margin:.3g}"
    return f"{text} point{'' if text == '1' else 's'}"


def reason(found: Verdict) -> str:
    """Return why a verdict is what it is and, if it is undecided, what would decide it."""
    also = f" Note that {found.note}." if found.note and found.word != "undefined" else ""
    corrected = f", corrected for {counted(found.family, 'question')}" if found.family > 1 else ""
    if found.word == "undefined":
        return f"Undefined: {found.note}."
    if found.word == "different":
        return f"The difference is statistically significant ({p_words(found.p_adjusted)}{corrected}).{also}"
    if found.word == "equivalent" and found.margin is not None:
        return (
            f"A difference of {margin_text(found.margin)} or more is excluded "
            f"({p_words(found.equivalence_adjusted)}{corrected}).{also}"
        )
    if found.seeds == 1:
        return f"Undecided: one seed does not show how much training runs vary.{also}"
    if not np.isfinite(found.p_value):
        return f"Undecided: all {found.seeds} runs agree, which does not show how much runs vary.{also}"
    return f"Undecided{_despite(found, corrected)}: {_missed(found)} {_needed(found)}{also}"


def _despite(found: Verdict, corrected: str) -> str:
    """Return why an interval that excludes 0 decides nothing."""
    if corrected and (found.low > ROUNDING or found.high < -ROUNDING):
        return f", though the interval excludes 0 ({p_words(found.p_adjusted)}{corrected})"
    return ""


def _missed(found: Verdict) -> str:
    if np.isinf(found.detectable):
        return "this sweep is too small to detect any difference with 80% power."
    return f"this sweep detects differences from about {points(found.detectable)} points with 80% power."


def _needed(found: Verdict) -> str:
    """Return how many seeds or test images would decide."""
    target = found.margin if found.margin is not None else abs(found.estimate)
    if found.margin is None and target < _TINY:
        return "So small a difference can only be decided by a test of equivalence, which needs a margin."
    size = margin_text(target) if found.margin is not None else f"{points(target)} points"
    if found.seeds_needed <= found.seeds:
        return f"That is less than {size}, but the interval of this sweep still allows both answers."
    seeds, images = found.seeds_needed, found.images_needed
    with_seeds = f"{seeds:,.0f} seeds" if seeds <= _MANY_SEEDS else f"more than {_MANY_SEEDS:,} seeds"
    of_images = f"test {found.unit}s of the smallest group"
    if np.isfinite(seeds) and np.isfinite(images):
        return f"To detect {size}, {with_seeds} or {images:,.0f} {of_images} would be needed."
    if np.isfinite(seeds):
        return f"To detect {size}, {with_seeds} would be needed."
    if np.isfinite(images):
        return (
            f"No number of seeds would be enough to detect {size} with so few test {found.unit}s: {images:,.0f} "
            f"{of_images} would be needed."
        )
    return f"To detect {size}, both more seeds and more test {found.unit}s would be needed."


def superiority_text(found: Superiority, better: str, worse: str) -> str:
    """Return how often a run of one learner (or one group) does better than the other, with the interval."""
    return f"P({better} > {worse}) = {found.probability:.2f} [{found.low:.2f}, {found.high:.2f}]"


def sentences() -> Iterator[tuple[str, str]]:
    """Return every kind of sentence that `reason` can make, with what it is made of, for reading them all."""
    base = Verdict(
        Question("difference", "private", "plain", "tone", "dark", "share 0.9"), "undecided", -0.031, -0.07, 0.01
    )
    open_one = replace(base, p_value=0.1, p_adjusted=0.6, family=12, seeds=3, images=200, detectable=0.085)
    nan, inf = float("nan"), float("inf")
    for margin in (None, 0.02):
        given = replace(open_one, margin=margin)
        for seeds in (2, 9, 4000, inf):
            for images in (900, inf, nan):
                yield (
                    f"{margin=}, {seeds=}, {images=}",
                    reason(replace(given, seeds_needed=seeds, images_needed=images)),
                )
    yield "excludes 0 before the correction", reason(replace(open_one, high=-0.0003, seeds_needed=5, images_needed=nan))
    yield "nearly 0, no margin", reason(replace(open_one, estimate=0.0002, seeds_needed=inf, images_needed=inf))
    yield "different", reason(replace(open_one, word="different", p_adjusted=0.0004))
    yield "different, alone", reason(replace(open_one, word="different", p_adjusted=0.012, family=1))
    yield (
        "different, collapsed",
        reason(
            replace(
                open_one, word="different", p_adjusted=0.012, note="private predicts one class for every test image"
            )
        ),
    )
    yield "equivalent", reason(replace(open_one, word="equivalent", margin=0.02, equivalence_adjusted=0.003))
    yield "one seed", reason(replace(base, seeds=1))
    yield "runs agree", reason(replace(base, seeds=3))
    yield "undefined", reason(replace(base, word="undefined", note="fewer than two groups have test images"))
