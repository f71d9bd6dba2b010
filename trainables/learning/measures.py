"""Measures: one number computed on the validation split, for searches, schedulers, stopping rules and populations.

A measure is written as people say it, without brackets or commas, so that it stands in YAML as it is:

| written | meaning |
|---|---|
| ``accuracy`` | a rate of all examples |
| ``accuracy where tone=dark`` | a rate of one group (``where tone=dark & shape=round``: of an intersection) |
| ``worst_group_accuracy by tone`` | a disparity between the groups of an attribute (``by tone & shape``: of both) |
| ``true_positive_rate of 8`` | with a positive class, where there are more than two; ``true_positive_rate[8]`` too |
| ``auc``, ``log_loss``, ``calibration_error`` | of probabilities; with ``where`` of one group |
| ``worst_group_auc by tone``, ``log_loss_difference by tone`` | the same between groups |
| ``epsilon`` | what has been spent, by PLD; infinite where nothing is promised |
| ``seconds`` | of training and evaluation |

A value is given by its name or by the one that it is shown by. All others are rows of `fairsweep.analysis.METRICS`,
computed by the functions of that package. There is no word for a split: everything is read on the validation split.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fairsweep.analysis.records.cell_records import CellsFile, group_column
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.datasets.storage.layout import Attribute, nearest
from fairsweep.trainables.learning.validation_predictions import ValidationPredictions

SPENT = ("epsilon", "seconds")
"""Measures that are no function of cells."""

_OTHER_WORDS = {
    "ece": "expected_calibration_error",
    "roc_auc": "auc",
    "auroc": "auc",
    "nll": "log_loss",
    "cross_entropy": "log_loss",
    "loss": "log_loss",
    "tpr": "true_positive_rate",
    "recall": "true_positive_rate",
    "fpr": "false_positive_rate",
    "precision": "positive_predictive_value",
    "brier": "brier_score",
}

_FORM = re.compile(
    r"(?P<metric>\w+)(?:\[(?P<class>[^\]]+)\]|\s+of\s+(?P<positive>.+?))?(?:\s+by\s+(?P<by>.+?)|\s+where\s+(?P<where>.+?))?"
)


@dataclass(frozen=True)
class Meaning:
    """What the cells of a sweep mean.

    Attributes:
        label: the attribute that is predicted.
        groups: the group attributes.
        values: the values of each of them and of the label, by name.
        shown: the names that these values are shown by, where they are others.
    """

    label: str
    groups: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    shown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, label: str, groups: Sequence[str], vocabularies: Sequence[Vocabulary | Attribute]) -> Meaning:
        """From the vocabularies of a trial, or the attributes of a dataset."""
        values = {v.name: tuple(v.values) for v in vocabularies}
        return cls(label, tuple(groups), values, {v.name: tuple(v.display or ()) for v in vocabularies})

    def named(self, attribute: str, value: str) -> str:
        """Return the name of a value that may be given by the name that it is shown by; all else stays as it is."""
        values, shown = self.values.get(attribute, ()), self.shown.get(attribute, ())
        return values[shown.index(value)] if value not in values and shown.count(value) == 1 else value

    def column(self, attribute: str) -> str:
        """Return the column of cells that holds the codes of a group attribute, or of the label where it is none."""
        is_label_alone = attribute == self.label and attribute not in self.groups
        return "label" if is_label_alone else group_column(attribute)


@dataclass(frozen=True)
class Standing:
    """Where a trial stands after an iteration.

    Attributes:
        cells: counts of the validation split at that iteration alone.
        epsilon: spent so far; infinite where nothing is promised, NaN where it is not known yet.
        seconds: in training and evaluation.
        predictions: on that split at that iteration; None where they are not kept.
    """

    cells: pa.Table
    epsilon: float = float("nan")
    seconds: float = float("nan")
    predictions: ValidationPredictions | None = None


@dataclass(frozen=True)
class Measure:
    """One number of a trial; see the module on how it is written.

    Attributes:
        metric: a row of `METRICS`, or a word of `SPENT`.
        positive: name of the positive class, or None for the default.
        by: attributes whose intersections are the groups of a disparity.
        where: attribute and value of the group whose rate is meant; empty for all examples.
    """

    metric: str
    positive: str | None = None
    by: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Measure:
        """Read a measure.

        Raises:
            ValueError: if it is not written as one, or no metric has its name.

        >>> Measure.parse("accuracy where tone=dark").where
        (('tone', 'dark'),)
        """
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                "a measure is written 'METRIC', 'METRIC by ATTRIBUTE' or 'METRIC where ATTRIBUTE=VALUE', "
                f"but got {text!r}"
            )
        metric = found["metric"]
        if metric not in SPENT and metric not in _metrics():
            known = [*_metrics(), *SPENT]
            other = _OTHER_WORDS.get(metric.lower())
            remedy = f"did you mean {other!r}?" if other else nearest(metric, known)
            raise ValueError(f"there is no metric {metric!r}: {remedy}")
        positive = found["positive"] or found["class"]
        by = tuple(part.strip() for part in (found["by"] or "").split("&") if part.strip())
        where = tuple(_pair(part, text) for part in (found["where"] or "").split("&") if part.strip())
        if metric in SPENT and (by or where or positive):
            raise ValueError(
                f"{metric} belongs to the trial, not to a group or class, but got {text!r}: write {metric}"
            )
        if metric not in SPENT and _is_disparity(metric) and where:
            raise ValueError(f"{metric} compares groups, so it takes 'by ATTRIBUTE', but got {text!r}")
        if metric not in SPENT and not _is_disparity(metric) and by:
            raise ValueError(
                f"{metric} is a rate of one group, so it takes 'where ATTRIBUTE=VALUE', but got {text!r}; "
                f"between groups there are worst_group_{metric} and {metric}_difference where they exist"
            )
        return cls(metric, positive, by, where)

    def __str__(self) -> str:
        """As it is written."""
        parts = [self.metric, *([f"of {self.positive}"] if self.positive else [])]
        if self.by:
            parts.append(f"by {' & '.join(self.by)}")
        if self.where:
            parts.append("where " + " & ".join(f"{name}={value}" for name, value in self.where))
        return " ".join(parts)

    @property
    def of_cells(self) -> bool:
        """Whether counts suffice for it; else it is read off predicted probabilities."""
        if self.metric in SPENT:
            return True
        from fairsweep.analysis.metrics.disparities import Disparity
        from fairsweep.analysis.metrics.probabilities import ProbabilityScore

        row = _metrics()[self.metric]
        return bool(row.of_cells) if isinstance(row, Disparity) else not isinstance(row, ProbabilityScore)

    def settled(self, meaning: Meaning) -> Measure:
        """Return the same measure, checked against a sweep, with values by their names in the records.

        A disparity that names no attribute takes the only one there is.

        Raises:
            ValueError: if an attribute, value or class does not exist, or is needed and missing.
        """
        if self.metric in SPENT:
            return self
        from fairsweep.analysis.metrics.catalogue import resolve

        classes = meaning.values[meaning.label]
        positive = None if self.positive is None else meaning.named(meaning.label, self.positive)
        resolve(replace(self, positive=positive)._full_name, classes)
        by, where = self.by, tuple((name, meaning.named(name, value)) for name, value in self.where)
        if _is_disparity(self.metric) and not by:
            if len(meaning.groups) != 1:
                raise ValueError(
                    f"{self.metric} must say between the groups of which attribute, for the sweep has "
                    f"{list(meaning.groups)}: write '{self.metric} by {meaning.groups[0]}'"
                )
            by = meaning.groups
        known = [*meaning.groups, meaning.label]
        for name in (*by, *(name for name, _ in self.where)):
            if name not in known:
                raise ValueError(f"{name!r} in '{self}' is no group of the sweep: {nearest(name, known)}")
        for name, value in where:
            if value not in meaning.values[name]:
                values = list(dict.fromkeys([*meaning.values[name], *meaning.shown.get(name, ())]))
                raise ValueError(f"{name} has no value {value!r} in '{self}': {nearest(value, values)}")
        return replace(self, positive=positive, by=by, where=where)

    def range(self, meaning: Meaning) -> tuple[float, float]:
        """Smallest and largest possible value."""
        if self.metric in SPENT:
            return 0.0, math.inf
        from fairsweep.analysis.metrics.catalogue import resolve

        return resolve(self._full_name, meaning.values[meaning.label]).range

    def of(self, standing: Standing, meaning: Meaning) -> float:
        """Its value; NaN where it is undefined, for example the rate of a group without examples.

        Args:
            standing: where the trial stands.
            meaning: what its cells mean.
        """
        if self.metric in SPENT:
            return float(getattr(standing, self.metric))
        if not self.of_cells:
            return math.nan if standing.predictions is None else self._of_probabilities(standing.predictions, meaning)
        from fairsweep.analysis.metrics.catalogue import resolve
        from fairsweep.analysis.metrics.disparities import Disparity, disparity, value_of
        from fairsweep.analysis.metrics.probabilities import ProbabilityScore

        metric = resolve(self._full_name, meaning.values[meaning.label])
        if isinstance(metric.row, Disparity):
            return float(disparity(counts(standing.cells, meaning, self.by), metric.row, metric.positive))
        table = standing.cells
        for name, value in self.where:
            table = table.filter(pc.equal(table.column(meaning.column(name)), meaning.values[name].index(value)))
        if isinstance(metric.row, ProbabilityScore):
            raise TypeError(f"{self.metric} is no function of cells")
        return float(value_of(counts(table, meaning, ())[0], metric.row, metric.positive))

    def _of_probabilities(self, found: ValidationPredictions, meaning: Meaning) -> float:
        from fairsweep.analysis.metrics.disparities import Disparity, combine
        from fairsweep.analysis.metrics.probabilities import PROBABILITY_SCORES

        row, label = _metrics()[self.metric], found.label.astype(np.int64)
        log_p = found.log_probabilities.astype(np.float64)
        if not isinstance(row, Disparity):
            weights = np.ones(len(label))
            for name, value in self.where:
                weights *= found.codes(name, meaning.label) == meaning.values[name].index(value)
            return float(PROBABILITY_SCORES[self.metric].compute(log_p, label, weights[None])[0])
        members = found.members(self.by, [len(meaning.values[name]) for name in self.by], meaning.label)
        scores = [PROBABILITY_SCORES[name].compute for name in row.rates]
        values = np.stack([compute(log_p, label, members) for compute in scores])
        overall = np.stack([compute(log_p, label, np.ones((1, len(label))))[0] for compute in scores])
        return float(combine(values, overall, np.asarray(members.sum(-1) > 0), row))

    @property
    def _full_name(self) -> str:
        return self.metric if self.positive is None else f"{self.metric}[{self.positive}]"


def counts(table: pa.Table, meaning: Meaning, by: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the cells of one evaluation as an array.

    Args:
        table: columns ``label``, ``prediction``, ``count`` and the groups.
        meaning: of the codes.
        by: attributes whose intersections are the groups; none for all examples together.

    Returns:
        int64 [G, K, K]: groups, true labels, predictions.
    """
    classes = len(meaning.values[meaning.label])
    columns = [meaning.column(name) for name in by]
    sizes = [len(meaning.values[name]) for name in by]
    key = np.zeros(table.num_rows, np.int64)
    for name, size in zip((*columns, "label", "prediction"), (*sizes, classes, classes), strict=True):
        key = key * size + table.column(name).to_numpy()
    groups = int(np.prod(sizes, dtype=np.int64))
    found = np.bincount(key, weights=table.column("count").to_numpy(), minlength=groups * classes * classes)
    return np.rint(found).astype(np.int64).reshape(groups, classes, classes)


def validation_cells(file: CellsFile, iteration: int | None = None) -> tuple[int, pa.Table]:
    """Return the validation cells of one iteration, default the last one with any, and its number.

    Raises:
        ValueError: if there are none.
    """
    table = file.table.filter(pc.equal(file.table.column("split"), "validation"))
    if table.num_rows == 0:
        raise ValueError("there is no evaluation on the validation split")
    chosen = int(pc.max(table.column("iteration")).as_py()) if iteration is None else iteration
    return chosen, table.filter(pc.equal(table.column("iteration"), chosen))


def _pair(text: str, whole: str) -> tuple[str, str]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise ValueError(f"a group is written ATTRIBUTE=VALUE, but got {text.strip()!r} in {whole!r}")
    return name, value


def _metrics() -> Mapping[str, Any]:
    # Only sweeps that have measures pay for the import of pandas.
    from fairsweep.analysis.metrics.disparities import BASES, DISPARITIES

    return {**BASES, **DISPARITIES}


def _is_disparity(metric: str) -> bool:
    from fairsweep.analysis.metrics.disparities import DISPARITIES

    return metric in DISPARITIES
