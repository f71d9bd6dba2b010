"""Disparities between groups: one row of a table each, computed from the rates of all groups.

A cell array here has the shape ``[..., G, K, K]``: any leading axes, then G groups, K true labels, K predictions.

A disparity is NaN as soon as one group that has examples lacks the rate, for its size is then unknown, and when fewer
than two groups have examples. Consequently a perfect classifier has 0 or NaN in every error-based disparity, and its
demographic parity difference is the gap between the base rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fairsweep.analysis.rates import ONE_CLASS, RATES, Bools, Counts, Floats, divide, quotients

_HARDT = "Hardt et al. 2016, arXiv 1610.02413"
_FARRAND = "Farrand et al. 2020, arXiv 2009.06389"

Statistic = Literal["difference", "ratio", "lowest", "below_overall"]
Combination = Literal["only", "largest", "mean"]


@dataclass(frozen=True)
class Disparity:
    """One row of the table of disparities.

    Attributes:
        name: as in the column ``metric``.
        title: as shown in tables and plots.
        formula: in words; g and h run over the groups that have examples.
        rates: the rates it compares.
        statistic: of each rate over the groups.
        combination: how the statistics of several rates become one number.
        overall: whether "overall" is used, and whether it contains the group.
        zero_if_perfect: whether a perfect classifier has none: 0, or NaN where a group lacks the rate.
        multiclass: what it means for more than two classes.
        better: which direction is fair.
        reference: where it is defined.
    """

    name: str
    title: str
    formula: str
    rates: tuple[str, ...]
    statistic: Statistic
    combination: Combination = "only"
    overall: Literal["not used", "contains the group"] = "not used"
    zero_if_perfect: bool = True
    multiclass: str = ONE_CLASS
    better: Literal["higher", "lower", "none"] = "lower"
    reference: str = _HARDT

    @property
    def needs_positive(self) -> bool:
        """Whether it depends on the positive class."""
        return any(RATES[name].needs_positive for name in self.rates)


DISPARITIES: Mapping[str, Disparity] = {
    disparity.name: disparity
    for disparity in (
        Disparity(
            "accuracy_difference",
            "Accuracy gap",
            "max over g, h of accuracy(g) - accuracy(h)",
            ("accuracy",),
            "difference",
            multiclass="of the multi-class accuracy",
            reference=_FARRAND,
        ),
        Disparity(
            "worst_group_accuracy",
            "Worst group's accuracy",
            "min over g of accuracy(g)",
            ("accuracy",),
            "lowest",
            zero_if_perfect=False,
            multiclass="of the multi-class accuracy",
            better="higher",
            reference="Sagawa et al. 2020, arXiv 1911.08731",
        ),
        Disparity(
            "accuracy_below_overall",
            "Worst group below overall",
            "max over g of accuracy(all) - accuracy(g)",
            ("accuracy",),
            "below_overall",
            overall="contains the group",
            multiclass="of the multi-class accuracy",
            reference="Bagdasaryan & Shmatikov 2019, arXiv 1905.12101",
        ),
        Disparity(
            "base_rate_difference",
            "Base-rate gap",
            "max over g, h of base rate(g) - base rate(h)",
            ("base_rate",),
            "difference",
            zero_if_perfect=False,
            better="none",
            reference="a property of the evaluation set, not of the model",
        ),
        Disparity(
            "demographic_parity_difference",
            "Demographic parity difference",
            "max over g, h of selection rate(g) - selection rate(h)",
            ("selection_rate",),
            "difference",
            zero_if_perfect=False,
            reference="Agarwal et al. 2018, arXiv 1803.02453",
        ),
        Disparity(
            "demographic_parity_ratio",
            "Demographic parity ratio",
            "min over g of selection rate(g) / max over h of selection rate(h)",
            ("selection_rate",),
            "ratio",
            zero_if_perfect=False,
            better="higher",
            reference="Feldman et al. 2015, arXiv 1412.3756",
        ),
        Disparity(
            "equal_opportunity_difference",
            "Equal opportunity difference",
            "max over g, h of TPR(g) - TPR(h)",
            ("true_positive_rate",),
            "difference",
        ),
        Disparity(
            "false_positive_rate_difference",
            "False positive rate difference",
            "max over g, h of FPR(g) - FPR(h)",
            ("false_positive_rate",),
            "difference",
            reference="Chouldechova 2017, arXiv 1703.00056",
        ),
        Disparity(
            "equalized_odds_difference",
            "Equalised odds difference",
            "larger of the TPR difference and the FPR difference",
            ("true_positive_rate", "false_positive_rate"),
            "difference",
            "largest",
        ),
        Disparity(
            "equalized_odds_difference_mean",
            "Equalised odds difference (mean)",
            "mean of the TPR difference and the FPR difference",
            ("true_positive_rate", "false_positive_rate"),
            "difference",
            "mean",
        ),
        Disparity(
            "predictive_parity_difference",
            "Predictive parity difference",
            "max over g, h of PPV(g) - PPV(h)",
            ("positive_predictive_value",),
            "difference",
            reference="Chouldechova 2017, arXiv 1703.00056",
        ),
    )
}


def present(cells: Counts) -> Bools:
    """Which groups have examples: int64 [..., G, K, K] -> bool [..., G]."""
    return np.asarray(cells.sum((-2, -1)) > 0)


def disparity_of(above: Counts, below: Counts, exists: Bools, row: Disparity) -> Floats:
    """A disparity from the quotients of its rates.

    Args:
        above: numerators, int64 [..., R, G], one row for each of ``row.rates``.
        below: denominators, int64 [..., R, G].
        exists: bool [..., G], which groups have examples at all.
        row: the disparity.

    Returns:
        float64 [...]; NaN where a group that exists lacks a rate, or where fewer than two exist.
    """
    rates = divide(above, below)
    groups = exists[..., None, :]
    highest = np.where(groups, rates, -np.inf).max(-1)
    lowest = np.where(groups, rates, np.inf).min(-1)
    if row.statistic == "difference":
        each = highest - lowest
    elif row.statistic == "ratio":
        with np.errstate(invalid="ignore"):  # infinity over infinity where no group exists; made NaN below
            each = divide(lowest, highest)
    elif row.statistic == "lowest":
        each = lowest
    else:
        each = divide(above.sum(-1), below.sum(-1)) - lowest
    known = (np.isfinite(rates) | ~groups).all(-1) & (groups.sum(-1) >= 2)
    each = np.where(known, each, np.nan)
    if row.combination == "largest":
        return np.asarray(each.max(-1))
    return np.asarray(each.mean(-1))


def disparity(cells: Counts, row: Disparity, positive: int | None) -> Floats:
    """A disparity from cells: int64 [..., G, K, K] -> float64 [...]."""
    above, below = stacked_quotients(cells, row, positive)
    return disparity_of(above, below, present(cells), row)


def stacked_quotients(cells: Counts, row: Disparity, positive: int | None) -> tuple[Counts, Counts]:
    """Quotients of every rate of a disparity: int64 [..., G, K, K] -> two int64 arrays [..., R, G]."""
    pairs = [quotients(cells, RATES[name], positive) for name in row.rates]
    return np.stack([above for above, _ in pairs], -2), np.stack([below for _, below in pairs], -2)
