"""Objectives that are undefined for every model on the validation set: refused before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pyarrow as pa

from fairsweep.analysis.records.cell_records import group_column
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.planning.objectives import aims_of, meaning_of
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.learning.evaluation import EvaluationSet
from fairsweep.trainables.learning.measures import SPENT, Measure, Standing
from fairsweep.trainables.learning.validation_predictions import ValidationPredictions


def check_defined(sweep: SweepSpec, dataset: PreparedDataset, validation: EvaluationSet) -> None:
    """Check that every aim of a sweep can have a value on its validation set.

    Whether a measure is defined depends on which counts are 0. The model that is looked at predicts every class for
    every example: where that has no value, no other has.

    Args:
        sweep: the sweep.
        dataset: its dataset.
        validation: its validation set.

    Raises:
        SweepError: with the counts that are the reason.
    """
    aims = [(place, aim) for place, aim in aims_of(sweep) if aim.measure.metric not in SPENT]
    if not aims:
        return
    meaning = meaning_of(sweep, dataset)
    classes = len(meaning.values[meaning.label])
    count = len(validation.labels)
    label = np.repeat(validation.labels, classes)
    groups = {name: np.repeat(codes, classes) for name, codes in validation.groups.items()}
    columns = {"label": label, "prediction": np.tile(np.arange(classes), count), "count": np.ones(count * classes, int)}
    even = np.full((count * classes, classes), -np.log(classes), np.float32)
    wide = {name: codes.astype(np.int64) for name, codes in groups.items()}
    standing = Standing(
        pa.table({group_column(name): codes for name, codes in groups.items()} | columns),
        predictions=ValidationPredictions(even, label.astype(np.int64), wide),
    )
    for place, aim in aims:
        measure = aim.measure.settled(meaning)
        if np.isnan(measure.of(standing, meaning)):
            raise SweepError(
                f"{measure} is undefined on the validation set for every model, because it has "
                f"{_counts(measure, validation, meaning.values, meaning.label)}: choose another measure, or another "
                "evaluation: {validation: …}",
                place,
            )


def _counts(measure: Measure, validation: EvaluationSet, values: Mapping[str, tuple[str, ...]], label: str) -> str:
    """Say how many examples of each group and label there are: those that are fewest first."""
    names = list(dict.fromkeys((*measure.by, *(name for name, _ in measure.where), label)))
    columns = {name: validation.groups.get(name, validation.labels) for name in names}
    counted = []
    for codes in product(*(range(len(values[name])) for name in names)):
        found = np.logical_and.reduce([columns[name] == code for name, code in zip(names, codes, strict=True)])
        words = " & ".join(f"{name}={values[name][code]}" for name, code in zip(names, codes, strict=True))
        counted.append((int(found.sum()), words))
    fewest = sorted(counted, key=lambda item: item[0])[:3]
    return ", ".join(f"{number:,} examples of {words}" for number, words in fewest)
