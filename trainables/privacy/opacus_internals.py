"""Private names of Opacus that fairsweep uses: parts of its modules, and what these leave behind."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_TESTED = "1.6.0"
# Opacus's hooks leave these on layers.
_LEFT_ON_LAYERS = ("activations", "max_batch_len")


def example_gradients(module: nn.Module, activation: torch.Tensor, backprop: torch.Tensor) -> list[torch.Tensor]:
    """Return per-example gradients of any layer that Opacus knows, in the order of the layer's parameters.

    The public `GradSampleModule` computes them in its hooks, of all layers, and keeps them all at once: what
    bookkeeping is there to avoid.
    """
    sampler = _part("opacus.grad_sample", "GradSampleModule", "GRAD_SAMPLERS").get(type(module))
    if sampler is None:
        raise ValueError(
            f"bookkeeping does not support layers of type {type(module).__name__}: choose gradient_mode functorch"
        )
    by_parameter = sampler(module, [activation], backprop)
    return [by_parameter[parameter] for parameter in module.parameters(recurse=False) if parameter.requires_grad]


@contextmanager
def wrapped(model: nn.Module, make: Callable[[], Any]) -> Iterator[Any]:
    """Wrap a model in one of Opacus's modules for one batch, and take off every trace of it also after an error.

    Opacus leaves hooks on the layers and attributes on the parameters, and its own ``to_standard_module`` not all of
    them off. Were they left on, predictions and saved states would see them, and an actor that serves one trial after
    another would keep the old ones' memory.
    """
    made = make()
    try:
        with warnings.catch_warnings():
            # Images need no gradient, so the first layer's hook has no input gradient to see. It uses the output's
            # only.
            warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
            yield made
    finally:
        made.to_standard_module()
        for module in model.modules():
            for attribute in _LEFT_ON_LAYERS:
                if attribute in vars(module):
                    delattr(module, attribute)
        for parameter in model.parameters():
            parameter.grad = None


def _part(module: str, *names: str) -> Any:  # noqa: ANN401 - Opacus has no types
    """Return something of Opacus's that it does not document. Raises: NotImplementedError if it is not there."""
    import opacus

    try:
        part: Any = importlib.import_module(module)
        for name in names:
            part = getattr(part, name)
    except (ImportError, AttributeError) as error:
        raise NotImplementedError(
            f"fairsweep needs {'.'.join((module, *names))}, which opacus {opacus.__version__} does not have: install "
            f"opacus=={_TESTED}, with which fairsweep is tested, or choose gradient_mode functorch"
        ) from error
    return part
