"""Variance components of a metric over the levels of a sweep, as far as its design identifies them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from fairsweep.analysis.inference.fluctuation_text import describe_sources, describe_verdicts
from fairsweep.analysis.inference.level_tables import LevelTable, table_of_frame, table_of_results
from fairsweep.analysis.inference.trends import positions_of, slope_coefficients
from fairsweep.analysis.metrics.catalogue import width_of
from fairsweep.analysis.metrics.rates import Floats
from fairsweep.analysis.statistics.bootstrap_draws import keyed_generator
from fairsweep.analysis.statistics.effects import Effect
from fairsweep.analysis.statistics.intervals import subtract
from fairsweep.analysis.statistics.variance_components import (
    MeanSquares,
    mean_squares,
    without_rounding,
)
from fairsweep.analysis.verdicts.verdict import Finding, Question, Verdict, decide

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

_NULL_DRAWS = 5000
_ONE_SEED = "one seed at each level: changes between levels cannot be separated from seed variation"
_UNKNOWN_TEST = "the error of the test {}s is known for rates and for sweeps with predictions; give those"


@dataclass(frozen=True)
class Fluctuations:
    """Sources of variation of a metric over the levels of a sweep.

    Attributes:
        parts: one row per component: ``component``, ``variance`` (unbiased, so it may be below 0), ``low``, ``high``,
            ``std`` (its root, 0 below 0), ``df``, ``reason`` (why it is NaN, else what it rests on).
        neighbours: one row per two neighbouring levels, with its verdict: ``level``, ``next``, ``difference``, ``low``,
            ``high``, ``p_value``, ``p_holm`` (over all of them and the trend), ``differ``, ``basis``. One seed gives
            no verdict.
        trend: verdict on the change from the first to the last level along a line, of the same family; None under three
            levels with an order.
        detectable: the smallest change between neighbouring levels that such a verdict finds different with probability
            `fairsweep.analysis.statistics.effects.POWER`; infinite if not even the largest one would be.
        test_p_value: how often test sampling alone would scatter all values as much; NaN where it is unknown.
        seeds_needed: replicates that would detect ``change``; NaN where no number suffices, or it is unknown.
        images_needed: test images (behind each value) that would, with the replicates there are; NaN likewise.
        change: what the two are for.
        sources: what the values vary by, in sentences without a verdict.
        verdicts: sentences on the trend and the steps.
        table: the numbers behind it.
    """

    parts: pd.DataFrame
    neighbours: pd.DataFrame
    trend: Verdict | None
    detectable: float
    test_p_value: float
    seeds_needed: float
    images_needed: float
    change: float
    sources: str
    verdicts: str
    table: LevelTable

    @property
    def text(self) -> str:
        """Return the result in one paragraph."""
        return f"{self.sources} {self.verdicts}".strip()

    def __repr__(self) -> str:
        return self.text


def explain_fluctuations(
    source: SweepResults | pd.DataFrame,
    metric: str = "accuracy",
    over: str = "share",
    *,
    by: str | Sequence[str] = (),
    group: str | None = None,
    learner: str | None = None,
    split: str = "test",
    at: At = "last",
    change: float = 0.02,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Fluctuations:
    """Split the variance over the levels into the components that the design of the sweep identifies.

    Components are of the variance of one trial's value. *setting*: between the true means of the levels. *data seed*
    and *training seed* (*order of examples*, *initial weights*, *privacy noise* where these alone were redrawn): what
    redrawing the one changes at a level, the other held; where seeds are tied both together
    are *replicate*; crossed seeds leave *interaction* (and each trial's own noise). *test sampling*: what other test
    images would change in one value; *test sampling, observed*: the part of it by which trials of this sweep differ,
    which for one common test set is the smaller the more the models agree. It is taken off the other components. A
    component that the design does not identify is NaN, with the reason.

    Args:
        source: a sweep, or a tidy table of one learner, see
            `fairsweep.analysis.inference.level_tables.table_of_frame`.
        metric: a name in `METRICS`.
        over: the levels: ``share``, ``level_value``, ``minority_count``, ``epsilon``…
        by: see `table_of_results`.
        group: which group; None for all examples or for a disparity.
        learner: which learner or series of a sweep.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        change: the change between neighbouring levels for which the needed seeds and images are given.
        confidence: of the intervals.
        draws: of the test images.
        seed: of the draws.

    References:
        Components: Searle, Casella & McCulloch 1992. Intervals: chi-square bounds of mean squares (effective degrees of
        freedom for levels of nested draws, `fairsweep.analysis.statistics.variance_components`), joined as in
        Graybill & Wang 1980,
        doi 10.1080/01621459.1980.10477565.
    """
    if isinstance(source, pd.DataFrame):
        table = table_of_frame(source, metric, over, group=group, draws=draws, seed=seed)
    else:
        table = table_of_results(
            source, metric, over, by=by, group=group, learner=learner, split=split, at=at, draws=draws, seed=seed
        )
    return explain_table(table, change=change, confidence=confidence)


def explain_table(table: LevelTable, *, change: float = 0.02, confidence: float = 0.95) -> Fluctuations:
    """Return `explain_fluctuations` of given values."""
    parts = _parts(table, confidence)
    findings = _findings(table)
    verdicts = decide(findings, confidence=confidence, alpha=1 - confidence)
    steps = len(table.levels) - 1
    neighbours = _table_of_steps(table, verdicts[:steps])
    trend = verdicts[steps] if len(verdicts) > steps else None
    p_value = _test_alone(table)
    family = max((one.family for one in verdicts), default=0)
    level = (1 - confidence) / max(1, family)
    power = _power(_typical_step(table), change, level, width_of(table.metric))
    sources = describe_sources(table, parts, p_value)
    told = describe_verdicts(table, neighbours, trend, power, change)
    return Fluctuations(parts, neighbours, trend, power[0], p_value, *power[1:], change, sources, told, table)


def _power(step: Effect | None, change: float, level: float, most: float) -> tuple[float, float, float]:
    """Return the detectable step, and the seeds and the images that would find a change; NaN where none would do.

    The first is infinite where not even a step of ``most`` would be found.
    """
    if step is None:
        return np.nan, np.nan, np.nan
    needed = step.seeds_needed(change, level), step.images_needed(change, level)
    seeds, images = (number if np.isfinite(number) else np.nan for number in needed)
    return float(step.detectable(level, most=most)), seeds, images


def _parts(table: LevelTable, confidence: float) -> pd.DataFrame:
    """Return the components, one row each."""
    squares = mean_squares(table.values, table.seeds)
    total, seen, seen_of_levels = _test_parts(table)
    images = float(np.median(table.n))
    rows = [_setting(table, squares, seen, seen_of_levels, confidence), *_seed_parts(table, squares, seen, confidence)]
    reason = (
        _UNKNOWN_TEST.format(table.unit) if np.isnan(total) else f"{images:,.0f} test {table.unit}s behind each value"
    )
    rows.append(_row("test sampling", total, *_chi_square(total, images - 1, confidence), images - 1, reason))
    if table.same_images:
        reason = f"the part by which trials on the same test {table.unit}s differ"
        rows.append(
            _row("test sampling, observed", seen, *_chi_square(seen, images - 1, confidence), images - 1, reason)
        )
    frame = pd.DataFrame(rows)
    return frame.assign(deviation=np.sqrt(frame["variance"].clip(lower=0)))


def _row(name: str, variance: float, low: float, high: float, df: float, reason: str) -> dict[str, object]:
    columns = {"component": name, "variance": variance, "low": low, "high": high, "std": np.nan}
    return columns | {"df": df, "reason": reason}


def _nothing(name: str, reason: str) -> dict[str, object]:
    return _row(name, np.nan, np.nan, np.nan, np.nan, reason)


def _test_parts(table: LevelTable) -> tuple[float, float, float]:
    """Variance of one value by test sampling; what of it differs within a level; and between the levels' means."""
    noise, replicates, levels = table.noise, *table.values.shape
    total = float(noise.var(0).mean())
    seen = total
    if table.same_images and replicates > 1:
        seen = float((noise - noise.mean(1, keepdims=True)).var(0).sum() / levels / (replicates - 1))
    means = noise.mean(1)
    between = float((means - means.mean(1, keepdims=True)).var(0).sum() / max(levels - 1, 1))
    return total, seen, between


def _setting(
    table: LevelTable, squares: MeanSquares, seen: float, seen_of_levels: float, confidence: float
) -> dict[str, object]:
    """Variance between the levels' true means: that of the observed ones less what seeds and images make of it."""
    replicates, levels = table.values.shape
    if levels < 2:
        return _nothing("setting", "one level")
    if replicates < 2:
        return _nothing("setting", _ONE_SEED)
    means = table.values.mean(0)
    observed = float(np.square(without_rounding(means - means.mean())).sum() / (levels - 1))
    residual = without_rounding(table.values - means - table.values.mean(1, keepdims=True) + table.values.mean())
    step = float(np.square(residual).sum() / (replicates - 1) / (levels - 1))
    images = 0.0 if np.isnan(seen) else max(seen_of_levels - seen / replicates, 0.0)
    noise, df = step / replicates + images, (replicates - 1) * (levels - 1)
    low, high = _noncentral(observed / noise if noise > 0 else np.inf, levels - 1, df, confidence)
    scale = noise / (levels - 1)
    reason = f"between {levels} levels, against how seeds differ in their changes from level to level"
    return _row("setting", observed - noise, low * scale, high * scale, levels - 1.0, reason)


def _noncentral(ratio: float, above: int, below: int, confidence: float) -> tuple[float, float]:
    """Return the bounds of the noncentrality of an F ratio; the levels are fixed, not drawn (Steiger 2004)."""
    if not np.isfinite(ratio):
        return float("nan"), float("nan")
    bounds = []
    for quantile in (0.5 + confidence / 2, 0.5 - confidence / 2):
        low, high = 0.0, 10.0 + 10 * above * ratio
        if stats.f.cdf(ratio, above, below) <= quantile:
            bounds.append(0.0)
            continue
        while stats.ncf.cdf(ratio, above, below, high) > quantile and high < 1e9:
            high *= 2
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if stats.ncf.cdf(ratio, above, below, middle) > quantile else (low, middle)
        bounds.append(low)
    return bounds[0], bounds[1]


def _seed_parts(table: LevelTable, squares: MeanSquares, seen: float, confidence: float) -> list[dict[str, object]]:
    design, known = table.seeds.design, 0.0 if np.isnan(seen) else seen
    training = table.training
    label = {"tied": "replicate", "data": "data seed", "training": training, "crossed": "interaction"}
    if design == "one":
        return [_nothing(name, "one seed at each level") for name in ("data seed", training)]
    df = squares.df[2]
    low, high = _chi_square(squares.rest, df, confidence)
    replicates = len(table.values)
    what = {
        "tied": f"{replicates} replicates that redraw both seeds",
        "data": f"{replicates} data seeds, each with its trial's own noise",
        "training": f"{replicates} training seeds, each with its trial's own noise",
        "crossed": "what neither seed explains alone, and each trial's own noise",
    }[design]
    bounds = max(low - known, 0.0), max(high - known, 0.0)
    rest = _row(label[design], squares.rest - known, *bounds, df, what)
    if design == "tied":
        tied = "data and training seeds were changed together; cross them (seeds: {data: .., train: ..})"
        return [_nothing("data seed", tied), _nothing(training, tied), rest]
    if design != "crossed":
        other = training if design == "data" else "data seed"
        return [rest, _nothing(other, f"one {other} only; its effect is not identified")]
    a, b = squares.sizes
    rows = []
    for name, square, place, times in (("data seed", squares.data, 0, b), (training, squares.training, 1, a)):
        mine = _chi_square(square, squares.df[place], confidence)
        down, up = (np.asarray(bound) for bound in subtract(_three(square, mine), _three(squares.rest, (low, high))))
        bounds = max(float(down), 0.0) / times, max(float(up), 0.0) / times
        text = f"{(a, b)[place]} seeds, crossed with {(b, a)[place]} of the other kind"
        rows.append(_row(name, (square - squares.rest) / times, *bounds, squares.df[place], text))
    return [*rows, rest]


def _three(value: float, bounds: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    return np.asarray(value), np.asarray(bounds[0]), np.asarray(bounds[1])


def _chi_square(variance: float, df: float, confidence: float) -> tuple[float, float]:
    """Return the bounds of a variance that has a mean square's distribution."""
    if not df > 0 or np.isnan(variance):
        return float("nan"), float("nan")
    few, many = (float(stats.chi2.ppf(0.5 + sign * confidence / 2, df)) for sign in (-1, 1))
    return variance * df / many, variance * df / few


def _findings(table: LevelTable) -> list[Finding]:
    """Return the questions of a table: each step from one level to the next, and last the trend over all."""
    unknown = f"the error of the test {table.unit}s is unknown: the sweep keeps no predictions"
    found = []
    for place, coefficients in enumerate(_step_coefficients(table)):
        text = f"{table.levels[place]} to {table.levels[place + 1]}"
        question = Question("step", "", "", "", table.group, text, table.metric)
        found.append(Finding(question, table.effect(coefficients), note=unknown, most=width_of(table.metric)))
    trend = _trend_coefficients(table)
    if trend is not None:
        question = Question("slope", "", "", "", table.group, metric=table.metric)
        found.append(Finding(question, table.effect(trend), note=unknown))
    return [replace(one, note="" if one.effect is not None else one.note) for one in found]


def _step_coefficients(table: LevelTable) -> Floats:
    return np.diff(np.eye(len(table.levels)), axis=0)


def _trend_coefficients(table: LevelTable) -> Floats | None:
    """Return those of the change from the first to the last level along a line; None under three ordered levels."""
    try:
        positions = positions_of(table, None)[0]
    except ValueError:
        return None
    known = positions[np.isfinite(positions)]
    return slope_coefficients(positions) * (known[-1] - known[0]) if len(known) > 2 else None


def _table_of_steps(table: LevelTable, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    changes = without_rounding(np.diff(table.values.mean(0)))
    replicates = len(table.values)
    several = f"{replicates} replicates, paired by seed, and test {table.unit}s"
    basis = f"test {table.unit}s only; one seed" if replicates == 1 else several
    columns = {
        "level": table.levels[:-1],
        "next": table.levels[1:],
        "difference": changes,
        "low": [one.low for one in verdicts],
        "high": [one.high for one in verdicts],
        "p_value": [one.p_value for one in verdicts],
        "p_holm": [one.p_adjusted for one in verdicts],
        "differ": [one.word == "different" for one in verdicts],
        "basis": basis,
    }
    return pd.DataFrame(columns)


def _typical_step(table: LevelTable) -> Effect | None:
    """Return the mean variances of the steps, for the power of a test of one of them."""
    found = [effect for step in _step_coefficients(table) if (effect := table.effect(step)) is not None]
    if not found:
        return None

    def mean(name: str) -> Floats:
        return np.asarray(np.mean([getattr(one, name) for one in found]))

    return replace(
        found[0],
        estimate=np.zeros(()),
        between_seeds=mean("between_seeds"),
        between_images=mean("between_images"),
        of_both=mean("of_both"),
        seed_df=mean("seed_df"),
        image_df=mean("image_df"),
        images=min(one.images for one in found),
    )


def _test_alone(table: LevelTable) -> float:
    """How often test sampling alone, with one true value for all trials, scatters the values as much as they are."""
    values, noise = table.values.ravel(), table.noise.reshape(len(table.noise), -1)
    if len(values) < 2 or not np.isfinite(noise).all():
        return float("nan")
    variance = noise.var(0)
    if not table.same_images:
        n = table.n.ravel()
        pooled = float((values * n).sum() / n.sum())
        variance = pooled * (1 - pooled) / n
        generator = keyed_generator("test sampling alone", table.metric, table.group)
        noise = generator.binomial(n, pooled, (_NULL_DRAWS, len(n))) / n - pooled
    usable = without_rounding(np.sqrt(variance)) > 0
    if usable.sum() < 2:
        return float("nan")
    weight = 1 / variance[usable]

    def scatter(rows: Floats) -> Floats:
        middle = (rows * weight).sum(-1, keepdims=True) / weight.sum()
        return np.asarray((np.square(rows - middle) * weight).sum(-1))

    observed = float(scatter(values[usable][None])[0])
    return float((1 + (scatter(noise[:, usable]) >= observed).sum()) / (1 + len(noise)))
