"""The exponential moving average of a network's weights: what is evaluated in the place of the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Averages the weights that are trained: those after the first step, then decay times itself plus the rest.

    It is a function of the weights alone: of noised ones it is post-processing, and costs no privacy. What is not
    trained, such as the running statistics of BatchNorm, is not averaged.

    Args:
        decay: In (0, 1).
        model: Whose weights; its parameters must stay the same tensors.

    References:
        Polyak & Juditsky 1992; as `torch.optim.swa_utils.AveragedModel` with ``get_ema_multi_avg_fn``. Under DP-SGD: De
        et al. 2022, arXiv 2204.13650, section 3.2.
    """

    def __init__(self, decay: float, model: nn.Module) -> None:
        self._take_up = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._steps = 0

    def update(self) -> None:
        """Take up the weights after a step."""
        if self._steps == 0:
            for name, average in self._averages.items():
                average.copy_(self._parameters[name].detach())
        else:
            weights = [parameter.detach() for parameter in self._parameters.values()]
            self._take_up(list(self._averages.values()), weights, self._steps)
        self._steps += 1

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Put the average in the place of the model's weights for a while."""
        last = {name: p.data for name, p in self._parameters.items()}
        for name, parameter in self._parameters.items():
            parameter.data = self._averages[name]
        try:
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = last[name]

    def state(self) -> dict[str, Any]:
        """Return a copy on the CPU."""
        return {"steps": self._steps, "weights": {name: a.cpu().clone() for name, a in self._averages.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state; before the first step the average is the model's weights."""
        self._steps = int(state["steps"])
        for name, average in self._averages.items():
            average.copy_(state["weights"][name] if self._steps else self._parameters[name].detach())
