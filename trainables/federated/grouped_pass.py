"""One pass through networks of one architecture, each with weights and examples of its own: convolutions by group.

Shapes: C clients, B examples of each, H x W pixels of a map, F features of an example, K classes. Maps go from layer to
layer as [B, C channels, H, W], the channels of one client after another's; features as [C, B, F].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from fairsweep.trainables.models.cnn import Scale

_POINTWISE = (nn.ReLU, nn.Identity, Scale)


class GroupedPass:
    """A pass through a chain of convolutions and GroupNorms, then linear layers, and what works pixel by pixel.

    Under torch.func's vmap the same operations are by group too, but between layers it moves dimensions and copies.

    Args:
        layers: The chain; see `of`.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = layers

    @classmethod
    def of(cls, model: nn.Module) -> GroupedPass | None:
        """Return the pass of a model whose weights are all trained, in float32; None for one that is no such chain.

        A layer that occurs twice makes it none: its weights would be asked for twice.
        """
        if "forward" in vars(model):  # another precision
            return None
        layers = list(model) if type(model) is nn.Sequential else [model]
        flat = next((n for n, layer in enumerate(layers) if isinstance(layer, nn.Flatten)), -1)
        known = all(_is_known(layer, is_flat=number > flat) for number, layer in enumerate(layers))
        used = [getattr(layer, name, None) for layer in layers for name in ("weight", "bias")]
        used = [parameter for parameter in used if parameter is not None]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return cls(layers) if known and [*map(id, used)] == [*map(id, trained)] else None

    def __call__(self, weights: Sequence[torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        """Return logits, [C, B, K].

        Args:
            weights: For each parameter of the model, in order, [C, *shape].
            inputs: [C, B, channels, H, W], or [C, B, F].
        """
        clients, rest = len(inputs), iter(weights)
        starts_flat = inputs.dim() == 3 or isinstance(self._layers[0], nn.Flatten)
        now = inputs if starts_flat else inputs.transpose(0, 1).flatten(1, 2)
        for layer in self._layers:
            has_bias = getattr(layer, "bias", None) is not None
            if isinstance(layer, nn.Conv2d):
                weight, bias = next(rest).flatten(0, 1), next(rest).flatten() if has_bias else None
                groups = clients * layer.groups
                now = F.conv2d(now, weight, bias, layer.stride, layer.padding, layer.dilation, groups)
            elif isinstance(layer, nn.GroupNorm):
                weight, bias = next(rest).flatten(), next(rest).flatten()
                now = F.group_norm(now, clients * layer.num_groups, weight, bias, layer.eps)
            elif isinstance(layer, nn.Flatten):
                now = now.flatten(2) if starts_flat else now.reshape(len(now), clients, -1).transpose(0, 1)
            elif isinstance(layer, nn.Linear):
                weight, columns = next(rest), now.transpose(1, 2)  # so gradients lie in memory as weights do
                product = torch.bmm(weight, columns)
                now = (product + next(rest)[..., None] if has_bias else product).transpose(1, 2)
            else:
                now = layer(now)
        return now


def _is_known(layer: nn.Module, *, is_flat: bool) -> bool:
    """Whether a layer of a chain keeps the channels of clients apart, as the pass calls it."""
    if type(layer) is nn.Conv2d:
        return not is_flat and layer.padding_mode == "zeros"
    if type(layer) is nn.GroupNorm:
        return not is_flat and layer.affine
    if type(layer) is nn.Flatten:
        return not is_flat and (layer.start_dim, layer.end_dim) == (1, -1)
    return (type(layer) is nn.Linear and is_flat) or type(layer) in _POINTWISE
