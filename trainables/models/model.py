"""What every model is: a config that builds a network, whose weights follow from a key."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator
from torch import nn

from fairsweep.datasets.selection.randomness import generator
from fairsweep.trainables.layers.head import HeadConfig, Trained, freeze, replace_head
from fairsweep.trainables.layers.keyed_layers import key_layers
from fairsweep.trainables.layers.model_error import ModelError
from fairsweep.trainables.layers.norm_layers import FrozenBatchNorm, NormName, group_count, norm_maker

__all__ = [
    "ConvolutionalModel",
    "ModelConfig",
    "ModelError",
    "NormedModel",
    "PrivateUse",
    "build_model",
    "finish",
    "initialise",
    "outline",
]

Initial = Literal["torch", "he"]
NEW_INITIAL: Initial = "torch"
"""What a sweep means that does not say how convolutions start, unless an earlier version began it."""
_SQUARED_BOUNDS: Mapping[Initial, int] = {"torch": 1, "he": 6}  # times fan-in


@dataclass(frozen=True)
class PrivateUse:
    """How private and federated learners handle a network: it changes speed, and results by rounding only.

    Attributes:
        examples_on_cpu: Examples whose gradients are held at once: what fits the processor's caches.
        examples_on_gpu: The same on a GPU.
        clients_on_cpu: Clients whose weights are stacked: larger stacks leave the caches, smaller ones spend their time
            on calls.
        clients_on_gpu: The same on a GPU.
        stacks_on_cpu: Whether stacking clients is as fast on a CPU as training one after the other.
    """

    examples_on_cpu: int = 16
    examples_on_gpu: int = 128
    clients_on_cpu: int = 2
    clients_on_gpu: int = 8
    stacks_on_cpu: bool = False


class ModelConfig(BaseModel, ABC):
    """One model: its settings, how it is built, and what private learners need to know of it.

    Attributes:
        name: Which model.
        private_use: How private and federated learners handle it.
        once: Fields that sweeps of earlier versions have though the model never used them, with their defaults then.
            They are set aside; where only the default was allowed, which is None, anything else is refused.
        train: Which layers are trained: ``all``, ``head`` (the last layer, or what ``head`` puts in its place), or a
            list of layers by name, as ``[layer4, head]``. The others keep their weights: no gradient, no noise, no part
            in clipping or in a client's update.
        head: Linear layers in place of the last one, ``{hidden: [256, 128], dropout: [0.3, 0.1]}``; null leaves it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    private_use: ClassVar[PrivateUse] = PrivateUse()
    is_foreign: ClassVar[bool] = False
    """Whether the layers are written elsewhere, so that a gradient mode is compared with ordinary passes first."""
    is_unknown: ClassVar[bool] = False
    """Whether what the layers do is known by running them only."""
    once: ClassVar[Mapping[str, Any]] = {}

    name: str
    train: Trained = "all"
    head: HeadConfig | None = None
    _ignored: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _set_aside(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401 - whatever was given
        if not isinstance(given, Mapping):
            return handler(given)
        aside = {field: value for field, value in given.items() if cls.was_field(field, value)}
        config = handler({name: value for name, value in given.items() if name not in aside})
        config._ignored.update({name: value for name, value in aside.items() if value != cls.once[name]})
        return config

    @classmethod
    def was_field(cls, field: str, value: object) -> bool:
        """Return whether earlier versions took a field with this value, and ignored it."""
        return field in cls.once and (value == cls.once[field] or cls.once[field] is not None)

    @property
    def ignored(self) -> dict[str, Any]:
        """Fields that were given and have no effect: accepted in sweeps of earlier versions, and part of identities."""
        return dict(self._ignored)

    @property
    def mixes_examples(self) -> bool:
        """Whether what an example gives in training depends on others of its batch, as with BatchNorm."""
        return False

    @property
    def by_content(self) -> Mapping[str, str]:
        """Fields that count for identities by something else than their value, with what they count by."""
        return {}

    @abstractmethod
    def network(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the layers, whose weights are drawn by `build_model`.

        Args:
            image_shape: (height, width, channels) of the images.
            classes: Number of classes.

        Raises:
            ModelError: If the images are too small for the model.
        """

    def layers(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network with its head, as `network` does otherwise."""
        network = self.network(image_shape, classes)
        if self.head is not None:
            replace_head(network, self.head, classes)
        return network

    def build(self, image_shape: tuple[int, int, int], classes: int, key: bytes) -> nn.Module:
        """Return the network as it is trained, on the CPU, with initial weights that are a function of the key.

        Those that a file gives are not drawn, and where they are constants all networks of the process share them.
        """
        meta, given = _prototype(self, image_shape, classes, self.file_stamps)
        network = copy.deepcopy(meta)
        _make_real(network, given)
        self.draw_weights(network, key, given)
        return network

    def draw_weights(self, network: nn.Module, key: bytes, given: Collection[str] = ()) -> None:
        """Give the network its initial weights, a function of the key, but for those that a file has given."""
        initialise(network, key, given=given)

    def failure(self, error: Exception) -> str:
        """Return an error of the network's own code in one line."""
        return f"{type(error).__name__}: {' '.join(str(error).split()[:40])}"

    def given_weights(self, network: nn.Module) -> dict[str, torch.Tensor]:
        """Return the weights of a network that the config's file has, by name; none where it names no file.

        Raises:
            ModelError: If they cannot be read, or do not fit.
        """
        return {}

    @property
    def file_stamps(self) -> tuple[tuple[int, int], ...]:
        """Return time and size of the files that the config names."""
        found = [value.stat() for _, value in self if isinstance(value, Path) and value.is_file()]
        return tuple((stat.st_mtime_ns, stat.st_size) for stat in found)

    def record(self) -> dict[str, Any]:
        """Return the config as records have it."""
        fields = {name: type(self).model_fields.get(name) for name in ("train", "head", "initial")}
        unset = {name for name, field in fields.items() if field is not None and getattr(self, name) == field.default}
        return {**self.once, **self.ignored, **self.model_dump(mode="json", exclude=unset)}


class NormedModel(ModelConfig):
    """A model with norm layers.

    Attributes:
        norm: ``group`` (GroupNorm, the default for every learner, so that a private trial and its twin differ in
            privacy alone), ``frozen`` (BatchNorm whose published statistics and affine weights are constants: a
            function of each example alone), ``batch`` (BatchNorm, for non-private learners only) or ``none``.
    """

    norm: NormName = "group"

    @model_validator(mode="after")
    def _has_statistics(self) -> Self:
        if self.norm == "frozen" and not self.has_statistics:
            raise ValueError(
                "norm: frozen keeps the statistics of published weights, but none are given: give their file, or set "
                "norm: group"
            )
        return self

    @property
    def has_statistics(self) -> bool:
        """Whether published weights are given, with the statistics that ``norm: frozen`` keeps."""
        return False

    @property
    def mixes_examples(self) -> bool:
        """Whether it has BatchNorm."""
        return self.norm == "batch"

    def norm_layer(self, groups: Callable[[int], int] = group_count) -> Callable[[int], nn.Module]:
        """Return a maker of norm layers for a number of channels, of which ``groups`` gives the number of groups."""
        return norm_maker(self.norm, groups)


class ConvolutionalModel(NormedModel):
    """A model with convolutions that are written here.

    Attributes:
        initial: How convolutions start. ``torch``: PyTorch's default, uniform of variance 1/(3 fan-in). ``he``: uniform
            of variance 2/fan-in, as in sweeps of earlier versions, which keep it though their files do not say so.
            Linear layers start from PyTorch's default either way.
    """

    # The default is that of kept records, which do not name it; `with_initial` names it in each new sweep.
    initial: Initial = Field(default="he", json_schema_extra={"default": NEW_INITIAL})

    def draw_weights(self, network: nn.Module, key: bytes, given: Collection[str] = ()) -> None:
        """Give the network its initial weights, a function of the key, but for those that a file has given."""
        initialise(network, key, self.initial, given)


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
    return config.build(image_shape, classes, init_key)


def outline(config: ModelConfig, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build a model on the meta device: layers and shapes without numbers; see `build_model`."""
    try:
        with torch.device("meta"):
            model = config.layers(image_shape, classes)
    except NotImplementedError:  # whoever wrote the network computes its widths with tensors
        return config.build(image_shape, classes, bytes(32)).to("meta")
    return finish(config, model)[0]


def finish(config: ModelConfig, model: nn.Module) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Make layers the network that is trained, in place.

    Returns:
        The network, in training mode, and the weights that a file gives; those on the meta device have no numbers, and
        stay so.
    """
    key_layers(model)
    given = config.given_weights(model)
    expected = model.state_dict()
    if not any(value.is_meta for value in expected.values()):
        model.load_state_dict(given, strict=False)
    freeze(model, config.train, config.head)
    given = {name: value.detach().to(expected[name].dtype).contiguous() for name, value in given.items()}
    return model.train(), given


@lru_cache(maxsize=4)
def _prototype(
    config: ModelConfig, image_shape: tuple[int, int, int], classes: int, _stamps: tuple[tuple[int, int], ...]
) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return a network on the meta device and its given weights: made once in a process that runs many trials."""
    with torch.device("meta"):  # shapes only: the layers' own initialisation would draw from a global generator
        network = config.layers(image_shape, classes)
    return finish(config, network)


def _make_real(model: nn.Module, given: Mapping[str, torch.Tensor]) -> None:
    """Give a model of shapes only its tensors, on the CPU, those that no file gives without content.

    `nn.Module.to_empty` does the same, but compares strides by sympy, whose import takes half a second.
    """
    for place, module in model.named_modules():
        constant = isinstance(module, FrozenBatchNorm)
        for name, parameter in module.named_parameters(recurse=False):
            trained = parameter.requires_grad
            value = _tensor(f"{place}.{name}", parameter, given, constant=not trained)
            setattr(module, name, nn.Parameter(value, requires_grad=trained))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, _tensor(f"{place}.{name}", buffer, given, constant=constant))


def _tensor(name: str, outline: torch.Tensor, given: Mapping[str, torch.Tensor], *, constant: bool) -> torch.Tensor:
    """Return the given numbers, shared where they are constants; without any an empty tensor."""
    if name not in given:
        return torch.empty(outline.shape, dtype=outline.dtype)
    return given[name] if constant else given[name].clone()


def initialise(model: nn.Module, key: bytes, initial: Initial = "he", given: Collection[str] = ()) -> None:
    """Draw every weight anew: uniform, with variance 1/(3 fan-in), PyTorch's default, but for convolutions as asked.

    Args:
        model: Module of convolutions, linear and norm layers; changed in place.
        key: 32 bytes.
        initial: Variance of convolutions: 2/fan-in for ``he``, 1/(3 fan-in) for ``torch``.
        given: Names of weights that stay as they are; of a norm layer all or none.

    Raises:
        ModelError: If a layer is of a kind whose initial weights are not defined here.

    References:
        He et al. 2015, arXiv 1502.01852, equation 10 (a ReLU halves the variance: 2/fan-in keeps it).
    """
    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm) and f"{name}.weight" not in given:
            module.reset()
        parameters = {p: w for p, w in module.named_parameters(recurse=False) if f"{name}.{p}" not in given}
        if not parameters:
            continue
        if isinstance(module, nn.GroupNorm | nn.BatchNorm2d):
            module.reset_parameters()  # ones, zeros and, for BatchNorm, empty statistics: nothing is drawn
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            bound = math.sqrt(_SQUARED_BOUNDS[initial if isinstance(module, nn.Conv2d) else "torch"] / fan_in)
            for part, parameter in parameters.items():
                drawn = generator(key, f"weights/{name}.{part}").uniform(-bound, bound, size=tuple(parameter.shape))
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(drawn))
        else:
            raise ModelError(
                f"no keyed initial weights are defined for the layer {name!r} of type {type(module).__name__}"
            )
