"""Post-processing: thresholds by group, chosen on the validation split and reported on the test split.

Of two classes, the positive one is predicted where its probability reaches the threshold of the example's group. Which
thresholds those are is decided on validation predictions alone; the test split only sees the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy.special import expit

from fairsweep.analysis.metrics.probabilities import class_score
from fairsweep.analysis.metrics.rates import Counts, Floats, divide
from fairsweep.analysis.records.counts import JOINT, CountArray
from fairsweep.analysis.results.outcomes import Codes, Outcomes, group_codes, read_outcomes

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

Constraint = Literal["none", "demographic_parity", "equal_opportunity", "equal_false_positive_rate"]
_TARGETS = 201


@dataclass(frozen=True)
class Thresholds:
    """One threshold per group.

    Attributes:
        values: on the probability of the positive class, float64 [G]; infinite where nobody is selected.
        constraint: what they equalise on the set that they were chosen on.
        reached: the constrained rate of each group there, float64 [G]; NaN without a constraint.
    """

    values: Floats
    constraint: Constraint
    reached: Floats

    def predict(self, score: Floats, group: Codes) -> Codes:
        """Predictions, int64 [N] of 0 and 1, from probabilities float [N] and the codes of groups int64 [N]."""
        return (score >= self.values[group]).astype(np.int64)

    def cells(self, score: Floats, label: Codes, group: Codes) -> Counts:
        """Return the cells of the predictions: int64 [G, 2, 2], which every metric of cells reads."""
        size = len(self.values)
        flat = (group * 2 + label) * 2 + self.predict(score, group)
        return np.bincount(flat, minlength=4 * size).reshape(size, 2, 2)


def choose_thresholds(score: Floats, label: Codes, group: Codes, count: int, constraint: Constraint) -> Thresholds:
    """Return the thresholds that are most accurate among those that give all groups one rate.

    For each of 201 common targets every group takes the threshold whose rate is nearest, and the target with the
    highest accuracy over all examples wins. Thresholds are deterministic: equalised odds, which in general needs a
    random mixture of two of them, is not offered.

    Args:
        score: probability of the positive class, float [N].
        label: 1 where it is true, int64 [N].
        group: code of each example's group, int64 [N].
        count: number of groups.
        constraint: which rate the groups share; ``none`` takes each group's most accurate threshold.

    Raises:
        ValueError: if a group lacks the examples that the constraint is about.

    References:
        Hardt et al. 2016, arXiv 1610.02413, section 3.2.
    """
    curves = [_curve(score[group == code], label[group == code], constraint) for code in range(count)]
    empty = [code for code, (_, rate, _) in enumerate(curves) if not np.isfinite(rate).all()]
    if empty:
        raise ValueError(
            f"every group must have the examples that {constraint} is about, but groups {empty} have none on the split "
            "that thresholds are chosen on; take a larger one, or fewer groups"
        )
    if constraint == "none":
        best = [int(np.argmax(right)) for _, _, right in curves]
        return Thresholds(
            np.array([c[0][i] for c, i in zip(curves, best, strict=True)]), constraint, np.full(count, np.nan)
        )
    targets = np.linspace(0, 1, _TARGETS)
    nearest = np.stack([np.abs(rate - targets[:, None]).argmin(1) for _, rate, _ in curves])
    right = sum(right[place] for (_, _, right), place in zip(curves, nearest, strict=True))
    best = nearest[:, int(np.argmax(right))].tolist()
    values = np.array([c[0][i] for c, i in zip(curves, best, strict=True)])
    return Thresholds(values, constraint, np.array([c[1][i] for c, i in zip(curves, best, strict=True)]))


def _curve(score: Floats, label: Codes, constraint: Constraint) -> tuple[Floats, Floats, Floats]:
    """Return every distinct threshold of one group, its constrained rate and how many it gets right, each [T]."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(score) - 1) if len(score) else np.empty(0, np.int64)
    positive = np.concatenate([[0], np.cumsum(label[order])[last]]).astype(np.float64)
    selected = np.concatenate([[0], last + 1]).astype(np.float64)
    thresholds = np.concatenate([[np.inf], ordered[last]])
    negatives = len(label) - positive[-1]
    rate = {
        "none": np.zeros(len(selected)),
        "demographic_parity": divide(selected, len(label)),
        "equal_opportunity": divide(positive, positive[-1]),
        "equal_false_positive_rate": divide(selected - positive, negatives),
    }[constraint]
    return thresholds, rate, positive + negatives - (selected - positive)


def thresholded_counts(
    results: SweepResults,
    by: str | Sequence[str],
    constraint: Constraint,
    *,
    positive: str | None = None,
    at: At = "last",
    states: Sequence[str] | None = ("done",),
) -> tuple[CountArray, pd.DataFrame]:
    """Test cells of every trial under thresholds by group that were chosen on its validation predictions.

    Args:
        results: the sweep, with two classes.
        by: the attribute or attributes whose groups have thresholds of their own.
        constraint: see `choose_thresholds`.
        positive: the positive class; default the second.
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.

    Returns:
        Count arrays of the test split, for `fairsweep.analysis.results.frames.rate_rows` and ``disparity_rows`` (its
        class 1 is the positive one), and the thresholds: columns ``trial``, ``group``, ``threshold``,
        ``validation_rate``.

    Raises:
        ValueError: if there are more than two classes, or no trial has predictions on both splits.
    """
    if len(results.classes) != 2:
        raise ValueError(f"thresholds need two classes, but {results.label} has {len(results.classes)}")
    names = (by,) if isinstance(by, str) else tuple(by)
    code = 1 if positive is None else results.classes.index(positive)
    groups = results.all_cells.group_names(names)
    evaluations = results.evaluations(split="test", at=at, states=states)
    kept, cells, rows = [], [], []
    for i, (trial, iteration) in enumerate(zip(evaluations.trial, evaluations.iteration, strict=True)):
        asked = pd.DataFrame({"trial": [trial], "iteration": [iteration]})
        chosen_on, shown_on = (_parts(results, split, asked, names, code) for split in ("validation", "test"))
        if chosen_on is None or shown_on is None:
            continue
        thresholds = choose_thresholds(*chosen_on, len(groups), constraint)
        kept.append(i)
        cells.append(thresholds.cells(*shown_on))
        pairs = zip(groups, thresholds.values.tolist(), thresholds.reached.tolist(), strict=True)
        rows += [(trial, group, value, rate) for group, value, rate in pairs]
    if not kept:
        raise ValueError("no trial has predictions on both validation and test; thresholds need both")
    some = evaluations.at(np.array(kept))
    classes = tuple(results.classes) if code == 1 else tuple(reversed(results.classes))
    counts = CountArray(some, JOINT.join(names), groups, classes, np.stack(cells))
    return counts, pd.DataFrame(rows, columns=["trial", "group", "threshold", "validation_rate"])


def _parts(
    results: SweepResults, split: str, asked: pd.DataFrame, names: Sequence[str], code: int
) -> tuple[Floats, Codes, Codes] | None:
    """Return the probability of the positive class, whether it is true, and the group of each id."""
    outcomes: Outcomes | None = read_outcomes(results, split, asked, probabilities=True)
    groups = None if outcomes is None else group_codes(results, outcomes, names)
    if outcomes is None or groups is None or outcomes.log_probabilities is None:
        return None
    score = expit(class_score(outcomes.log_probabilities[0].astype(np.float64), code))
    return score, (outcomes.label == code).astype(np.int64), groups
