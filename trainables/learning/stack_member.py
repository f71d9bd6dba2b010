"""What a stack asks of a learner: see `fairsweep.trainables.stacks`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fairsweep.datasets.feeds.feed import Feed
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.trainables.layers.numerics import NumericsConfig
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner import LearningTask, SingleModelLearner
from fairsweep.trainables.learning.learner_config import LearnerConfig
from fairsweep.trainables.models.augmentation import AugmentationConfig
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.optimizers import OptimizerConfig, SgdOptimizer
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.flat_chain import FlatChain
from fairsweep.trainables.privacy.gradients import ExampleGradients
from fairsweep.trainables.privacy.noise import GaussianNoise


@dataclass(frozen=True)
class StackMember:
    """One iteration of a learner, for a stack to do.

    Attributes:
        network: Its network, a chain whose optimiser is SGD.
        feed: Gives the images, or their features.
        rows: int64 [n], rows of the training examples in the feed.
        sampler: Who joins which step.
        start: The iteration's first step.
        stop: The step behind its last one.
        labels: int64 [n], on the device.
        report: Counts the iteration, given all that was found.
        loss_weights: float32 [n], what each example's loss is multiplied by; None weighs all alike.
        clipping: The rule; None clips nothing.
        noise: What the sum of a step gets; None: nothing.
        denominator: What that sum is divided by; None: the size of the batch.
        most_rows: How many examples may be worked on at once; None sets no bound.
        padded: How many examples every batch is filled up to, whatever it holds; 0 fills none up.
        measures: Whether something is measured before the update of a step of the iteration, counted from 0.
        measure: Measures it, given that step and the update, a tensor for each parameter.
        finite_sum: Given a step, puts those clipped gradients of its batch that are finite in the place of the sum, a
            tensor for each parameter.
    """

    network: Network
    feed: Feed
    rows: np.ndarray
    sampler: Sampler
    start: int
    stop: int
    labels: torch.Tensor
    report: Callable[[Found], IterationReport]
    loss_weights: torch.Tensor | None = None
    clipping: Clipping | None = None
    noise: GaussianNoise | None = None
    denominator: float | None = None
    most_rows: int | None = None
    padded: int = 0
    measures: Callable[[int], bool] = lambda step: False
    measure: Callable[[int, Sequence[torch.Tensor]], None] = lambda step, update: None
    finite_sum: Callable[[int, Sequence[torch.Tensor]], None] = lambda step, sums: None


@dataclass
class Found:
    """What a stack found in a member's iteration.

    Attributes:
        loss_sum: The sum of all losses, a scalar on the device.
        positions: Of each step, who joined, int64 [B].
        gradients: Of each step, what is known of their gradients.
    """

    loss_sum: torch.Tensor
    positions: list[np.ndarray] = field(default_factory=list)
    gradients: list[ExampleGradients] = field(default_factory=list)

    @property
    def examples(self) -> int:
        """Number of gradients that were taken."""
        return sum(map(len, self.positions))

    def steps(self) -> Iterator[tuple[np.ndarray, ExampleGradients]]:
        """Give who joined each step with an example, and their gradients."""
        return zip((own for own in self.positions if len(own)), self.gradients, strict=True)


def what_keeps_alone(
    optimizer: OptimizerConfig, ema: float | None, augmentation: AugmentationConfig, numerics: NumericsConfig
) -> str:
    """Return which of these a stack does not do, in words; empty where it does all."""
    if not isinstance(optimizer, SgdOptimizer):
        return f"{optimizer.name} divides by what may be near 0, so that differences by rounding would grow"
    if ema is not None:
        return "weights are averaged"
    if numerics.precision != "float32" or getattr(numerics, "compile", False):
        return "its passes are compiled, or computed in another precision"
    return "images are augmented" if augmentation.active else ""


class StackableLearner(SingleModelLearner):
    """A learner of one model, under SGD or a like optimiser, that others may train beside."""

    _config: LearnerConfig
    _task: LearningTask
    _sampler: Sampler
    _labels: torch.Tensor

    def stack_kind(self) -> Hashable:
        """Return what it has in common with learners that it can train beside; None where it trains alone.

        Networks that are chains of linear layers train side by side, with what `LearnerConfig.trains_alone` allows.
        """
        chain = FlatChain.of(self._network.model)
        if self._config.trains_alone or chain is None or not chain.takes(self._task.input_shape):
            return None
        return self.kind, chain.outline, getattr(self._network.optimizer, "nesterov", False), self._task.device

    @abstractmethod
    def stack_member(self) -> StackMember:
        """Return its next iteration; only of a learner that has a kind."""

    def _member(
        self,
        start: int,
        stop: int,
        report: Callable[[Found], IterationReport],
        **fields: Any,  # noqa: ANN401 - others of `StackMember`
    ) -> StackMember:
        """Return an iteration with what every learner has of it."""
        feed, rows, labels = self._task.feed, self._task.rows, self._labels
        return StackMember(self._network, feed, rows, self._sampler, start, stop, labels, report, **fields)
