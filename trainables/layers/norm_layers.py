"""Norm layers in place of BatchNorm, in any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
NormName = Literal["group", "frozen", "batch", "none"]
_MOST_GROUPS = 16
_LEAST_CHANNELS = 4


def group_count(channels: int) -> int:
    """Return how many groups GroupNorm has where it takes the place of a BatchNorm.

    The largest divisor of the number of channels that is at most 16 (De et al. 2022, arXiv 2204.13650) and leaves at
    least 4 channels in a group: on maps of 1 x 1 pixels, smaller groups would normalise the information away. One group
    if there is no such divisor.

    >>> [group_count(channels) for channels in (64, 24, 40, 72, 7, 3)]
    [16, 6, 10, 12, 1, 1]
    """
    fitting = (n for n in range(_MOST_GROUPS, 1, -1) if channels % n == 0 and channels // n >= _LEAST_CHANNELS)
    return next(fitting, 1)


class FrozenBatchNorm(nn.Module):
    """BatchNorm with published statistics and affine weights as constants: a function of each example alone.

    Its state has the names of BatchNorm's, so that published weights load.

    Args:
        channels: Number of channels.
        eps: As BatchNorm has it.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.empty(channels))
        self.reset()

    def reset(self) -> None:
        """Set ones and zeros: what weights of a file replace."""
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            getattr(self, name).fill_(value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise float32 [B, C, …]."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def norm_maker(norm: NormName, groups: Callable[[int], int] = group_count) -> Callable[[int], nn.Module]:
    """Return a maker of norm layers for a number of channels, of which ``groups`` gives the number of groups."""
    if norm == "batch":
        return nn.BatchNorm2d
    if norm == "frozen":
        return FrozenBatchNorm
    if norm == "none":
        return lambda channels: nn.Identity()
    return lambda channels: nn.GroupNorm(groups(channels), channels)


def replace_norms(network: nn.Module, norm: NormName) -> None:
    """Put other norm layers in the place of a network's BatchNorm layers; ``batch`` leaves them."""
    if norm == "batch":
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BATCH_NORMS):
                setattr(parent, name, _in_place_of(child, norm))


def freeze_norms(network: nn.Module, trained: Sequence[str]) -> None:
    """Let BatchNorm layers keep their statistics too, all but those in trained layers."""
    for parent_name, parent in list(network.named_modules()):
        for name, child in parent.named_children():
            place = f"{parent_name}.{name}.".lstrip(".")
            if isinstance(child, BATCH_NORMS) and not any(place.startswith(f"{inside}.") for inside in trained):
                setattr(parent, name, _in_place_of(child, "frozen"))


def _in_place_of(
    layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm, norm: NormName
) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    channels, made = layer.num_features, layer.running_var
    with nullcontext() if made is None else made.device:
        if norm == "group":
            new: nn.Module = nn.GroupNorm(group_count(channels), channels, eps=layer.eps, affine=layer.affine)
        else:
            new = FrozenBatchNorm(channels, layer.eps)
    # What the network's author set: a function may bring published weights of its own.
    new.load_state_dict({name: value for name, value in layer.state_dict().items() if name in new.state_dict()}, False)
    return new
