"""The groups of a remedy: attributes, and the group of each training example."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.learning.roles import Roles


class GroupRemedy(BaseModel):
    """What remedies by group have in common.

    Attributes:
        kind: Which remedy. It has no default: fields at their default are no part of a trial's identity.
        attributes: Groups of the sweep, or the label; several make intersections.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str
    attributes: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError(f"each attribute must be named once, but got attributes={list(self.attributes)}")
        return self

    def check(self, roles: Roles) -> None:
        """Refuses attributes that do not exist.

        Raises:
            ValueError: With the nearest name.
        """
        for name in self.attributes:
            roles.attribute(name)


def group_numbers(task: LearningTask, attributes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the group of each training example, int64 [n] in [0, G): the intersections that occur, numbered."""
    codes = np.stack([task.codes(name) for name in attributes], axis=1)
    _, numbers = np.unique(codes, axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)


def balancing_weights(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return n / (G n_g) for each example, float64 [n]: all groups weigh the same together, and the mean is 1.

    Example:
        >>> balancing_weights(np.array([0, 0, 0, 1])).round(3).tolist()
        [0.667, 0.667, 0.667, 2.0]
    """
    counts = np.bincount(numbers)
    weights: NDArray[np.float64] = (len(numbers) / (np.count_nonzero(counts) * counts[numbers])).astype(np.float64)
    return weights
