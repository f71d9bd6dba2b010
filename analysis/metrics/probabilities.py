"""Scores of predicted probabilities, computed from predictions, not from cells.

Every score takes weights, one row per resample, so that its bootstrap is one call: a weight of 2 stands for an example
drawn twice. A row of zeros and ones chooses a group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.metrics.calibration_errors import (
    BINS,
    calibration_bounds,
    calibration_error,
    expected_calibration_bounds,
    expected_calibration_error,
)
from fairsweep.analysis.metrics.rates import Better, Floats, Given, divide

Codes = npt.NDArray[np.int64]

SENSITIVITY = 0.95
"""True positive rate at which the true negative rate is read."""


@dataclass(frozen=True)
class ProbabilityScore:
    """One row of the table of scores from predictions.

    Attributes:
        name: as in the column ``metric``.
        title: as shown in tables and plots.
        formula: in words.
        compute: (log-probabilities float [N, K], labels int64 [N], weights float64 [B, N]) -> float64 [B].
        better: which direction is good.
        multiclass: what it means for more than two classes.
        highest: its largest possible value.
        reference: where it is defined.
        proportion: whether it is a share of examples, so that Wilson's interval applies.
        needs_positive: never; it looks at all classes.
        given: what a permutation of the groups must hold fixed.
        bounds: an interval of its own and the value of an ideal model: (log-probabilities, labels, normal quantile,
            person of each example or None) -> (low, high, null value); None takes resamples.
        interval: name of the bounds.
        by_people: ``compute`` where the person of each example is known, int64 [N]; None where it changes nothing.
    """

    name: str
    title: str
    formula: str
    compute: Callable[[Floats, Codes, Floats], Floats]
    better: Better
    multiclass: str
    highest: float
    reference: str
    proportion: bool = False
    needs_positive: bool = False
    given: Given = "nothing"
    bounds: Callable[[Floats, Codes, float, Codes | None], tuple[float, float, float]] | None = None
    interval: str = ""
    by_people: Callable[[Floats, Codes, Floats, Codes], Floats] | None = None

    def values(self, log_p: Floats, label: Codes, weights: Floats, of_whom: Codes | None = None) -> Floats:
        """Return ``compute``, or where people are known ``by_people``: float64 [B]."""
        if of_whom is None or self.by_people is None:
            return self.compute(log_p, label, weights)
        return self.by_people(log_p, label, weights, of_whom)


def _mean(values: Floats, weights: Floats) -> Floats:
    return divide(weights @ values, weights.sum(-1))


def top_two(log_p: Floats, label: Codes, weights: Floats) -> Floats:
    """Weighted share of examples whose label is among the two likeliest classes; classes that tie share the places."""
    own = log_p[np.arange(len(label)), label][:, None]
    return _mean(np.clip(divide(2 - (log_p > own).sum(-1), (log_p == own).sum(-1)), 0, 1), weights)


def log_loss(log_p: Floats, label: Codes, weights: Floats) -> Floats:
    """Return the weighted mean of the negative log-probability of the label, in nats."""
    return _mean(-log_p[np.arange(len(label)), label].astype(np.float64), weights)


def brier(log_p: Floats, label: Codes, weights: Floats) -> Floats:
    """Return the weighted mean of the squared distance between the probabilities and the label's indicator."""
    distance = np.exp(log_p.astype(np.float64))
    distance[np.arange(len(label)), label] -= 1
    return _mean(np.square(distance).sum(-1), weights)


def class_score(log_p: Floats, code: int) -> Floats:
    """Return what ranks examples by how likely a class is: float64 [N], infinite where the model is certain.

    Of two classes it is the log odds: where a probability is next to 1 its own logarithm is 0 up to rounding, and ranks
    nothing. Of more it is the log-probability, which is equal where probabilities are.
    """
    mine = log_p[:, code].astype(np.float64)
    return mine - log_p[:, 1 - code] if log_p.shape[1] == 2 else mine


def auc(log_p: Floats, label: Codes, weights: Floats) -> Floats:
    """Weighted area under the ROC curve, one class against the rest, mean over the classes that have examples."""
    classes = log_p.shape[1]
    if not len(label):
        return np.full(len(weights), np.nan)
    there = np.stack([weights[:, label == code].sum(-1) > 0 for code in range(classes)])
    several = there.sum(0) >= 2
    # Of two classes the one's area is the other's.
    one = [_area(class_score(log_p, code), label == code, weights) for code in range(1 if classes == 2 else classes)]
    areas = np.stack(one * 2 if classes == 2 else one)
    mean = divide(np.where(there & several, np.nan_to_num(areas), 0).sum(0), there.sum(0))
    return np.where(several, mean, np.nan)


def _area(score: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the Mann-Whitney's statistic over its maximum, ties by half: float64 [B]."""
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    # Compared, not subtracted: of two infinite scores, which tie, the difference is NaN.
    first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    ordered = weights[:, order]
    up = np.add.reduceat(ordered * positive[order], first, axis=1)
    down = np.add.reduceat(ordered * ~positive[order], first, axis=1)
    below = np.cumsum(down, axis=1) - down
    return divide((up * (below + down / 2)).sum(1), up.sum(1) * down.sum(1))


def _ranked(score: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Return the weight of positives and of negatives at or above each distinct score, highest first: [B, T] each."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    ordered = weights[:, order]
    hits, alarms = (np.cumsum(ordered * chosen, axis=1)[:, last] for chosen in (positive[order], ~positive[order]))
    return hits, alarms


def _over_classes(
    of_class: Callable[[Floats, npt.NDArray[np.bool_], Floats], Floats], log_p: Floats, label: Codes, weights: Floats
) -> Floats:
    """Return a score of the second of two classes, or the mean over more classes that have examples, float64 [B]."""
    if not len(label):
        return np.full(len(weights), np.nan)
    codes = [1] if log_p.shape[1] == 2 else range(log_p.shape[1])
    values = np.stack([of_class(class_score(log_p, code), label == code, weights) for code in codes])
    known = np.isfinite(values)
    return divide(np.where(known, values, 0).sum(0), known.sum(0))


def average_precision(log_p: Floats, label: Codes, weights: Floats) -> Floats:
    """Return the weighted sum of precisions, each by the recall that its threshold adds."""

    def of_class(score: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
        hits, alarms = _ranked(score, positive, weights)
        added = np.diff(hits, axis=1, prepend=0.0)
        precision = np.nan_to_num(divide(hits, hits + alarms))
        return divide((added * precision).sum(1), hits[:, -1])

    return _over_classes(of_class, log_p, label, weights)


def specificity_at_sensitivity(log_p: Floats, label: Codes, weights: Floats) -> Floats:
    """Return the largest true negative rate of any threshold whose true positive rate is at least `SENSITIVITY`."""

    def of_class(score: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
        hits, alarms = _ranked(score, positive, weights)
        enough = hits >= SENSITIVITY * hits[:, -1:] - 1e-9
        fewest = np.where(enough, alarms, np.inf).min(1)
        share = divide(fewest, alarms[:, -1])
        return np.where(hits[:, -1] > 0, 1 - share, np.nan)

    return _over_classes(of_class, log_p, label, weights)


PROBABILITY_SCORES: Mapping[str, ProbabilityScore] = {
    score.name: score
    for score in (
        ProbabilityScore(
            "top_2_accuracy",
            "Top-2 accuracy",
            "share of examples whose label is among the two likeliest classes",
            top_two,
            "higher",
            "as it stands; always 1 for two classes",
            1.0,
            "Russakovsky et al. 2015, arXiv 1409.0575, with 2 in the place of 5",
            proportion=True,
        ),
        ProbabilityScore(
            "log_loss",
            "Log loss",
            "mean of -ln p(label), in nats",
            log_loss,
            "lower",
            "as it stands",
            np.inf,
            "Good 1952, doi 10.1111/j.2517-6161.1952.tb00104.x",
        ),
        ProbabilityScore(
            "brier_score",
            "Brier score",
            "mean of the sum over classes of (p - indicator of the label)^2",
            brier,
            "lower",
            "as it stands; twice the binary definition for two classes",
            2.0,
            "Brier 1950, doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2",
        ),
        ProbabilityScore(
            "auc",
            "AUC",
            "chance that a positive outranks a negative, ties by half",
            auc,
            "higher",
            "one class against the rest, mean over the classes that have examples; NaN for fewer than two",
            1.0,
            "Hanley & McNeil 1982, doi 10.1148/radiology.143.1.7063747; Fawcett 2006, section 10",
        ),
        ProbabilityScore(
            "average_precision",
            "Average precision",
            "sum over thresholds of precision times the recall that the threshold adds",
            average_precision,
            "higher",
            "of the second of two classes; of more one class against the rest, mean over those that have examples",
            1.0,
            "Zhu 2004, Recall, precision and average precision; scikit-learn, average_precision_score",
        ),
        ProbabilityScore(
            "true_negative_rate_at_95",
            "True negative rate at 95% sensitivity",
            f"largest TN / N of a threshold with TP / P >= {SENSITIVITY}",
            specificity_at_sensitivity,
            "higher",
            "of the second of two classes; of more one class against the rest, mean over those that have both",
            1.0,
            "Zong et al. 2023, arXiv 2210.01725",
        ),
        ProbabilityScore(
            "calibration_error",
            "Debiased calibration error",
            f"root of the mean over examples, in {BINS} equal bins, of (accuracy(bin) - mean confidence(bin))^2, each "
            "square taken from pairs of different examples, so that it is unbiased; at least 0",
            calibration_error,
            "lower",
            "of the predicted class",
            1.0,
            "Kumar, Liang & Ma 2019, arXiv 1909.10155, section 5",
            bounds=calibration_bounds,
            interval="noncentral chi-square",
            by_people=calibration_error,
        ),
        ProbabilityScore(
            "expected_calibration_error",
            "Expected calibration error (plug-in)",
            f"sum over {BINS} equal bins of n(bin) / n |accuracy(bin) - mean confidence(bin)|",
            expected_calibration_error,
            "lower",
            "of the predicted class",
            1.0,
            "Guo et al. 2017, arXiv 1706.04599, equation (3)",
            bounds=expected_calibration_bounds,
            interval="bias bounded",
        ),
    )
}
