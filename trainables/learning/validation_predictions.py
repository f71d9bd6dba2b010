"""The predictions on a validation set at one iteration, for measures of probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ValidationPredictions:
    """What a model says of each example.

    Attributes:
        log_probabilities: natural logarithms, float32 [N, K].
        label: codes, int [N].
        groups: codes of each group attribute, int [N].
    """

    log_probabilities: NDArray[np.float32]
    label: NDArray[np.int64]
    groups: Mapping[str, NDArray[np.int64]]

    def members(self, by: Sequence[str], sizes: Sequence[int], label: str) -> NDArray[np.float64]:
        """Return who is in which group, 0 or 1, float64 [G, N].

        Args:
            by: attributes whose intersections are the groups.
            sizes: number of values of each.
            label: name of the predicted attribute.
        """
        key = np.zeros(len(self.label), np.int64)
        for name, size in zip(by, sizes, strict=True):
            key = key * size + self.codes(name, label)
        groups = np.arange(int(np.prod(sizes, dtype=np.int64)))
        return np.asarray(key == groups[:, None], np.float64)

    def codes(self, name: str, label: str) -> NDArray[np.int64]:
        """Return the codes of a group attribute, or of the label where it is none."""
        return np.asarray(self.label if name == label and name not in self.groups else self.groups[name], np.int64)
