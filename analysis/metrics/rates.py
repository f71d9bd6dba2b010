"""Rates of one group: quotients of two counts, one row of a table each.

A *cell array* has the shape ``[..., K, K]``: any leading axes (trials, iterations, resamples, groups), then K true
labels and K predictions. A rate is a quotient of two sums over that matrix; 0/0 is NaN and keeps its count of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Mask = Callable[[int, int], Bools]
"""(classes K, code of the positive class) -> bool [K, K], rows the true label, columns the prediction."""


Given = Literal["label", "prediction", "nothing"]
Better = Literal["higher", "lower", "none"]

ONE_CLASS = "one class against the rest: the class is named in brackets"


@dataclass(frozen=True)
class Rate:
    """One row of the table of rates.

    Attributes:
        name: as in the column ``metric``.
        title: as shown in tables and plots.
        formula: numerator over denominator, in words.
        numerator: which (label, prediction) pairs count above the line; a subset of the denominator.
        denominator: which (label, prediction) pairs count below the line.
        better: which direction is good; ``none`` for a description.
        needs_positive: whether it depends on the positive class.
        multiclass: what it means for more than two classes.
        reference: where it is defined.
    """

    name: str
    title: str
    formula: str
    numerator: Mask
    denominator: Mask
    better: Better
    needs_positive: bool = True
    multiclass: str = ONE_CLASS
    reference: str = "Fawcett 2006, doi 10.1016/j.patrec.2005.10.010"

    @property
    def given_label(self) -> bool:
        """Return whether the denominator depends on the true label alone, so that it is fixed by the evaluation set."""
        mask = self.denominator(3, 1)
        return bool((mask == mask[:, :1]).all())

    @property
    def given(self) -> Given:
        """Within what the examples of equal groups are alike: what a permutation of the groups must hold fixed."""
        mask = self.denominator(3, 1)
        if mask.all():
            return "nothing"
        if (mask == mask[:, :1]).all():
            return "label"
        return "prediction" if (mask == mask[:1]).all() else "nothing"


def _everything(classes: int, positive: int) -> Bools:
    return np.ones((classes, classes), np.bool_)


def _diagonal(classes: int, positive: int) -> Bools:
    return np.eye(classes, dtype=np.bool_)


def _label(is_positive: bool) -> Mask:
    def mask(classes: int, positive: int) -> Bools:
        rows = (np.arange(classes) == positive) == is_positive
        return np.repeat(rows[:, None], classes, axis=1)

    return mask


def _predicted(is_positive: bool) -> Mask:
    return lambda classes, positive: _label(is_positive)(classes, positive).T


def _both(label: bool, prediction: bool) -> Mask:
    return lambda classes, positive: _label(label)(classes, positive) & _predicted(prediction)(classes, positive)


def _wrong(classes: int, positive: int) -> Bools:
    return _both(True, False)(classes, positive) | _both(False, True)(classes, positive)


RATES: Mapping[str, Rate] = {
    rate.name: rate
    for rate in (
        Rate(
            "accuracy",
            "Accuracy",
            "correct / examples",
            _diagonal,
            _everything,
            "higher",
            needs_positive=False,
            multiclass="share of examples whose predicted class is the true one; within one class: its recall",
        ),
        Rate("base_rate", "Base rate", "P / n", _label(True), _everything, "none"),
        Rate("selection_rate", "Selection rate", "(TP + FP) / n", _predicted(True), _everything, "none"),
        Rate("true_positive_rate", "True positive rate", "TP / P", _both(True, True), _label(True), "higher"),
        Rate("false_negative_rate", "False negative rate", "FN / P", _both(True, False), _label(True), "lower"),
        Rate("false_positive_rate", "False positive rate", "FP / N", _both(False, True), _label(False), "lower"),
        Rate("true_negative_rate", "True negative rate", "TN / N", _both(False, False), _label(False), "higher"),
        Rate(
            "positive_predictive_value",
            "Positive predictive value",
            "TP / (TP + FP)",
            _both(True, True),
            _predicted(True),
            "higher",
        ),
        Rate(
            "negative_predictive_value",
            "Negative predictive value",
            "TN / (TN + FN)",
            _both(False, False),
            _predicted(False),
            "higher",
        ),
        Rate(
            "false_discovery_rate",
            "False discovery rate",
            "FP / (TP + FP)",
            _both(False, True),
            _predicted(True),
            "lower",
        ),
        Rate(
            "false_omission_rate",
            "False omission rate",
            "FN / (TN + FN)",
            _both(True, False),
            _predicted(False),
            "lower",
        ),
        Rate(
            "false_negative_share",
            "Share of false negatives among errors",
            "FN / (FN + FP)",
            _both(True, False),
            _wrong,
            "none",
            reference="Berk et al. 2018, doi 10.1177/0049124118782533: equal where their FN / FP is, and bounded",
        ),
    )
}


def quotients(cells: Counts, rate: Rate, positive: int | None) -> tuple[Counts, Counts]:
    """Return the numerators and denominators of a rate.

    Args:
        cells: int64 [..., K, K], true label x prediction.
        rate: the row.
        positive: code of the positive class, for rates that need one.

    Returns:
        Two int64 arrays [...]; the first never exceeds the second.
    """
    classes = cells.shape[-1]
    code = -1 if positive is None else positive
    above = (cells * rate.numerator(classes, code)).sum((-2, -1))
    below = (cells * rate.denominator(classes, code)).sum((-2, -1))
    return above, below


def divide(above: npt.ArrayLike, below: npt.ArrayLike) -> Floats:
    """Return ``above / below``, NaN where ``below`` is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    result = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result
