"""Means over replicates, with intervals that cover variation between training runs and between test images.

All trials of a sweep see the same test images, so more replicates do not make the images' error smaller: the interval
of a mean joins that of the test images with a t interval over the replicates (data draw, initial weights, order,
noise). With one replicate the second is unknown, NaN, and the interval says so in words.

How much of an image's luck the trainings share is seen in the predictions. Where a table is all there is, all of it is
taken to be shared: the mean of the trials' own intervals stands for the images, which is wider than need be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import METRICS, Metric, resolve
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.metrics.rates import Bools, Floats, divide
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.crossed_resampling import DRAWS, crossed_means
from fairsweep.analysis.results.frames import renamed
from fairsweep.analysis.results.outcome_table import PairedMetric
from fairsweep.analysis.results.outcomes import group_codes, read_outcomes
from fairsweep.analysis.results.sweep_frames import DONE, FrameOptions, SweepFrames
from fairsweep.analysis.statistics.intervals import mean_of_bounds, replicate_mean, widen

AVERAGE_COLUMNS = (
    "learner",
    "series",
    "share",
    "level",
    "level_value",
    "epsilon",
    "split",
    "attribute",
    "group",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "n_min",
    "interval",
    "expected_if_equal",
    "baseline",
    "replicates",
    "undefined",
    "std",
    "training_low",
    "training_high",
    "images_low",
    "images_high",
    "setting",
)
"""Columns of `average`.

``low`` and ``high`` join both sources of error. ``training_low`` and ``training_high`` are the t interval over the
replicates alone, ``images_low`` and ``images_high`` that of the test images alone; ``std`` is the standard
deviation between replicates; ``undefined`` counts the replicates whose value is NaN and which are left out.
"""

OF_TABLES = "t over replicates, joined with the trials' own intervals"
OF_PAIRS = "paired by seed and by test example"
"""Name of the interval where what the trainings share of the images' luck is unknown."""

_EXCESS = "excess_loss("
_WITHIN = ("setting", "split", "attribute", "group", "metric", "baseline")
_FIRST = (
    "learner",
    "series",
    "setting",
    "share",
    "level",
    "level_value",
    "split",
    "attribute",
    "group",
    "metric",
    "baseline",
)


def average(
    frame: pd.DataFrame, confidence: float = 0.95, *, results: SweepFrames | None = None, draws: int = DRAWS
) -> pd.DataFrame:
    """Average a tidy table over the replicates of each setting.

    Args:
        frame: a result of `SweepResults.frame`, with one iteration of each trial, or with all (then iterations are
            averaged one by one and a column ``iteration`` is kept).
        confidence: of the t intervals; take the one the frame was made with.
        results: the sweep that the frame is of: where it has predictions, intervals know what the trainings share of
            the images' luck (`fairsweep.analysis.results.crossed_resampling.crossed_means`), as in the report. Without
            it, of one replicate, of differences (`mean_differences` has theirs), of means over strata, and with several
            iterations of a trial, they are those of tables; the column ``interval`` says which.
        draws: number of resamples of the images, for scores.

    Returns:
        One row per setting, group and metric; columns `AVERAGE_COLUMNS`.
    """
    keys = list(_WITHIN)
    if frame.duplicated(["trial", *keys[1:]]).any():
        keys.append("iteration")
    grouped = frame.groupby(keys, sort=False, dropna=False)
    number = grouped.ngroup().to_numpy(np.int64)
    place = grouped.cumcount().to_numpy(np.int64)
    shape = (int(number.max(initial=-1)) + 1, int(place.max(initial=-1)) + 1)

    def spread(column: str) -> Floats:
        matrix = np.full(shape, np.nan)
        matrix[number, place] = frame[column].to_numpy(np.float64)
        return matrix

    values = spread("value")
    known = np.isfinite(values)
    smallest = np.nanmin(spread("n_min"), axis=1, initial=np.inf)
    mean = replicate_mean(values, confidence, divide(1.0, smallest))
    expected = _mean_where(spread("expected_if_equal"), known)
    # Each replicate guarantees its own: no trial guarantees their mean.
    largest = np.where(known, spread("epsilon"), -np.inf).max(1, initial=-np.inf)
    epsilon = np.where(known.any(1), largest, np.nan)
    first = np.unique(number, return_index=True)[1]
    result = frame.iloc[first][[*_FIRST, *(["iteration"] if "iteration" in keys else [])]].reset_index(drop=True)
    least, most = _bounds_of(result)
    # Simultaneous bounds of a disparity are cut at what it can be, those of a rate are not.
    cut = [isinstance(METRICS.get(str(name).split("[")[0]), Disparity) for name in result["metric"]]
    low, high = (
        mean_of_bounds(np.where(known, spread(name), np.nan), np.where(cut, limit, np.nan))
        for name, limit in (("low", least), ("high", most))
    )
    joined_low, joined_high = widen(mean.mean, low, high, mean.half_width)
    result["value"], result["expected_if_equal"], result["epsilon"] = mean.mean, expected, epsilon
    result["low"], result["high"] = np.maximum(joined_low, least), np.minimum(joined_high, most)
    result["training_low"] = np.maximum(mean.mean - mean.half_width, least)
    result["training_high"] = np.minimum(mean.mean + mean.half_width, most)
    result["images_low"], result["images_high"] = low, high
    result["std"] = mean.standard_deviation
    result["replicates"] = mean.replicates
    result["undefined"] = np.bincount(number, minlength=shape[0]) - mean.replicates
    for name in ("n", "n_min"):
        result[name] = np.nanmin(spread(name), axis=1, initial=np.inf).astype(np.int64)
    result["interval"] = np.where(mean.replicates >= 2, OF_TABLES, "test images only")
    result = result[[*AVERAGE_COLUMNS, *(["iteration"] if "iteration" in keys else [])]]
    if results is None or "iteration" in keys:
        return result
    return _with_shared_images(result, frame, results, confidence, draws)


def _with_shared_images(
    means: pd.DataFrame, frame: pd.DataFrame, results: SweepFrames, confidence: float, draws: int
) -> pd.DataFrame:
    """Return averages with the intervals of `crossed_means` where it knows those of the same means."""
    plain = frame[(frame["baseline"] == "") & frame["metric"].map(lambda name: str(name).split("[")[0] in METRICS)]
    parts = []
    for (split, attribute), rows in plain.groupby(["split", "attribute"], sort=False):
        by = [name for name in str(attribute).split(JOINT) if name]
        if not {*by} <= {*results.attributes}:
            continue
        metrics = [resolve(str(name), results.classes) for name in rows["metric"].unique()]
        asked = rows[["trial", "iteration", "setting"]].astype({"trial": str, "setting": str}).drop_duplicates()
        found = crossed_means(results, asked, metrics, by=by, split=str(split), confidence=confidence, draws=draws)
        if found is not None:
            parts.append(found.assign(split=str(split), attribute=str(attribute)))
    if not parts:
        return means
    keys = ["setting", "split", "attribute", "group", "metric"]
    given = means[keys].astype(str).merge(pd.concat(parts).astype(dict.fromkeys(keys, str)), on=keys, how="left")
    same = np.isclose(given["value"].to_numpy(np.float64), means["value"].to_numpy(np.float64), rtol=0, atol=1e-9)
    known = (given["replicates"].to_numpy() == means["replicates"].to_numpy()) & (means["replicates"] >= 2).to_numpy()
    known &= same & np.isfinite(given[["low", "high"]].to_numpy(np.float64)).all(1)
    known &= (means["baseline"] == "").to_numpy()
    least, most = _bounds_of(means)
    for name in ("low", "high", "images_low", "images_high"):
        crossed = np.clip(given[name].to_numpy(np.float64), least, most)
        means[name] = np.where(known, crossed, means[name])
    means["interval"] = np.where(known, given["interval"], means["interval"])
    return means


@renamed(against="baseline")
def crossed_frame(
    results: SweepFrames,
    metrics: Sequence[str],
    *,
    baseline: str | None = None,
    draws: int = DRAWS,
    **choice: Unpack[FrameOptions],
) -> pd.DataFrame:
    """Return the means over the replicates of each setting, with intervals that know the shared test images.

    It is `average` (of differences `mean_differences`) of the frame of these metrics, and refuses a sweep without
    predictions.

    Args:
        results: the sweep, with predictions.
        metrics: names in `METRICS`: rates, scores and disparities, of cells and of predictions.
        baseline: ``"twin"`` or a learner: differences from the paired trial, under the same images.
        draws: number of resamples of the images, for scores.
        choice: the keywords of `SweepFrames.rates`; without ``by`` all examples are taken together, and ``at="all"``
            cannot be averaged.

    Returns:
        The columns `AVERAGE_COLUMNS`.

    Raises:
        ValueError: if the trials saw different images, or groups are not recorded by id.
    """
    by = choice.get("by")
    names = (by,) if isinstance(by, str) else tuple(by or ())
    split = choice.get("split", "test")
    every = results.evaluations(split=split, at=choice.get("at", "last"), states=choice.get("states", DONE))
    asked = pd.DataFrame({"trial": list(every.trial), "iteration": every.iteration})
    outcomes = read_outcomes(results, split, asked)
    if outcomes is None or len(outcomes.row) < len(asked) or group_codes(results, outcomes, names) is None:
        raise ValueError(
            "crossed resampling needs predictions of all trials on the same images, with their groups in "
            "examples.parquet; take SweepResults.frame and average instead"
        )
    choice["by"] = names
    if baseline is not None:
        return mean_differences(results, metrics, baseline=baseline, **choice)
    known = [resolve(name, results.classes, choice.get("positive")) for name in metrics]
    plain = [metric.name for metric in known if not isinstance(metric.row, Disparity)]
    between = [metric.name for metric in known if isinstance(metric.row, Disparity)]
    parts = [results.rates(plain, **choice)] if plain else []
    if between:
        parts.append(results.disparities(between, **choice, expected_if_equal=False))
    frame = pd.concat(parts, ignore_index=True)
    return average(frame, choice.get("confidence", 0.95), results=results, draws=draws)


@renamed(against="baseline")
def mean_differences(
    results: SweepFrames, metrics: Sequence[str] | None = None, *, baseline: str, **choice: Unpack[FrameOptions]
) -> pd.DataFrame:
    """Return the mean differences of each setting from its baseline, with the intervals of the report.

    The interval covers variation between seeds and the sampling of the test images that both sides share, see
    `fairsweep.analysis.statistics.effects.Effect`; the column ``interval`` says so. `average` of the frame of
    differences has the same means, and other intervals: it knows neither what images the trials share nor how seeds are
    crossed.

    Args:
        results: the sweep.
        metrics: see `SweepFrames.frame`.
        baseline: see `SweepFrames.frame`.
        choice: the keywords of `SweepFrames.rates`; ``at="all"`` cannot be averaged.

    Returns:
        The columns `AVERAGE_COLUMNS`.
    """
    frame = results.frame(metrics, baseline=baseline, **choice)
    confidence = choice.get("confidence", 0.95)
    means = average(frame, confidence)
    pairs = results.pairs(baseline).pairs
    setting = frame["setting"].astype(str)
    known = {name: pairs[pairs["trial"].isin(trials)] for name, trials in frame["trial"].astype(str).groupby(setting)}
    for (attribute, metric), rows in means.groupby(["attribute", "metric"], sort=False):
        compared = PairedMetric.of(
            results,
            str(metric),
            [name for name in str(attribute).split(JOINT) if name],
            split=choice.get("split", "test"),
            at=choice.get("at", "last"),
            states=choice.get("states", DONE),
            positive=choice.get("positive"),
        )
        for i, one, group in zip(rows.index, rows["setting"].astype(str), rows["group"].astype(str), strict=True):
            found = compared.difference(group, known[one])
            if found is not None:
                means.loc[i, "value"] = float(found[0].estimate)
                means.loc[i, ["low", "high"]] = [float(bound) for bound in found[0].interval(confidence, compared.most)]
                means.loc[i, "interval"] = OF_PAIRS
    return means


def _mean_where(matrix: Floats, known: Bools) -> Floats:
    """Return the mean over the replicates that have a value; NaN where there is none, infinite where one is."""
    return divide(np.where(known, matrix, 0).sum(1), known.sum(1))


def _bounds_of(result: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return what a value can be: the metric's range.

    For a difference and an excess loss, it is the range of the parts' difference.
    """
    ranges = {name: _range_of(str(name)) for name in result["metric"].unique()}
    bounds = np.array([ranges[name] for name in result["metric"]], np.float64).reshape(-1, 2)
    is_difference = result["baseline"].to_numpy(str) != ""
    is_excess = np.array([str(name).startswith(_EXCESS) for name in result["metric"]], np.bool_)
    width = (bounds[:, 1] - bounds[:, 0]) * np.where(is_excess, 2, 1)
    return np.where(is_difference, -width, bounds[:, 0]), np.where(is_difference, width, bounds[:, 1])


def _range_of(name: str) -> tuple[float, float]:
    base = name.removeprefix(_EXCESS).split("[")[0].removesuffix(")")
    return Metric(METRICS[base], None, base).range if base in METRICS else (-np.inf, np.inf)
