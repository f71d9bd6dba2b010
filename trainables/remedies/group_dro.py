"""GroupDRO: the loss of the worst group is minimised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field

from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.remedies.group_sampling import BalancedOrder
from fairsweep.trainables.remedies.groups import GroupRemedy


class GroupDro(GroupRemedy):
    """Minimises a weighted mean of the groups' losses, with weights that grow where the loss is large.

    Attributes:
        kind: ``group_dro``.
        step_size: By how much a loss of 1 raises the logarithm of its group's weight, in each step; 0.01 in the paper.

    References:
        Sagawa et al. 2020, "Distributionally robust neural networks for group shifts", arXiv 1911.08731, algorithm 1.
    """

    kind: Literal["group_dro"]
    step_size: float = Field(default=0.01, gt=0)

    def build(self, task: LearningTask) -> WorstGroup:
        """Make the remedy for a training set."""
        return WorstGroup(task, self)


class WorstGroup(BalancedOrder):
    """The remedy at work, by batches: groups come equally often, and a step is one of the algorithm for all of them.

    In each step, with the mean loss l_g of each group in the batch (0 for one that is not in it), the weights become
    q_g ~ q_g exp(step_size l_g), and the step minimises sum_g q_g l_g.

    Args:
        task: The training set.
        config: Groups and step size.
    """

    def __init__(self, task: LearningTask, config: GroupDro) -> None:
        super().__init__(task, config.attributes)
        self._step_size = config.step_size
        count = int(self.groups.max()) + 1
        # A product with this matrix sums by group, in one order on every device.
        self._members_nG = torch.eye(count, device=task.device)[torch.from_numpy(self.groups).to(task.device)]
        self.weights_G = torch.full((count,), 1 / count, device=task.device)

    def objective(self, losses_B: torch.Tensor, positions_B: torch.Tensor) -> torch.Tensor:
        """See `Remedy`."""
        members_BG = self._members_nG[positions_B]
        means_G = (losses_B @ members_BG) / members_BG.sum(dim=0).clamp(min=1)
        raised_G = self.weights_G * torch.exp(self._step_size * means_G.detach())
        self.weights_G = raised_G / raised_G.sum()
        return (self.weights_G * means_G).sum()

    def state(self) -> dict[str, Any]:
        """Return the groups' weights."""
        return {"weights": self.weights_G.cpu().clone()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over the groups' weights.

        Raises:
            ValueError: If they are of another number of groups.
        """
        weights = state["weights"]
        if weights.shape != self.weights_G.shape:
            raise ValueError(
                f"state must hold weights of {len(self.weights_G)} groups, but holds {tuple(weights.shape)}: restore "
                "it on the training set that made it"
            )
        self.weights_G = weights.to(self.weights_G.device).clone()
