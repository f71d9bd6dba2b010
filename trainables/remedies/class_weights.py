"""Class weights: each class's weight in the loss, given as constants or inverse to the class's frequency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fairsweep.datasets.selection.imbalance import ValueReference
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.learning.roles import Roles, weights_by_code
from fairsweep.trainables.remedies.groups import balancing_weights
from fairsweep.trainables.remedies.remedy import LossWeights

WeightByValue = Annotated[dict[ValueReference, Annotated[float, Field(gt=0)]], Field(min_length=1)]
_LEARNT = ("group_sampling", "group_reweighting", "group_dro")


class GivenClassWeights(BaseModel):
    """Constants, for learners that must not look at the training labels.

    Attributes:
        kind: ``class_weights``.
        weights: Weight of each named value of the label, above 0; values that are not named weigh 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["class_weights"]
    weights: WeightByValue

    def check(self, roles: Roles) -> None:
        """Refuses values that do not exist.

        Raises:
            ValueError: With the nearest name.
        """
        weights_by_code(roles.label, self.weights)

    def of(self, task: LearningTask) -> NDArray[np.float64]:
        """Return the weight of each training example, float64 [n]."""
        return weights_by_code(task.roles.label, self.weights)[np.asarray(task.labels, dtype=np.int64)]


class ClassWeights(BaseModel):
    """Weights of the classes in the loss.

    Attributes:
        kind: ``class_weights``.
        weights: Weight of each named value of the label, above 0 (values that are not named weigh 1), or ``balanced``:
            n / (K n_k) for each of the K classes of the training set, as scikit-learn has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["class_weights"]
    weights: WeightByValue | Literal["balanced"]

    def check(self, roles: Roles) -> None:
        """See `GivenClassWeights.check`."""
        if self.weights != "balanced":
            weights_by_code(roles.label, self.weights)

    def build(self, task: LearningTask) -> LossWeights:
        """Make the remedy for a training set."""
        if self.weights == "balanced":
            weights = balancing_weights(np.asarray(task.labels, dtype=np.int64))
        else:
            weights = GivenClassWeights(kind=self.kind, weights=self.weights).of(task)
        return LossWeights(task, torch.from_numpy(weights))


def refuse_learnt_remedy(remedy: object) -> None:
    """Refuses a remedy that looks at the training set, for private learners.

    Args:
        remedy: As it stands in a sweep file, or typed.

    Raises:
        ValueError: With the reason and the remedy.
    """
    content = remedy.model_dump() if isinstance(remedy, BaseModel) else remedy
    if not isinstance(content, Mapping):
        return
    kind = content.get("kind")
    if kind in _LEARNT or content.get("weights") == "balanced":
        asked = "class_weights: balanced" if content.get("weights") == "balanced" else f"remedy {kind!r}"
        raise ValueError(
            f"a private learner accepts only constants, but got {asked}: whatever is computed from the training set's "
            "labels or groups would leak past the guarantee; give numbers, for example {kind: class_weights, weights: "
            "{yes: 2.0}}, or set sampler: weighted_poisson with sampling_weights"
        )
