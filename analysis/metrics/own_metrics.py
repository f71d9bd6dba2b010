"""Metrics of the user's own: a function of the confusion counts becomes a row of the tables, with its disparities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.metrics.disparities import BASES, DISPARITIES, add_score
from fairsweep.analysis.metrics.rates import ONE_CLASS, Better, Counts, Floats
from fairsweep.analysis.metrics.scores import Score
from fairsweep.analysis.own_code import OwnCodeError, load_offered, place_of

OWN = "defined by the user"
"""Where metrics of the user's own are defined."""
_TRIED = (2, 2, 2, 2)  # leading axes as resamples and groups are, of two classes


@dataclass(frozen=True)
class ConfusionCounts:
    """What a formula is given: counts as float64 arrays of equal shape, one entry per trial, resample and group.

    Attributes:
        tp: Positive examples that are predicted positive.
        fp: Negative examples that are predicted positive.
        fn: Positive examples that are predicted negative.
        tn: Negative examples that are predicted negative.
        matrix: All counts, [..., K, K], true label x prediction.
    """

    tp: Floats
    fp: Floats
    fn: Floats
    tn: Floats
    matrix: Floats

    @classmethod
    def of(cls, cells: Counts, positive: int | None) -> Self:
        """Count one class against the rest; without a positive class the four counts are NaN."""
        matrix = cells.astype(np.float64)
        if positive is None:
            unknown = np.full(matrix.shape[:-2], np.nan)
            return cls(unknown, unknown, unknown, unknown, matrix)
        tp, actual, predicted = matrix[..., positive, positive], matrix.sum(-1), matrix.sum(-2)
        fn, fp = actual[..., positive] - tp, predicted[..., positive] - tp
        return cls(tp, fp, fn, matrix.sum((-2, -1)) - tp - fn - fp, matrix)

    @property
    def n(self) -> Floats:
        """Return how many examples there are."""
        return np.asarray(self.matrix.sum((-2, -1)))


Formula = Callable[[ConfusionCounts], npt.ArrayLike]


class OwnMetric(str):
    """A metric of one's own, from a function of the confusion counts; it is its name, and goes wherever names go.

    In a notebook::

        cost = analysis.Metric("cost", lambda c: (5 * c.fn + c.fp) / c.n, "lower", range=(0, 5))
        results.frame([cost, *cost.disparities], by="tone")

    Its disparities stand beside it: ``cost_difference``, ``cost_ratio``, ``worst_group_cost`` and so on. Intervals come
    from resampled cells. A metric that is defined again under its name replaces the former one.

    Args:
        name: As in the column ``metric``: letters, digits and underscores.
        formula: Computes it from `ConfusionCounts`, entry by entry: with ``+ - * /`` and numpy's functions, no ``if``.
            What is divided by 0 is NaN.
        direction: ``higher`` or ``lower`` is better, or ``none``.
        title: As shown in tables and plots.
        range: Its smallest and largest possible value.
        needs_positive: Whether it uses ``tp``, ``fp``, ``fn`` or ``tn``, so that more than two classes need a positive
            one. False for formulas of ``matrix`` and ``n`` alone.

    Raises:
        ValueError: If the name is no name or taken by a metric of fairsweep's, or the formula does not compute one
            number for each entry within the range.

    Attributes:
        disparities: Names of its disparities.
    """

    disparities: tuple[str, ...]
    _score: Score

    def __new__(
        cls,
        name: str,
        formula: Formula,
        direction: Better,
        *,
        title: str | None = None,
        range: tuple[float, float] = (0.0, 1.0),
        needs_positive: bool = True,
    ) -> Self:
        """Check the formula, and add its rows to the tables."""
        own = super().__new__(cls, name)
        if not name.isidentifier():
            raise ValueError(f"a metric's name must be letters, digits and underscores, but got {name!r}")
        if direction not in ("higher", "lower", "none"):
            raise ValueError(f"direction must be higher, lower or none, but got {direction!r}")
        score = Score(
            name,
            title or name.replace("_", " ").capitalize(),
            (formula.__doc__ or "a function of the confusion counts").strip().splitlines()[0],
            lambda cells, positive: _computed(name, formula, cells, positive),
            lambda cells, positive: np.asarray(cells.sum((-2, -1))),
            direction,
            needs_positive,
            ONE_CLASS if needs_positive else "as the formula has it",
            "nothing",
            OWN,
            (float(range[0]), float(range[1])),
        )
        _try(score)
        own._score = score
        return own.install()

    def install(self) -> Self:
        """Put its rows into the tables, in the place of another metric of its name."""
        self.disparities = add_score(self._score)
        return self


def _computed(name: str, formula: Formula, cells: Counts, positive: int | None) -> Floats:
    with np.errstate(all="ignore"):
        values = np.asarray(formula(ConfusionCounts.of(cells, positive)), np.float64)
    if values.shape != cells.shape[:-2]:
        raise ValueError(
            f"the formula of {name} must give one number for each entry of its counts, shape {cells.shape[:-2]}, but "
            f"gave {values.shape}: compute with the arrays entry by entry"
        )
    return np.where(np.isfinite(values), values, np.nan)


def _try(score: Score) -> None:
    """Compute it on made-up counts."""
    cells = np.arange(1, 1 + np.prod(_TRIED), dtype=np.int64).reshape(_TRIED)
    try:
        values = score.compute(cells, 1 if score.needs_positive else None)
    except ValueError as error:
        if str(error).startswith("the formula of"):
            raise
        raise ValueError(f"the formula of {score.name} fails on arrays of counts: {error}") from error
    except Exception as error:  # whatever the user's function raises
        raise ValueError(
            f"the formula of {score.name} fails on arrays of counts: {type(error).__name__}: {error}"
        ) from error
    low, high = score.range
    if np.isnan(values).all():
        raise ValueError(
            f"the formula of {score.name} is undefined for every count: with needs_positive=False it has matrix and n "
            "alone"
        )
    if np.nanmin(values) < low or np.nanmax(values) > high:
        raise ValueError(
            f"{score.name} must lie in range={score.range}, but its formula gave {np.nanmin(values):g} to "
            f"{np.nanmax(values):g}: say range=(smallest, largest)"
        )


Metric = OwnMetric
"""How `fairsweep.analysis` calls it."""

ENTRY_POINTS = "fairsweep.metrics"
"""Group of entry points by which installed packages offer metrics of their own."""


def is_own(name: str) -> bool:
    """Return whether a rate or score is one of the user's own."""
    return name in BASES and BASES[name].reference == OWN


def named_metric(name: str, own_code: Mapping[str, str]) -> str:
    """Return the metric that an entry of ``metrics`` in a sweep file stands for, its rows in the tables.

    Args:
        name: A rate or score of fairsweep's, ``FILE.py:NAME``, ``PACKAGE.MODULE:NAME``, or an entry point in the group
            ``fairsweep.metrics``. What is named is a `Metric`, or a function of `ConfusionCounts`, which then is a
            metric in [0, 1] without a direction.
        own_code: Text of each file.

    Raises:
        OwnCodeError: If it is none, or cannot be loaded.
    """
    if name in DISPARITIES:
        raise OwnCodeError(f"metrics must be rates and scores, whose disparities follow, but {name} is a disparity")
    if name in BASES and not is_own(name):
        return name
    made = _loaded(name, own_code.get(place_of(name)))
    return made.install()


def sweep_metrics(sweep: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the metrics that a stored sweep names besides, their rows in the tables, and what is wrong with others."""
    found, wrong = [], []
    for name in sweep.get("metrics") or ():
        try:
            found.append(named_metric(name, sweep.get("own_code") or {}))
        except OwnCodeError as error:
            wrong.append(f"the metric {name} is left out: {error}")
    return tuple(found), tuple(wrong)


@cache
def _loaded(name: str, source: str | None) -> OwnMetric:
    found = load_offered("metric", name, ENTRY_POINTS, BASES, source)
    if isinstance(found, OwnMetric):
        return found
    if not callable(found) or isinstance(found, type):
        raise OwnCodeError(
            f"{name} must be a fairsweep.analysis.Metric, or a function of the confusion counts, but is {found!r:.60}"
        )
    try:
        return OwnMetric(getattr(found, "__name__", name.rpartition(":")[2]), found, "none")
    except ValueError as error:
        raise OwnCodeError(f"{name}: {error}") from error
