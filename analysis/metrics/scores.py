"""Scores of one group: numbers from its cells that are no quotient of two counts, one row of a table each.

They read the same cell arrays as rates do, ``[..., K, K]``, but are means of quotients or mix label and prediction, so
their intervals come from resampled cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fairsweep.analysis.metrics.rates import ONE_CLASS, Better, Counts, Floats, Given, divide

_BRODERSEN = "Brodersen et al. 2010, doi 10.1109/ICPR.2010.764"
_SOKOLOVA = "Sokolova & Lapalme 2009, doi 10.1016/j.ipm.2009.03.002"
_SUBPOP = "Yang et al. 2023, arXiv 2302.12254"


@dataclass(frozen=True)
class Score:
    """One row of the table of scores from cells.

    Attributes:
        name: as in the column ``metric``.
        title: as shown in tables and plots.
        formula: in words; c runs over the classes.
        compute: (int64 [..., K, K], code of the positive class) -> float64 [...], NaN where undefined.
        support: the same arguments -> int64 [...], the smallest count that a part of it rests on.
        better: which direction is good.
        needs_positive: whether it depends on the positive class.
        multiclass: what it means for more than two classes, and for classes without examples.
        given: what a permutation of the groups must hold fixed.
        reference: where it is defined.
        range: its smallest and largest possible value.
    """

    name: str
    title: str
    formula: str
    compute: Callable[[Counts, int | None], Floats]
    support: Callable[[Counts, int | None], Counts]
    better: Better
    needs_positive: bool
    multiclass: str
    given: Given
    reference: str
    range: tuple[float, float] = (0.0, 1.0)


def _recalls(cells: Counts) -> Floats:
    """Return the recall of each class, float64 [..., K]."""
    return divide(np.diagonal(cells, axis1=-2, axis2=-1), cells.sum(-1))


def _mean_of_known(values: Floats) -> Floats:
    known = np.isfinite(values)
    return divide(np.where(known, values, 0).sum(-1), known.sum(-1))


def _balanced_accuracy(cells: Counts, positive: int | None) -> Floats:
    return _mean_of_known(_recalls(cells))


def _worst_class(cells: Counts, positive: int | None) -> Floats:
    recalls = _recalls(cells)
    lowest = np.where(np.isfinite(recalls), recalls, np.inf).min(-1)
    return np.where(np.isfinite(lowest), lowest, np.nan)


def _class_differences(cells: Counts, positive: int | None) -> Floats:
    recalls = _recalls(cells)
    first, second = np.triu_indices(recalls.shape[-1], 1)
    gaps = np.abs(recalls[..., first] - recalls[..., second])
    known = np.isfinite(gaps)
    return np.where(known.any(-1), np.where(known, gaps, 0).sum(-1), np.nan)


def _f1_of_each(cells: Counts) -> Floats:
    hits = np.diagonal(cells, axis1=-2, axis2=-1)
    return divide(2 * hits, cells.sum(-1) + cells.sum(-2))


def _f_beta(beta: float) -> Callable[[Counts, int | None], Floats]:
    """Return the function of the weighted harmonic mean of precision and recall, recall counting ``beta`` times."""
    square = beta * beta

    def compute(cells: Counts, positive: int | None) -> Floats:
        code = -1 if positive is None else positive
        hits, actual, predicted = cells[..., code, code], cells[..., code, :].sum(-1), cells[..., :, code].sum(-1)
        return divide((1 + square) * hits, square * actual + predicted)

    return compute


def _matthews(cells: Counts, positive: int | None) -> Floats:
    counts = cells.astype(np.float64)
    actual, predicted, total = counts.sum(-1), counts.sum(-2), counts.sum((-2, -1))
    right = np.diagonal(counts, axis1=-2, axis2=-1).sum(-1)
    spread = (np.square(total) - np.square(actual).sum(-1)) * (np.square(total) - np.square(predicted).sum(-1))
    return divide(right * total - (actual * predicted).sum(-1), np.sqrt(spread))


def _hard_label_auc(cells: Counts, positive: int | None) -> Floats:
    total, actual, predicted = cells.sum((-2, -1))[..., None], cells.sum(-1), cells.sum(-2)
    hits = np.diagonal(cells, axis1=-2, axis2=-1)
    specificity = divide(total - actual - predicted + hits, total - actual)
    known = (actual > 0) & (actual < total)
    areas = np.where(known, (_recalls(cells) + specificity) / 2, np.nan)
    return np.where((actual > 0).sum(-1) >= 2, _mean_of_known(areas), np.nan)


def _benefits(cells: Counts, positive: int | None) -> tuple[Floats, Floats]:
    """Return how many examples have which benefit, 1 + predicted - true, over the mean benefit: two arrays [..., 3]."""
    code = -1 if positive is None else positive
    missed = cells[..., code, :].sum(-1) - cells[..., code, code]
    alarmed = cells[..., :, code].sum(-1) - cells[..., code, code]
    counts = np.stack([missed, cells.sum((-2, -1)) - missed - alarmed, alarmed], -1).astype(np.float64)
    benefit = np.arange(3.0)
    mean = divide(counts @ benefit, counts.sum(-1))
    return counts, divide(benefit, mean[..., None])


def _generalized_entropy(cells: Counts, positive: int | None) -> Floats:
    counts, benefit = _benefits(cells, positive)
    return divide((counts * (np.square(benefit) - 1)).sum(-1), 2 * counts.sum(-1))


def _theil(cells: Counts, positive: int | None) -> Floats:
    counts, benefit = _benefits(cells, positive)
    return divide((counts * benefit * np.log(np.where(benefit > 0, benefit, 1))).sum(-1), counts.sum(-1))


def _f1(cells: Counts, positive: int | None) -> Floats:
    return _f1_of_each(cells)[..., -1 if positive is None else positive]


def _macro_f1(cells: Counts, positive: int | None) -> Floats:
    return _mean_of_known(_f1_of_each(cells))


def _macro_precision(cells: Counts, positive: int | None) -> Floats:
    precision = divide(np.diagonal(cells, axis1=-2, axis2=-1), cells.sum(-2))
    never = (cells.sum(-1) > 0) & (cells.sum(-2) == 0)
    return np.where(never.any(-1), np.nan, _mean_of_known(precision))


def _smallest_class(cells: Counts, positive: int | None) -> Counts:
    sizes = cells.sum(-1)
    there = np.where(sizes > 0, sizes, np.iinfo(np.int64).max).min(-1)
    return np.asarray(np.where(sizes.any(-1), there, 0))


def _examples(cells: Counts, positive: int | None) -> Counts:
    return np.asarray(cells.sum((-2, -1)))


def _positives_of_either(cells: Counts, positive: int | None) -> Counts:
    code = -1 if positive is None else positive
    return np.asarray(cells[..., code, :].sum(-1) + cells[..., :, code].sum(-1) - cells[..., code, code])


SCORES: Mapping[str, Score] = {
    score.name: score
    for score in (
        Score(
            "balanced_accuracy",
            "Balanced accuracy",
            "mean over c of the recall of c",
            _balanced_accuracy,
            _smallest_class,
            "higher",
            False,
            "mean over the classes that have examples",
            "label",
            _BRODERSEN,
        ),
        Score(
            "worst_class_accuracy",
            "Worst class's accuracy",
            "min over c of the recall of c",
            _worst_class,
            _smallest_class,
            "higher",
            False,
            "of the classes that have examples",
            "label",
            _SUBPOP,
        ),
        Score(
            "class_accuracy_differences",
            "Differences between classes",
            "sum over pairs c, d of |recall of c - recall of d|",
            _class_differences,
            _smallest_class,
            "lower",
            False,
            "over the classes that have examples; NaN for fewer than two",
            "label",
            _SUBPOP,
            (0.0, float("inf")),
        ),
        Score(
            "f1",
            "F1",
            "2 TP / (2 TP + FP + FN)",
            _f1,
            _positives_of_either,
            "higher",
            True,
            ONE_CLASS,
            "nothing",
            _SOKOLOVA,
        ),
        *(
            Score(
                name,
                title,
                f"(1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP), b = {beta:g}",
                _f_beta(beta),
                _positives_of_either,
                "higher",
                True,
                ONE_CLASS,
                "nothing",
                _SOKOLOVA,
            )
            for name, title, beta in (("f2", "F2", 2.0), ("f_half", "F0.5", 0.5))
        ),
        Score(
            "matthews_correlation",
            "Matthews correlation",
            "correlation of label and prediction: (TP TN - FP FN) / sqrt of the product of the four margins",
            _matthews,
            _smallest_class,
            "higher",
            False,
            "Gorodkin's R_K; NaN where one class alone occurs as label or as prediction",
            "nothing",
            "Matthews 1975, doi 10.1016/0005-2795(75)90109-9; Gorodkin 2004, doi 10.1016/j.compbiolchem.2004.09.006",
            (-1.0, 1.0),
        ),
        Score(
            "hard_label_auc",
            "AUC of hard labels",
            "area under the ROC curve of predicted classes: (TPR + TNR) / 2",
            _hard_label_auc,
            _smallest_class,
            "higher",
            False,
            "one class against the rest, mean over the classes that have examples; NaN for fewer than two",
            "label",
            "Bird et al. 2020, fairlearn, roc_auc_score of y_pred",
        ),
        *(
            Score(
                name,
                title,
                formula,
                compute,
                _examples,
                "lower",
                True,
                ONE_CLASS,
                "nothing",
                "Speicher et al. 2018, arXiv 1807.00787, equation (2)",
                (0.0, float("inf")),
            )
            for name, title, formula, compute in (
                (
                    "generalized_entropy_index",
                    "Generalised entropy index",
                    "mean of ((b / mean b)^2 - 1) / 2, b = predicted - true + 1",
                    _generalized_entropy,
                ),
                ("theil_index", "Theil index", "mean of b / mean b ln(b / mean b), b = predicted - true + 1", _theil),
            )
        ),
        Score(
            "macro_f1",
            "Macro-F1",
            "mean over c of the F1 of c",
            _macro_f1,
            _smallest_class,
            "higher",
            False,
            "mean over the classes that occur as label or prediction",
            "nothing",
            _SOKOLOVA,
        ),
        Score(
            "macro_precision",
            "Macro-precision",
            "mean over c of the precision of c",
            _macro_precision,
            _examples,
            "higher",
            False,
            "mean over the classes that are predicted; NaN where a class that has examples never is",
            "nothing",
            _SOKOLOVA,
        ),
    )
}
