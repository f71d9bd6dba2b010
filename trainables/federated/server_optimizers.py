"""Server optimisers: from the mean update of a round to new weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from fairsweep.trainables.models.schedules import AnySchedule, ConstantSchedule


class ServerConfig(BaseModel):
    """The server's optimiser. It sees the noised mean only, so it costs no privacy.

    Attributes:
        name: ``sgd`` (with momentum), ``adam`` or ``yogi``.
        lr: Learning rate, positive.
        schedule: How the learning rate changes over the rounds: ``constant``, ``milestones``, ``cosine`` or ``linear``.
        momentum: For ``sgd``, in [0, 1).
        nesterov: For ``sgd`` with momentum: whether the update is taken as if the momentum's step were done.
        betas: For ``adam`` and ``yogi``, both in [0, 1).
        adaptivity: For ``adam`` and ``yogi``: tau, added to the root of the second moment; the smaller, the more
            adaptive.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["sgd", "adam", "yogi"] = "sgd"
    lr: float = Field(default=1.0, gt=0)
    schedule: AnySchedule = ConstantSchedule()
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.99)
    adaptivity: float = Field(default=1e-3, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name != "sgd" and self.momentum != 0:
            raise ValueError(
                f"momentum belongs to sgd, but name={self.name!r} has momentum={self.momentum}: give betas instead"
            )
        if self.nesterov and not self.momentum:
            raise ValueError(
                f"nesterov is a form of momentum, but got momentum={self.momentum:g}: set momentum, such as 0.9"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), but got betas={self.betas}")
        return self

    @model_serializer(mode="wrap")
    def _dump(self, serialise: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Write what is hashed as earlier versions did: they had neither schedules nor Nesterov's momentum."""
        values: dict[str, Any] = serialise(self)
        unsaid = {"nesterov": not self.nesterov, "schedule": self.schedule == ConstantSchedule()}
        return {name: value for name, value in values.items() if info.context is None or not unsaid.get(name)}


class ServerOptimizer:
    """Applies mean updates to the weights.

    Args:
        config: How.
        size: Number of weights, P.
        rounds: Number of rounds of the training.
        device: Where they are.

    References:
        Reddi et al. 2021, arXiv 2003.00295, algorithm 2 (FedAdam, FedYogi: no bias correction). Momentum: Hsu et al.
        2019, arXiv 1909.06335, section 4.3 (FedAvgM).
    """

    def __init__(self, config: ServerConfig, size: int, rounds: int, device: torch.device) -> None:
        self._config, self._rounds = config, rounds
        names = {"sgd": ("momentum",) if config.momentum else ()}.get(config.name, ("mean", "square"))
        self._moments = {name: torch.zeros(size, device=device) for name in names}

    def apply(self, number: int, update_P: torch.Tensor, weights_P: torch.Tensor) -> None:
        """Change the weights in place, in the direction of the update.

        Args:
            number: Of the round, from 0: its learning rate follows from it.
            update_P: float32 [P], the mean of the clients' updates (not its negative, a gradient).
            weights_P: float32 [P].
        """
        config, moments = self._config, self._moments
        rate = config.lr * config.schedule.factor(number, self._rounds, self._rounds)
        if config.name == "sgd":
            if config.momentum:
                momentum_P = moments["momentum"].mul_(config.momentum).add_(update_P)
                update_P = update_P.add(momentum_P, alpha=config.momentum) if config.nesterov else momentum_P
            weights_P.add_(update_P, alpha=rate)
            return
        first, second = config.betas
        mean_P, square_P = moments["mean"], moments["square"]
        mean_P.mul_(first).add_(update_P, alpha=1 - first)
        squared_P = update_P.square()
        if config.name == "adam":
            square_P.mul_(second).add_(squared_P, alpha=1 - second)
        else:
            square_P.sub_(squared_P * torch.sign(square_P - squared_P), alpha=1 - second)
        weights_P.addcdiv_(mean_P, square_P.sqrt() + config.adaptivity, value=rate)

    def state(self) -> dict[str, Any]:
        """Return a copy of the moments on the CPU."""
        return {name: moment.cpu().clone() for name, moment in self._moments.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over moments."""
        for name, moment in self._moments.items():
            moment.copy_(state[name])
