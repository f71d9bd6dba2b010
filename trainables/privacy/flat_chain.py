"""Linear layers one after another, with ReLU between them: heads on features of a frozen body, softmax regression.

The gradients by what leaves each layer are written out here. Autograd with hooks gives the same numbers to the last
bit, and on networks this small takes longer for its calls than for the arithmetic.

Shapes: B examples, F features of an example, K classes, I and O numbers into and out of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from fairsweep.trainables.privacy.torch_internals import has_hooks


@dataclass(frozen=True)
class ChainPass:
    """What a pass of a batch leaves behind; nothing of it has a graph.

    Attributes:
        losses: [B], each example's cross-entropy, without its weight.
        activations: What entered each linear layer, [B, I].
        backprops: The gradient of the sum of weighted losses by what left it, [B, O].
    """

    losses: torch.Tensor
    activations: Sequence[torch.Tensor]
    backprops: Sequence[torch.Tensor]


@dataclass(frozen=True)
class ChainOutline:
    """The architecture of a chain.

    Attributes:
        widths: Numbers into the first linear layer, and out of each one.
        has_bias: Whether each has a bias.
        is_rectified: Whether ReLU follows each.
    """

    widths: tuple[int, ...]
    has_bias: tuple[bool, ...]
    is_rectified: tuple[bool, ...]


class FlatChain:
    """A network of such layers, all of whose weights are trained; see `of`.

    Args:
        layers: Linear layers and ReLU, a linear one first.
        flattens: Whether examples may have any shape; else they must be flat.
    """

    def __init__(self, layers: Sequence[nn.Module], *, flattens: bool) -> None:
        self._flattens = flattens
        self._linear: list[nn.Linear] = []
        self._is_rectified: list[bool] = []
        for layer in layers:
            if isinstance(layer, nn.Linear):
                self._linear.append(layer)
                self._is_rectified.append(False)
            else:
                self._is_rectified[-1] = True

    @classmethod
    def of(cls, model: nn.Module) -> FlatChain | None:
        """Return a network as a chain; None for any other, also for one with hooks or in another precision."""
        if "forward" in vars(model) or any(map(has_hooks, model.modules())):
            return None
        layers = [layer for layer in _parts(model) if type(layer) is not nn.Identity]
        first = layers[0] if layers else None
        flattens = isinstance(first, nn.Flatten) and (first.start_dim, first.end_dim) == (1, -1)
        layers = layers[1:] if flattens else layers
        used = [parameter for layer in layers for parameter in layer.parameters()]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        kinds = [type(layer) for layer in layers]
        # A layer that occurs twice makes it none.
        is_chain = kinds[:1] == [nn.Linear] and set(kinds) <= {nn.Linear, nn.ReLU}
        return cls(layers, flattens=flattens) if is_chain and [*map(id, used)] == [*map(id, trained)] else None

    @property
    def outline(self) -> ChainOutline:
        """What networks have in common that can be trained side by side."""
        return ChainOutline(
            (self._linear[0].in_features, *(layer.out_features for layer in self._linear)),
            tuple(layer.bias is not None for layer in self._linear),
            tuple(self._is_rectified),
        )

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether examples may have a shape."""
        return len(shape) == 1 or self._flattens

    def __call__(self, inputs: torch.Tensor, labels_B: torch.Tensor, weights_B: torch.Tensor | None) -> ChainPass:
        """Take a batch through the network and back.

        Args:
            inputs: float32 [B, …].
            labels_B: int64 [B].
            weights_B: float32 [B], of the examples' losses; None weighs all alike.
        """
        now, activations, outputs = inputs.flatten(1), [], []
        with torch.no_grad():
            for layer, is_rectified in zip(self._linear, self._is_rectified, strict=True):
                activations.append(now)
                outputs.append(layer(now))
                now = outputs[-1].relu() if is_rectified else outputs[-1]
        losses_B = F.cross_entropy(now.requires_grad_(), labels_B, reduction="none")
        (back,) = torch.autograd.grad((losses_B if weights_B is None else losses_B * weights_B).sum(), now)
        backprops = []
        with torch.no_grad():
            for place in reversed(range(len(self._linear))):
                if self._is_rectified[place]:
                    back = torch.where(outputs[place] > 0, back, 0)
                backprops.append(back)
                back = back @ self._linear[place].weight if place else back
        return ChainPass(losses_B.detach(), activations, backprops[::-1])


def _parts(model: nn.Module) -> list[nn.Module]:
    """Return what a sequence of sequences consists of, in order; anything else as it is."""
    return [part for layer in model for part in _parts(layer)] if type(model) is nn.Sequential else [model]
