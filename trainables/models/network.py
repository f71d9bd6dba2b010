"""A model with its optimiser on a device, shared by learners that train one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from fairsweep.trainables.layers.numerics import Precision
from fairsweep.trainables.models.frozen_body import Tail, trained_part
from fairsweep.trainables.models.inputs import normalise, to_device
from fairsweep.trainables.models.model import ModelConfig, build_model
from fairsweep.trainables.models.optimizers import OptimizerConfig, set_learning_rate
from fairsweep.trainables.models.weight_average import WeightAverage

_PREDICTION_BATCH = 512


class Network:
    """A model, its optimiser and its learning-rate schedule.

    Args:
        model: Which model.
        image_shape: (height, width, channels).
        classes: Number of classes.
        optimizer: How gradients change the weights.
        steps: Number of steps of the whole training, for the schedule.
        key: 32 bytes; initial weights follow from it.
        device: Where the model lives.
        epochs: Number of epochs of the whole training, the unit of a warmup; None counts steps instead.
        ema: Decay of the average of weights that predicts and is kept; None takes the last weights.
        tail: The part that is trained, on features of the rest; None trains the model on images.

    Attributes:
        model: The bare module that batches go through: the model, or its tail.
        parameters: Its trainable parameters, in order.
    """

    def __init__(
        self,
        model: ModelConfig,
        image_shape: tuple[int, int, int],
        classes: int,
        optimizer: OptimizerConfig,
        steps: int,
        key: bytes,
        device: torch.device,
        *,
        epochs: float | None = None,
        ema: float | None = None,
        tail: Tail | None = None,
    ) -> None:
        self.device = device
        self._whole = build_model(model, image_shape, classes, key).to(device)
        self.model = trained_part(self._whole, tail)
        self._inside = "" if tail is None else f"{tail.name}."
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._config = optimizer
        self._steps, self._epochs = steps, epochs or steps
        self._optimizer = optimizer.build(self.parameters)
        self._average = None if ema is None else WeightAverage(ema, self._whole)
        self._scaler: torch.amp.GradScaler | None = None

    def scale_losses(self, precision: Precision) -> None:
        """Multiply losses where the model computes in float16, so that small gradients are not rounded to 0.

        The factor follows the gradients, and a step whose gradients overflow is left out: not for private learners.
        """
        if precision == "float16":
            self._scaler = torch.amp.GradScaler(self.device.type)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss to those that the parameters hold."""
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def update(self, step: int) -> None:
        """Apply the gradients that the parameters hold, at the learning rate of this step, and drops them."""
        set_learning_rate(self._optimizer, self.learning_rate(step))
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        for parameter in self.parameters:
            parameter.grad = None
        self.average()

    @property
    def optimizer(self) -> OptimizerConfig:
        """How gradients change the weights."""
        return self._config

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self._config.learning_rate(step, self._steps, self._epochs)

    def velocities(self) -> list[torch.Tensor]:
        """Return what SGD's momentum has gathered for each parameter, or zeros."""
        held = [self._optimizer.state.get(parameter, {}).get("momentum_buffer") for parameter in self.parameters]
        return [torch.zeros_like(p) if v is None else v for p, v in zip(self.parameters, held, strict=True)]

    def take_velocities(self, velocities: Sequence[torch.Tensor]) -> None:
        """Take over what `velocities` returned, some steps later."""
        for parameter, velocity in zip(self.parameters, velocities, strict=True):
            self._optimizer.state[parameter]["momentum_buffer"] = velocity.clone()

    def average(self) -> None:
        """Take the weights up into their average, if there is one; `update` does."""
        if self._average is not None:
            self._average.update()

    def _evaluated(self) -> AbstractContextManager[None]:
        """Let the model have, for a while, the weights that predict."""
        return nullcontext() if self._average is None else self._average.shown()

    def predict(self, images_BHWC: np.ndarray) -> torch.Tensor:
        """Map uint8 [B, H, W, C], or features, to logits, float32 [B, K] on the CPU, in evaluation mode."""
        module = self._whole if images_BHWC.dtype == np.uint8 else self.model
        training = module.training
        module.eval()
        try:
            with self._evaluated(), torch.inference_mode():
                parts = [
                    module(normalise(to_device(images_BHWC[start : start + _PREDICTION_BATCH], self.device))).cpu()
                    for start in range(0, max(1, len(images_BHWC)), _PREDICTION_BATCH)
                ]
        finally:
            module.train(training)
        return torch.cat(parts).clone()

    def state(self) -> dict[str, Any]:
        """Return the last weights, their average and the optimiser's state, copied to the CPU."""
        optimizer = _copied(self._optimizer.state_dict())
        scaler = {} if self._scaler is None else {"scaler": self._scaler.state_dict()}
        return {"model": self._copied_weights(), "optimizer": optimizer, **scaler, **self.average_state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over weights and optimiser state."""
        self.load_weights(state["model"])
        self._optimizer.load_state_dict(_copied(state["optimizer"]))
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])
        self.load_average(state)

    def average_state(self) -> dict[str, Any]:
        """Return the average of the weights, copied to the CPU; nothing without one."""
        return {} if self._average is None else {"average": self._average.state()}

    def load_average(self, state: Mapping[str, Any]) -> None:
        """Take over the average of the weights, if there is one."""
        if self._average is not None:
            self._average.load(state["average"])

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take over what `weights` returned, or a ``state_dict`` of the whole model."""
        inside = self._inside
        self.model.load_state_dict(
            {name.removeprefix(inside): value for name, value in weights.items() if name.startswith(inside)}
        )

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the model's ``state_dict`` on the CPU, with the weights that predict.

        Where a part is trained on features of the rest, the rest is left out: it is what its file gives.
        """
        with self._evaluated():
            return self._copied_weights()

    def _copied_weights(self) -> dict[str, torch.Tensor]:
        weights = self.model.state_dict(prefix=self._inside)
        return {name: value.detach().cpu().clone() for name, value in weights.items()}


def evaluated_weights(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return, of what `Network.state` gave, the ``state_dict`` with the weights that predict."""
    return {**state["model"], **state.get("average", {}).get("weights", {})}


def _copied(value: Any) -> Any:  # noqa: ANN401 - an optimiser's state is a tree of anything
    """Copy a tree of containers and tensors; tensors go to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value
