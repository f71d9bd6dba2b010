"""Group sampling: every group is sampled equally often."""

from __future__ import annotations

from typing import Literal

from fairsweep.datasets.selection.sampling import GroupBalanced
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.remedies.groups import GroupRemedy, group_numbers
from fairsweep.trainables.remedies.remedy import EpochSampler, Remedy


class GroupSampling(GroupRemedy):
    """Batches in which every group comes equally often; an epoch has as many places as there are examples.

    Attributes:
        kind: ``group_sampling``.

    References:
        Idrissi et al. 2022, arXiv 2110.14503, section 2 (RWG).
    """

    kind: Literal["group_sampling"]

    def build(self, task: LearningTask) -> Remedy:
        """Make the remedy for a training set."""
        return BalancedOrder(task, self.attributes)


class BalancedOrder(Remedy):
    """The remedy at work.

    Args:
        task: The training set.
        attributes: Whose values are the groups.
    """

    def __init__(self, task: LearningTask, attributes: tuple[str, ...]) -> None:
        super().__init__(task)
        self.groups = group_numbers(task, attributes)

    def order(self, batch_size: int, epochs: int) -> EpochSampler:
        """See `Remedy`."""
        return GroupBalanced(self.groups, batch_size, epochs, self._task.keys.of_order)
