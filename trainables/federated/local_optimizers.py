"""Client optimisers, for the tensors of one client or the stacked tensors of many."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fairsweep.trainables.models.optimizers import AdamOptimizer, OptimizerConfig, SgdOptimizer
from fairsweep.trainables.privacy.torch_internals import foreach

_EPSILON = 1e-8  # as in torch.optim.Adam


class LocalOptimizer:
    """torch's SGD (with momentum), Adam and AdamW, written elementwise: clients can be stacked in the first dimension.

    All clients of a stack take their first step together; those that are done are the last of the stack and are left
    out by handing over shorter views.

    Args:
        config: Which optimiser.
        tensors: The weights, [C, …] each; the state has their shape.
    """

    def __init__(self, config: OptimizerConfig, tensors: Sequence[torch.Tensor]) -> None:
        self._config = config
        self._moments = [[torch.zeros_like(tensor) for tensor in tensors] for _ in range(config.moments)]
        self._step = 0

    def restart(self) -> None:
        """Forgets everything: a new round, or another client, begins."""
        self._step = 0
        for moments in self._moments:
            foreach("zero_", moments)

    def update(
        self, tensors: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], rate: float, active: int | None = None
    ) -> None:
        """Take one step in place.

        Args:
            tensors: The weights; views of the first ``active`` clients where not all are left.
            gradients: Of the same shapes.
            rate: The learning rate.
            active: How many clients of the stack are left; None for all.
        """
        config = self._config
        self._step += 1
        if config.weight_decay and config.decoupled:
            foreach("mul_", list(tensors), 1 - rate * config.weight_decay)
        elif config.weight_decay:
            gradients = foreach("add", list(gradients), list(tensors), alpha=config.weight_decay)
        moments = [[moment[:active] for moment in listed] for listed in self._moments]
        if isinstance(config, AdamOptimizer):
            self._adam(tensors, gradients, moments, rate, config.betas)
            return
        if isinstance(config, SgdOptimizer) and config.momentum:
            foreach("mul_", moments[0], config.momentum)
            foreach("add_", moments[0], list(gradients))
            ahead = foreach("add", list(gradients), moments[0], alpha=config.momentum) if config.nesterov else None
            gradients = ahead or moments[0]
        foreach("add_", list(tensors), list(gradients), alpha=-rate)

    def _adam(
        self,
        tensors: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor],
        moments: Sequence[list[torch.Tensor]],
        rate: float,
        betas: tuple[float, float],
    ) -> None:
        first, second = betas
        means, squares = moments
        foreach("lerp_", means, list(gradients), 1 - first)
        foreach("mul_", squares, second)
        foreach("addcmul_", squares, list(gradients), list(gradients), 1 - second)
        roots = foreach("sqrt", squares)
        foreach("div_", roots, (1 - second**self._step) ** 0.5)
        foreach("add_", roots, _EPSILON)
        foreach("addcdiv_", list(tensors), means, roots, value=-rate / (1 - first**self._step))
