"""How arbitrary predictions are: what other seeds, or another setting that is as good, would have decided.

Estimand: a test image of a group is drawn (with all images of its person, where people are known), and two of the
trainings that were run; how likely do they predict different classes? Intervals cover the sampling of people. The
trainings are taken as they are: the pairs of few seeds do not tell how much other seeds would disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.disagreement.agreement import ALL_SEEDS, ImageGroups, disagreement, seed_pairs
from fairsweep.analysis.disagreement.equally_good import equally_good, largest_bounds, on_common_seeds
from fairsweep.analysis.metrics.rates import Floats
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.outcomes import Codes, group_codes, read_outcomes, users
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import DONE, At, By

SAME_SEEDS = "same"
SEEDS = ("data", "train", "noise", "order", "init")
"""What a sweep may cross; the last three are 0 where they are not repeated."""
_OF_SETTING = ("learner", "series", "setting", "level", "level_value")
ARBITRARINESS_COLUMNS = (
    "learner",
    "series",
    "level",
    "level_value",
    "epsilon",
    "split",
    "attribute",
    "group",
    "metric",
    "seeds",
    "value",
    "low",
    "high",
    "n",
    "people",
    "replicates",
    "pairs",
    "settings",
    "setting",
)
"""Columns of `arbitrariness`.

``metric`` is one of:

- ``disagreement``: the share of pairs of replicates that predict different classes, mean over images. ``seeds`` says
  which pairs: ``all`` differ in every seed that the sweep varies; of crossed seeds also ``data``, ``train``,
  ``noise``, ``order`` and ``init``, pairs that differ in this one only. A training seed redraws order and initial
  weights too, and no two trials share their noise: all that differ have other noise.
- ``self_consistency``: 1 - disagreement.
- ``arbitrary``: the share of images whose own self-consistency is below the given value.
- ``ambiguity``: the share of images for which a setting of the level's Rashomon set predicts otherwise than the best.
- ``discrepancy``: the largest share of images for which one such setting does.

The last two compare settings under the ``same`` seeds, mean over these; the best setting stands in their row, and
``settings`` counts the set. ``n`` counts images, ``people`` what
was resampled, ``pairs`` the pairs of replicates.
"""


@dataclass(frozen=True)
class _Setting:
    """The replicates of one setting on the same images.

    Attributes:
        trials: their rows of `SweepResults.trials`.
        ids: of the images, int64 [N].
        prediction: in the order of the trials, int64 [R, N].
        seeds: by name those of the trials, int64 [R].
        groupings: the groups of the images, for each grouping that was asked for.
    """

    trials: pd.DataFrame
    ids: Codes
    prediction: Codes
    seeds: dict[str, Codes]
    groupings: tuple[ImageGroups, ...]

    @cached_property
    def head(self) -> dict[str, Any]:
        """Return what each of its rows begins with."""
        first = self.trials.iloc[0]
        # Each replicate guarantees its own: no trial guarantees their mean.
        return {name: first[name] for name in _OF_SETTING} | {"epsilon": float(self.trials["epsilon"].max())}


@dataclass(frozen=True)
class _Measured:
    """A number for each group of one grouping, float64 [G], with its interval."""

    metric: str
    value: Floats
    low: Floats
    high: Floats
    seeds: str = ALL_SEEDS
    pairs: int = 0


def arbitrariness(
    results: SweepResults,
    by: By | None = None,
    *,
    consistency: float = 0.75,
    margin: float = 0.01,
    split: str = "test",
    at: At = "last",
    states: Sequence[str] | None = DONE,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return how often the replicates of a setting, and settings that are equally good, disagree about an image.

    Args:
        results: the sweep, with predictions.
        by: an attribute (the label too), or several for their intersections; None takes all images together and each
            of the sweep's groups.
        consistency: an image whose self-consistency is below it counts as arbitrary.
        margin: settings of a level whose mean validation accuracy is at most this much below the best are its Rashomon
            set.
        split: see `SweepResults.evaluations`.
        at: ``last`` or ``selected``; see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.
        confidence: of the intervals, over people.

    Returns:
        The columns `ARBITRARINESS_COLUMNS`. Settings with one replicate, or whose replicates saw different images, have
        no rows; nor has a Rashomon set of one setting.

    Raises:
        ValueError: if ``at`` is ``all``, or the groups are not recorded for every image.

    References:
        Cooper et al. 2024, arXiv 2301.11562 (self-consistency); Marx, Calmon & Ustun 2020, arXiv 1909.06677 (ambiguity,
        discrepancy); Black et al. 2022, arXiv 2111.08230; Kulynych et al. 2023, arXiv 2302.14517 (under privacy).
    """
    if at == "all":
        raise ValueError("at must be 'last' or 'selected', as one evaluation of each trial is compared, but got 'all'")
    listed = (by,) if isinstance(by, str) else by
    names = [(), *((name,) for name in results.groups)] if listed is None else [tuple(listed)]
    settings = {str(one.trials["setting"].iloc[0]): one for one in _settings(results, names, split, at, states)}
    rows = []
    for one in settings.values():
        for place in range(len(names)) if len(one.trials) > 1 else ():
            measured = _between_seeds(one, place, consistency, confidence)
            rows += [(one, place, number, len(one.trials), 1) for number in measured]
    for good in equally_good(results, list(settings), margin, at=at, states=states):
        best = settings[good[0]]
        stacked = on_common_seeds([(settings[name].trials, settings[name].prediction) for name in good])
        if stacked is not None and all(np.array_equal(best.ids, settings[name].ids) for name in good):
            for place in range(len(names)):
                measured = _between_settings(stacked, best.groupings[place], confidence)
                rows += [(best, place, number, stacked.shape[1], len(good)) for number in measured]
    labels = [(JOINT.join(grouping), results.all_cells.group_names(grouping)) for grouping in names]
    flat = [line for row in rows for line in _lines(*row, *labels[row[1]])]
    return pd.DataFrame(flat, columns=list(ARBITRARINESS_COLUMNS)).assign(split=split)


def _settings(
    results: SweepResults, names: Sequence[tuple[str, ...]], split: str, at: At, states: Sequence[str] | None
) -> Iterator[_Setting]:
    """Yield the settings whose replicates have predictions on the same images."""
    evaluations = results.evaluations(split=split, at=at, states=states)
    asked = pd.DataFrame({"trial": list(evaluations.trial), "iteration": evaluations.iteration})
    trials = results.trials.set_index("trial", drop=False)
    seeds_of = {folder.name: (folder.config or {}).get("seeds") or {} for folder in results.folders}
    before: tuple[Codes, tuple[ImageGroups, ...]] | None = None
    for _, wanted in asked.groupby(trials["setting"].reindex(asked["trial"]).to_numpy(), sort=False):
        outcomes = read_outcomes(results, split, wanted)
        if outcomes is None:
            continue
        if before is None or not np.array_equal(before[0], outcomes.ids):
            people, groupings = users(results, outcomes), []
            for grouping in names:
                codes = group_codes(results, outcomes, grouping)
                if codes is None:
                    raise ValueError(f"groups of {JOINT.join(grouping)} must be recorded for every image, but are not")
                count = len(results.all_cells.group_names(grouping))
                groupings.append(ImageGroups(codes, count, outcomes.label, people))
            before = outcomes.ids, tuple(groupings)
        listed = [trial for trial, _ in outcomes.row]
        recorded = [seeds_of[trial] for trial in listed]
        seeds = {name: np.array([own.get(name, 0) for own in recorded], np.int64) for name in SEEDS}
        yield _Setting(trials.loc[listed], outcomes.ids, outcomes.prediction, seeds, before[1])


def _between_seeds(one: _Setting, place: int, consistency: float, confidence: float) -> Iterator[_Measured]:
    """Yield how far the replicates of a setting disagree, by all seeds that vary and by each alone."""
    images = one.groupings[place]
    for name, pairs in seed_pairs(one.seeds).items():
        count = int(np.triu(pairs).sum())
        shares = disagreement(one.prediction, pairs)
        value, (low, high) = images.means(shares), images.bounds(shares, count, confidence)
        yield _Measured("disagreement", value, low, high, name, count)
        if name != ALL_SEEDS:
            continue
        yield _Measured("self_consistency", 1 - value, 1 - high, 1 - low, name, count)
        below = (1 - shares < consistency).astype(np.float64)
        yield _Measured("arbitrary", images.means(below), *images.bounds(below, 1, confidence), name, count)


def _between_settings(predictions: Codes, images: ImageGroups, confidence: float) -> Iterator[_Measured]:
    """Yield ambiguity and discrepancy of settings, int64 [S, R, N], the first of them the best."""
    differs = predictions[1:] != predictions[0]
    replicates = differs.shape[1]
    shares = differs.any(0).mean(0)
    yield _Measured("ambiguity", images.means(shares), *images.bounds(shares, replicates, confidence), SAME_SEEDS)
    each = differs.mean(1)
    low, high = largest_bounds(images, each, replicates, confidence)
    yield _Measured("discrepancy", images.means(each).max(0), low, high, SAME_SEEDS)


def _lines(
    one: _Setting, place: int, found: _Measured, replicates: int, settings: int, attribute: str, groups: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one measure, one for each group."""
    images = one.groupings[place]
    about = {"attribute": attribute, "metric": found.metric, "seeds": found.seeds, "pairs": found.pairs}
    counts = {"replicates": replicates, "settings": settings}
    columns = zip(groups, found.value, found.low, found.high, images.images, images.units, strict=True)
    for group, value, low, high, n, people in columns:
        numbers = {"group": group, "value": value, "low": low, "high": high, "n": n, "people": people}
        yield one.head | about | counts | numbers
