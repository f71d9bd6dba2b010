"""Errors of calibration of the predicted class, in bins of equal width, with their intervals.

The plain error of a sample is biased upwards: bins differ from their confidence by luck too, so that a calibrated model
never shows 0. Two different examples of a bin err by luck independently, so that the mean product of their errors has
no bias; its root is the error that is compared between groups, for their sizes differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.metrics.rates import Floats, divide

Codes = npt.NDArray[np.int64]

BINS = 15
"""Bins of equal width on [0, 1], closed on the right, for reliability and calibration."""

_LEAST = 1e-9
_NULL_GRID = (np.arange(200) + 0.5) / 200


def bin_of(confidence: Floats, bins: int = BINS) -> Codes:
    """Return the bin of each probability: ``(i / bins, (i + 1) / bins]``, 0 in the first."""
    return np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)


def expected_calibration_error(log_p: Floats, label: Codes, weights: Floats) -> Floats:
    """Return the weighted expected calibration error of the predicted class in `BINS` bins of equal width."""
    confidence, error = _confidence_and_error(log_p, label)
    bins = bin_of(confidence)
    sums = np.stack([weights[:, bins == code] @ error[bins == code] for code in range(BINS)], -1)
    return divide(np.abs(sums).sum(-1), weights.sum(-1))


def calibration_error(log_p: Floats, label: Codes, weights: Floats, of_whom: Codes | None = None) -> Floats:
    """Return the root of the unbiased mean squared calibration error, at least 0, in `BINS` bins of equal width.

    Args:
        log_p: float [N, K].
        label: int64 [N].
        weights: float64 [B, N].
        of_whom: the person that each example is of, int64 [N]: examples of one person make no pair.

    Returns:
        float64 [B]; NaN where no bin has two examples. Bins of one example tell nothing and are left out.

    References:
        Kumar, Liang & Ma 2019, arXiv 1909.10155, section 5: the same in bins of known confidence, where the mean
        product of two errors is (accuracy - confidence)^2 - accuracy (1 - accuracy) / (n - 1).

    >>> calibration_error(np.log([[0.2, 0.8]] * 5), np.array([1, 1, 1, 1, 0]), np.ones((1, 5))).round(3).tolist()
    [0.0]
    >>> calibration_error(np.log([[0.1, 0.9]] * 200), np.arange(200) % 2, np.ones((1, 200))).round(3).tolist()
    [0.398]
    """
    if not len(label):
        return np.full(len(weights), np.nan)
    square, _ = _mean_square(log_p, label, weights, of_whom)
    return np.sqrt(np.maximum(square, 0))


def _confidence_and_error(log_p: Floats, label: Codes) -> tuple[Floats, Floats]:
    confidence = np.exp(log_p.astype(np.float64).max(-1))
    return confidence, (log_p.argmax(-1) == label) - confidence


def _mean_square(log_p: Floats, label: Codes, weights: Floats, of_whom: Codes | None) -> tuple[Floats, Floats]:
    """Return the mean over bins of the mean product of two errors, and the weight of the bins with pairs: [B] each."""
    confidence, error = _confidence_and_error(log_p, label)
    bins, person = bin_of(confidence), np.arange(len(label)) if of_whom is None else of_whom
    order = np.lexsort((person, bins))
    starts = np.append(True, np.diff(bins[order]) != 0) | np.append(True, np.diff(person[order]) != 0)
    one = np.flatnonzero(starts)
    first = np.flatnonzero(np.append(True, np.diff(bins[order][one]) != 0))
    sums, sizes = (np.add.reduceat(each[:, order], one, axis=1) for each in (weights * error, weights))
    total, own, size, alone = (
        np.add.reduceat(each, first, axis=1) for each in (sums, np.square(sums), sizes, np.square(sizes))
    )
    pairs = np.square(size) - alone
    usable = pairs > _LEAST * np.square(size)
    product = np.where(usable, divide(np.square(total) - own, np.where(usable, pairs, 1)), 0)
    inside = np.where(usable, size, 0)
    return divide((inside * product).sum(1), inside.sum(1)), inside.sum(1)


@dataclass(frozen=True)
class _Bins:
    """Bins that have examples.

    Attributes:
        size: examples, int64 [B].
        variance: of whether an example is predicted rightly, float64 [B].
        null: the same if the model is calibrated.
    """

    size: Codes
    variance: Floats
    null: Floats

    @classmethod
    def of(cls, log_p: Floats, label: Codes, of_whom: Codes | None) -> _Bins:
        """Return the bins; where people are known, with the variances as if all examples of a person erred alike."""
        confidence = np.exp(log_p.astype(np.float64).max(-1))
        _, place, size = np.unique(bin_of(confidence), return_inverse=True, return_counts=True)
        found = (np.bincount(place, log_p.argmax(-1) == label) + 2) / (size + 4)
        variance, null = found * (1 - found), np.bincount(place, confidence * (1 - confidence)) / size
        inflation = 1.0 if of_whom is None else _inflation(place, of_whom)
        return cls(size, variance * inflation, null * inflation)


def expected_calibration_bounds(
    log_p: Floats, label: Codes, quantile: float, of_whom: Codes | None = None
) -> tuple[float, float, float]:
    """Return an interval of the expected calibration error that predictions without end would show, and its null value.

    In each bin, accuracy less confidence has a normal error, so the expected error of the sample is at least the true
    one, and exceeds it by at most the mean absolute errors of the bins; the interval takes both into account and is
    conservative. The null value is what a calibrated model with these probabilities would show.

    Args:
        log_p: float [N, K].
        label: int64 [N].
        quantile: two-sided normal quantile.
        of_whom: the person that each example is of, int64 [N]; None takes examples as independent.

    Returns:
        Lower bound, upper bound and null value; NaN without examples.

    References:
        Bias: Roelofs et al. 2022, arXiv 2012.08668. Accuracy of a bin with few examples: Agresti & Coull 1998,
        doi 10.1080/00031305.1998.10480550.
    """
    if not len(label):
        return float("nan"), float("nan"), float("nan")
    bins = _Bins.of(log_p, label, of_whom)
    part, variance, null = bins.size / len(label), bins.variance / bins.size, bins.null / bins.size
    excess, deviation = (part * np.sqrt(2 * variance / np.pi)).sum(), np.sqrt((np.square(part) * variance).sum())
    value = float(expected_calibration_error(log_p, label, np.ones((1, len(label))))[0])
    low, high = max(0.0, value - excess - quantile * deviation), min(1.0, value + quantile * deviation)
    return float(low), float(high), float((part * np.sqrt(2 * null / np.pi)).sum())


def calibration_bounds(
    log_p: Floats, label: Codes, quantile: float, of_whom: Codes | None = None
) -> tuple[float, float, float]:
    """Return an interval of the calibration error that predictions without end would show, and its null value.

    The sum over bins of n (accuracy - confidence)^2 is a sum of noncentral chi-square variables, each times the
    variance of a prediction in its bin, and nearly one such variable with the same mean and variance (Satterthwaite).
    Its noncentrality is n times the mean squared error over that variance; the interval is of the noncentralities
    under which the sample is not among the 2.5% smallest or largest. Samples that look more even than calibrated ones
    do on average count as those: the upper bound is never 0. The value lies inside.

    Args:
        log_p: float [N, K].
        label: int64 [N].
        quantile: two-sided normal quantile.
        of_whom: the person that each example is of, int64 [N]; None takes examples as independent.

    Returns:
        Lower bound, upper bound and null value, the mean of calibrated models with these probabilities; NaN where no
        bin has two examples.

    References:
        Kent & Hainsworth 1995, Journal of Statistical Planning and Inference 46, 147-159 (intervals of a
        noncentrality); Satterthwaite 1946, doi 10.2307/3002019; Agresti & Coull 1998, see
        `expected_calibration_bounds`.
    """
    if not len(label):
        return float("nan"), float("nan"), float("nan")
    square, weight = (float(each[0]) for each in _mean_square(log_p, label, np.ones((1, len(label))), of_whom))
    if not weight:
        return float("nan"), float("nan"), float("nan")
    bins = _Bins.of(log_p, label, of_whom)
    several = bins.size > 1
    from scipy import special, stats  # where it is used: workers, which import metrics, need none of it

    scale, df = _one_variable(bins.variance[several])
    tail, sample = float(special.ndtr(-quantile)), weight * square / scale + df
    # The inverse gives the least positive number, not 0, where the sample is small for each noncentrality.
    bounds = special.chndtrinc(np.maximum(sample, (_LEAST, df)), df, (1 - tail, tail))
    low, high = (float(each) for each in np.sqrt(scale / weight * np.where(bounds < _LEAST, 0, bounds)))
    scale, df = _one_variable(bins.null[several])
    luck = np.maximum(stats.chi2.ppf(_NULL_GRID, df) - df, 0) if scale else np.zeros(1)
    return low, min(1.0, high), float(np.sqrt(scale / weight * luck).mean())


def _one_variable(variance: Floats) -> tuple[float, float]:
    """Return scale and degrees of freedom of the chi-square with the mean and variance of a sum of scaled ones."""
    total, squares = float(variance.sum()), float(np.square(variance).sum())
    return (squares / total, total * total / squares) if squares else (0.0, 1.0)


def _inflation(place: Codes, of_whom: Codes) -> Floats:
    """Return by what the variance of each bin's mean is larger at most, where all examples of a person err alike."""
    people, number = np.unique(np.stack([place, of_whom]), axis=1, return_inverse=True)
    images = np.bincount(number.reshape(-1))
    return divide(np.bincount(people[0], np.square(images)), np.bincount(place))
