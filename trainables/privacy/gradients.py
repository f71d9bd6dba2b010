"""Per-example gradients, clipped and summed: several implementations with equal results.

Shapes: B examples, C channels, H x W pixels, L layers (modules that own parameters), P parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from fairsweep.trainables.layers.example_dropout import keep_masks, mask_words
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.torch_internals import foreach


@dataclass(frozen=True)
class ExampleGradients:
    """What is known of a batch's per-example gradients once they are clipped and summed.

    Attributes:
        losses: float32 [B], cross-entropy of each example, without its weight.
        norms: float32 [B], L2 norm over all layers of the weighted loss's gradient before clipping; NaN where the mode
            does not compute it.
        clipped: bool [B], True if any layer was shortened.
    """

    losses: torch.Tensor
    norms: torch.Tensor
    clipped: torch.Tensor

    def first(self, count: int) -> ExampleGradients:
        """Return what is known of the first so many examples."""
        return ExampleGradients(self.losses[:count], self.norms[:count], self.clipped[:count])


class GradientMode(Protocol):
    """One way to clip and sum. All give equal results up to rounding, and leave the model as bare as they found it.

    Attributes:
        name: The mode's name.
    """

    name: str

    def add_clipped(
        self,
        inputs_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        clipping: Clipping,
        sums: Sequence[torch.Tensor],
        weights_B: torch.Tensor | None = None,
    ) -> ExampleGradients:
        """Add the sum over examples of their clipped gradients to ``sums``.

        Args:
            inputs_BCHW: float32 [B, C, H, W], B at least 1; or [B V, C, H, W]: V views of each example, one after the
                other. The loss of an example is then the mean of those of its views.
            labels_B: int64 [B].
            clipping: The rule.
            sums: One float32 tensor for each trainable parameter, in order and of its shape; changed in place.
            weights_B: float32 [B], at least 0: each example's loss is multiplied by its weight before its gradient is
                clipped. None weighs all alike.

        Returns:
            Losses, norms and who was clipped.
        """
        ...


@dataclass(frozen=True)
class Layer:
    """A module that owns trainable parameters: the layer of per-layer clipping.

    Attributes:
        module: The module.
        indices: Positions of its parameters among the model's trainable ones.
    """

    module: nn.Module
    indices: tuple[int, ...]


def layers_of(model: nn.Module) -> list[Layer]:
    """Return a model's layers in order; together they hold each trainable parameter once."""
    position = {id(p): index for index, p in enumerate(p for p in model.parameters() if p.requires_grad)}
    layers = []
    for module in model.modules():
        indices = tuple(position[id(p)] for p in module.parameters(recurse=False) if p.requires_grad)
        if indices:
            layers.append(Layer(module, indices))
    return layers


def losses_of(model: nn.Module, inputs_BCHW: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """Return each example's cross-entropy, [B]: the mean over its views, where it has several."""
    views = views_of(inputs_BCHW, labels_B)
    if views == 1:
        return F.cross_entropy(model(inputs_BCHW), labels_B, reduction="none")
    losses = F.cross_entropy(model(inputs_BCHW), labels_B.repeat_interleave(views), reduction="none")
    return losses.reshape(-1, views).mean(dim=1)


def views_of(inputs_BCHW: torch.Tensor, labels_B: torch.Tensor) -> int:
    """Return how many rows of a batch belong to each example."""
    return len(inputs_BCHW) // len(labels_B)


def weighted(losses_B: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
    """Return each example's loss times its weight, [B]; the losses themselves without weights."""
    return losses_B if weights_B is None else losses_B * weights_B


def pad(
    inputs_BCHW: torch.Tensor, labels_B: torch.Tensor, weights_B: torch.Tensor | None, size: int, views: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fill a batch up to a size with blank examples of weight 0, which add nothing to any sum.

    Args:
        inputs_BCHW: float32 [B, C, H, W], B at most ``size``.
        labels_B: int64 [B].
        weights_B: float32 [B]; None weighs all alike.
        size: Number of examples wanted.
        views: Rows of each example.

    Returns:
        Inputs, labels and weights of so many examples.
    """
    blank = size - len(labels_B)
    weights = torch.ones_like(labels_B, dtype=inputs_BCHW.dtype) if weights_B is None else weights_B
    inputs = torch.cat([inputs_BCHW, inputs_BCHW.new_zeros(blank * views, *inputs_BCHW.shape[1:])])
    return inputs, torch.cat([labels_B, labels_B.new_zeros(blank)]), torch.cat([weights, weights.new_zeros(blank)])


class Plain:
    """The ordinary backward pass, for training without clipping: no per-example norms, and much faster."""

    name = "plain"

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def add_clipped(
        self,
        inputs_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        clipping: Clipping,
        sums: Sequence[torch.Tensor],
        weights_B: torch.Tensor | None = None,
    ) -> ExampleGradients:
        """See `GradientMode`."""
        if clipping.kind != "none":
            raise ValueError(f"plain gradients cannot be clipped by example, but got clipping {clipping.kind!r}")
        losses = losses_of(self._model, inputs_BCHW, labels_B)
        gradients = torch.autograd.grad(weighted(losses, weights_B).sum(), self._parameters)
        foreach("add_", list(sums), list(gradients))
        losses = losses.detach()
        return ExampleGradients(losses, torch.full_like(losses, torch.nan), torch.zeros_like(losses, dtype=torch.bool))


class Functorch:
    """torch.func: vmap over the gradient of one example's loss. Works for any layer."""

    name = "functorch"

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers = layers_of(model)
        self._names = [name for name, p in model.named_parameters() if p.requires_grad]

        def loss_of_one(
            parameters: dict[str, torch.Tensor],
            words: dict[str, torch.Tensor],
            input_VCHW: torch.Tensor,
            label: torch.Tensor,
            weight: torch.Tensor,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            logits = torch.func.functional_call(model, {**parameters, **words}, (input_VCHW,))
            loss = F.cross_entropy(logits, label.expand(len(logits)))
            return loss * weight, loss

        # Random layers are keyed: what is drawn here by dropout of probability 0 changes nothing.
        self._per_example = torch.func.vmap(
            torch.func.grad(loss_of_one, has_aux=True), in_dims=(None, 0, 0, 0, 0), randomness="different"
        )

    def add_clipped(
        self,
        inputs_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        clipping: Clipping,
        sums: Sequence[torch.Tensor],
        weights_B: torch.Tensor | None = None,
    ) -> ExampleGradients:
        """See `GradientMode`."""
        parameters = {name: p.detach() for name, p in self._model.named_parameters() if p.requires_grad}
        if weights_B is None:
            weights_B = torch.ones(len(labels_B), dtype=inputs_BCHW.dtype, device=inputs_BCHW.device)
        examples = len(labels_B), views_of(inputs_BCHW, labels_B)
        words = {name: word.reshape(*examples, 2) for name, word in mask_words(self._model).items()}
        inputs = inputs_BCHW.reshape(*examples, *inputs_BCHW.shape[1:])
        with warnings.catch_warnings():  # attention is taken one example after the other
            warnings.filterwarnings("ignore", message="There is a performance drop")
            gradients, losses = self._per_example(parameters, words, inputs, labels_B, weights_B)
        return clip_and_add([gradients[name] for name in self._names], losses, self._layers, clipping, sums)


class LossScaled:
    """Another mode, by losses that are multiplied by a constant, and gradients that are divided by it afterwards.

    Each example's weight is multiplied, and the clipping norm with it, so that the factors are those of the unscaled
    gradients. An example whose scaled gradient overflows contributes nothing, see `add_finite`.

    Args:
        mode: The other one.
        scale: The constant; a power of two, by which nothing is rounded.
    """

    def __init__(self, mode: GradientMode, scale: float) -> None:
        self.name = mode.name
        self._mode, self._scale = mode, scale

    def add_clipped(
        self,
        inputs_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        clipping: Clipping,
        sums: Sequence[torch.Tensor],
        weights_B: torch.Tensor | None = None,
    ) -> ExampleGradients:
        """See `GradientMode`."""
        norm = clipping.l2_clip_norm
        larger = Clipping(clipping.kind, None if norm is None else norm * self._scale)
        weights = inputs_BCHW.new_ones(len(labels_B)) if weights_B is None else weights_B
        scaled = [torch.zeros_like(total) for total in sums]
        found = self._mode.add_clipped(inputs_BCHW, labels_B, larger, scaled, weights * self._scale)
        foreach("add_", list(sums), scaled, alpha=1 / self._scale)
        return ExampleGradients(found.losses, found.norms / self._scale, found.clipped)


def clip_and_add(
    gradients: Sequence[torch.Tensor],
    losses_B: torch.Tensor,
    layers: Sequence[Layer],
    clipping: Clipping,
    sums: Sequence[torch.Tensor],
) -> ExampleGradients:
    """Clip and sum per-example gradients that are held in memory, each [B, *shape of the parameter]."""
    # In float32 whatever the network computes in: the norms are those of what is summed.
    flat = [
        gradient.detach().reshape(len(losses_B), -1).to(total.dtype)
        for gradient, total in zip(gradients, sums, strict=True)
    ]
    squares = [torch.linalg.vector_norm(gradient, dim=1).square() for gradient in flat]
    squared_norms_LB = torch.stack([torch.stack([squares[i] for i in layer.indices]).sum(dim=0) for layer in layers])
    factors_LB = clipping.factors(squared_norms_LB)
    for layer, factors_B in zip(layers, factors_LB, strict=True):
        for index in layer.indices:
            sums[index].view(-1).addmv_(flat[index].t(), factors_B)
    return summarise(losses_B, squared_norms_LB, factors_LB)


def add_finite(
    mode: GradientMode,
    inputs_BCHW: torch.Tensor,
    labels_B: torch.Tensor,
    clipping: Clipping,
    sums: Sequence[torch.Tensor],
    weights_B: torch.Tensor | None = None,
    *,
    model: nn.Module | None = None,
) -> ExampleGradients:
    """Do what the mode's ``add_clipped`` does, but leaves out examples whose gradient is not finite.

    A gradient that overflows cannot be scaled to a bounded norm, and one such example would turn the whole sum into
    NaN. It contributes nothing instead, which is within any bound. Costs a second pass: call it only where a sum was
    not finite.

    Args:
        mode: Computes the gradients.
        inputs_BCHW: float32 [B, C, H, W].
        labels_B: int64 [B].
        clipping: The rule.
        sums: One tensor for each parameter; changed in place.
        weights_B: See `GradientMode`.
        model: Whose dropout masks belong to the examples.

    Returns:
        Losses, norms and who was clipped, of all examples.
    """
    discarded = [torch.zeros_like(total) for total in sums]
    gradients = mode.add_clipped(inputs_BCHW, labels_B, clipping, discarded, weights_B)
    finite = gradients.norms.isfinite()
    if bool(finite.any()):
        kept = None if weights_B is None else weights_B[finite]
        rows = finite.repeat_interleave(views_of(inputs_BCHW, labels_B))
        if model is not None:
            keep_masks(model, rows)
        mode.add_clipped(inputs_BCHW[rows], labels_B[finite], clipping, sums, kept)
    return gradients


def summarise(losses_B: torch.Tensor, squared_norms_LB: torch.Tensor, factors_LB: torch.Tensor) -> ExampleGradients:
    """Return what is kept of a batch's gradients."""
    return ExampleGradients(losses_B.detach(), squared_norms_LB.sum(dim=0).sqrt(), (factors_LB < 1).any(dim=0))
