"""Image models whose initial weights follow from a key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from fairsweep.datasets.selection.randomness import generator

Norm = Literal["group", "batch", "none"]


class ModelError(ValueError):
    """A model that cannot be built as asked, or not for this learner."""


class ModelConfig(BaseModel):
    """Which model is trained.

    Attributes:
        name: ``linear`` (softmax regression on the pixels), ``cnn`` (a few strided convolutions) or ``resnet18``
            (torchvision's, with a head for the number of classes).
        norm: ``group`` (GroupNorm, the default for every learner, so that a private trial and its twin differ in
            privacy alone), ``batch`` (BatchNorm, for non-private learners only) or ``none``. ``linear`` has no norm
            layer.
        width: Channels of the first convolution of ``cnn``; each further stage doubles them, up to four times the
            width.
        pretrained: Path of a local file with the weights of ``resnet18``, a ``state_dict`` as torchvision publishes it.
            The head is loaded only where its shape fits. With ``norm: group`` or ``none`` the running statistics of a
            BatchNorm file are left out. A private learner treats these weights as public.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["linear", "cnn", "resnet18"] = "cnn"
    norm: Norm = "group"
    width: int = Field(default=16, ge=4, multiple_of=4)
    pretrained: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pretrained is not None and self.name != "resnet18":
            raise ValueError(
                f"pretrained weights are for name='resnet18', but got name={self.name!r}: "
                "leave pretrained out or choose resnet18"
            )
        return self


def build_model(config: ModelConfig, image_shape: tuple[int, int, int], classes: int, init_key: bytes) -> nn.Module:
    """Build a model on the CPU, in training mode, with initial weights that are a function of the key.

    Each weight tensor has a generator of its own, keyed by its name: a head for another number of classes leaves the
    other layers' weights as they were. No global generator is read or changed.

    Args:
        config: Which model.
        image_shape: (height, width, channels) of the images.
        classes: Number of classes, at least 2.
        init_key: 32 bytes; the trial's ``train`` key.

    Returns:
        A module that maps float32 [B, C, H, W] to logits float32 [B, classes].

    Raises:
        ModelError: If the images are too small for the model, or the pretrained weights do not fit.
    """
    if classes < 2:
        raise ModelError(f"a model needs at least 2 classes, but got {classes=}")
    with torch.device("meta"):  # shapes only: the layers' own initialisation would draw from torch's global generator
        model = _TABLE[config.name](config, image_shape, classes)
    model.to_empty(device="cpu")
    initialise(model, init_key)
    if config.pretrained is not None:
        load_pretrained(model, config.pretrained, config.norm)
    return model


def initialise(model: nn.Module, key: bytes) -> None:
    """Draws every weight anew: uniform, with variance 2/fan-in for convolutions and 1/(3 fan-in) for linear layers.

    Args:
        model: Module of convolutions, linear and norm layers; changed in place.
        key: 32 bytes.

    Raises:
        ModelError: If a layer is of a kind whose initial weights are not defined here.

    References:
        He et al. 2015, arXiv 1502.01852, equation 10 (a ReLU halves the variance: 2/fan-in keeps it).
    """
    for name, module in model.named_modules():
        parameters = dict(module.named_parameters(recurse=False))
        if not parameters:
            continue
        if isinstance(module, nn.GroupNorm | nn.BatchNorm2d):
            module.reset_parameters()  # ones, zeros and, for BatchNorm, empty statistics: nothing is drawn
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            bound = math.sqrt((6 if isinstance(module, nn.Conv2d) else 1) / fan_in)
            for part, parameter in parameters.items():
                drawn = generator(key, f"weights/{name}.{part}").uniform(-bound, bound, size=tuple(parameter.shape))
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(drawn))
        else:
            raise ModelError(
                f"no keyed initial weights are defined for the layer {name!r} of type {type(module).__name__}"
            )


def load_pretrained(model: nn.Module, path: Path, norm: Norm) -> None:
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


def _norm_layer(norm: Norm, groups: Callable[[int], int]) -> Callable[[int], nn.Module]:
    """Return a maker of norm layers for a number of channels."""
    if norm == "batch":
        return nn.BatchNorm2d
    if norm == "none":
        return lambda channels: nn.Identity()
    return lambda channels: nn.GroupNorm(groups(channels), channels)


def _linear(config: ModelConfig, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), classes))


def _cnn(config: ModelConfig, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Strided convolutions until the map is at most 4 x 4, then a linear layer on all of it.

    Strides instead of pooling keep the maps small from the first layer on: per-example gradients cost a multiple of a
    map's size, and this network trains several times faster on a CPU than one of the same width that pools.

    The features are scaled to a length of about 3 before the head. The head's curvature, and the noise that reaches the
    logits through its weights, grow with that length: unscaled (it is about 23 for 1,024 features) private training
    learns less, and its unclipped twin diverges at the same learning rate.
    """
    height, width, channels = image_shape
    if min(height, width) < 8:
        raise ModelError(f"cnn needs images of at least 8 x 8 pixels, but got {height} x {width}: use linear")
    norm = _norm_layer(config.norm, lambda channels: channels // 4)
    layers: list[nn.Module] = []
    out = config.width
    while max(height, width) > 4:
        kernel = 3 if layers else 5
        layers += [nn.Conv2d(channels, out, kernel, stride=2, padding=kernel // 2), norm(out), nn.ReLU()]
        height, width, channels = (height + 1) // 2, (width + 1) // 2, out
        out = min(2 * out, 4 * config.width)
    features = height * width * channels
    return nn.Sequential(*layers, nn.Flatten(), _Scale(4 / math.sqrt(features)), nn.Linear(features, classes))


class _Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def _resnet18(config: ModelConfig, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Torchvision's ResNet-18, layer for layer and name for name, on images with any number of channels.

    GroupNorm has 16 groups in every layer (De et al. 2022, arXiv 2204.13650): the last maps of small images are 1 x 1,
    and groups of one or two numbers would normalise all information away.
    """
    from torchvision.models.resnet import ResNet

    height, width, channels = image_shape
    if min(height, width) < 16:
        raise ModelError(f"resnet18 needs images of at least 16 x 16 pixels, but got {height} x {width}: use cnn")
    norm = _norm_layer(config.norm, lambda channels: 16)
    model: nn.Module = ResNet(_residual_block(), [2, 2, 2, 2], num_classes=classes, norm_layer=norm)
    if channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


def _residual_block() -> type[nn.Module]:
    """Return torchvision's block without in-place operations: they overwrite what hooks on the layers need."""
    from torchvision.models.resnet import BasicBlock

    class Block(BasicBlock):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            output: torch.Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
            return output

    return Block


_TABLE: dict[str, Callable[[ModelConfig, tuple[int, int, int], int], nn.Module]] = {
    "linear": _linear,
    "cnn": _cnn,
    "resnet18": _resnet18,
}
