"""The sampling weight of each training example in private steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.learning.roles import Roles, weights_by_code
from fairsweep.trainables.privacy.sampling_weights import SamplingWeights


def check_weights(weights: SamplingWeights, roles: Roles) -> None:
    """Refuses attributes and values that do not exist.

    Raises:
        ValueError: With the nearest name; also if every value is named and weighs less than 1.
    """
    attribute = roles.attribute(weights.attribute)
    by_code = weights_by_code(attribute, weights.weights)
    if by_code.max() < 1:
        raise ValueError(
            f"the largest of the sampling weights of {weights.attribute!r} must be at least 1, but got "
            f"{dict(weights.weights)} for all of its values: epsilon counts the weight 1, which nobody would have; "
            "divide all by the largest and lower batch_size instead"
        )


def weights_of(weights: SamplingWeights, task: LearningTask) -> NDArray[np.float64]:
    """Return the weight of each training example, float64 [n].

    Raises:
        ValueError: See `check_weights`.
    """
    roles = task.roles
    check_weights(weights, roles)
    by_code = weights_by_code(roles.attribute(weights.attribute), weights.weights)
    return by_code[np.asarray(task.codes(weights.attribute), dtype=np.int64)]
