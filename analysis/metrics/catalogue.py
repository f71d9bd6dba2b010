"""Metrics by name: rows of the tables of rates and disparities, with the positive class filled in.

A metric is one row of a table that states its formula, its positive class, its rule for more than two classes, whether
"overall" contains the group, which direction is good, and where it is defined. `describe` prints the tables.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import pandas as pd

from fairsweep.analysis.metrics.disparities import BASES, DISPARITIES, Base, Disparity
from fairsweep.analysis.metrics.probabilities import ProbabilityScore
from fairsweep.analysis.metrics.rates import RATES
from fairsweep.analysis.metrics.scores import Score


class _Joined(Mapping[str, Base | Disparity]):
    """Rates and scores, then disparities; those of the user's own come into them while a session lasts."""

    def __getitem__(self, name: str) -> Base | Disparity:
        return BASES[name] if name in BASES else DISPARITIES[name]

    def __iter__(self) -> Iterator[str]:
        return chain(BASES, DISPARITIES)

    def __len__(self) -> int:
        return len(BASES) + len(DISPARITIES)


METRICS: Mapping[str, Base | Disparity] = _Joined()

_FURTHER = {"false_discovery_rate", "false_omission_rate", "false_negative_share"}
DEFAULT_RATES = tuple(name for name in RATES if name not in _FURTHER)
"""Default rates of a table."""

DEFAULT_DISPARITIES = (
    "accuracy_difference",
    "worst_group_accuracy",
    "accuracy_below_overall",
    "base_rate_difference",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equal_opportunity_difference",
    "false_positive_rate_difference",
    "equalized_odds_difference",
    "equalized_odds_difference_mean",
    "predictive_parity_difference",
)
"""Default disparities of a table."""


@dataclass(frozen=True)
class Metric:
    """A row of one of the tables, with its positive class filled in.

    Attributes:
        row: the row.
        positive: code of the positive class, or None where the row needs none.
        name: as in the column ``metric``; the class in brackets where there are more than two.
    """

    row: Base | Disparity
    positive: int | None
    name: str

    @property
    def title(self) -> str:
        """Return the title for tables and plots."""
        return self.row.title + self.name.removeprefix(self.row.name)

    @property
    def range(self) -> tuple[float, float]:
        """Return the smallest and largest possible value."""
        row = self.row
        if isinstance(row, Score):
            return row.range
        if isinstance(row, ProbabilityScore):
            return 0.0, row.highest
        if not isinstance(row, Disparity) or row.of_rates:
            return (-1.0, 1.0) if "_variance" in row.name else (0.0, 1.0)
        if row.is_ratio:
            return 0.0, 1.0
        ranges = [Metric(BASES[name], None, name).range for name in row.rates]
        lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)
        if row.statistic in ("lowest", "highest"):
            return lowest, highest
        width = highest - lowest
        # Overall is no mean of the groups' scores, so all of them may lie on one side of it.
        return (-width if row.statistic in ("below_overall", "above_overall") else 0.0), width

    @property
    def of_cells(self) -> bool:
        """Return whether cells suffice for it; else predictions are read."""
        return self.row.of_cells if isinstance(self.row, Disparity) else not isinstance(self.row, ProbabilityScore)


def range_of(name: str) -> tuple[float, float]:
    """Return the smallest and largest possible value of a metric, by its name in a table; of unknown ones anything.

    >>> range_of("accuracy"), range_of("true_positive_rate[8]"), range_of("unknown")
    ((0.0, 1.0), (0.0, 1.0), (-inf, inf))
    """
    base = name.partition("[")[0]
    return Metric(METRICS[base], None, base).range if base in METRICS else (-math.inf, math.inf)


def width_of(name: str) -> float:
    """Return the largest change that a metric can have: 1 of a rate."""
    low, high = range_of(name)
    return high - low


def resolve(name: str, classes: tuple[str, ...], positive: str | None = None) -> Metric:
    """Find a metric by its name.

    Args:
        name: a row of `METRICS`, with a class in brackets to choose another positive class than the
            default: ``true_positive_rate[8]``, or ``true_positive_rate of 8`` as in sweep files.
        classes: names of the classes, in the order of their codes.
        positive: the default positive class; without it, the second of two.

    Raises:
        ValueError: if there is no such metric or class, or more than two classes and no positive one.

    >>> resolve("true_positive_rate", ("no", "yes")).positive
    1
    >>> resolve("true_positive_rate[8]", tuple("0123456789")).name
    'true_positive_rate[8]'
    """
    base, _, rest = re.sub(r"^(\w+)\s+of\s+(.+)$", r"\1[\2]", name).partition("[")
    row = METRICS.get(base)
    if row is None:
        near = difflib.get_close_matches(base, METRICS, 3, 0.3)
        raise ValueError(f"metric must be one of those that describe() lists, such as {near}, but got {name!r}")
    if not row.needs_positive:
        return Metric(row, None, base)
    chosen = rest.removesuffix("]") if rest else positive
    if chosen is None and len(classes) != 2:
        raise ValueError(
            f"{base} needs a positive class where there are {len(classes)} classes; name it: '{base}[{classes[-1]}]'"
        )
    if chosen is not None and chosen not in classes:
        raise ValueError(f"the positive class must be one of {list(classes)}, but got {chosen!r}")
    code = 1 if chosen is None else classes.index(chosen)
    plain = len(classes) == 2 and code == 1
    return Metric(row, code, base if plain else f"{base}[{classes[code]}]")


def describe() -> pd.DataFrame:
    """Return the tables of rates, scores and disparities, one row per metric."""
    return pd.DataFrame(
        {
            "metric": name,
            "title": row.title,
            "from": "cells" if Metric(row, None, name).of_cells else "predictions",
            "formula": row.formula,
            "positive class": "needed" if row.needs_positive else "none",
            "more than two classes": row.multiclass,
            "overall": row.overall if isinstance(row, Disparity) else "one of the groups shown",
            "better": row.better,
            "reference": row.reference,
        }
        for name, row in METRICS.items()
    )
