"""Dropout whose masks are functions of (key, step, id), so that no example's mask depends on the rest of its batch.

A generator with a state would give every later example of a batch another mask when one is left out: removing one
example would move the gradients of others, and the train key is public.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from fairsweep.datasets.selection.randomness import derive, priorities
from fairsweep.trainables.layers.views import view_keys
from fairsweep.trainables.layers.word_mixing import mixed

_LAYER = 0x2545F491  # odd: layers of one network take different words


class ExampleDropout(nn.Module):
    """Sets numbers of an example to zero and scales the others, in training mode.

    Args:
        p: Probability of a zero, in [0, 1].
        number: Of the layer in its network.
        shared_dims: How many of an example's dimensions share one decision, counted from the last: 0 for dropout of
            single numbers, 2 for whole channels of images, all of them for stochastic depth.
    """

    words: torch.Tensor

    def __init__(self, p: float, number: int, shared_dims: int = 0) -> None:
        super().__init__()
        self.p, self.number, self.shared_dims = p, number, shared_dims
        self.register_buffer("words", torch.zeros((0, 2), dtype=torch.int32, device="cpu"), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the masks of the examples that `draw_masks` named, in their order."""
        if not self.training:
            return x
        if len(self.words) != len(x):
            raise RuntimeError(
                f"dropout must see one row for each example ({len(self.words)} were named), but got {len(x)} rows: "
                "keep examples in the first dimension"
            )
        decided = x.shape[1 : max(1, x.dim() - self.shared_dims)]
        start = self.number * _LAYER % 2**31
        counter = torch.arange(math.prod(decided), device=x.device, dtype=torch.int32) + start
        words = self.words.to(x.device)
        drawn = mixed(mixed(counter + words[:, :1]) ^ words[:, 1:])
        kept = (drawn >> 8 & (2**24 - 1)) >= round(self.p * 2**24)
        mask = kept.to(x.dtype).reshape(len(x), *decided, *(1,) * (x.dim() - 1 - len(decided)))
        return x * mask * (1 / (1 - self.p) if self.p < 1 else 0.0)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p}"


def draw_masks(model: nn.Module, key: bytes, step: int, ids: np.ndarray, views: int = 1) -> None:
    """Name the examples of the next forward passes to a model's dropout layers; without any it does nothing.

    Args:
        model: The model.
        key: 32 bytes; the trial's ``train`` key.
        step: Position of the step.
        ids: int64 [B] or, for stacks of clients, [C, B].
        views: How many rows each example has, one after the other; each has a mask of its own.
    """
    layers = _layers(model)
    if not layers:
        return
    rows = ids if views == 1 else np.repeat(ids, views)
    keys = [derive(own, "dropout", step) for own in view_keys(key, views)]
    drawn = np.stack([priorities(own, "example", ids.ravel()) for own in keys], axis=1)
    words = torch.from_numpy(drawn.ravel().view(np.int32).reshape(*rows.shape, 2).copy())
    device = next(iter(model.parameters())).device
    _name(layers, words.to(device))


def keep_masks(model: nn.Module, kept_B: torch.Tensor) -> None:
    """Leave out some examples of those that `draw_masks` named; bool [B]."""
    layers = _layers(model)
    if layers:
        _name(layers, next(iter(layers.values())).words[kept_B])


def mask_words(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return what a model's dropout layers were told, int32 [B, 2] by buffer: what ``vmap`` maps over."""
    return {f"{name}.words": layer.words for name, layer in _layers(model).items()}


def _layers(model: nn.Module) -> dict[str, ExampleDropout]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, ExampleDropout)}


def _name(layers: dict[str, ExampleDropout], words: torch.Tensor) -> None:
    for layer in layers.values():
        layer.words = words.clone()  # one tensor in several places would count as tied weights
