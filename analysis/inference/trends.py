"""Trends of a metric over imbalance: one slope per seed, and a t test on the slopes.

Training sets of neighbouring levels are nested within a data seed, so the values along one seed's line err together:
ordinary regression over all trials takes them as independent and finds trends that are not there. A line through each
seed's values is one number, and those are independent.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from fairsweep.analysis.extras import explained
from fairsweep.analysis.inference.level_tables import LevelTable, table_of_frame, table_of_results
from fairsweep.analysis.metrics.rates import Floats
from fairsweep.analysis.results.outcome_table import is_of_images
from fairsweep.analysis.statistics.variance_components import ROUNDING, without_rounding

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

LOG_MINORITY = "log10 of the minority's count"

_DRAWS = 500


@dataclass(frozen=True)
class Trend:
    """The trend of a metric over levels.

    Attributes:
        slope: mean over seeds of the change in the metric for one unit of x.
        low: bound of its interval; NaN with one seed.
        high: likewise.
        p_value: of no trend; NaN with one seed, and where all slopes are one number but 0.
        df: degrees of freedom of the seeds.
        slopes: one for each replicate, float64 [S].
        x: position of each level, float64 [L].
        x_name: what x is; a step of -1 in ``log10 of the minority's count`` is a minority ten times as small.
        table: the values.
    """

    slope: float
    low: float
    high: float
    p_value: float
    df: float
    slopes: Floats
    x: Floats
    x_name: str
    table: LevelTable


def trend(
    source: SweepResults | pd.DataFrame,
    metric: str = "accuracy",
    over: str = "share",
    *,
    by: str | Sequence[str] = (),
    group: str | None = None,
    learner: str | None = None,
    split: str = "test",
    at: At = "last",
    x: str | None = None,
    confidence: float = 0.95,
) -> Trend:
    """Return one slope per seed, and their mean with a t interval and test.

    The interval covers variation between seeds and what other test images would change in the slope; it is that of
    `fairsweep.analysis.statistics.effects.Effect`.

    Args:
        source: a sweep, or a tidy table of one learner (with ``minority_count`` for the default x).
        metric: a name in `METRICS`.
        over: the levels, a column of the table.
        by: see `fairsweep.analysis.inference.level_tables.table_of_results`.
        group: which group; None for all examples or for a disparity.
        learner: which learner or series of a sweep.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        x: ``"level"`` takes the levels themselves; None takes log10 of the minority's count where it is known.
        confidence: of the interval.

    Raises:
        ValueError: with fewer than two levels, or levels that are no numbers.

    References:
        Pocock, Geller & Tsiatis 1987 and Matthews et al. 1990, doi 10.1136/bmj.300.6719.230 (summary measures).
    """
    if isinstance(source, pd.DataFrame):
        table = table_of_frame(source, metric, over, group=group, draws=2)
    else:
        draws = 0 if is_of_images(source, metric) else _DRAWS
        table = table_of_results(
            source, metric, over, by=by, group=group, learner=learner, split=split, at=at, draws=draws
        )
    return trend_of_table(table, x=x, confidence=confidence)


def trends_by_group(
    results: SweepResults,
    metric: str = "accuracy",
    *,
    by: str | Sequence[str] = (),
    groups: Sequence[str] | None = None,
    split: str = "test",
    at: At = "last",
    x: str | None = None,
    confidence: float = 0.95,
) -> dict[tuple[str, str], Trend]:
    """Return `trend` of every learner and group of a sweep over its levels.

    Args:
        results: the sweep.
        metric: a name in `METRICS`.
        by: whose groups; empty for all examples.
        groups: some of them; None takes all.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        x: see `trend`.
        confidence: of each interval.

    Returns:
        By series and group, in the order of the sweep. Those are left out that no seed has a value of at two levels or
        more, and those with several values for one seed and level.
    """
    frame = results.frame([metric], by=by, split=split, at=at)
    wanted = list(dict.fromkeys(frame["group"].astype(str))) if groups is None else list(groups)
    found = {}
    for series in [name for name in dict.fromkeys(results.trials["series"]) if name]:
        if frame.loc[frame["series"].astype(str) == series, "level_value"].nunique() < 2:
            continue
        for group in wanted:
            try:
                found[series, group] = trend(
                    results,
                    metric,
                    "level_value",
                    by=by,
                    group=group,
                    learner=series,
                    split=split,
                    at=at,
                    x=x,
                    confidence=confidence,
                )
            except ValueError:
                continue  # no seed has a value at every level, or one has two at a level
    return found


def trend_of_table(table: LevelTable, *, x: str | None = None, confidence: float = 0.95) -> Trend:
    """Return `trend` of given values."""
    positions, name = positions_of(table, x)
    known = np.isfinite(positions)
    if known.sum() < 2:
        raise ValueError(f"a trend needs at least two levels with a known {name}, but {int(known.sum())} have one")
    coefficients = slope_coefficients(positions)
    size = max(1.0, float(np.abs(table.values[:, known]).max())) / float(np.ptp(positions[known]))
    slopes = without_rounding(table.values @ coefficients, size)
    # On the scale of the values, where what is a rounding error is known.
    effect = table.effect(coefficients / size)
    if effect is None:
        nothing = float("nan")
        return Trend(float(slopes.mean()), nothing, nothing, nothing, nothing, slopes, positions, name, table)
    low, high = (size * float(bound) for bound in (effect.interval(confidence) if len(slopes) > 1 else (np.nan,) * 2))
    is_flat = len(slopes) > 1 and not slopes.any()
    p = 1.0 if is_flat else float(effect.p_value())
    return Trend(float(slopes.mean()), low, high, p, float(effect.seed_df), slopes, positions, name, table)


def slope_coefficients(positions: Floats) -> Floats:
    """Return of which sum over the levels the least-squares slope consists, float64 [L]; levels of NaN have none."""
    known = np.isfinite(positions)
    centred = np.where(known, positions - positions[known].mean(), 0.0)
    return np.asarray(centred / np.square(centred).sum())


def positions_of(table: LevelTable, x: str | None) -> tuple[Floats, str]:
    """Return the position of each level; a level without any of the minority has none on a logarithmic axis."""
    if x not in (None, "level"):
        raise ValueError(f'x must be "level" or None, but got {x!r}')
    if x is None and (table.minority > 0).sum() >= 2:
        return np.log10(np.where(table.minority > 0, table.minority, np.nan)), LOG_MINORITY
    try:
        return np.array(table.levels, np.float64), table.over
    except ValueError as error:
        raise ValueError(
            f"levels of a trend must be numbers, but are {list(table.levels)}; choose another over"
        ) from error


@dataclass(frozen=True)
class MixedTrend:
    """A linear mixed model of a trend: a common line, and for each seed its own intercept and slope around it.

    Attributes:
        slope: of the common line.
        low: bound of its Wald interval.
        high: likewise.
        p_value: of its Wald test; too small with few seeds (a normal quantile where `Trend` has Student's).
        slope_std: standard deviation of the seeds' slopes.
        residual_std: of single values around their seed's line.
        converged: whether the fit ended well inside the parameter space.
        note: what the fit warned of, empty if nothing.
    """

    slope: float
    low: float
    high: float
    p_value: float
    slope_std: float
    residual_std: float
    converged: bool
    note: str


def mixed_trend(found: Trend, confidence: float = 0.95) -> MixedTrend:
    """Return the same trend by a mixed model with random slopes (REML), for sweeps with many seeds.

    Args:
        found: a trend; its seeds are the groups, by data seed where those differ, else by training seed.
        confidence: of the Wald interval.

    Raises:
        ImportError: if statsmodels is not installed.
        ValueError: with fewer than three seeds, or where all values are equal.

    References:
        Laird & Ware 1982, doi 10.2307/2529876; Barr et al. 2013, doi 10.1016/j.jml.2012.11.001 (random slopes).
    """
    try:
        import statsmodels.api as sm
    except ModuleNotFoundError as error:
        raise explained(error, "mixed_trend") from error
    seeds = found.table.seeds
    group = seeds.data if len(np.unique(seeds.data)) > 1 else seeds.training
    if len(np.unique(group)) < 3:
        raise ValueError(f"a mixed model needs at least 3 seeds, but there are {len(np.unique(group))}; take trend()")
    known = np.isfinite(found.x)
    values = found.table.values[:, known]
    scale, unit = float(np.ptp(found.x[known])), float(values.std())
    if unit <= ROUNDING * max(1.0, float(np.abs(values).max())):
        raise ValueError(f"a mixed model needs values that differ, but all are {values.flat[0]:.6g}; take trend()")
    centred = np.tile((found.x[known] - found.x[known].mean()) / scale, len(values))
    design = sm.add_constant(centred)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = sm.MixedLM(values.ravel() / unit, design, groups=np.repeat(group, values.shape[1]), exog_re=design)
        fit = model.fit(reml=True)
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * float(fit.bse_fe[1])
    slope, back = float(fit.fe_params[1]), unit / scale
    covariance = np.asarray(fit.cov_re, np.float64)
    notes = "; ".join(dict.fromkeys(str(warning.message) for warning in caught))
    return MixedTrend(
        slope * back,
        (slope - half) * back,
        (slope + half) * back,
        float(fit.pvalues[1]),
        float(np.sqrt(max(covariance[1, 1], 0.0))) * back,
        float(np.sqrt(fit.scale)) * unit,
        bool(fit.converged) and not notes,
        notes,
    )
