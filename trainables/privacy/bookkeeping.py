"""Book-keeping: clipped gradient sums at about the cost of an ordinary backward pass.

The gradient of a layer is a product of what came in (the activation) and what flows back (the backprop). One backward
pass that stops at the layers' outputs gives all backprops and skips every weight gradient. Norms follow from activation
and backprop layer by layer, then the clipping factors, then each layer's weighted sum: one ordinary weight gradient of
the scaled backprop.

Shapes: B examples, T positions of a map, I input and O output channels, K = kernel area x I.

References:
    Bu et al. 2022, "Differentially private optimization on large model at small cost", arXiv 2210.00038 (book-keeping);
    Bu et al. 2022, arXiv 2205.10683, section 4 (norms by T x T products, chosen layer by layer).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.flat_chain import FlatChain
from fairsweep.trainables.privacy.gradients import (
    ExampleGradients,
    Layer,
    layers_of,
    losses_of,
    summarise,
    views_of,
    weighted,
)
from fairsweep.trainables.privacy.opacus_internals import example_gradients

_PATCHES = 2**18
"""Numbers in patches that lie in a processor's cache: a megabyte."""


class LayerGradient(Protocol):
    """One layer's per-example gradients in a form that need not hold them.

    Attributes:
        squared_norms: float [B].
    """

    squared_norms: torch.Tensor

    def add_weighted(self, factors_B: torch.Tensor, sums: Sequence[torch.Tensor]) -> None:
        """Add the sum over examples of factor times gradient to ``sums``, one tensor for each parameter."""
        ...


class Bookkeeping:
    """See the module's text. Works for linear, convolution and norm layers, flat and per layer."""

    name = "bookkeeping"

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers = layers_of(model)
        self._chain = FlatChain.of(model)

    def add_clipped(
        self,
        inputs_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        clipping: Clipping,
        sums: Sequence[torch.Tensor],
        weights_B: torch.Tensor | None = None,
    ) -> ExampleGradients:
        """See `GradientMode`."""
        views, dtype = views_of(inputs_BCHW, labels_B), sums[0].dtype
        if self._chain is not None and views == 1 and self._chain.takes(inputs_BCHW.shape[1:]):
            passed = self._chain(inputs_BCHW, labels_B, weights_B)
            losses, activations, backprops = passed.losses, passed.activations, passed.backprops
        else:
            losses, activations, backprops = self._passed(inputs_BCHW, labels_B, weights_B)
        with torch.no_grad():
            # In float32 whatever the network computes in: the norms are those of what is summed.
            gradients = [
                layer_gradient(layer.module, activation.to(dtype), backprop.to(dtype), views)
                for layer, activation, backprop in zip(self._layers, activations, backprops, strict=True)
            ]
            squared_norms_LB = torch.stack([gradient.squared_norms for gradient in gradients])
            factors_LB = clipping.factors(squared_norms_LB)
            for layer, gradient, factors_B in zip(self._layers, gradients, factors_LB, strict=True):
                gradient.add_weighted(factors_B, [sums[index] for index in layer.indices])
        return summarise(losses, squared_norms_LB, factors_LB)

    def _passed(
        self, inputs_BCHW: torch.Tensor, labels_B: torch.Tensor, weights_B: torch.Tensor | None
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        """Return losses and, layer by layer, what entered and the gradient of their weighted sum by what left."""
        with _recorded(self._layers) as tape:
            losses = losses_of(self._model, inputs_BCHW, labels_B)
        unseen = [type(layer.module).__name__ for layer in self._layers if layer.module not in tape.edges]
        if unseen:
            raise ValueError(
                f"bookkeeping needs each layer to be called, but {unseen[0]} is not, though its weights are trained: "
                "choose gradient_mode functorch"
            )
        backprops = torch.autograd.grad(
            weighted(losses, weights_B).sum(), [tape.edges[layer.module] for layer in self._layers]
        )
        return losses, [tape.activations[layer.module] for layer in self._layers], backprops


@dataclass
class _Tape:
    activations: dict[nn.Module, torch.Tensor] = field(default_factory=dict)
    edges: dict[nn.Module, Any] = field(default_factory=dict)


@contextmanager
def _recorded(layers: Sequence[Layer]) -> Iterator[_Tape]:
    """Record what enters each layer and the place in the autograd graph of what leaves it."""
    tape = _Tape()

    def record(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: object) -> None:
        if module in tape.edges:
            raise ValueError(
                f"bookkeeping needs each layer to be called once a pass, but {type(module).__name__} was called again: "
                "choose gradient_mode functorch"
            )
        if not isinstance(output, torch.Tensor):
            raise ValueError(
                f"bookkeeping needs layers that return a tensor, but {type(module).__name__} returns a "
                f"{type(output).__name__}: choose gradient_mode functorch"
            )
        tape.activations[module] = arguments[0].detach()
        # The edge, not the output: a later in-place addition (as in residual blocks) would change what the tensor
        # stands for.
        tape.edges[module] = torch.autograd.graph.get_gradient_edge(output)

    handles = [layer.module.register_forward_hook(record) for layer in layers]
    try:
        yield tape
    finally:
        for handle in handles:
            handle.remove()


def layer_gradient(
    module: nn.Module, activation: torch.Tensor, backprop: torch.Tensor, views: int = 1
) -> LayerGradient:
    """Chooses the cheapest form of a layer's per-example gradients.

    Args:
        module: The layer.
        activation: What entered it, [B V, ...].
        backprop: The gradient of the summed loss by what left it, [B V, ...].
        views: V, how many rows each example has, one after the other: its gradient is the sum of theirs.

    Returns:
        Norms now, weighted sums on demand.
    """
    if not all(parameter.requires_grad for parameter in module.parameters(recurse=False)):
        return _Held(example_gradients(module, activation, backprop), views)
    if isinstance(module, nn.Linear) and activation.dim() == 2:
        return _Outer(module, activation, backprop, views)
    if isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros":
        outputs_BOT, inner = backprop.flatten(2), module.weight[0].numel()
        if views > 1:  # the positions of all views of an example side by side
            outputs_BOT = outputs_BOT.reshape(-1, views, *outputs_BOT.shape[1:]).transpose(1, 2).flatten(2)
        # T x T products of inputs and of backprops against the whole gradient.
        cheap = outputs_BOT.shape[2] * (inner + module.out_channels) < inner * module.out_channels
        return (_Gram if cheap else _Products)(module, activation, outputs_BOT)
    if isinstance(module, nn.GroupNorm):
        scaled = F.group_norm(activation, module.num_groups, eps=module.eps).mul_(backprop)
        by_row = [by_place.reshape(*activation.shape[:2], -1).sum(dim=2) for by_place in (scaled, backprop)]
        return _Held(by_row, views)
    return _Held(example_gradients(module, activation, backprop), views)


def patches(module: nn.Conv2d, activation: torch.Tensor) -> torch.Tensor:
    """Return the patches that a convolution multiplies, [B, T, K], of each patch the channels innermost.

    ``torch.nn.functional.unfold`` gives the same numbers with the channels outermost, up to six times as slowly on a
    CPU, and takes no ``padding="same"``. With the channels innermost whole rows of a kernel are copied at once.
    """
    reach = [dilation * (size - 1) for dilation, size in zip(module.dilation, module.kernel_size, strict=True)]
    if isinstance(module.padding, str):
        sides = [(span // 2, span - span // 2) if module.padding == "same" else (0, 0) for span in reach]
    else:
        sides = [(width, width) for width in module.padding]
    view = activation.permute(0, 2, 3, 1)
    if any(reach):  # kernels of one pixel need no copy
        view = F.pad(view, (0, 0, *sides[1], *sides[0])).contiguous()
    for axis, (span, stride, dilation) in enumerate(zip(reach, module.stride, module.dilation, strict=True), start=1):
        view = view.unfold(axis, span + 1, stride)[..., ::dilation]
    count, height, width, channels, *kernel = view.shape
    return view.permute(0, 1, 2, 4, 5, 3).reshape(count, height * width, kernel[0] * kernel[1] * channels)


class _Outer:
    """A linear layer: the gradient is an outer product, its norm the product of two norms."""

    def __init__(self, module: nn.Linear, activation_BI: torch.Tensor, backprop_BO: torch.Tensor, views: int) -> None:
        self._activation, self._backprop, self._views = activation_BI, backprop_BO, views
        if views > 1:
            # In float64: views may nearly cancel, and a norm that is found too small would clip too little.
            inputs_BVV, outputs_BVV = (_products(rows.double(), views) for rows in (activation_BI, backprop_BO))
            squares_B = (outputs_BVV * (inputs_BVV + (module.bias is not None))).sum(dim=(1, 2))
            self.squared_norms = squares_B.clamp(min=0).to(backprop_BO.dtype)
            return
        inputs = torch.linalg.vecdot(activation_BI, activation_BI)
        self.squared_norms = torch.linalg.vecdot(backprop_BO, backprop_BO) * (inputs + (module.bias is not None))

    def add_weighted(self, factors_B: torch.Tensor, sums: Sequence[torch.Tensor]) -> None:
        factors = factors_B if self._views == 1 else factors_B.repeat_interleave(self._views)
        scaled_BO = self._backprop * factors[:, None]
        sums[0].addmm_(scaled_BO.t(), self._activation)
        if len(sums) > 1:
            sums[1].add_(scaled_BO.sum(dim=0))


def _products(rows: torch.Tensor, views: int) -> torch.Tensor:
    """Return the inner products of each example's rows, [B V, K] as [B, V, V]."""
    rows_BVK = rows.reshape(-1, views, rows.shape[1])
    return torch.bmm(rows_BVK, rows_BVK.transpose(1, 2))


class _Gram:
    """A convolution with a small map: norms by T x T products, the sum by one product over examples and places."""

    def __init__(self, module: nn.Conv2d, activation: torch.Tensor, outputs_BOT: torch.Tensor) -> None:
        patches_BTK = _of_examples(patches(module, activation), outputs_BOT)
        self._module, self._patches, self._outputs = module, patches_BTK, outputs_BOT
        inputs_BTT = torch.bmm(patches_BTK, patches_BTK.transpose(1, 2))
        products_BTT = torch.bmm(outputs_BOT.transpose(1, 2), outputs_BOT)
        # Rounding may leave a tiny negative number where a gradient is zero.
        squares = torch.linalg.vecdot(inputs_BTT.flatten(1), products_BTT.flatten(1)).clamp(min=0)
        if module.bias is not None:
            squares = squares + outputs_BOT.sum(dim=2).square().sum(dim=1)
        self.squared_norms = squares

    def add_weighted(self, factors_B: torch.Tensor, sums: Sequence[torch.Tensor]) -> None:
        scaled_OBT = (self._outputs * factors_B[:, None, None]).transpose(0, 1).flatten(1)
        sums[0].add_(_as_weight(self._module, scaled_OBT @ self._patches.flatten(0, 1)))
        if len(sums) > 1:
            sums[1].add_(scaled_OBT.sum(dim=1))


class _Products:
    """A convolution with a large map: gradients held in memory, each one product of patches and backprops.

    Patches are laid out for as many examples at once as the processor's cache holds.
    """

    def __init__(self, module: nn.Conv2d, activation: torch.Tensor, outputs_BOT: torch.Tensor) -> None:
        self._module = module
        count, channels, positions = outputs_BOT.shape
        inner, views = module.weight[0].numel(), len(activation) // count
        weights_BOK = outputs_BOT.new_empty(count, channels, inner)
        at_once = max(1, _PATCHES // (positions * inner)) if activation.device.type == "cpu" else count
        for start in range(0, count, at_once):
            outputs = outputs_BOT[start : start + at_once]
            laid_out = patches(module, activation[start * views : (start + at_once) * views])
            torch.bmm(outputs, _of_examples(laid_out, outputs), out=weights_BOK[start : start + at_once])
        self._held = _Held([weights_BOK] + ([] if module.bias is None else [outputs_BOT.sum(dim=2)]))
        self.squared_norms = self._held.squared_norms

    def add_weighted(self, factors_B: torch.Tensor, sums: Sequence[torch.Tensor]) -> None:
        weight_OK = sums[0].new_zeros(len(sums[0]), sums[0][0].numel())
        self._held.add_weighted(factors_B, [weight_OK, *sums[1:]])
        sums[0].add_(_as_weight(self._module, weight_OK))


def _of_examples(patches_BTK: torch.Tensor, outputs_BOT: torch.Tensor) -> torch.Tensor:
    """Put the patches of all views of an example one after the other, as its backprops are."""
    return patches_BTK.reshape(len(outputs_BOT), -1, patches_BTK.shape[2])


def _as_weight(module: nn.Conv2d, gradient_OK: torch.Tensor) -> torch.Tensor:
    """Return a gradient whose channels lie innermost as one of a convolution's weight, [O, I, height, width]."""
    return gradient_OK.view(module.out_channels, *module.kernel_size, module.in_channels).permute(0, 3, 1, 2)


class _Held:
    """Per-example gradients held in memory, each [B, elements of the parameter]: small layers, or large maps."""

    def __init__(self, gradients: Sequence[torch.Tensor], views: int = 1) -> None:
        self._gradients = [gradient.flatten(1) for gradient in gradients]
        if views > 1:
            self._gradients = [rows.reshape(-1, views, rows.shape[1]).sum(dim=1) for rows in self._gradients]
        squares = [torch.linalg.vector_norm(gradient, dim=1).square() for gradient in self._gradients]
        self.squared_norms = squares[0] if len(squares) == 1 else torch.stack(squares).sum(dim=0)

    def add_weighted(self, factors_B: torch.Tensor, sums: Sequence[torch.Tensor]) -> None:
        for total, gradient in zip(sums, self._gradients, strict=True):
            total.view(-1).addmv_(gradient.t(), factors_B)
