"""Means over replicates, with intervals that cover variation between training runs and between test images.

All trials of a sweep see the same test images, so more replicates do not make the images' error smaller: the interval
of a mean joins that of the test images with a t interval over the replicates (data draw, initial weights, order,
noise). With one replicate the second is unknown, NaN, and the interval says so in words.

How much of an image's luck the trainings share is seen in the predictions. Where a table is all there is, all of it is
taken to be shared: the mean of the trials' own intervals stands for the images, which is wider than need be.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Unpack

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import METRICS, range_of, resolve
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.metrics.rates import Bools, Floats, divide
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.crossed_resampling import DRAWS, crossed_means
from fairsweep.analysis.results.frames import renamed
from fairsweep.analysis.results.outcome_table import PairedMetric
from fairsweep.analysis.results.outcomes import group_codes, read_outcomes
from fairsweep.analysis.results.pairs import TWIN
from fairsweep.analysis.results.sweep_frames import DONE, At, FrameOptions, SweepFrames
from fairsweep.analysis.statistics.effects import Effect
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
replicates alone, ``images_low`` and ``images_high`` that of the test images alone: the two parts of the interval, of
which one replicate does not know the former. ``std`` is the standard deviation between replicates; ``undefined`` counts
the replicates whose value is NaN and which are left out. ``expected_if_equal`` is NaN for differences.
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
            the images' luck (`fairsweep.analysis.results.crossed_resampling.crossed_means`), as in the report; those of
            differences are paired (`fairsweep.analysis.statistics.effects.Effect`). Without it, of one replicate, of
            means over strata, and with several iterations of a trial, they are those of tables; the column
            ``interval`` says which.
        draws: number of resamples of the images, for scores.

    Returns:
        One row per setting, group and metric; columns `AVERAGE_COLUMNS`.

    Raises:
        ValueError: if the frame is of differences whose pairs are not known: without ``results``, or of excess losses.
    """
    means = average_of_tables(frame, confidence)
    if "iteration" in means:
        return means
    differs = means["baseline"].to_numpy(str) != ""
    excess = [str(name).startswith(_EXCESS) for name in means["metric"]]
    if differs.any() and (results is None or any(excess)):
        remedy = "take excess_loss" if any(excess) else "give results=, or take mean_differences"
        raise ValueError(f"a mean difference has one interval, which needs the pairs of trials: {remedy}")
    if results is None:
        return means
    means = _with_shared_images(means, frame, results, confidence, draws)
    return _with_pairs(means, frame, results, confidence, draws) if differs.any() else means


def average_of_tables(frame: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return `average` with the intervals of tables, where nothing else is known."""
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
    return result[[*AVERAGE_COLUMNS, *(["iteration"] if "iteration" in keys else [])]]


def _with_shared_images(
    means: pd.DataFrame, frame: pd.DataFrame, results: SweepFrames, confidence: float, draws: int
) -> pd.DataFrame:
    """Return averages with the intervals of `crossed_means` where it knows those of the same means."""
    known_metric = np.array([str(name).split("[")[0] in METRICS for name in frame["metric"]], np.bool_)
    plain = frame[(frame["baseline"].to_numpy(str) == "") & known_metric]
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

    It is `average` of the frame of these metrics, and refuses a sweep without predictions.

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
    frame = results.frame(metrics, baseline=baseline, **choice)
    return average(frame, choice.get("confidence", 0.95), results=results, draws=draws)


@renamed(against="baseline")
def mean_differences(
    results: SweepFrames, metrics: Sequence[str] | None = None, *, baseline: str, **choice: Unpack[FrameOptions]
) -> pd.DataFrame:
    """Return the mean differences of each setting from its baseline, with the intervals of the report.

    It is `average` of the frame of differences: an interval covers variation between seeds and the sampling of the test
    images that both sides share, see `fairsweep.analysis.statistics.effects.Effect`; the column ``interval`` says so.

    Args:
        results: the sweep.
        metrics: see `SweepFrames.frame`.
        baseline: see `SweepFrames.frame`.
        choice: the keywords of `SweepFrames.rates`; ``at="all"`` cannot be averaged.

    Returns:
        The columns `AVERAGE_COLUMNS`.
    """
    frame = results.frame(metrics, baseline=baseline, **choice)
    return average(frame, choice.get("confidence", 0.95), results=results)


def set_effect(means: pd.DataFrame, row: Hashable, effect: Effect, confidence: float, most: float) -> None:
    """Give a row of averages the value of an effect, its interval, and the two parts of that."""
    parts = {
        "": effect.interval(confidence, most),
        "training_": effect.interval_of_seeds(confidence, most),
        "images_": effect.interval_of_images(confidence, most),
    }
    means.loc[row, "value"] = float(effect.estimate)
    for name, (low, high) in parts.items():
        means.loc[row, [f"{name}low", f"{name}high"]] = [float(low), float(high)]
    means.loc[row, "interval"] = OF_PAIRS


def _with_pairs(
    means: pd.DataFrame, frame: pd.DataFrame, results: SweepFrames, confidence: float, draws: int
) -> pd.DataFrame:
    """Return averages in which those of differences have the interval of `PairedMetric`."""
    pairs = _pairs_of(frame, results)
    of = {str(name): pairs[pairs["trial"].isin(trials)] for name, trials in frame.groupby("setting")["trial"]}
    known = results.trials["trial"].isin([*pairs["trial"], *pairs["baseline_trial"]])
    states = results.trials.loc[known, "state"].unique().tolist()
    chosen = means[means["baseline"].to_numpy(str) != ""]
    for (split, attribute, metric), rows in chosen.groupby(["split", "attribute", "metric"], sort=False):
        mine = frame[(frame["split"] == split) & (frame["attribute"] == attribute) & (frame["metric"] == metric)]
        by = [name for name in str(attribute).split(JOINT) if name]
        at = _at(mine, results, str(split))
        if at is None or not {*by} <= {*results.attributes}:
            continue
        compared = PairedMetric.of(results, str(metric), by, split=str(split), at=at, states=states, draws=draws)
        for i, one, group in zip(rows.index, rows["setting"].astype(str), rows["group"].astype(str), strict=True):
            found = compared.difference(group, of[one])
            if found is not None:
                set_effect(means, i, found[0], confidence, compared.most)
    return means


def _pairs_of(frame: pd.DataFrame, results: SweepFrames) -> pd.DataFrame:
    """Return the pairs of trials behind a frame of differences: columns ``trial`` and ``baseline_trial``."""
    asked = frame.loc[frame["baseline"].to_numpy(str) != "", ["trial", "baseline"]].astype(str).drop_duplicates()
    known = pd.concat([results.pairs(name).pairs for name in (TWIN, *asked["baseline"].unique())]).astype(str)
    pairs: pd.DataFrame = asked.merge(known.drop_duplicates(["trial", "baseline"]), on=["trial", "baseline"])
    return pairs


def _at(frame: pd.DataFrame, results: SweepFrames, split: str) -> At | None:
    """Return which iterations of the trials a frame holds; None if neither the last nor the selected ones."""
    asked = set(zip(frame["trial"].astype(str), frame["iteration"], strict=True))
    choices: tuple[At, ...] = ("last", "selected")
    for at in choices:
        every = results.evaluations(split=split, at=at, states=None)
        if asked <= set(zip(every.trial.astype(str), every.iteration, strict=True)):
            return at
    return None


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
    return range_of(name.removeprefix(_EXCESS).removesuffix(")"))
