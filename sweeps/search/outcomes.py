"""The measures of a trial that a search is given: read from its records, on the validation split alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from fairsweep.analysis.records.cell_records import CellsFile, read_cells
from fairsweep.analysis.records.file_names import CELLS, EXAMPLES, PREDICTIONS
from fairsweep.analysis.records.prediction_records import read_examples, read_predictions
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.trainables.learning.measures import Meaning, Measure, Standing, validation_cells
from fairsweep.trainables.learning.validation_predictions import ValidationPredictions


def recorded_values(folder: Path, measures: Sequence[Measure], meaning: Meaning) -> list[float]:
    """Measures of a trial that has ended, at its last iteration.

    Args:
        folder: the trial's folder.
        measures: settled ones.
        meaning: of its cells.

    Returns:
        One value each; NaN where it is undefined.

    Raises:
        RecordError: if a record is damaged.
        FileNotFoundError: if one is missing.
    """
    standing = recorded_standing(folder, read_cells(folder / CELLS))
    if not all(measure.of_cells for measure in measures):
        standing = replace(standing, predictions=recorded_predictions(folder, meaning))
    return [measure.of(standing, meaning) for measure in measures]


def recorded_standing(folder: Path, cells: CellsFile) -> Standing:
    """Where a trial that has ended stands, by its records."""
    _, table = validation_cells(cells)
    trial = TrialFolder(folder)
    seconds = None if trial.state is None else trial.state.seconds
    return Standing(table, trial.epsilon, float("nan") if seconds is None else seconds)


def recorded_predictions(folder: Path, meaning: Meaning) -> ValidationPredictions:
    """Return a trial's last predictions on the validation split.

    Args:
        folder: the trial's folder, in the output folder of its sweep.
        meaning: of the codes.
    """
    table = read_predictions(folder / PREDICTIONS)
    table = table.filter(pc.equal(table.column("split"), "validation"))
    table = table.filter(pc.equal(table.column("iteration"), pc.max(table.column("iteration"))))
    examples = read_examples(folder.parent.parent / EXAMPLES)
    at = pc.index_in(table.column("id"), value_set=examples.column("id"))
    groups = {
        name: np.asarray(examples.column(name).take(at).to_numpy(), np.int64)
        for name in meaning.groups
        if name in examples.column_names
    }
    log_probabilities = np.array(table.column("log_probabilities").to_pylist(), np.float32)
    return ValidationPredictions(log_probabilities, table.column("label").to_numpy().astype(np.int64), groups)
