"""Sampling weights: how much more often some groups join private steps than others."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fairsweep.datasets.imbalance import ValueReference
from fairsweep.trainables.learner import LearningTask
from fairsweep.trainables.roles import Roles, weights_by_code


class SamplingWeights(BaseModel):
    """Constants: an example joins a step with probability weight * q, where q = batch_size / N.

    Attributes:
        attribute: The label or one of the sweep's groups.
        weights: Weight of each named value, above 0. Values that are not named weigh 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    attribute: str
    weights: dict[ValueReference, Annotated[float, Field(gt=0)]] = Field(min_length=1)

    @property
    def largest(self) -> float:
        """The largest weight that the config allows any example, whichever examples there are."""
        return max(1.0, *self.weights.values())

    def check(self, roles: Roles) -> None:
        """Refuses attributes and values that do not exist.

        Raises:
            ValueError: With the nearest name; also if every value is named and weighs less than 1.
        """
        attribute = roles.attribute(self.attribute)
        by_code = weights_by_code(attribute, self.weights)
        if by_code.max() < 1:
            raise ValueError(
                f"the largest of the sampling weights of {self.attribute!r} must be at least 1, but got "
                f"{dict(self.weights)} for all of its values: epsilon counts the weight 1, which nobody would have; "
                "divide all by the largest and lower batch_size instead"
            )

    def of(self, task: LearningTask) -> NDArray[np.float64]:
        """Returns the weight of each training example, float64 [n].

        Raises:
            ValueError: See `check`.
        """
        roles = task.roles
        self.check(roles)
        by_code = weights_by_code(roles.attribute(self.attribute), self.weights)
        return by_code[np.asarray(task.codes(self.attribute), dtype=np.int64)]
