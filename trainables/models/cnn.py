"""A few strided convolutions."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from fairsweep.trainables.models.model import ConvolutionalModel, ModelError, PrivateUse


class CnnConfig(ConvolutionalModel):
    """A few strided convolutions and a linear layer.

    Attributes:
        width: Channels of the first convolution; each further stage doubles them, up to four times the width.
    """

    private_use = PrivateUse(128, 1024, clients_on_cpu=16, clients_on_gpu=64, stacks_on_cpu=True)
    once: ClassVar = {"pretrained": None}

    name: Literal["cnn"] = "cnn"
    width: int = Field(default=16, ge=4, multiple_of=4)

    def network(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Strided convolutions until the map is at most 4 x 4, then a linear layer on all of it.

        Strides instead of pooling keep the maps small from the first layer on: per-example gradients cost a multiple of
        a map's size, and this network trains several times faster on a CPU than one of the same width that pools.

        The features are scaled to a length of about 3 before the head. The head's curvature, and the noise that reaches
        the logits through its weights, grow with that length: unscaled (it is about 23 for 1,024 features) private
        training learns less, and its unclipped twin diverges at the same learning rate.
        """
        height, width, channels = image_shape
        if min(height, width) < 8:
            raise ModelError(f"cnn needs images of at least 8 x 8 pixels, but got {height} x {width}: use linear")
        norm = self.norm_layer(lambda channels: channels // 4)
        layers: list[nn.Module] = []
        out = self.width
        while max(height, width) > 4:
            kernel = 3 if layers else 5
            layers += [nn.Conv2d(channels, out, kernel, stride=2, padding=kernel // 2), norm(out), nn.ReLU()]
            height, width, channels = (height + 1) // 2, (width + 1) // 2, out
            out = min(2 * out, 4 * self.width)
        features = height * width * channels
        return nn.Sequential(*layers, nn.Flatten(), Scale(4 / math.sqrt(features)), nn.Linear(features, classes))


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return x * self.factor
