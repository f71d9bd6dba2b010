"""Disparities between groups: every combination of a notion (what is compared) and a form (how), one row each.

A cell array here has the shape ``[..., G, K, K]``: any leading axes, then G groups, K true labels, K predictions.

A disparity is NaN as soon as one group that has examples lacks the rate, for its size is then unknown, and when fewer
than two groups have examples. Consequently a perfect classifier has 0 or NaN in every error-based difference (1 or NaN
in every ratio), and its demographic parity difference is the gap between the base rates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from fairsweep.analysis.metrics.probabilities import PROBABILITY_SCORES, ProbabilityScore
from fairsweep.analysis.metrics.rates import ONE_CLASS, RATES, Better, Bools, Counts, Floats, Rate, divide, quotients
from fairsweep.analysis.metrics.scores import SCORES, Score

_HARDT = "Hardt et al. 2016, arXiv 1610.02413"
_FARRAND = "Farrand et al. 2020, arXiv 2009.06389"
_AGARWAL = "Agarwal et al. 2018, arXiv 1803.02453"
_CHOULDECHOVA = "Chouldechova 2017, arXiv 1703.00056"
_LUM = "Lum et al. 2022, arXiv 2205.05770, section 4"

Statistic = Literal[
    "difference",
    "ratio",
    "lowest",
    "highest",
    "below_overall",
    "above_overall",
    "from_overall",
    "overall_ratio",
    "variance",
]
Combination = Literal["only", "largest", "mean"]
Base = Rate | Score | ProbabilityScore

_BASES: dict[str, Base] = {**RATES, **SCORES, **PROBABILITY_SCORES}
BASES: Mapping[str, Base] = MappingProxyType(_BASES)
"""Whatever one group has a value of, by name."""


@dataclass(frozen=True)
class Disparity:
    """One row of the table of disparities.

    Attributes:
        name: as in the column ``metric``.
        title: as shown in tables and plots.
        formula: in words; g and h run over the groups that have examples.
        rates: the rates or scores it compares.
        statistic: of each rate over the groups.
        combination: how the statistics of several rates become one number.
        overall: whether "overall" is used, and whether it contains the group.
        none_if_perfect: whether a perfect classifier has none: `fair`, or NaN where a group lacks the rate.
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
    none_if_perfect: bool = True
    multiclass: str = ONE_CLASS
    better: Better = "lower"
    reference: str = _HARDT

    @property
    def needs_positive(self) -> bool:
        """Return whether it depends on the positive class."""
        return any(BASES[name].needs_positive for name in self.rates)

    @property
    def of_rates(self) -> bool:
        """Return whether all that it compares are quotients of counts."""
        return all(name in RATES for name in self.rates)

    @property
    def of_cells(self) -> bool:
        """Return whether cells suffice for it."""
        return not any(name in PROBABILITY_SCORES for name in self.rates)

    @property
    def fair(self) -> float:
        """Return the its value where all groups are alike; NaN where that depends on how good they are."""
        if self.statistic in ("lowest", "highest"):
            return float("nan")
        return 1.0 if self.is_ratio else 0.0

    @property
    def is_ratio(self) -> bool:
        """Return whether it is a quotient of two groups' values, or of a group's and of all."""
        return self.statistic in ("ratio", "overall_ratio")

    @property
    def falls(self) -> bool:
        """Return whether a smaller value is the less fair one."""
        return self.is_ratio or self.statistic == "lowest"


@dataclass(frozen=True)
class FairnessNotion:
    """What is compared between groups.

    Attributes:
        name: first part of a disparity's name.
        title: first part of its title.
        rates: rates or scores.
        none_if_perfect: whether a perfect (and certain) classifier has equal values in all groups.
        reference: where it is proposed.
    """

    name: str
    title: str
    rates: tuple[str, ...]
    none_if_perfect: bool = True
    reference: str = ""


_OF_THE_SET = "a property of the evaluation set, not of the model"
NOTIONS: tuple[FairnessNotion, ...] = (
    FairnessNotion("accuracy", "Accuracy", ("accuracy",), reference=_FARRAND),
    FairnessNotion("base_rate", "Base-rate", ("base_rate",), False, _OF_THE_SET),
    FairnessNotion("demographic_parity", "Demographic parity", ("selection_rate",), False, _AGARWAL),
    FairnessNotion("equal_opportunity", "Equal opportunity", ("true_positive_rate",), reference=_HARDT),
    FairnessNotion("false_positive_rate", "False positive rate", ("false_positive_rate",), reference=_CHOULDECHOVA),
    FairnessNotion("false_negative_rate", "False negative rate", ("false_negative_rate",), reference=_CHOULDECHOVA),
    FairnessNotion("true_negative_rate", "True negative rate", ("true_negative_rate",), reference=_CHOULDECHOVA),
    FairnessNotion("equalized_odds", "Equalised odds", ("true_positive_rate", "false_positive_rate"), reference=_HARDT),
    FairnessNotion("predictive_parity", "Predictive parity", ("positive_predictive_value",), reference=_CHOULDECHOVA),
    FairnessNotion("negative_predictive_value", "Negative predictive value", ("negative_predictive_value",)),
    FairnessNotion("false_discovery_rate", "False discovery rate", ("false_discovery_rate",), reference=_CHOULDECHOVA),
    FairnessNotion("false_omission_rate", "False omission rate", ("false_omission_rate",), reference=_CHOULDECHOVA),
    FairnessNotion("treatment_equality", "Treatment equality", ("false_negative_share",)),
    *(FairnessNotion(name, row.title, (name,)) for name, row in SCORES.items() if "class_accuracy" not in name),
    *(
        FairnessNotion("calibration" if name == "calibration_error" else name, row.title, (name,))
        for name, row in PROBABILITY_SCORES.items()
    ),
)

_FORMS: Mapping[Statistic, tuple[str, str, str, str]] = {
    # statistic: (suffix of the name, suffix of the title, formula, reference of the form)
    "difference": ("difference", "difference", "max over g, h of {r}(g) - {r}(h)", ""),
    "ratio": ("ratio", "ratio", "min over g of {r}(g) / max over h of {r}(h)", "Feldman et al. 2015, arXiv 1412.3756"),
    "lowest": ("", "", "min over g of {r}(g)", "Sagawa et al. 2020, arXiv 1911.08731"),
    "highest": ("", "", "max over g of {r}(g)", "Sagawa et al. 2020, arXiv 1911.08731"),
    "below_overall": (
        "below_overall",
        "of the worst group below overall",
        "max over g of {r}(all) - {r}(g)",
        "Bagdasaryan & Shmatikov 2019, arXiv 1905.12101",
    ),
    "above_overall": (
        "above_overall",
        "of the worst group above overall",
        "max over g of {r}(g) - {r}(all)",
        "Bagdasaryan & Shmatikov 2019, arXiv 1905.12101",
    ),
    "from_overall": (
        "from_overall",
        "farthest from overall",
        "max over g of |{r}(g) - {r}(all)|",
        "Bird et al. 2020, fairlearn, to_overall",
    ),
    "overall_ratio": (
        "ratio_to_overall",
        "ratio, farthest from overall",
        "min over g of {r}(g) / {r}(all), or its inverse where that is above 1",
        "Bird et al. 2020, fairlearn, to_overall",
    ),
    "variance": (
        "variance",
        "variance between groups",
        "sum over g of ({r}(g) - mean)^2 / (G - 1), less the mean of {r}(g) (1 - {r}(g)) / (n(g) - 1); may be negative",
        _LUM,
    ),
}
# Titles that people know by other words.
_TITLES = {
    "accuracy_difference": "Accuracy gap",
    "base_rate_difference": "Base-rate gap",
    "accuracy_below_overall": "Worst group below overall",
}


def _forms_of(notion: FairnessNotion) -> tuple[Statistic, ...]:
    """Return the forms that make sense for a notion."""
    rows = [BASES[name] for name in notion.rates]
    # The quotient of two numbers that may be below 0 says nothing.
    is_signed = any(isinstance(row, Score) and row.range[0] < 0 for row in rows)
    forms: list[Statistic] = ["difference"] if is_signed else ["difference", "ratio", "overall_ratio"]
    if len(rows) == 1 and rows[0].better == "higher":
        forms += ["lowest", "below_overall"]
    if len(rows) == 1 and rows[0].better == "lower":
        forms += ["highest", "above_overall"]
    forms.append("from_overall")
    if all(isinstance(row, Rate) for row in rows):
        forms.append("variance")
    return tuple(forms)


def _rows(notion: FairnessNotion) -> Iterator[Disparity]:
    """Return every disparity of one notion; with two rates, the larger (the less fair) of both and their mean."""
    rows = [BASES[name] for name in notion.rates]
    for form in _forms_of(notion):
        suffix, words, formula, reference = _FORMS[form]
        worst = form in ("lowest", "highest")
        name = f"worst_group_{notion.rates[0]}" if worst else f"{notion.name}_{suffix}"
        title = f"Worst group's {rows[0].title.lower()}" if worst else f"{notion.title} {words}"
        better: Better = "higher" if form in ("ratio", "overall_ratio", "lowest") else "lower"
        combinations: tuple[Combination, ...] = ("only",) if len(rows) == 1 else ("largest", "mean")
        for combination in combinations:
            mean = combination == "mean"
            parts = [formula.format(r=row.title.lower()) for row in rows]
            which = {"only": "", "largest": "the less fair of: ", "mean": "the mean of: "}[combination]
            yield Disparity(
                f"{name}_mean" if mean else name,
                _TITLES.get(name, title) + (" (mean)" if mean else ""),
                which + "; ".join(parts),
                notion.rates,
                form,
                combination,
                "contains the group" if "overall" in form else "not used",
                none_if_perfect=notion.none_if_perfect and not worst,
                multiclass=rows[0].multiclass,
                better="none" if notion.name == "base_rate" else better,
                reference="; ".join(part for part in (notion.reference or rows[0].reference, reference) if part),
            )


_DISPARITIES: dict[str, Disparity] = {row.name: row for notion in NOTIONS for row in _rows(notion)}
DISPARITIES: Mapping[str, Disparity] = MappingProxyType(_DISPARITIES)
_OWN: dict[str, tuple[str, ...]] = {}


def add_score(score: Score) -> tuple[str, ...]:
    """Add a score of the user's own, and its disparities, to the tables; of its name the former one goes.

    Returns:
        The names of its disparities.

    Raises:
        ValueError: If a name is one of fairsweep's metrics, or of another score's disparities.
    """
    former = {score.name, *_OWN[score.name]} if score.name in _OWN else set()
    taken = (_BASES.keys() | _DISPARITIES.keys()) - former
    if score.name in taken:
        raise ValueError(f"there is a metric {score.name!r} already: choose another name")
    remove_score(score.name)
    _BASES[score.name] = score
    rows = {row.name: row for row in _rows(FairnessNotion(score.name, score.title, (score.name,), False))}
    _DISPARITIES.update({name: row for name, row in rows.items() if name not in taken})
    _OWN[score.name] = tuple(name for name in rows if name not in taken)
    return _OWN[score.name]


def remove_score(name: str) -> None:
    """Take a score of the user's own and its disparities out of the tables again, if there is one."""
    for row in (name, *_OWN[name]) if name in _OWN else ():
        _BASES.pop(row, None)
        _DISPARITIES.pop(row, None)
    _OWN.pop(name, None)


def present(cells: Counts) -> Bools:
    """Return which groups have examples: int64 [..., G, K, K] -> bool [..., G]."""
    return np.asarray(cells.sum((-2, -1)) > 0)


def combine(values: Floats, overall: Floats, exists: Bools, row: Disparity, noise: Floats | None = None) -> Floats:
    """Return a disparity from the values of its rates.

    Args:
        values: of each group, float64 [..., R, G], one row per of ``row.rates``.
        overall: of all examples together, float64 [..., R].
        exists: bool [..., G], which groups have examples at all.
        row: the disparity.
        noise: sampling variance of each value, float64 [..., R, G]; only a variance needs it.

    Returns:
        float64 [...]; NaN where a group that exists lacks a value, or where fewer than two exist.
    """
    groups = exists[..., None, :]
    highest = np.where(groups, values, -np.inf).max(-1)
    lowest = np.where(groups, values, np.inf).min(-1)
    if row.statistic == "difference":
        each = highest - lowest
    elif row.statistic == "ratio":
        with np.errstate(invalid="ignore"):  # infinity over infinity where no group exists; made NaN below
            each = divide(lowest, highest)
    elif row.statistic == "overall_ratio":
        forth = divide(np.where(groups, values, 0), overall[..., None])
        # 0 over 0 is unknown; a group at 0 below a whole above it is at 0.
        folded = np.minimum(forth, np.where(forth == 0, 0, divide(1.0, forth)))
        each = np.where(np.isnan(folded) & groups, np.nan, np.where(groups, folded, np.inf)).min(-1)
    elif row.statistic == "variance":
        if noise is None:
            raise TypeError(f"{row.name} needs the sampling variance of each group's value")
        each = _variance(values, noise, groups)
    else:
        each = {
            "lowest": lowest,
            "highest": highest,
            "below_overall": overall - lowest,
            "above_overall": highest - overall,
            "from_overall": np.maximum(overall - lowest, highest - overall),
        }[row.statistic]
    known = (np.isfinite(values) | ~groups).all(-1) & (groups.sum(-1) >= 2)
    each = np.where(known, each, np.nan)
    if row.combination == "largest":
        return np.asarray(each.min(-1) if row.is_ratio else each.max(-1))
    return np.asarray(each.mean(-1))


def _variance(values: Floats, noise: Floats, groups: Bools) -> Floats:
    """Return the variance between groups less the mean of their sampling variances: unbiased, so it may be negative."""
    count = groups.sum(-1)
    inside = np.where(groups, values, 0)
    mean = divide(inside.sum(-1), count)
    squares = np.where(groups, np.square(inside - mean[..., None]), 0).sum(-1)
    return divide(squares, count - 1) - divide(np.where(groups, noise, 0).sum(-1), count)


def disparity_of(above: Counts | Floats, below: Counts | Floats, exists: Bools, row: Disparity) -> Floats:
    """Return a disparity from the quotients of its rates.

    Args:
        above: numerators, [..., R, G], one row per of ``row.rates``; effective counts need not be integers.
        below: denominators, [..., R, G].
        exists: bool [..., G], which groups have examples at all.
        row: the disparity.

    Returns:
        float64 [...]; NaN where a group that exists lacks a rate, or where fewer than two exist.
    """
    rates = divide(above, below)
    overall = divide(above.sum(-1), below.sum(-1))
    noise = divide(rates * (1 - rates), below - 1) if row.statistic == "variance" else None
    return combine(rates, overall, exists, row, noise)


def disparity(cells: Counts, row: Disparity, positive: int | None) -> Floats:
    """Return a disparity of rates or scores from cells: int64 [..., G, K, K] -> float64 [...]."""
    if row.of_rates:
        above, below = stacked_quotients(cells, row, positive)
        return disparity_of(above, below, present(cells), row)
    values, overall = stacked_scores(cells, row, positive)
    return combine(values, overall, present(cells), row)


def stacked_quotients(cells: Counts, row: Disparity, positive: int | None) -> tuple[Counts, Counts]:
    """Return the quotients of every rate of a disparity: int64 [..., G, K, K] -> two int64 arrays [..., R, G]."""
    pairs = [quotients(cells, RATES[name], positive) for name in row.rates]
    return np.stack([above for above, _ in pairs], -2), np.stack([below for _, below in pairs], -2)


def value_of(cells: Counts, base: Rate | Score, positive: int | None) -> Floats:
    """Return a rate or score from cells: int64 [..., K, K] -> float64 [...]."""
    return base.compute(cells, positive) if isinstance(base, Score) else divide(*quotients(cells, base, positive))


def stacked_scores(cells: Counts, row: Disparity, positive: int | None) -> tuple[Floats, Floats]:
    """Values by group, float64 [..., R, G], and of all groups together, float64 [..., R]; for rows of cells."""
    bases = [base for base in (BASES[name] for name in row.rates) if not isinstance(base, ProbabilityScore)]
    values = np.stack([value_of(cells, base, positive) for base in bases], -2)
    whole = cells.sum(-3)
    return values, np.stack([value_of(whole, base, positive) for base in bases], -1)
