"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Literal, Self, TypeVar, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator


class OptimizerConfig(BaseModel):
    """How a gradient becomes a change of the weights.

    Attributes:
        name: ``sgd`` (with momentum) or ``adam``.
        lr: Learning rate, positive.
        momentum: For ``sgd``, in [0, 1). A private learner applies it to the noised mean gradient, so it costs no
            privacy.
        weight_decay: Factor of the L2 term added to the gradient, at least 0. It depends on the weights alone: no
            privacy cost.
        betas: For ``adam``, both in [0, 1).
        milestones: Fractions of the training, ascending and in (0, 1). The learning rate is multiplied by
            ``milestone_factor`` at each of them: ``[0.5, 0.75]`` with the default factor gives lr, lr/10, lr/100.
        milestone_factor: Positive.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["sgd", "adam"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    milestones: tuple[float, ...] = ()
    milestone_factor: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "adam" and self.momentum != 0:
            raise ValueError(
                f"momentum belongs to sgd, but name='adam' has momentum={self.momentum}: give betas instead"
            )
        if self.name == "sgd" and "betas" in self.model_fields_set and self.betas != (0.9, 0.999):
            raise ValueError(f"betas belong to adam, but name='sgd' has betas={self.betas}: give momentum instead")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), but got betas={self.betas}")
        if list(self.milestones) != sorted(set(self.milestones)) or not all(0 < m < 1 for m in self.milestones):
            raise ValueError(
                "milestones must be ascending fractions of the training inside (0, 1), such as [0.5, 0.75], "
                f"but got milestones={list(self.milestones)}"
            )
        return self


_Kind = TypeVar("_Kind", bound=torch.optim.Optimizer)


def _eager(kind: type[_Kind]) -> type[_Kind]:
    """Return a torch optimiser without what it does for ``torch.compile``, which fairsweep does not use.

    Each method would import the compiler when it is first called: 1.4 seconds of every worker's start.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    bare: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    bare["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return cast("type[_Kind]", type(kind.__name__, (kind,), bare))


_SGD, _ADAM = _eager(torch.optim.SGD), _eager(torch.optim.Adam)


def build_optimizer(config: OptimizerConfig, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimiser.

    Args:
        config: Its configuration.
        parameters: The parameters that it changes.

    Returns:
        A torch optimiser whose updates are functions of its state and the gradients alone.
    """
    # The fused kernels update all parameters in one call; on small models the default loop costs more than its
    # arithmetic.
    if config.name == "sgd":
        return _SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)
    return _ADAM(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Return the learning rate of a step: a function of its position alone, so that nothing needs saving.

    Args:
        config: The optimiser's configuration.
        step: Position of the step, in [0, steps).
        steps: Number of steps of the whole training.

    Returns:
        The learning rate; a milestone m takes effect at the first step with ``step >= m * steps``.

    Example:
        >>> config = OptimizerConfig(lr=1.0, milestones=(0.5,))
        >>> [learning_rate(config, step, 4) for step in range(4)]
        [1.0, 1.0, 0.1, 0.1]
    """
    passed = sum(step >= milestone * steps for milestone in config.milestones)
    return config.lr * config.milestone_factor**passed


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group of an optimiser this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
