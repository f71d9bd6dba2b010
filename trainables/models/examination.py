"""What a network is found to be before anything is trained: built once, and run on made-up images."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.layers.forked_generator import forked_generator
from fairsweep.trainables.layers.norm_layers import BATCH_NORMS
from fairsweep.trainables.models.model import ModelConfig, ModelError, build_model, outline

_KEY = seed_key(0, "preflight")
_EXAMPLES = 2
_IDS = np.arange(_EXAMPLES)


@dataclass(frozen=True)
class Examined:
    """A network with what is known of it.

    Attributes:
        network: As it is trained; on the meta device, without numbers, where its layers are known ones.
        images: What it was run on, float32 [B, C, H, W] on the same device.
        parameters: Number of its weights.
        mixes_examples: Whether an example's logits depend on the rest of its batch.
        is_foreign: Whether its layers are written elsewhere.
        changes_state: Whether a forward pass changes what is no weight, such as running statistics.
        notes: What learners found out about it, so that each thing is found out once.
    """

    network: nn.Module
    images: torch.Tensor
    parameters: int
    mixes_examples: bool
    changes_state: bool
    is_foreign: bool
    notes: dict[tuple[str, ...], str | None] = field(default_factory=dict)


def examine(config: ModelConfig, image_shape: tuple[int, int, int], classes: int) -> Examined:
    """Build a network, and run it if it is foreign: on the meta device, or where it is unknown on the CPU.

    Raises:
        ModelError: If it cannot be built, cannot take such images, has outputs of another shape, or is unknown and
            reads a global generator.
    """
    height, width, channels = image_shape
    shape = (_EXAMPLES, channels, height, width)
    if config.is_unknown:
        images = torch.from_numpy(generator(_KEY, "images").standard_normal(shape, dtype=np.float32))
        ran = _run(config, images, classes, 0)
        _check_equal(config.name, ran, _run(config, images, classes, 1))
        network, before = ran.network, ran.state
        mixes = config.mixes_examples or _mixes(network, images, ran.training)
        draw_masks(network, _KEY, 0, _IDS)
        changes = any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())
    else:
        network, images = outline(config, image_shape, classes), torch.empty(shape, device="meta")
        if config.is_foreign:
            draw_masks(network, _KEY, 0, _IDS)
            _logits(config, network, images, classes)
        mixes = changes = any(isinstance(module, BATCH_NORMS) for module in network.modules())
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ModelError(f"{config.name} must have weights that are trained, but has none")
    parameters = sum(p.numel() for p in network.parameters())
    return Examined(network, images, parameters, mixes, changes, config.is_foreign)


@dataclass(frozen=True)
class _Ran:
    """A network after it has run, in training mode; its state before; its logits in training and in evaluation."""

    network: nn.Module
    state: dict[str, torch.Tensor]
    training: torch.Tensor
    evaluation: torch.Tensor


def _run(config: ModelConfig, images: torch.Tensor, classes: int, seed: int) -> _Ran:
    """Build a network by one key, and run it while the global generators stand elsewhere for each seed."""
    _, channels, height, width = images.shape
    network = build_model(config, (height, width, channels), classes, _KEY)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with forked_generator(seed_key(seed, "elsewhere"), config.name):
        draw_masks(network, _KEY, 0, _IDS)
        training = _logits(config, network, images, classes)
        evaluation = _logits(config, network.eval(), images, classes)
    return _Ran(network.train(), state, training, evaluation)


def _logits(config: ModelConfig, network: nn.Module, images: torch.Tensor, classes: int) -> torch.Tensor:
    try:
        with torch.no_grad():
            logits = network(images)
    except Exception as error:  # whatever the network raises
        _, channels, height, width = images.shape
        raise ModelError(
            f"{config.name} fails on images of {height} x {width} with {channels} channels: {config.failure(error)}"
            + ("" if config.is_unknown else ": prepare larger ones (--size), or choose another network")
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (len(images), classes):
        got = f"shape {list(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise ModelError(
            f"{config.name} must return logits of shape [B, {classes}], one for each class, but for {len(images)} "
            f"images returned {got}"
        )
    return logits


def _check_equal(name: str, one: _Ran, other: _Ran) -> None:
    """Refuse a network that is another one for the same key."""
    differing = [place for place, value in one.state.items() if not torch.equal(value, other.state[place])]
    told = f"its initial weights ({differing[0]}) differ" if differing else "its logits differ"
    same = torch.equal(one.training, other.training) and torch.equal(one.evaluation, other.evaluation)
    if differing or not same:
        raise ModelError(
            f"{name} reads a global generator: {told} between two runs with the same key, so that a resumed trial "
            "would not repeat: draw weights with torch's default generator on the CPU and without seeds of your own, "
            "and drop with nn.Dropout, whose masks follow from the train key here"
        )


def _mixes(network: nn.Module, images: torch.Tensor, logits: torch.Tensor) -> bool:
    """Whether logits are others where an example is alone in its batch."""
    try:
        with torch.no_grad():
            for index in range(len(images)):
                draw_masks(network, _KEY, 0, _IDS[index : index + 1])
                alone = network(images[index : index + 1])[0]
                if not torch.allclose(alone, logits[index], rtol=1e-3, atol=1e-4):
                    return True
    except Exception:  # noqa: BLE001 - a network that cannot take one example needs others
        return True
    return False
