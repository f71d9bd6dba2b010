"""Settings that are equally good on validation, known as a Rashomon set, and their predictions side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairsweep.analysis.disagreement.agreement import Codes, ImageGroups
from fairsweep.analysis.metrics.rates import Floats, divide
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At

_ROUNDING = 1e-9


def equally_good(
    results: SweepResults, settings: Sequence[str], margin: float, *, at: At, states: Sequence[str] | None
) -> list[list[str]]:
    """Return for each level the settings whose mean validation accuracy is within a margin of the best.

    Args:
        results: the sweep.
        settings: which may take part.
        margin: in [0, 1].
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.

    Returns:
        Lists of at least two settings, the best first; none where there are no validation evaluations.
    """
    if not 0 <= margin <= 1:
        raise ValueError(f"margin must lie in [0, 1], a difference of two accuracies, but got {margin=}")
    try:
        counts = results.counts(split="validation", at=at, states=states)
    except RecordError:
        return []
    cells = counts.values[:, 0]
    accuracy = divide(np.trace(cells, axis1=-2, axis2=-1), cells.sum((-2, -1)))
    of_trial = pd.DataFrame({"trial": list(counts.evaluations.trial), "accuracy": accuracy})
    table = of_trial.merge(results.trials[["trial", "setting", "level"]], on="trial")
    means = table[table["setting"].isin(settings)].groupby(["level", "setting"], sort=False)["accuracy"].mean()
    found = []
    for _, level in means.groupby("level", sort=False):
        best = level.sort_values(ascending=False, kind="stable")
        found.append([str(name) for _, name in best[best >= best.iloc[0] - margin - _ROUNDING].index])
    return [names for names in found if len(names) > 1]


def on_common_seeds(predictions: Sequence[tuple[pd.DataFrame, Codes]]) -> Codes | None:
    """Return the predictions of S settings under the seeds that all of them have.

    Args:
        predictions: of each setting its rows of `SweepResults.trials` and, in their order, int64 [R, N].

    Returns:
        int64 [S, R, N]; None where they have no seeds in common.
    """
    places = [
        {pair: i for i, pair in enumerate(zip(trials["data_seed"], trials["train_seed"], strict=True))}
        for trials, _ in predictions
    ]
    common = [pair for pair in places[0] if all(pair in place for place in places)]
    if not common:
        return None
    chosen = zip(predictions, places, strict=True)
    return np.stack([prediction[[place[pair] for pair in common]] for (_, prediction), place in chosen])


def largest_bounds(images: ImageGroups, values: Floats, observations: int, confidence: float) -> tuple[Floats, Floats]:
    """Return the interval of the largest of S means: two float64 arrays [G].

    The lower bound is the highest of the single ones at the Bonferroni level, as any of them may seem the largest by
    chance. The upper one is the highest at the level of one: it fails only where that of the largest mean does.

    Args:
        images: the groups.
        values: float64 [S, N], in [0, 1].
        observations: see `ImageGroups.bounds`.
        confidence: of the interval.
    """
    low = images.bounds(values, observations, 1 - (1 - confidence) / len(values))[0]
    high = images.bounds(values, observations, confidence)[1]
    return low.max(0), high.max(0)
