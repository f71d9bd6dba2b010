"""Variance components of replicates, given how their data and training seeds were varied.

Seeds come tied (each replicate has its own data seed and its own training seed), crossed (every data seed with every
training seed), or one of the two alone varies. Crossed replicates share seeds, so they are not independent: their mean
errs more than a plain t interval says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from fairsweep.analysis.metrics.rates import Floats

Design = Literal["one", "tied", "crossed", "data", "training"]
Codes = npt.NDArray[np.int64]

ROUNDING = 1e-12
"""What numbers of order 1 may differ by without differing: rounding errors of some additions."""


def without_rounding(values: npt.ArrayLike, size: float = 1.0) -> Floats:
    """Return numbers with those set to 0 that are rounding errors of numbers of a size.

    >>> without_rounding([1e-17, -2e-13, 1e-6]).tolist()
    [0.0, 0.0, 1e-06]
    """
    array = np.asarray(values, np.float64)
    return np.where(np.abs(array) <= ROUNDING * size, 0.0, array)


@dataclass(frozen=True)
class ReplicateSeeds:
    """The seeds of S replicates.

    Attributes:
        data: code of each replicate's data seed, int64 [S].
        training: code of each replicate's training seed, int64 [S].
    """

    data: Codes
    training: Codes

    @classmethod
    def of(cls, data: npt.ArrayLike, training: npt.ArrayLike) -> ReplicateSeeds:
        """Make seeds from any numbers; equal numbers are one seed, and NaN is a seed of its own in each replicate."""
        codes = []
        for seeds in (data, training):
            array = np.asarray(seeds, np.float64)
            known = np.where(np.isfinite(array), array, np.nanmax(array, initial=0) + 1 + np.arange(len(array)))
            codes.append(np.unique(known, return_inverse=True)[1].astype(np.int64))
        return cls(*codes)

    @property
    def design(self) -> Design:
        """Return how they were varied; what is neither crossed nor of one seed counts as tied."""
        count, data, training = len(self.data), len(np.unique(self.data)), len(np.unique(self.training))
        pairs = len(np.unique(self.data * count + self.training))
        if count < 2:
            return "one"
        if data > 1 and training > 1 and pairs == count == data * training:
            return "crossed"
        if training == 1 and data == count:
            return "data"
        return "training" if data == 1 and training == count else "tied"


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of replicates, pooled over L columns, with degrees of freedom that know how columns correlate.

    Attributes:
        data: of data seeds (times the number of training seeds), NaN if they are not identified.
        training: likewise of training seeds.
        rest: of what remains: of crossed seeds their interaction, else all replicates.
        df: degrees of freedom of the three.
        sizes: number of data seeds and of training seeds that are crossed; 1 and 1 otherwise.
    """

    data: float
    training: float
    rest: float
    df: tuple[float, float, float]
    sizes: tuple[int, int]


def mean_squares(values: Floats, seeds: ReplicateSeeds, size: float = 1.0) -> MeanSquares:
    """Return the mean squares of the replicates within each column.

    Args:
        values: float64 [S, L], replicates x columns (levels), none undefined.
        seeds: of the replicates.
        size: of the numbers that they were computed from; deviations that are rounding errors of it count as 0.

    References:
        Searle, Casella & McCulloch 1992, Variance Components, chapter 4 (two-way crossed, random).
    """
    nan = float("nan")
    centred = without_rounding(values - values.mean(0), max(size, float(np.abs(values).max(initial=0))))
    if seeds.design == "one":
        return MeanSquares(nan, nan, nan, (0.0, 0.0, 0.0), (1, 1))
    if seeds.design != "crossed":
        square, df = _pooled(centred, len(values) - 1)
        return MeanSquares(nan, nan, square, (0.0, 0.0, df), (1, 1))
    a, b = len(np.unique(seeds.data)), len(np.unique(seeds.training))
    table = np.empty((a, b, values.shape[1]))
    table[seeds.data, seeds.training] = centred
    by_data, by_training = table.mean(1), table.mean(0)
    rest = without_rounding(table - by_data[:, None] - by_training[None], size).reshape(a * b, -1)
    data, data_df = _pooled(np.sqrt(b) * by_data, a - 1)
    training, training_df = _pooled(np.sqrt(a) * by_training, b - 1)
    left, df = _pooled(rest, (a - 1) * (b - 1))
    return MeanSquares(data, training, left, (data_df, training_df, df), (a, b))


def _pooled(residuals: Floats, df: int) -> tuple[float, float]:
    """Return the mean square of residuals [m, L] over all columns, and its effective degrees of freedom."""
    square = float(np.square(residuals).sum() / df / residuals.shape[1])
    return square, effective_df(residuals, df)


def effective_df(residuals: Floats, df: int) -> float:
    """Return the degrees of freedom of a mean square pooled over correlated columns: from those of one to those of all.

    Args:
        residuals: float64 [m, L].
        df: of one column.

    References:
        Box 1954, doi 10.1214/aoms/1177728786, with the sample's covariance (Greenhouse & Geisser 1959,
        doi 10.1007/BF02289823): with few seeds it errs towards too few degrees of freedom.
    """
    columns = residuals.shape[1]
    covariance = residuals.T @ residuals / df
    squared = float(np.square(covariance).sum())
    if squared == 0:
        return float(df)
    return float(df * np.clip(float(np.trace(covariance)) ** 2 / squared, 1, columns))


@dataclass(frozen=True)
class SeedMean:
    """A mean over replicates.

    Attributes:
        mean: the mean.
        variance: of the mean, from the replicates; NaN with one.
        df: its degrees of freedom.
    """

    mean: float
    variance: float
    df: float

    def interval(self, confidence: float = 0.95, other: float = 0.0) -> tuple[float, float]:
        """Return a t interval; ``other`` is the variance of a further, independent error.

        NaN where there is one replicate, and where all agree to the last digit: that says how fine values are, not how
        much trainings differ.
        """
        total, df = self.joined(other)
        known = df > 0 and total > 0
        half = float(stats.t.ppf(0.5 + confidence / 2, df) * np.sqrt(total)) if known else float("nan")
        return self.mean - half, self.mean + half

    def p_value(self, other: float = 0.0) -> float:
        """Return the two-sided p of a t test against 0.

        NaN with one replicate, and where all agree (see `interval`), unless they agree on 0.
        """
        total, df = self.joined(other)
        if not df > 0:
            return float("nan")
        if not total > 0:
            return float("nan") if self.mean else 1.0
        return float(2 * stats.t.sf(abs(self.mean) / np.sqrt(total), df))

    def joined(self, other: float) -> tuple[float, float]:
        """Return the variance with a further known one, and its degrees of freedom (Satterthwaite 1946)."""
        total = self.variance + other
        if not self.variance > 0:
            return total, self.df
        return total, self.df * (total / self.variance) ** 2


def mean_over_seeds(values: Floats, seeds: ReplicateSeeds, size: float = 1.0) -> SeedMean:
    """Return the mean of one number over replicates, float64 [S], with the variance that their seeds imply.

    What is a rounding error of numbers of ``size``, from which these were computed, counts as 0.

    Crossed seeds: (MS data + MS training - MS interaction) / S, and at least the largest of them alone, with
    Satterthwaite's degrees of freedom. Else the plain variance of a mean.
    """
    squares = mean_squares(values[:, None], seeds, size)
    mean = float(without_rounding(values.mean(), size))
    if seeds.design == "one":
        return SeedMean(mean, float("nan"), 0.0)
    if seeds.design != "crossed":
        return SeedMean(mean, squares.rest / len(values), squares.df[2])
    parts = np.array([squares.data, squares.training, squares.rest])
    least = max(squares.data, squares.training, squares.rest)
    total = squares.data + squares.training - squares.rest
    df = np.array(squares.df)
    if total <= least:
        return SeedMean(mean, least / len(values), float(df[int(parts.argmax())]))
    spread = float((np.square(parts) / df).sum())
    return SeedMean(mean, total / len(values), total**2 / spread if spread else float(df.min()))
