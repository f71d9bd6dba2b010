"""Settings that are significantly worse than another one: paired by seed, corrected for multiple comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from fairsweep.analysis.results.differences import difference_rows
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.results.sweep_records import SweepRecords
from fairsweep.analysis.statistics.variance_components import ROUNDING

FrameAt = Callable[[float], pd.DataFrame]


def beaten(
    results: SweepRecords, frame_at: FrameAt, settings: Sequence[str], *, higher: bool, confidence: float = 0.95
) -> set[str] | None:
    """Return the settings to which another one is significantly superior, by Holm's step-down over all pairs.

    Two settings are compared by the trials that share both seeds, with the joint interval of the mean difference:
    t over the replicates and the error of the test images that both saw. A pair differs significantly at a level if its
    interval excludes 0, which is the same as a test at that level, so that Holm's steps can be taken by intervals.

    Args:
        results: the sweep.
        frame_at: gives the tidy rows of one metric and group at a confidence.
        settings: which are compared.
        higher: whether a higher value is superior.
        confidence: of the family of all pairs.

    Returns:
        The settings that are beaten; None where no pair shares two replicates, so that nothing can be said.

    References:
        Holm 1979, https://www.jstor.org/stable/4615733.
    """
    pairs = {pair: _paired(results.trials, *pair) for pair in combinations(settings, 2)}
    pairs = {pair: table for pair, table in pairs.items() if len(table) >= 2}
    if not pairs:
        return None
    open_pairs, losers = dict(pairs), set()
    while open_pairs:
        level = 1 - (1 - confidence) / len(open_pairs)
        frame = frame_at(level)
        rejected = []
        for pair, table in open_pairs.items():
            direction = _direction(results, frame, table, level)
            if direction:
                losers.add(pair[1] if (direction > 0) == higher else pair[0])
                rejected.append(pair)
        if not rejected:
            break
        for pair in rejected:
            del open_pairs[pair]
    return losers


def _paired(trials: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return the trials of two settings that share both seeds: columns ``trial``, ``baseline_trial``, ``baseline``."""
    done = trials[trials["state"] == "done"]
    one, two = (done[done["setting"] == name] for name in (first, second))
    both = one.merge(two, on=["data_seed", "train_seed"], suffixes=("", "_baseline"))
    return pd.DataFrame({"trial": both["trial"], "baseline_trial": both["trial_baseline"], "baseline": second})


def _direction(results: SweepRecords, frame: pd.DataFrame, pairs: pd.DataFrame, level: float) -> int:
    """Return the 1 if the first setting is significantly above the second, -1 if below, else 0."""
    chosen = frame[frame["trial"].isin([*pairs["trial"], *pairs["baseline_trial"]])]
    means = average(difference_rows(results, chosen, pairs), level)
    if len(means) != 1 or not np.isfinite(means["value"].iloc[0]) or means["replicates"].iloc[0] < 2:
        return 0
    low, high = float(means["low"].iloc[0]), float(means["high"].iloc[0])
    return 1 if low > ROUNDING else (-1 if high < -ROUNDING else 0)
