"""Means over replicates, with intervals that cover variation between training runs and between test images.

All trials of a sweep see the same test images, so more replicates do not make the images' error smaller: the interval
of a mean joins the mean of the trials' own intervals (test images) with a t interval over the replicates (data draw,
initial weights, order, noise). With one replicate the second is unknown, NaN, and the interval says so in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import METRICS, Metric
from fairsweep.analysis.metrics.rates import Bools, Floats, divide
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.frames import renamed
from fairsweep.analysis.results.outcome_table import PairedMetric
from fairsweep.analysis.results.sweep_frames import DONE, FrameOptions, SweepFrames
from fairsweep.analysis.statistics.intervals import replicate_mean, widen

AVERAGE_COLUMNS = (
    "learner",
    "series",
    "setting",
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
)
"""Columns of `average`.

``low`` and ``high`` join both sources of error. ``training_low`` and ``training_high`` are the t interval over the
replicates alone, ``images_low`` and ``images_high`` that of the test images alone; ``std`` is the standard
deviation between replicates; ``undefined`` counts the replicates whose value is NaN and which are left out.
"""

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


def average(frame: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Average a tidy table over the replicates of each setting.

    Args:
        frame: a result of `SweepResults.frame`, with one iteration of each trial, or with all (then iterations are
            averaged one by one and a column ``iteration`` is kept).
        confidence: of the t intervals; take the one the frame was made with.

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
    low, high, expected = (_mean_where(spread(name), known) for name in ("low", "high", "expected_if_equal"))
    # Each replicate guarantees its own: no trial guarantees their mean.
    largest = np.where(known, spread("epsilon"), -np.inf).max(1, initial=-np.inf)
    epsilon = np.where(known.any(1), largest, np.nan)
    first = np.unique(number, return_index=True)[1]
    result = frame.iloc[first][[*_FIRST, *(["iteration"] if "iteration" in keys else [])]].reset_index(drop=True)
    least, most = _bounds_of(result)
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
    result["interval"] = np.where(mean.replicates >= 2, "t over replicates, and test images", "test images only")
    return result[[*AVERAGE_COLUMNS, *(["iteration"] if "iteration" in keys else [])]]


@renamed(against="baseline")
def mean_differences(
    results: SweepFrames, metrics: Sequence[str] | None = None, *, baseline: str, **choice: Unpack[FrameOptions]
) -> pd.DataFrame:
    """Return the mean differences of each setting from its baseline, with the intervals of the report.

    The interval covers variation between seeds and the sampling of the test images that both sides share, see
    `fairsweep.analysis.statistics.effects.Effect`. `average` of the frame of differences has the same means; it knows
    neither what images the trials share nor how seeds are crossed, so its intervals are wider.

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
