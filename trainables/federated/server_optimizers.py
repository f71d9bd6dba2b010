"""Server optimisers: from the mean update of a round to new weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator


class ServerConfig(BaseModel):
    """The server's optimiser. It sees the noised mean only, so it costs no privacy.

    Attributes:
        name: ``sgd`` (with momentum), ``adam`` or ``yogi``.
        lr: Learning rate, positive.
        momentum: For ``sgd``, in [0, 1).
        betas: For ``adam`` and ``yogi``, both in [0, 1).
        adaptivity: For ``adam`` and ``yogi``: tau, added to the root of the second moment; the smaller, the more
            adaptive.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["sgd", "adam", "yogi"] = "sgd"
    lr: float = Field(default=1.0, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    betas: tuple[float, float] = (0.9, 0.99)
    adaptivity: float = Field(default=1e-3, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name != "sgd" and self.momentum != 0:
            raise ValueError(
                f"momentum belongs to sgd, but name={self.name!r} has momentum={self.momentum}: give betas instead"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), but got betas={self.betas}")
        return self


class ServerOptimizer:
    """Applies mean updates to the weights.

    Args:
        config: How.
        size: Number of weights, P.
        device: Where they are.

    References:
        Reddi et al. 2021, arXiv 2003.00295, algorithm 2 (FedAdam, FedYogi: no bias correction). Momentum: Hsu et al.
        2019, arXiv 1909.06335, section 4.3 (FedAvgM).
    """

    def __init__(self, config: ServerConfig, size: int, device: torch.device) -> None:
        self._config = config
        names = {"sgd": ("momentum",) if config.momentum else ()}.get(config.name, ("mean", "square"))
        self._moments = {name: torch.zeros(size, device=device) for name in names}

    def apply(self, update_P: torch.Tensor, weights_P: torch.Tensor) -> None:
        """Change the weights in place, in the direction of the update.

        Args:
            update_P: float32 [P], the mean of the clients' updates (not its negative, a gradient).
            weights_P: float32 [P].
        """
        config, moments = self._config, self._moments
        if config.name == "sgd":
            if config.momentum:
                update_P = moments["momentum"].mul_(config.momentum).add_(update_P)
            weights_P.add_(update_P, alpha=config.lr)
            return
        first, second = config.betas
        mean_P, square_P = moments["mean"], moments["square"]
        mean_P.mul_(first).add_(update_P, alpha=1 - first)
        squared_P = update_P.square()
        if config.name == "adam":
            square_P.mul_(second).add_(squared_P, alpha=1 - second)
        else:
            square_P.sub_(squared_P * torch.sign(square_P - squared_P), alpha=1 - second)
        weights_P.addcdiv_(mean_P, square_P.sqrt() + config.adaptivity, value=config.lr)

    def state(self) -> dict[str, Any]:
        """Return a copy of the moments on the CPU."""
        return {name: moment.cpu().clone() for name, moment in self._moments.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over moments."""
        for name, moment in self._moments.items():
            moment.copy_(state[name])
