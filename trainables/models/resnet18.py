"""Torchvision's ResNet-18."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import nn

from fairsweep.trainables.models.model import ModelError, NormedModel


class ResNet18Config(NormedModel):
    """Torchvision's ResNet-18, with a head for the number of classes.

    Attributes:
        pretrained: Path of a local file with its weights, a ``state_dict`` as torchvision publishes it. The head is
            loaded only where its shape fits. With ``norm: group`` or ``none`` the running statistics of a BatchNorm
            file are left out. A private learner treats these weights as public.
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

    def load_weights(self, network: nn.Module) -> None:
        """Load published weights, all but a head of another shape."""
        if self.pretrained is not None:
            _load(network, self.pretrained, self.norm)


def _load(model: nn.Module, path: Path, norm: str) -> None:
    """Load published ResNet-18 weights into a model, all but a head of another shape.

    Args:
        model: The model, changed in place.
        path: A file with a ``state_dict``.
        norm: The model's norm layer.

    Raises:
        ModelError: If the file is missing or unreadable, or if its tensors are not those of this model.
    """
    if not path.is_file():
        raise ModelError(
            f"pretrained weights must be a local file, but there is none at {str(path)!r}: "
            "download torchvision's ResNet-18 state_dict once and give its path"
        )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for a damaged file; all mean the same here
        raise ModelError(
            f"pretrained weights at {str(path)!r} could not be read as a state_dict of tensors "
            f"({type(error).__name__}): save them with torch.save(model.state_dict(), path)"
        ) from error
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ModelError(f"pretrained weights at {str(path)!r} must be a state_dict (name to tensor)")
    expected = model.state_dict()
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    found = {
        name: value
        for name, value in weights.items()
        if not (norm != "batch" and name.endswith(statistics))
        and not (name.startswith("fc.") and name in expected and value.shape != expected[name].shape)
    }
    missing = sorted(name for name in expected if name not in found and not name.startswith("fc."))
    unknown = sorted(name for name in found if name not in expected)
    if norm == "none":  # the affine weights of the norm layers have no place in a model without them
        unknown = [name for name in unknown if "bn" not in name and "downsample.1" not in name]
        found = {name: value for name, value in found.items() if name in expected}
    misshapen = sorted(n for n in found if n in expected and found[n].shape != expected[n].shape)
    if missing or unknown or misshapen:
        raise ModelError(
            f"pretrained weights at {str(path)!r} are not those of resnet18 with "
            f"{expected['conv1.weight'].shape[1]} input channels: missing {missing[:3]}, unknown {unknown[:3]}, "
            f"of another shape {misshapen[:3]}"
        )
    model.load_state_dict(found, strict=False)


def _residual_block() -> type[nn.Module]:
    """Return torchvision's block without in-place operations: they overwrite what hooks on the layers need."""
    from torchvision.models.resnet import BasicBlock

    class Block(BasicBlock):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            output: torch.Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
            return output

    return Block
