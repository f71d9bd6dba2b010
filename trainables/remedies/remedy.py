"""The interface of a remedy: what it may change in ordinary training, the order of examples and the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from fairsweep.datasets.selection.sampling import Sampler, Shuffled
from fairsweep.trainables.learning.learner import LearningTask


class EpochSampler(Sampler, Protocol):
    """An order that comes in epochs of equal length."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        ...


class Remedy:
    """The remedy that changes nothing; others override what they change.

    Args:
        task: The training set.
    """

    def __init__(self, task: LearningTask) -> None:
        self._task = task

    def order(self, batch_size: int, epochs: int) -> EpochSampler:
        """Return who joins which step, keyed by the task's public key of the order."""
        return Shuffled(self._task.size, batch_size, epochs, self._task.keys.of_order)

    def objective(self, losses_B: torch.Tensor, positions_B: torch.Tensor) -> torch.Tensor:
        """Return what a step minimises; called once for each step, in order.

        Args:
            losses_B: float32 [B], each example's loss, with its graph.
            positions_B: int64 [B], indices into the training set, on the same device.

        Returns:
            A scalar.
        """
        return losses_B.mean()

    def state(self) -> dict[str, Any]:
        """Return what a resume needs: tensors and JSON values."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state."""


class LossWeights(Remedy):
    """Multiplies each example's loss by a constant. The sum is divided by the size of the batch, not by its weights.

    With weights whose mean over the training set is 1, a step is then as long as without them on average, and unlike
    in ``torch.nn.CrossEntropyLoss(weight=…)`` an example counts the same whoever else is in the batch.

    Args:
        task: The training set.
        weights: float [n], each example's.
    """

    def __init__(self, task: LearningTask, weights: torch.Tensor) -> None:
        super().__init__(task)
        self._weights = weights.float().to(task.device)

    def objective(self, losses_B: torch.Tensor, positions_B: torch.Tensor) -> torch.Tensor:
        """See `Remedy`."""
        return (losses_B * self._weights[positions_B]).mean()
