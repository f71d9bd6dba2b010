"""The fixed evaluation sets of one trial and what a learner predicts on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from fairsweep.analysis.records.cell_records import count_cells
from fairsweep.analysis.records.prediction_records import foreign_ids, predictions_table
from fairsweep.datasets.feeds.feed import Feed
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.trainables.learning.validation_predictions import ValidationPredictions

# Images that are in memory at once while a learner predicts: fewer where they are large. The same for every feed, for
# how a set is cut may change its predictions by rounding.
_ROWS_AT_ONCE = 2048
_BYTES_AT_ONCE = 64 * 2**20


class DivergedError(RuntimeError):
    """Training has left the finite numbers; what the trial did until then is kept."""


class Predictor(Protocol):
    """What is evaluated: anything that maps images to logits."""

    def predict(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Logits, float32 [B, K], of uint8 [B, H, W, C]."""
        ...


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of a model.

    Attributes:
        iteration: iterations done.
        log_probabilities: float32 [N, K] for each split.
    """

    iteration: int
    log_probabilities: dict[str, NDArray[np.float32]]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        values = {split: torch.from_numpy(value) for split, value in self.log_probabilities.items()}
        return {"iteration": self.iteration, "log_probabilities": values}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the inverse of `state`."""
        values = {split: value.numpy() for split, value in state["log_probabilities"].items()}
        return cls(state["iteration"], values)

    def covers(self, chosen: EvaluationSet | None) -> bool:
        """Whether it has as many examples of a split as a set, or none of them."""
        values = None if chosen is None else self.log_probabilities.get(chosen.split)
        return chosen is None or values is None or len(values) == len(chosen.rows)


@dataclass(frozen=True)
class EvaluationSet:
    """The examples of one split that are evaluated.

    Attributes:
        split: train, validation or test.
        rows: int64 [N], rows of the dataset, ascending.
        ids: int64 [N], as records name the examples: negative for those of another dataset than the training one.
        labels: int16 [N].
        groups: int16 [N] for each group attribute.
        at_once: rows whose images are in memory together.
    """

    split: str
    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    labels: NDArray[np.int16]
    groups: Mapping[str, NDArray[np.int16]]
    at_once: int = _ROWS_AT_ONCE

    @classmethod
    def of(
        cls,
        dataset: PreparedDataset,
        split: str,
        rows: NDArray[np.int64],
        label: str,
        groups: tuple[str, ...],
        *,
        foreign: bool = False,
    ) -> EvaluationSet:
        """Return the set with these rows of a dataset; a ``foreign`` one is another than the trial is trained on."""
        codes = {name: dataset.codes(name)[rows] for name in groups}
        ids = foreign_ids(dataset.ids[rows]) if foreign else dataset.ids[rows]
        return cls(split, rows, ids, dataset.codes(label)[rows], codes, rows_at_once(dataset.info.image_shape))

    def without(self, ids: NDArray[np.int64]) -> EvaluationSet | None:
        """Return the set without some ids; None where nothing is left."""
        kept = ~np.isin(self.ids, ids)
        groups = {name: codes[kept] for name, codes in self.groups.items()}
        chosen = replace(self, rows=self.rows[kept], ids=self.ids[kept], labels=self.labels[kept], groups=groups)
        return chosen if kept.any() else None

    def log_probabilities(self, learner: Predictor, feed: Feed) -> NDArray[np.float32]:
        """Natural logarithms of a learner's class probabilities, float32 [N, K].

        Raises:
            DivergedError: if a logit is not finite.
        """
        parts = []
        for start in range(0, len(self.rows), self.at_once):
            logits = learner.predict(feed.images(self.rows[start : start + self.at_once]))
            parts.append(torch.log_softmax(logits.float(), dim=1))
        values: NDArray[np.float32] = torch.cat(parts).numpy()
        # A log-probability may be -inf where one class is certain; a NaN comes from a model that has diverged.
        if np.isnan(values).any():
            raise DivergedError(
                f"the model's outputs on the {self.split} split are not finite: lower the learning rate, or clip"
            )
        return values

    def cells(self, iteration: int, log_probabilities: NDArray[np.float32]) -> pa.Table:
        """Return the counts by (groups, label, prediction)."""
        return count_cells(
            iteration=iteration,
            split=self.split,
            groups=self.groups,
            label=self.labels,
            prediction=predicted(log_probabilities),
        )

    def predictions(self, iteration: int, log_probabilities: NDArray[np.float32]) -> pa.Table:
        """One row an example."""
        return predictions_table(
            iteration=iteration,
            ids=self.ids,
            split=self.split,
            label=self.labels,
            prediction=predicted(log_probabilities),
            log_probabilities=log_probabilities,
        )

    def validation_predictions(self, log_probabilities: NDArray[np.float32]) -> ValidationPredictions:
        """Return what measures of probabilities are read off."""
        groups = {name: codes.astype(np.int64) for name, codes in self.groups.items()}
        return ValidationPredictions(log_probabilities, self.labels.astype(np.int64), groups)

    def accuracy(self, log_probabilities: NDArray[np.float32]) -> float:
        """Share of examples predicted right."""
        return float((predicted(log_probabilities) == self.labels).mean())

    def predicted_classes(self, log_probabilities: NDArray[np.float32]) -> int:
        """How many classes are predicted at all; the one of a collapsed learner tells nothing of the examples."""
        return len(np.unique(predicted(log_probabilities)))

    def worst_group_accuracy(self, log_probabilities: NDArray[np.float32]) -> float:
        """Return the smallest accuracy of any value of any group attribute that has an example in the set."""
        right = predicted(log_probabilities) == self.labels
        accuracies = [right[codes == value].mean() for codes in self.groups.values() for value in np.unique(codes)]
        return float(min(accuracies, default=float("nan")))


def rows_at_once(image_shape: tuple[int, int, int]) -> int:
    """How many images of a shape are in memory together."""
    return max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // int(np.prod(image_shape))))


def predicted(log_probabilities: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return the most probable class, the lower code on a tie; int16 [N]."""
    codes: NDArray[np.int16] = log_probabilities.argmax(axis=1).astype(np.int16)
    return codes
