"""Clipping: the rule by which each example's gradient is bounded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Clipping:
    """Bounds the L2 norm of every example's gradient, over all layers together or layer by layer.

    Attributes:
        kind: ``flat``: one norm over all layers is at most S. ``per_layer``: each of the L layers is bounded by S_l =
            S/sqrt(L), so that S = sqrt(sum of S_l^2) bounds the whole. ``none``: nothing is bounded.
        l2_clip_norm: S, positive; may be None without clipping.

    References:
        Flat: Abadi et al. 2016, arXiv 1607.00133, algorithm 1. Per layer: McMahan et al. 2018, arXiv 1710.06963,
            section 2.
    """

    kind: Literal["flat", "per_layer", "none"]
    l2_clip_norm: float | None

    def __post_init__(self) -> None:
        if self.kind != "none" and not (self.l2_clip_norm is not None and 0 < self.l2_clip_norm < math.inf):
            raise ValueError(
                f"l2_clip_norm must be positive and finite to clip, but got l2_clip_norm={self.l2_clip_norm}"
            )

    def factors(self, squared_norms_LB: torch.Tensor) -> torch.Tensor:
        """Return by how much each example's gradient is scaled.

        Args:
            squared_norms_LB: float [L, B], squared L2 norm of each layer's gradient of each example.

        Returns:
            float [L, B] in [0, 1]; min(1, S / norm), which is 1 for a zero gradient. Equal over layers unless per
            layer.
        """
        return factors_of(self.kind, self.l2_clip_norm, squared_norms_LB)


def factors_of(kind: str, l2_clip_norm: float | torch.Tensor | None, squared_norms: torch.Tensor) -> torch.Tensor:
    """Return what `Clipping.factors` does, also for several networks with norms of their own.

    Args:
        kind: See `Clipping`.
        l2_clip_norm: S; or float64 [M, 1], that of each of M networks.
        squared_norms: float [L, B]; or [L, M, B].
    """
    if kind == "none" or l2_clip_norm is None:
        return torch.ones_like(squared_norms)
    bound = l2_clip_norm / math.sqrt(len(squared_norms)) if kind == "per_layer" else l2_clip_norm
    bound = bound.to(squared_norms.dtype) if isinstance(bound, torch.Tensor) else bound
    if kind == "per_layer":
        return (bound / squared_norms.sqrt()).clamp(max=1)
    return (bound / squared_norms.sum(dim=0).sqrt()).clamp(max=1).expand_as(squared_norms)
