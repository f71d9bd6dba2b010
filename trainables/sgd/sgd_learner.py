"""SGD on shuffled batches: ordinary training without a guarantee, plain or with a remedy for disadvantaged groups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator

from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.layers.numerics import TrainingNumericsConfig, tf32_in_convolutions, use_numerics
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.learning.learner_config import LearnerConfig
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.learning.stack_member import StackableLearner, StackMember, what_keeps_alone
from fairsweep.trainables.models.augmentation import AugmentationConfig, augment
from fairsweep.trainables.models.inputs import ahead, normalise, to_device
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.optimizers import AnyOptimizer, SgdOptimizer
from fairsweep.trainables.remedies import RemedyConfig
from fairsweep.trainables.remedies.remedy import EpochSampler, Remedy


class SgdConfig(LearnerConfig):
    """Ordinary training.

    Attributes:
        name: The learner's name in the sweep.
        epochs: Passes over the training set; an iteration is one of them.
        batch_size: Examples a step; the last batch of an epoch may be smaller.
        optimizer: How gradients change the weights.
        ema: Decay in (0, 1) of an exponential moving average of the weights, which is what is evaluated, kept and
            exported: 0.99 averages about the last 100 steps. Null: the last weights.
        augmentation: Random changes of the images.
        label_smoothing: Weight in [0, 1) of the uniform distribution in the targets.
        remedy: What is done for groups that lose: ``class_weights``, ``group_sampling``, ``group_reweighting`` or
            ``group_dro``; null does nothing.
        performance: How numbers are computed: what changes speed, and results by rounding.
    """

    later: ClassVar[frozenset[str]] = frozenset({"ema"})
    takes_features: ClassVar[bool] = True

    name: str = Field(default="sgd", min_length=1)
    kind: Literal["sgd"] = "sgd"
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=128, ge=1)
    optimizer: AnyOptimizer = SgdOptimizer()
    ema: float | None = Field(default=None, gt=0, lt=1)
    augmentation: AugmentationConfig = AugmentationConfig()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    remedy: RemedyConfig | None = None
    performance: TrainingNumericsConfig = TrainingNumericsConfig()

    @model_validator(mode="before")
    @classmethod
    def _claims_nothing(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
        private = {"epsilon", "delta", "noise_multiplier", "l2_clip_norm"}
        if isinstance(given, Mapping) and (asked := sorted(private & set(given))):
            raise ValueError(
                f"kind 'sgd' trains on shuffled batches with exact gradients and has no {', '.join(asked)}: "
                "for private training set kind: dpsgd"
            )
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.optimizer.schedule.check_epochs(self.epochs)
        return self

    @property
    def trains_alone(self) -> str:
        """See `LearnerConfig`."""
        if type(self) is not SgdConfig:
            return super().trains_alone
        if self.remedy is not None or self.label_smoothing:
            return "what is minimised is another thing than the mean loss"
        return what_keeps_alone(self.optimizer, self.ema, self.augmentation, self.performance)

    def check_values(self, roles: Roles) -> None:
        """Refuse what the remedy names and does not exist."""
        if self.remedy is not None:
            self.remedy.check(roles)


class Sgd(StackableLearner):
    """Trains one model on shuffled batches; see `Learner` for what it offers.

    Args:
        config: How.
        task: On what.
    """

    config = SgdConfig
    _config: SgdConfig
    _sampler: EpochSampler

    def __init__(self, config: SgdConfig, task: LearningTask) -> None:
        super().__init__(config, task)
        self.iterations = config.epochs
        self._config = config
        self._task = task
        self._remedy = Remedy(task) if config.remedy is None else config.remedy.build(task)
        self._sampler = self._remedy.order(config.batch_size, config.epochs)
        self._network = Network(
            task.model,
            task.image_shape,
            task.classes,
            config.optimizer,
            self._sampler.steps,
            task.keys.of_weights,
            task.device,
            epochs=config.epochs,
            ema=config.ema,
            tail=task.tail,
        )
        use_numerics(self._network.model, config.performance, task.device)
        self._network.scale_losses(config.performance.precision)
        self._labels = torch.from_numpy(np.asarray(task.labels, dtype=np.int64)).to(task.device)

    def _iterate(self) -> IterationReport:
        """Do one epoch."""
        start = self.iteration * self._sampler.steps_per_epoch
        stop = start + self._sampler.steps_per_epoch
        loss_sum = torch.zeros((), device=self._task.device)
        examples = 0
        with tf32_in_convolutions(self._config.performance.tf32):
            batches = self._task.feed.batches(self._task.rows, self._sampler, start=start, stop=stop)
            for batch in ahead(batches, self._task.device):
                loss_sum += self._train(batch.step, batch.positions, batch.ids, batch.images) * len(batch.positions)
                examples += len(batch.positions)
        return self._report(loss_sum, examples, stop - start)

    def _report(self, loss_sum: torch.Tensor, examples: int, steps: int) -> IterationReport:
        """Count the iteration."""
        self.iteration += 1
        loss = float(loss_sum) / examples if self._task.diagnostics else math.nan
        return IterationReport(self.iteration, loss, examples, steps)

    def stack_member(self) -> StackMember:
        """See `StackableLearner`."""
        start = self.iteration * self._sampler.steps_per_epoch
        stop = start + self._sampler.steps_per_epoch
        return self._member(start, stop, lambda found: self._report(found.loss_sum, found.examples, stop - start))

    def _train(self, step: int, positions: np.ndarray, ids: np.ndarray, images_BHWC: np.ndarray) -> torch.Tensor:
        """Take one optimiser step and returns the batch's mean loss, detached and still on the device."""
        device = self._task.device
        inputs = normalise(to_device(images_BHWC, device))
        inputs = augment(inputs, self._config.augmentation, self._task.keys.train, step, ids)
        chosen = torch.from_numpy(positions).to(device)
        draw_masks(self._network.model, self._task.keys.train, step, ids)
        logits = self._network.model(inputs)
        smoothing = self._config.label_smoothing
        losses = F.cross_entropy(logits, self._labels[chosen], reduction="none", label_smoothing=smoothing)
        self._network.backward(self._remedy.objective(losses, chosen))
        self._network.update(step)
        return losses.detach().mean()

    def _state(self) -> dict[str, Any]:
        return {"network": self._network.state(), "remedy": self._remedy.state()}

    def _load(self, state: Mapping[str, Any]) -> None:
        if state.get("remedy"):
            self._remedy.load(state["remedy"])
        self._network.load(state["network"])
