"""The table of gradient modes, and the choice of the fastest by measurement."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, Field, FieldSerializationInfo, field_serializer
from torch import nn

from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.trainables.dpsgd.mode_names import GradientModeName, current_mode, former_mode
from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.layers.numerics import (
    LOSS_SCALE,
    PRIVATE_REFUSED,
    NumericsConfig,
    Precision,
    in_float32,
    use_numerics,
)
from fairsweep.trainables.learning.learner_config import IDENTITY
from fairsweep.trainables.models.frozen_body import Tail, trained_part
from fairsweep.trainables.models.model import ModelConfig, build_model
from fairsweep.trainables.privacy.bookkeeping import Bookkeeping
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import Functorch, GradientMode, LossScaled, Plain
from fairsweep.trainables.privacy.opacus_modes import ExpandedWeights, Ghost, Hooks

# The first is preferred unless another is clearly faster, so that a busy machine does not tip the choice.
GRADIENT_MODES: dict[str, Callable[[nn.Module], GradientMode]] = {
    "bookkeeping": Bookkeeping,
    "functorch": Functorch,
    "hooks": Hooks,
    "ghost": Ghost,
    "expanded_weights": ExpandedWeights,
}
NO_HALF_PRECISION: Mapping[str, str] = {
    "ghost": "its second pass sums the gradients of all examples in that precision, so that what is summed is not what "
    "was clipped",
    "expanded_weights": "torch's expanded weights multiply numbers of one type alone",
}
"""Gradient modes that work in float32 alone, with the reason."""
_CLEARLY = 1.3
_ROUNDS = 3
_FEW = 2
_KEY = seed_key(0, "measuring")
_FEATURES = 128
_ROUNDING = 1e-2


class PerformanceConfig(NumericsConfig):
    """What changes the speed of private training, and results by rounding.

    Attributes:
        precision: ``float32``, or ``bfloat16`` or ``float16`` for the layers of training passes (torch's autocast).
            Weights, clipping, noise and evaluation stay in float32. Under ``float16`` each example's loss is multiplied
            by 256, and its gradient divided by it before it is clipped.
        gradient_mode: How per-example gradients are clipped and summed. ``auto`` measures all once for a model and a
            device.
        physical_batch_size: How many examples are worked on at once; logical batches are split. None takes what was
            measured to be good for the model and the device.
    """

    refused: ClassVar[Mapping[str, str]] = PRIVATE_REFUSED

    gradient_mode: Annotated[GradientModeName, BeforeValidator(current_mode)] = "auto"
    physical_batch_size: int | None = Field(default=None, ge=1)

    @field_serializer("gradient_mode")
    def _dump_mode(self, mode: str, info: FieldSerializationInfo) -> str:
        # Hashes rest on the former names, so that they stay what they were.
        return former_mode(mode) if info.context == IDENTITY else mode


@dataclass(frozen=True)
class ModeChoice:
    """Which gradient mode was chosen, and on what grounds.

    Attributes:
        mode: The chosen one.
        examples_per_second: What was measured for each mode that works for the model; larger is better.
        refused: Why each other mode does not work here.
    """

    mode: str
    examples_per_second: dict[str, float]
    refused: dict[str, str]


def make_mode(name: str, model: nn.Module, precision: Precision) -> GradientMode:
    """Make a gradient mode of a network that computes in a precision.

    Raises:
        ValueError: If the mode works in float32 alone.
    """
    if precision != "float32" and name in NO_HALF_PRECISION:
        raise ValueError(f"gradient_mode {name} works in float32 alone: {NO_HALF_PRECISION[name]}")
    mode = Plain(model) if name == Plain.name else GRADIENT_MODES[name](model)
    return mode if LOSS_SCALE[precision] == 1 else LossScaled(mode, LOSS_SCALE[precision])


def physical_batch_size(
    config: PerformanceConfig, model: ModelConfig, device: torch.device, tail: Tail | None = None, views: int = 1
) -> int:
    """Return how many examples are worked on at once: a function of the config and the device type alone.

    With several views of each example as many images are: fewer examples, but at least one.
    """
    if config.physical_batch_size is None and tail is not None:
        return _FEATURES
    use = model.private_use
    measured = use.examples_on_cpu if device.type == "cpu" else use.examples_on_gpu
    return max(1, (config.physical_batch_size or measured) // views)


@lru_cache(maxsize=64)
def choose_mode(
    model: ModelConfig,
    image_shape: tuple[int, int, int],
    classes: int,
    clipping: Clipping,
    device: torch.device,
    batch_size: int,
    tail: Tail | None = None,
    views: int = 1,
    precision: Precision = "float32",
) -> ModeChoice:
    """Measures every gradient mode on made-up images and chooses; once for each process.

    Two processes may choose differently where modes are about equally fast. Results then differ by rounding: where runs
    must repeat to the last bit, choose once and give the mode to all.

    Args:
        model: Which model.
        image_shape: (height, width, channels).
        classes: Number of classes.
        clipping: The clipping rule; ghost serves flat clipping only.
        device: Where training happens.
        batch_size: The physical batch size.
        tail: The part of the model that is trained on features, if it is.
        views: Views of each example, whose gradients are averaged.
        precision: In which the network computes.

    Returns:
        The choice.

    Raises:
        ValueError: If no mode works for the model.
    """
    module = build_model(model, image_shape, classes, _KEY).to(device)
    height, width, channels = image_shape
    shape: tuple[int, ...] = (channels, height, width)
    if tail is not None:
        module, shape = trained_part(module, tail), tail.shape
    use_numerics(module, NumericsConfig(precision=precision), device)
    inputs, labels = _made_up(module, shape, classes, batch_size * views)
    labels = labels[:batch_size]
    sums = [torch.zeros_like(p) for p in module.parameters() if p.requires_grad]
    few = inputs[:_FEW], labels[:_FEW]
    draw_masks(module, _KEY, 0, np.arange(len(few[1])))
    with in_float32(module):
        faults = {name: mode_fault(name, module, *few, clipping) for name in GRADIENT_MODES}
    refused = {name: fault for name, fault in faults.items() if fault is not None}
    draw_masks(module, _KEY, 0, np.arange(batch_size), views)
    working: dict[str, GradientMode] = {}
    for name in GRADIENT_MODES:
        if name in refused:
            continue
        try:
            mode = make_mode(name, module, precision)
            mode.add_clipped(inputs, labels, clipping, sums)  # warms up
            working[name] = mode
        except (ValueError, RuntimeError) as error:  # also out of memory, which is a RuntimeError
            refused[name] = f"{type(error).__name__}: {error}"
    seconds = dict.fromkeys(working, math.inf)
    for _ in range(_ROUNDS):  # the modes take turns: a moment in which the machine is busy hits none of them alone
        for name, mode in working.items():
            seconds[name] = min(seconds[name], _time(mode, inputs, labels, clipping, sums))
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what the hungriest mode took is not needed again
    if not seconds:
        raise ValueError(f"no gradient mode works for {model.name} on {device}: {refused}")
    fastest = min(seconds, key=lambda name: seconds[name])
    preferred = next(iter(seconds))
    chosen = fastest if seconds[fastest] * _CLEARLY < seconds[preferred] else preferred
    return ModeChoice(chosen, {name: batch_size / spent for name, spent in seconds.items()}, refused)


def check_mode(name: str, module: nn.Module, input_shape: tuple[int, ...], clipping: Clipping) -> None:
    """Refuse a gradient mode whose gradients of a network are not those of ordinary backward passes.

    Raises:
        ValueError: With the reason.
    """
    inputs, labels = _made_up(module, input_shape, 2, _FEW)
    draw_masks(module, _KEY, 0, np.arange(_FEW))
    with in_float32(module):  # rounding would hide what is missing
        fault = mode_fault(name, module, inputs, labels, clipping)
    if fault is not None:
        raise ValueError(
            f"gradient_mode {name} has no per-example gradients of this model ({fault}): set gradient_mode: functorch"
        )


def _made_up(
    module: nn.Module, input_shape: tuple[int, ...], classes: int, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images, or features, and labels on a module's device."""
    draws, device = generator(_KEY, "images"), next(module.parameters()).device
    inputs = torch.from_numpy(draws.standard_normal((count, *input_shape), dtype=np.float32)).to(device)
    return inputs, torch.from_numpy(draws.integers(0, classes, count)).to(device)


def mode_fault(
    name: str, module: nn.Module, inputs_BCHW: torch.Tensor, labels_B: torch.Tensor, clipping: Clipping
) -> str | None:
    """Try a gradient mode on a few examples, and compare it with ordinary backward passes of one example each.

    A mode that sees only part of a gradient (weights used without a call of their layer) would clip too little.

    Args:
        name: The mode.
        module: The model; on the meta device it is tried without numbers, and nothing is compared.
        inputs_BCHW: float32 [B, C, H, W], whose dropout masks are drawn.
        labels_B: int64 [B].
        clipping: The clipping rule.

    Returns:
        Why it does not work; None if it does.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    sums, discarded = ([torch.zeros_like(p) for p in trained] for _ in range(2))
    try:
        found = GRADIENT_MODES[name](module).add_clipped(inputs_BCHW, labels_B, Clipping("none", None), sums)
        GRADIENT_MODES[name](module).add_clipped(inputs_BCHW, labels_B, clipping, discarded)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:  # also out of memory
        return f"{type(error).__name__}: {' '.join(str(error).split()[:40])}"
    if inputs_BCHW.is_meta or _agree(found.norms, sums, *_one_by_one(module, inputs_BCHW, labels_B)):
        return None
    return "its gradients are not those of ordinary backward passes: some weights are used beside their layer"


def _one_by_one(
    module: nn.Module, inputs_BCHW: torch.Tensor, labels_B: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the norm of each example's gradient and the sum of all, by a backward pass for each example.

    All examples go forward together: their dropout masks are those of the batch.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    losses = F.cross_entropy(module(inputs_BCHW), labels_B, reduction="none")
    each = [torch.autograd.grad(loss, trained, retain_graph=True, materialize_grads=True) for loss in losses]
    norms = torch.stack([torch.stack([g.norm() for g in one]).norm() for one in each])
    return norms, [torch.stack(parts).sum(dim=0) for parts in zip(*each, strict=True)]


def _agree(norms: torch.Tensor, sums: list[torch.Tensor], expected: torch.Tensor, total: list[torch.Tensor]) -> bool:
    """Whether norms and sums of gradients are equal up to rounding."""
    error = torch.stack([(one - other).norm() for one, other in zip(sums, total, strict=True)]).norm()
    close = torch.allclose(norms, expected, rtol=_ROUNDING, atol=1e-6)
    return close and bool(error <= _ROUNDING * expected.sum() + 1e-6)


def _time(
    mode: GradientMode, inputs: torch.Tensor, labels: torch.Tensor, clipping: Clipping, sums: list[torch.Tensor]
) -> float:
    """Return the seconds of one batch, the device's queue emptied before and after."""
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
    began = time.perf_counter()
    mode.add_clipped(inputs, labels, clipping, sums)
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
    return time.perf_counter() - began
