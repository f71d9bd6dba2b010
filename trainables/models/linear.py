"""Softmax regression on the pixels."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from torch import nn

from fairsweep.trainables.models.model import ModelConfig, PrivateUse


class LinearConfig(ModelConfig):
    """Softmax regression on the pixels: one linear layer, without a norm layer."""

    private_use = PrivateUse(64, 1024, clients_on_cpu=128, clients_on_gpu=256, stacks_on_cpu=True)
    once: ClassVar = {"norm": "group", "width": 16, "pretrained": None}

    name: Literal["linear"] = "linear"

    def network(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the layers."""
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), classes))
