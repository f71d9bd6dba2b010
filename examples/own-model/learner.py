"""A learner of your own: training with the focal loss, which attends to examples that the model gets wrong.

References:
    Lin et al. 2017, "Focal loss for dense object detection", equation 4, arXiv 1708.02002.
"""

import torch
from pydantic import Field
from torch.nn import functional as F

from fairsweep.datasets.selection.sampling import Shuffled
from fairsweep.trainables import IterationReport, LearnerConfig
from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.learning.learner import SingleModelLearner
from fairsweep.trainables.models.inputs import normalise, to_device
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.optimizers import AnyOptimizer, SgdOptimizer


class FocalConfig(LearnerConfig):
    """What the sweep file says of it; any field can be a search dimension.

    Attributes:
        gamma: How much less well predicted examples count.
        epochs: Passes over the training set; an iteration is one of them.
        batch_size: Examples a step.
        optimizer: How gradients change the weights.
    """

    gamma: float = Field(default=2.0, ge=1)
    epochs: int = Field(default=8, ge=1)
    batch_size: int = Field(default=128, ge=1)
    optimizer: AnyOptimizer = SgdOptimizer()


class Focal(SingleModelLearner):
    """Trains on shuffled batches. All randomness follows from the task's keys, so that trials repeat and resume."""

    config = FocalConfig

    def __init__(self, config, task):  # noqa: ANN001, ANN204
        super().__init__(config, task)
        self.iterations = config.epochs
        self._gamma, self._task = config.gamma, task
        self._sampler = Shuffled(task.size, config.batch_size, config.epochs, task.keys.train)
        shape, steps = (task.image_shape, task.classes), self._sampler.steps
        self._network = Network(task.model, *shape, config.optimizer, steps, task.keys.train, task.device)
        self._labels = torch.as_tensor(task.labels, dtype=torch.int64, device=task.device)

    def _iterate(self):  # noqa: ANN202
        steps, total = self._sampler.steps_per_epoch, 0.0
        start = self.iteration * steps
        for batch in self._task.feed.batches(self._task.rows, self._sampler, start=start, stop=start + steps):
            images = normalise(to_device(batch.images, self._task.device))
            draw_masks(self._network.model, self._task.keys.train, batch.step, batch.ids)  # of dropout
            losses = F.cross_entropy(self._network.model(images), self._labels[batch.positions], reduction="none")
            loss = ((1 - torch.exp(-losses)) ** self._gamma * losses).mean()
            loss.backward()
            self._network.update(batch.step)
            total += float(loss.detach()) * len(batch.positions)
        self.iteration += 1
        return IterationReport(self.iteration, total / self._task.size, self._task.size, steps)

    def _state(self):  # noqa: ANN202
        return {"network": self._network.state()}

    def _load(self, state):  # noqa: ANN001, ANN202
        self._network.load(state["network"])
