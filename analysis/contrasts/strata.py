"""Disparities within the strata of a further attribute: fairlearn's control features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.frames import disparity_rows, with_trials
from fairsweep.analysis.results.people import People, PeopleOfGroups
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import DONE, At


def controlled_frame(
    results: SweepResults,
    metrics: Sequence[str],
    *,
    by: str | Sequence[str],
    within: str | Sequence[str],
    split: str = "test",
    at: At = "last",
    states: Sequence[str] | None = DONE,
    positive: str | None = None,
    confidence: float = 0.95,
    expected_if_equal: bool = True,
    seed: int = 0,
    min_group_size: int | None = None,
) -> pd.DataFrame:
    """Return the disparities between the groups of one attribute within each value of another, which is held fixed.

    Args:
        results: the sweep.
        metrics: disparities from cells.
        by: whose groups are compared.
        within: the attribute (or several, for their intersections) whose values are the strata.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.
        positive: the positive class; default the second of two.
        confidence: of each simultaneous interval.
        expected_if_equal: see `SweepResults.disparities`.
        seed: see `SweepResults.disparities`.
        min_group_size: groups with fewer examples in a stratum take no part in it; see `SweepResults.disparities`.

    Returns:
        A tidy table with one row per trial, stratum and metric; ``group`` is the stratum, ``attribute`` names both.

    Raises:
        ValueError: if a metric is no disparity, or needs predictions.

    References:
        Bird et al. 2020, fairlearn, ``MetricFrame(control_features=…)``.
    """
    chosen = [resolve(name, results.classes, positive) for name in metrics]
    wrong = [metric.name for metric in chosen if not isinstance(metric.row, Disparity) or not metric.of_cells]
    if wrong:
        raise ValueError(f"metrics must be disparities from cells, as describe() lists them, but got {wrong}")
    groups, strata = ((names,) if isinstance(names, str) else tuple(names) for names in (by, within))
    counts = results.counts((*strata, *groups), split=split, at=at, states=states)
    named, values = results.all_cells.group_names(groups), results.all_cells.group_names(strata)
    split_up = counts.values.reshape(len(counts.evaluations), len(values), len(named), *counts.values.shape[-2:])
    people = People.of(results, counts.evaluations)
    least = results.min_group_size if min_group_size is None else min_group_size
    sizes = results.group_sizes((*strata, *groups), counts.evaluations)
    enough = (sizes >= least).reshape(len(values), len(named))
    title = f"{JOINT.join(groups)}, within {JOINT.join(strata)}"
    parts = []
    for place, stratum in enumerate(values):
        inside = replace(counts, attribute=title, groups=named, values=np.ascontiguousarray(split_up[:, place]))
        rows = disparity_rows(
            inside,
            chosen,
            confidence,
            expected_if_equal=expected_if_equal,
            seed=seed,
            ranked=enough[place],
            people=None if people is None else PeopleOfGroups(people, (*strata, *groups), (len(values), place)),
        )
        parts.append(rows.assign(group=stratum))
    return with_trials(pd.concat(parts, ignore_index=True), results.trials)
