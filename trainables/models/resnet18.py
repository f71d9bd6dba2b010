"""Torchvision's ResNet-18."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import nn

from fairsweep.trainables.layers.published_weights import published_weights
from fairsweep.trainables.models.model import ModelError, NormedModel


class ResNet18Config(NormedModel):
    """Torchvision's ResNet-18, with a head for the number of classes.

    Attributes:
        pretrained: Path of a local file with its weights, a ``state_dict`` as torchvision publishes it. The head is
            loaded only where its shape fits. With ``norm: group`` or ``none`` the running statistics of a BatchNorm
            file are left out; with ``frozen`` they are constants. A private learner treats these weights as public.
    """

    once: ClassVar = {"width": 16}

    name: Literal["resnet18"] = "resnet18"
    pretrained: Path | None = None

    def network(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Torchvision's ResNet-18, layer for layer and name for name, on images with any number of channels.

        GroupNorm has 16 groups in every layer (De et al. 2022, arXiv 2204.13650): the last maps of small images are
        1 x 1, and groups of one or two numbers would normalise all information away.
        """
        from torchvision.models.resnet import ResNet

        height, width, channels = image_shape
        if min(height, width) < 16:
            raise ModelError(f"resnet18 needs images of at least 16 x 16 pixels, but got {height} x {width}: use cnn")
        norm = self.norm_layer(lambda channels: 16)
        model: nn.Module = ResNet(_residual_block(), [2, 2, 2, 2], num_classes=classes, norm_layer=norm)
        if channels != 3:
            model.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        return model

    def given_weights(self, network: nn.Module) -> dict[str, torch.Tensor]:
        """Return published weights, all but a head of another shape."""
        if self.pretrained is None:
            return {}
        channels = network.get_submodule("conv1").weight.shape[1]  # type: ignore[index]
        owner = f"resnet18 with {channels} input channels"
        return published_weights(network, self.pretrained, "pretrained", owner, head="fc")

    @property
    def has_statistics(self) -> bool:
        """Whether published weights are given."""
        return self.pretrained is not None


def _residual_block() -> type[nn.Module]:
    """Return torchvision's block without in-place operations: they overwrite what hooks on the layers need."""
    from torchvision.models.resnet import BasicBlock

    class Block(BasicBlock):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            output: torch.Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
            return output

    return Block
