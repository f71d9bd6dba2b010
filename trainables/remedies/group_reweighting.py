"""Group reweighting: the loss of each group is weighted inversely to its share."""

from __future__ import annotations

from typing import Literal

import torch

from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.remedies.groups import GroupRemedy, balancing_weights, group_numbers
from fairsweep.trainables.remedies.remedy import LossWeights


class GroupReweighting(GroupRemedy):
    """Shuffled batches in which an example of group g weighs n / (G n_g): all groups weigh the same together.

    Attributes:
        kind: ``group_reweighting``.

    References:
        Idrissi et al. 2022, arXiv 2110.14503, section 2 (RW).
    """

    kind: Literal["group_reweighting"]

    def build(self, task: LearningTask) -> LossWeights:
        """Make the remedy for a training set."""
        return LossWeights(task, torch.from_numpy(balancing_weights(group_numbers(task, self.attributes))))
