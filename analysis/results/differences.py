"""Differences between paired trials, with intervals for shared test images.

The test images err in the same direction for both trials: subtracting the accuracies of two models that mostly agree
cancels most of it. How much is read off the predictions, id by id, as the correlation of the two outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairsweep.analysis.metrics.catalogue import Metric, resolve
from fairsweep.analysis.metrics.rates import Bools, Floats, Rate, divide
from fairsweep.analysis.results.outcomes import Outcomes, group_masks, read_outcomes
from fairsweep.analysis.results.sweep_records import SweepRecords
from fairsweep.analysis.statistics.intervals import subtract

_KEY = ["split", "attribute", "group", "metric"]


def difference_rows(
    results: SweepRecords, frame: pd.DataFrame, pairs: pd.DataFrame, positive: str | None = None
) -> pd.DataFrame:
    """Subtract each trial's baseline in a tidy table.

    For rates whose denominator depends on the label alone the interval is Newcombe's for paired proportions, with the
    correlation from the predictions; where predictions are missing, and for all other metrics, the two are taken as
    independent, which is wider than need be. The intervals cover the sampling of test images only: `average` adds what
    differs between replicates.

    Args:
        results: the sweep.
        frame: a tidy table of both trials of each pair.
        pairs: columns ``trial``, ``baseline_trial``, ``baseline``.
        positive: the positive class, as the frame was made.

    Returns:
        A tidy table of the trials that have a baseline: ``value`` is trial minus baseline, ``n_min`` the smaller count,
        ``expected_if_equal`` NaN, ``baseline`` the baseline's learner.

    References:
        See `fairsweep.analysis.statistics.intervals.subtract`.
    """
    mine = frame.drop(columns="baseline").merge(pairs, on="trial")
    keys = [*_KEY, "iteration"] if frame.duplicated(["trial", *_KEY]).any() else _KEY
    other = frame[["trial", "iteration", *_KEY, "value", "low", "high", "n_min"]]
    both = mine.merge(
        other,
        left_on=["baseline_trial", *keys],
        right_on=["trial", *keys],
        suffixes=("", "_baseline"),
        validate="many_to_one",
    )
    if "iteration_baseline" not in both:
        both["iteration_baseline"] = both["iteration"]
    correlation = _correlations(results, both, positive)
    known = np.isfinite(correlation)
    names = ("value", "low", "high")
    value, down, up = (both[name].to_numpy(np.float64) for name in names)
    other_value, other_down, other_up = (both[f"{name}_baseline"].to_numpy(np.float64) for name in names)
    first, second = (value, down, up), (other_value, other_down, other_up)
    low, high = subtract(first, second, np.where(known, correlation, 0.0))
    both["value"] = both["value"] - both["value_baseline"]
    both["low"], both["high"] = low, high
    both["n_min"] = np.minimum(both["n_min"], both["n_min_baseline"])
    both["expected_if_equal"] = np.nan
    both["interval"] = np.where(known, "paired", "as if independent")
    return both[list(frame.columns)]


def phi(both: Floats, first: Floats, second: Floats, neither: Floats) -> Floats:
    """Correlation of two paired yes-or-no outcomes, with Newcombe's continuity correction; 0 where one never varies.

    Args:
        both: how often both succeed, float64 [...].
        first: how often only the first does.
        second: how often only the second does.
        neither: how often neither does.
    """
    product = both * neither - first * second
    corrected = np.where(product > 0, np.maximum(product - (both + first + second + neither) / 2, 0), product)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    return np.nan_to_num(divide(corrected, np.sqrt(margins)), nan=0.0)


def _correlations(results: SweepRecords, both: pd.DataFrame, positive: str | None) -> Floats:
    """Return the correlation of the outcomes of each row's two trials; NaN where it cannot be known."""
    correlation = np.full(len(both), np.nan)
    split, attribute, metric = (both[name].to_numpy(str) for name in ("split", "attribute", "metric"))
    # Trials of different folds are evaluated on different images: those of one set are read together.
    hashes = {folder.name: (folder.data or {}).get("hashes") or {} for folder in results.folders}
    seen = np.array([hashes.get(trial, {}).get(one, "") for trial, one in zip(both["trial"], split, strict=True)], str)
    for one_split, one_set in sorted(set(zip(split.tolist(), seen.tolist(), strict=True))):
        part = (split == one_split) & (seen == one_set)
        outcomes = _outcomes_of(results, str(one_split), both[part])
        if outcomes is None:
            continue
        first = _positions(outcomes, both["trial"], both["iteration"])
        second = _positions(outcomes, both["baseline_trial"], both["iteration_baseline"])
        usable = part & (first >= 0) & (second >= 0)
        for one_attribute in np.unique(attribute[usable]):
            groups = group_masks(results, outcomes, str(one_attribute))
            for name in np.unique(metric[usable]):
                chosen = np.flatnonzero(usable & (attribute == one_attribute) & (metric == name))
                row = resolve(str(name), results.classes, positive)
                if groups is not None and isinstance(row.row, Rate) and row.row.given_label:
                    group = both["group"].iloc[chosen].tolist()
                    correlation[chosen] = _phi_of(outcomes, row, groups, first[chosen], second[chosen], group)
    return correlation


def _phi_of(
    outcomes: Outcomes,
    metric: Metric,
    groups: dict[str, Bools],
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    group: Sequence[str],
) -> Floats:
    row = metric.row
    if not isinstance(row, Rate):
        raise TypeError(f"{metric.name} must be a rate, but is a disparity")
    code = -1 if metric.positive is None else metric.positive
    classes = int(max(outcomes.label.max(), outcomes.prediction.max())) + 1
    success = row.numerator(classes, code)[outcomes.label, outcomes.prediction]
    valid = row.denominator(classes, code)[outcomes.label, 0]
    pairs = np.stack([first, second, [list(groups).index(name) for name in group]], axis=1)
    distinct, back = np.unique(pairs, axis=0, return_inverse=True)
    masks = list(groups.values())
    values = np.empty(len(distinct))
    for i, (one, two, number) in enumerate(distinct):
        mask = masks[number] & valid
        a, b = success[one, mask], success[two, mask]
        counts = [np.float64(value) for value in ((a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum())]
        values[i] = phi(*(np.asarray(count) for count in counts))
    return values[back.reshape(-1)]


def _outcomes_of(results: SweepRecords, split: str, part: pd.DataFrame) -> Outcomes | None:
    """Return the predictions on a split of all trials of some rows; None unless all saw the same ids."""
    mine, other = part[["trial", "iteration"]], part[["baseline_trial", "iteration_baseline"]]
    asked = pd.concat([mine, other.set_axis(["trial", "iteration"], axis=1)]).drop_duplicates()
    return read_outcomes(results, split, asked)


def _positions(outcomes: Outcomes, trial: pd.Series, iteration: pd.Series) -> npt.NDArray[np.int64]:
    pairs = zip(trial, iteration, strict=True)
    return np.array([outcomes.row.get((name, int(number)), -1) for name, number in pairs], np.int64)
