"""Bootstrap intervals for every metric of a sweep, by resampling the cells of each trial's evaluation.

Wilson and simultaneous intervals are the default elsewhere: they are as good and need no draws. The bootstrap uses that
a balanced evaluation set fixes the counts of groups and labels, and takes any metric. It knows the test images only, as
those do; `average` adds what differs between replicates.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import pandas as pd

from fairsweep.analysis.counts import JOINT
from fairsweep.analysis.disparities import disparity, present, stacked_quotients
from fairsweep.analysis.intervals import Strata, bootstrap_draws
from fairsweep.analysis.metrics import Metric, resolve
from fairsweep.analysis.rates import Counts, Floats, Rate, divide, quotients
from fairsweep.analysis.results import DONE, Choice, SweepResults

_METHOD = "bootstrap of cells"


def bootstrap_frame(
    results: SweepResults,
    metrics: Sequence[str] | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
    **choice: Unpack[Choice],
) -> pd.DataFrame:
    """`SweepResults.frame` with bootstrap intervals in the place of Wilson's and the simultaneous ones.

    Rates get percentile intervals. The percentile interval of a largest difference misses 0 when the groups are equal,
    so differences take the intervals of all pairs of groups at the Bonferroni level, as `gaps.simultaneous` does; a
    ratio, a lowest rate and a gap to overall get percentile intervals, which lean away from equality where groups are
    small.

    Args:
        results: the sweep.
        metrics: as in `SweepResults.frame`.
        draws: resamples of each evaluation.
        seed: of the draws; those of a trial depend on its name and on nothing else.
        choice: the keywords of `SweepResults.rates`.
    """
    frame = results.frame(metrics, **choice).reset_index(drop=True)
    confidence, positive = choice.get("confidence", 0.95), choice.get("positive")
    low, high = np.full(len(frame), np.nan), np.full(len(frame), np.nan)
    split, at, states = choice.get("split", "test"), choice.get("at", "last"), choice.get("states", DONE)
    finest = results.counts(results.groups, split=split, at=at, states=states)
    strata = {folder.name: _strata(results, folder.config or {}) for folder in results.folders}
    attributes, names = frame["attribute"].unique().tolist(), frame["metric"].unique().tolist()
    blocks = frame.groupby(["trial", "iteration", "attribute", "metric"], sort=False).indices
    for i, (trial, iteration) in enumerate(zip(finest.evaluations.trial, finest.evaluations.iteration, strict=True)):
        generator = _generator(seed, str(trial), int(iteration))
        resampled = bootstrap_draws(finest.values[i], strata=strata[str(trial)], generator=generator, draws=draws)
        for attribute in attributes:
            cells = _grouped(results, resampled, attribute)
            for name in names:
                rows = blocks.get((trial, iteration, attribute, name))
                if rows is not None:
                    low[rows], high[rows] = _bounds(cells, resolve(name, results.classes, positive), confidence)
    undefined = ~np.isfinite(frame["value"].to_numpy(np.float64))
    frame["low"], frame["high"] = np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)
    return frame.assign(interval=_METHOD)


def _bounds(cells: Counts, metric: Metric, confidence: float) -> tuple[Floats, Floats]:
    """Bounds of a rate for each group, float64 [G], or of a disparity, float64 [1]; from cells [draws, G, K, K]."""
    row = metric.row
    if isinstance(row, Rate):
        return _percentiles(divide(*quotients(cells, row, metric.positive)), confidence)
    if row.statistic != "difference":
        return _percentiles(disparity(cells, row, metric.positive)[:, None], confidence)
    rates = divide(*stacked_quotients(cells, row, metric.positive))
    groups = np.flatnonzero(present(cells).any(0))
    first, second = np.triu_indices(len(groups), 1)
    pairs = rates[..., groups[first]] - rates[..., groups[second]]
    least, most = _percentiles(pairs, 1 - (1 - confidence) / max(1, rates.shape[1] * len(first)))
    at_least = np.maximum(least, -most).max(-1, initial=0)
    at_most = np.maximum(most, -least).max(-1, initial=0)
    if row.combination == "mean":
        return at_least.mean(keepdims=True), at_most.mean(keepdims=True)
    return at_least.max(keepdims=True), at_most.max(keepdims=True)


def _percentiles(values: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Percentiles over the first axis; draws in which a value is undefined are left out."""
    known = np.isfinite(values)
    filled = np.where(known.any(0), values, 0)
    low, high = np.nanquantile(filled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def _grouped(results: SweepResults, resampled: Counts, attribute: str) -> Counts:
    """Cells of the finest groups, [draws, all groups, K, K], summed to the groups of one grouping."""
    draws, _, classes, _ = resampled.shape
    sizes = [len(results.vocabulary(name).values) for name in results.groups]
    cells = resampled.reshape(draws, *sizes, classes, classes)
    names = attribute.split(JOINT) if attribute else []
    if names == [results.label] and results.label not in results.groups:
        whole = cells.sum(tuple(range(1, 1 + len(sizes))))
        return np.asarray(np.einsum("dlp,lg->dglp", whole, np.eye(classes, dtype=np.int64)))
    kept = [results.groups.index(name) for name in names]
    others = tuple(1 + i for i in range(len(sizes)) if i not in kept)
    # The sum leaves the groups in the sweep's order; the grouping may name them in another.
    axes = [1 + sorted(kept).index(i) for i in kept]
    ordered = np.transpose(cells.sum(others), [0, *axes, 1 + len(kept), 2 + len(kept)])
    return np.asarray(ordered.reshape(draws, -1, classes, classes))


def _strata(results: SweepResults, config: Mapping[str, Any]) -> Strata:
    """What the trial's test set holds fixed, as far as the recorded groups tell."""
    balance = set((config.get("evaluation") or {}).get("balance") or ())
    if not set(results.groups) <= balance:
        return "none"
    return "group and label" if results.label in balance else "group"


def _generator(seed: int, trial: str, iteration: int) -> np.random.Generator:
    digest = hashlib.blake2b(f"bootstrap/{seed}/{trial}/{iteration}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
