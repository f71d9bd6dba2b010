"""The frozen body of a network: where it ends, and its features, which no training changes.

An image's features are computed with the images of its block of rows, always the same ones, on one thread: so they are
the same to the last bit whoever asks for them, and whether they are kept or not.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.layers.example_dropout import ExampleDropout, draw_masks
from fairsweep.trainables.layers.head import head_name
from fairsweep.trainables.models.examination import examine
from fairsweep.trainables.models.inputs import normalise, to_device
from fairsweep.trainables.models.model import ModelConfig, build_model

BLOCK = 32
"""Images whose features are computed together."""
_KEY = seed_key(0, "frozen body")
_EXAMPLES = 2
_MOST_BYTES = 2**18


@dataclass(frozen=True)
class Tail:
    """The part of a network that takes the features of the frozen rest, and is all of it that is trained.

    Attributes:
        name: Name of the module.
        shape: Shape of one image's features.
    """

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class FrozenBody:
    """What is known of a model's frozen body.

    Attributes:
        tail: What is trained on its features; None where features do not do.
        reason: Why not; empty where nothing is frozen.
    """

    tail: Tail | None = None
    reason: str = ""


@dataclass(frozen=True)
class WeightCounts:
    """How many numbers describe a network that is trained.

    Attributes:
        kept: Those that its files hold: all, or where a part is trained on features of the rest, that part's.
        trained: Those that an optimiser changes.
    """

    kept: int
    trained: int

    @classmethod
    def of(cls, network: nn.Module, tail: Tail | None) -> WeightCounts:
        """Count those of a network, of which only the tail is trained if there is one."""
        part = trained_part(network, tail)
        return cls(
            kept=sum(value.numel() for value in part.state_dict().values()),
            trained=sum(p.numel() for p in part.parameters() if p.requires_grad),
        )


def trained_part(network: nn.Module, tail: Tail | None) -> nn.Module:
    """Return what batches go through: the part that takes features, or the whole network."""
    return network if tail is None else network.get_submodule(tail.name)


@functools.lru_cache(maxsize=64)
def find_body(model: ModelConfig, image_shape: tuple[int, int, int], classes: int) -> FrozenBody:
    """Return where a model's frozen body ends, or why no features of it can be kept.

    Args:
        model: Which model.
        image_shape: (height, width, channels).
        classes: Number of classes.

    Raises:
        ModelError: See `examine`.
    """
    if model.train == "all":
        return FrozenBody()
    if not _files(model):
        return FrozenBody(reason="the frozen layers have no given weights: they would differ between seeds")
    examined = examine(model, image_shape, classes)
    if examined.mixes_examples or examined.changes_state:
        return FrozenBody(reason="what it makes of an image depends on others, or on what it has seen before")
    network, images = examined.network, examined.images
    name = _common_module([place for place, module in network.named_modules() if _is_trained(module)])
    head = head_name(network, model.head)
    if not name or not f"{head}.".startswith(f"{name}."):
        return FrozenBody(reason="trained layers and dropout have only the whole network in common")
    seen = _Watch(network, name).run(images)
    if seen is None or (model.is_unknown and not _is_constant(network, name, images)):
        return FrozenBody(reason=f"{name!r}, all of it that is trained, is not the last thing that the network does")
    shape = tuple(seen.shape[1:])
    if int(np.prod(shape)) * 4 > _MOST_BYTES:
        return FrozenBody(reason=f"an image's features would take {int(np.prod(shape)) * 4 / 1e3:,.0f} kB")
    return FrozenBody(Tail(name, shape))


class BodyFeatures:
    """Features of images by a model's frozen body, from a feed of images.

    Args:
        model: Which model; its body has given weights.
        tail: Where the body ends.
        image_shape: (height, width, channels).
        classes: Number of classes.
        device: Where features are computed.
    """

    def __init__(
        self, model: ModelConfig, tail: Tail, image_shape: tuple[int, int, int], classes: int, device: torch.device
    ) -> None:
        self._tail, self._device = tail, device
        self._network = build_model(model, image_shape, classes, _KEY).to(device).eval()
        self._network.get_submodule(tail.name).register_forward_pre_hook(_stop)
        self._described = repr((_body_identity(model), image_shape, tail, BLOCK, _arithmetic(device)))

    @property
    def fingerprint(self) -> str:
        """Hash of all that features follow from beside the image: weights, architecture, and the arithmetic here."""
        found = hashlib.blake2b(self._described.encode(), digest_size=16)
        inside = f"{self._tail.name}."
        for name, value in self._network.state_dict().items():
            if not name.startswith(inside):
                found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                found.update(value.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def of_blocks(self, blocks: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Return the features of blocks of at most `BLOCK` images, uint8 [B, H, W, C] each; as float32 [B, …]."""
        with _one_thread() as threads, ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._of_block, blocks))

    def _of_block(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Filled up, for how many images go together may change the last bit.
        filled = np.zeros((BLOCK, *images_BHWC.shape[1:]), np.uint8)
        filled[: len(images_BHWC)] = images_BHWC
        with torch.inference_mode():
            try:
                self._network(normalise(to_device(filled, self._device)))
            except _ReachedError as reached:
                features: NDArray[np.float32] = reached.features[: len(images_BHWC)].cpu().numpy()
                return features
        raise RuntimeError(f"{self._tail.name!r} was not reached: the network does not do what it did when examined")


class _ReachedError(Exception):
    """The body is through."""

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.features = features


def _stop(module: nn.Module, given: tuple[Any, ...]) -> None:
    raise _ReachedError(given[0])


class _Watch:
    """Runs a network, and looks at what goes into one of its modules."""

    def __init__(self, network: nn.Module, name: str) -> None:
        self._network, self._module = network, network.get_submodule(name)

    def run(self, images: torch.Tensor) -> torch.Tensor | None:
        """Return the module's input; None where there is not one, or the network does anything after it."""
        calls: list[tuple[tuple[Any, ...], Mapping[str, Any], Any]] = []
        hook = self._module.register_forward_hook(
            lambda module, given, named, made: calls.append((given, named, made)), with_kwargs=True
        )
        draw_masks(self._network, _KEY, 0, np.arange(len(images)))
        try:
            with torch.no_grad():
                logits = self._network(images)
        finally:
            hook.remove()
        if len(calls) != 1 or len(calls[0][0]) != 1 or calls[0][1] or calls[0][2] is not logits:
            return None
        (given,) = calls[0][0]
        is_input = isinstance(given, torch.Tensor) and given.dtype == torch.float32 and len(given) == len(images)
        return given if is_input else None


def _is_constant(network: nn.Module, name: str, images: torch.Tensor) -> bool:
    """Whether what goes into a module is the same in training and evaluation, whatever is trained, and alone."""
    watch = _Watch(network, name)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    found = [watch.run(images)]
    network.eval()
    found.append(watch.run(images))
    network.train()
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(1.0)
    found.append(watch.run(images))
    first, alone = found[0], watch.run(images[:1])
    if first is None or alone is None or not torch.allclose(alone, first[:1], rtol=1e-3, atol=1e-5):
        return False
    return all(other is not None and torch.equal(first, other) for other in found)


def _is_trained(module: nn.Module) -> bool:
    """Whether a module itself changes in training, or draws."""
    return isinstance(module, ExampleDropout) or any(p.requires_grad for p in module.parameters(recurse=False))


def _common_module(names: list[str]) -> str:
    """Return the name of the smallest module that has all of some modules in it; empty for the whole network."""
    paths = [name.split(".") for name in names]
    common = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def _files(model: ModelConfig) -> set[str]:
    """Return the names of a model's fields that give files of weights."""
    return {name for name, value in model if isinstance(value, Path)}


def _body_identity(model: ModelConfig) -> str:
    """Return what a body follows from beside its weights: its head may be another, and its file lie elsewhere."""
    fields = model.model_dump(mode="json", exclude={"train", "head", *_files(model)}) | dict(model.by_content)
    return f"{fields} {[version(package) for package in ('fairsweep', 'torch', 'torchvision')]}"


def _arithmetic(device: torch.device) -> tuple[str, ...]:
    """Return what the last bit may depend on."""
    if device.type == "cpu":
        return "cpu", torch.backends.cpu.get_cpu_capability()
    return device.type, torch.cuda.get_device_name(device), str(torch.backends.cudnn.allow_tf32)


@contextmanager
def _one_thread() -> Iterator[int]:
    """Let each operation have one thread, and say how many there would have been."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)
