"""Counts by any attribute of the images: from the cells, or from the predictions for an attribute that is no group.

Cells are recorded of every iteration, predictions of the last and of the one that validation selects.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairsweep.analysis.records.counts import JOINT, CountArray, Evaluations
from fairsweep.analysis.results.outcomes import group_codes, read_outcomes
from fairsweep.analysis.results.sweep_records import SweepRecords


def counted_by(results: SweepRecords, evaluations: Evaluations, by: Sequence[str]) -> CountArray:
    """Return count arrays of some evaluations by the intersections of some attributes.

    Args:
        results: the sweep.
        evaluations: which ones.
        by: names in `SweepRecords.attributes`; none for all examples together.

    Raises:
        ValueError: if there is no such attribute, or one that is no group of the sweep is asked for where predictions,
            or the attribute of an image, are not recorded.
    """
    cells = results.all_cells
    unknown = [name for name in by if name not in cells.vocabularies]
    if unknown:
        known = results.attributes
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"by must be an attribute of the recorded images, one of {list(known)}, but got {unknown[0]!r}{hint}"
        )
    further = [name for name in by if name not in (*cells.groups, cells.label)]
    if not further:
        return cells.stack(evaluations, by)
    groups, classes = cells.group_names(by), len(cells.classes)
    values = np.zeros((len(evaluations), len(groups), classes, classes), np.int64)
    for i, (trial, iteration) in enumerate(zip(evaluations.trial, evaluations.iteration, strict=True)):
        outcomes = read_outcomes(results, evaluations.split, pd.DataFrame({"trial": [trial], "iteration": [iteration]}))
        codes = None if outcomes is None else group_codes(results, outcomes, by)
        if outcomes is None or codes is None:
            raise ValueError(
                f"by={further[0]!r}, which is none of the sweep's groups, needs the predictions of {trial} on "
                f"{evaluations.split} at iteration {iteration}, and the {further[0]} of each image in "
                "examples.parquet, but they are not recorded: take at='last' or 'selected', or "
                f"by={(*cells.groups, cells.label)[0]!r}, which is counted at every iteration"
            )
        place = outcomes.cells(0, codes, len(groups), classes)
        values[i] = np.bincount(place, minlength=values[i].size).reshape(values[i].shape)
    return CountArray(evaluations, JOINT.join(by), groups, cells.classes, values)
