"""Scalars by iteration, from the records of one trial.

Names are paths, ``validation/accuracy/tone.dark``: letters, digits and ``_ - . /`` alone, which every tracker takes.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fairsweep.analysis.records.cell_records import CellsFile
from fairsweep.analysis.records.trial_folder import TrialFolder

Series = dict[int, dict[str, float]]
"""Scalars by iteration, ascending."""

DEFAULT_METRICS = (
    "accuracy",
    "true_positive_rate",
    "false_positive_rate",
    "positive_predictive_value",
    "worst_group_accuracy",
    "accuracy_difference",
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
)
SPLITS = ("validation", "test")
_FOREIGN = re.compile(r"[^\w.-]+")
_OF_TRAINING = ("loss", "seconds", "examples", "l2_clip_norm")
_OF_DIAGNOSTICS = ("mean_gradient_norm", "clipped_share", "cosine")
_OF_CLIENTS = (
    "accuracy_mean",
    "accuracy_variance",
    "accuracy_worst_decile",
    "mean_update_norm",
    "clipped_share",
    "cosine",
)


def series_of(
    folder: TrialFolder,
    cells: CellsFile | None,
    metrics: tuple[str, ...] | None,
    spent: Callable[[int], float | None],
) -> Series:
    """Everything of a trial that is a number for each iteration; what is undefined or infinite is left out.

    Args:
        folder: of the trial.
        cells: its cells, if there are any.
        metrics: which metrics of cells; None takes `DEFAULT_METRICS`, those without a meaning here left out.
        spent: epsilon after an iteration.
    """
    found: defaultdict[int, dict[str, float]] = defaultdict(dict)
    names = {} if cells is None else {name: v.values for name, v in cells.vocabularies.items()}
    label = "label" if cells is None else cells.label
    training = folder.training()
    for row in [] if training is None else training.to_pylist():
        found[row["iteration"]] |= _finite(_training_scalars(row, names, label))
    if cells is not None:
        for iteration, name, value in _cell_scalars(cells, metrics):
            found[iteration][name] = value
    for iteration, scalars in found.items():
        epsilon = spent(iteration)
        if epsilon is not None and math.isfinite(epsilon):
            scalars["privacy/epsilon"] = epsilon
    return {iteration: found[iteration] for iteration in sorted(found)}


def path_part(text: str) -> str:
    """Return a text as a part of a scalar's name.

    >>> path_part("25-45 years & male")
    '25-45-years-male'
    """
    return _FOREIGN.sub("-", text).strip("-") or "-"


def _training_scalars(
    row: Mapping[str, Any], names: Mapping[str, tuple[str, ...]], label: str
) -> Iterator[tuple[str, float | None]]:
    for name in _OF_TRAINING:
        yield f"train/{name}", row.get(name)
    for part in row.get("diagnostics") or ():
        where = f"{_value(names, part['attribute'], part['value'])}/{_value(names, label, part['label'])}"
        for name in _OF_DIAGNOSTICS:
            yield f"diagnostics/{name}/{where}", part.get(name)
    for part in row.get("clients") or ():
        where = _value(names, part["attribute"], part["value"]) if part["attribute"] else "all"
        for name in _OF_CLIENTS:
            yield f"clients/{name}/{where}", part.get(name)


def _value(names: Mapping[str, tuple[str, ...]], attribute: str, code: int | None) -> str:
    values = names.get(attribute, ())
    word = values[code] if code is not None and 0 <= code < len(values) else str(code)
    return f"{path_part(attribute)}.{path_part(word)}"


def _finite(scalars: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    return {name: float(value) for name, value in scalars if value is not None and math.isfinite(value)}


def _cell_scalars(file: CellsFile, metrics: tuple[str, ...] | None) -> Iterator[tuple[int, str, float]]:
    """Each metric of all examples and of each group, on each split and iteration."""
    import numpy as np

    from fairsweep.analysis.metrics.disparities import Disparity, disparity, value_of
    from fairsweep.analysis.metrics.probabilities import ProbabilityScore
    from fairsweep.analysis.records.counts import Cells
    from fairsweep.analysis.records.trial_cells import CellSchema, TrialCells

    cells = Cells(CellSchema.of(file), {"": TrialCells.of(file)})
    chosen = list(_resolved(metrics, cells.classes))
    for split in SPLITS:
        evaluations = cells.evaluations(split)
        if not len(evaluations):
            continue
        whole = cells.stack(evaluations, ())
        grouped = {name: cells.stack(evaluations, (name,)) for name in cells.groups}
        for metric in chosen:
            base = f"{split}/{path_part(metric.name)}"
            values: dict[str, Any] = {}
            if isinstance(metric.row, Disparity):
                for name, counts in grouped.items():
                    values[f"{base}/{path_part(name)}"] = disparity(counts.values, metric.row, metric.positive)
            elif not isinstance(metric.row, ProbabilityScore):
                values[base] = value_of(whole.values[:, 0], metric.row, metric.positive)
                for name, counts in grouped.items():
                    each = value_of(counts.values, metric.row, metric.positive)
                    for place, group in enumerate(counts.groups):
                        values[f"{base}/{path_part(name)}.{path_part(group)}"] = each[:, place]
            for name, column in values.items():
                for iteration, value in zip(evaluations.iteration.tolist(), np.asarray(column).tolist(), strict=True):
                    if math.isfinite(value):
                        yield iteration, name, value


def _resolved(metrics: tuple[str, ...] | None, classes: tuple[str, ...]) -> Iterator[Any]:
    from fairsweep.analysis.metrics.catalogue import resolve

    for name in DEFAULT_METRICS if metrics is None else metrics:
        try:
            metric = resolve(name, classes)
        except ValueError:
            # Without a positive class it means nothing here.
            continue
        if metric.of_cells:
            yield metric
