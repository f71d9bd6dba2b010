"""Candidate settings at each level of imbalance, with Pareto front and distance to the ideal point on validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairsweep.analysis.inference.selection import best_setting, distance_to_ideal, pareto_front, settings_table
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At


def candidates(
    results: SweepResults,
    *,
    by: str | Sequence[str],
    utility: str = "accuracy",
    disparity: str = "accuracy_difference",
    at: At = "last",
) -> pd.DataFrame:
    """Return the settings of a sweep, compared within their level, since the imbalance is given and not selected.

    Args:
        results: the sweep.
        by: the groups that the disparity compares.
        utility: a rate or score of all examples.
        disparity: a disparity.
        at: see `SweepResults.evaluations`.

    Returns:
        The columns of `fairsweep.analysis.inference.selection.settings_table` and three more, which look at the
        validation means of both and at ε where some setting has a finite one: ``front`` (no other setting of
        the level dominates it), ``distance`` (to the best of all in each), ``best`` (has the best utility). Settings
        that have collapsed take no part.
    """
    table = settings_table(results, (utility, disparity), by=by, at=at)
    front, best = np.zeros(len(table), np.bool_), np.zeros(len(table), np.bool_)
    distance = np.full(len(table), np.nan)
    for places in table.groupby("level", sort=False, observed=True).indices.values():
        places = places[(table["collapsed"].to_numpy() == 0)[places]]
        rows = table.iloc[places]
        columns = judged(rows, utility, disparity)
        known = np.isfinite(rows[columns[:2]].to_numpy(np.float64)).all(1) & rows[columns].notna().to_numpy().all(1)
        if not known.any():
            continue
        inside = places[known]
        front[inside] = pareto_front(table.iloc[inside], columns)
        distance[inside] = distance_to_ideal(table.iloc[inside], columns)
        best |= table["setting"].to_numpy() == best_setting(table.iloc[inside], f"validation {utility}")["setting"]
    return table.assign(front=front, distance=distance, best=best)


def judged(table: pd.DataFrame, utility: str = "accuracy", disparity: str = "accuracy_difference") -> list[str]:
    """Return the selection criteria: columns of validation means, and ε if one is finite."""
    private = bool(np.isfinite(table["epsilon"].to_numpy(np.float64)).any())
    return [f"validation {utility}", f"validation {disparity}", *(["epsilon"] if private else [])]
