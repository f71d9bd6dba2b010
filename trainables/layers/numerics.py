"""How numbers are computed in training: their precision, their layout in memory, compiled or not.

Weights, optimisers, losses, clipping and noise are in float32 always. Under another precision torch's autocast runs the
layers of a training pass in it. Evaluation and prediction are in float32: recorded predictions are those of the kept
weights, wherever they are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import nn

Precision = Literal["float32", "bfloat16", "float16"]
LOSS_SCALE: Mapping[str, float] = {"float32": 1.0, "bfloat16": 1.0, "float16": 256.0}
"""By what an example's loss is multiplied, and its gradient divided in float32: float16 rounds small gradients to 0.

A power of two, so that nothing is rounded by it, and a constant: a scale that follows what a batch gives would make an
example's contribution depend on the others.
"""

_PLAIN = "plain"


class NumericsConfig(BaseModel):
    """The precision of training.

    Attributes:
        precision: ``float32``, or ``bfloat16`` or ``float16`` for the layers of training passes (torch's autocast).
            Weights, clipping, noise and evaluation stay in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: ClassVar[frozenset[str]] = frozenset({"precision"})
    """Fields that change results by more than rounding in float32: part of a trial's identity."""
    refused: ClassVar[Mapping[str, str]] = {}
    """Fields of other learners' sections that have no place here, with the reason."""

    precision: Precision = "float32"

    def said(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what identities say of its values: earlier versions knew none of `identity`, which all computed by."""
        fields = type(self).model_fields
        unsaid = {name for name in self.identity if getattr(self, name) == fields[name].default}
        return {name: value for name, value in values.items() if name not in unsaid}

    @model_validator(mode="before")
    @classmethod
    def _refuse_with_reason(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
        asked = next((name for name in cls.refused if isinstance(given, Mapping) and name in given), None)
        if asked is not None:
            raise ValueError(f"{asked} is not for this learner: {cls.refused[asked]}; leave it out")
        return given


class TrainingNumericsConfig(NumericsConfig):
    """What changes the speed of ordinary training, and its results by rounding.

    Attributes:
        precision: ``float32``, or ``bfloat16`` or ``float16`` for the layers of training passes (torch's autocast).
            Weights, losses and evaluation stay in float32; under ``float16`` torch's gradient scaler multiplies losses.
        compile: Whether training passes are compiled (``torch.compile``; needs a C++ compiler on every machine). That
            takes its time at the start of each trial: half a minute for ``cnn`` on a CPU, where nothing was won.
        channels_last: Whether images lie with their channels innermost. ``auto``: on a GPU, where ``precision`` is not
            float32.
        tf32: Whether a GPU may round to TF32 where it convolves in float32, as torch does by default.
    """

    identity: ClassVar[frozenset[str]] = frozenset({"precision", "compile", "channels_last", "tf32"})

    compile: bool = False
    channels_last: bool | Literal["auto"] = "auto"
    tf32: bool = True

    def lays_channels_last(self, device: torch.device) -> bool:
        """Whether images lie with their channels innermost on a device."""
        if self.channels_last == "auto":
            return device.type == "cuda" and self.precision != "float32"
        return self.channels_last


PRIVATE_REFUSED: Mapping[str, str] = {
    "compile": "gradients of single examples, and of stacked clients, are taken by hooks and transforms that a "
    "compiled network does not run",
    "channels_last": "gradients of single examples and of stacked clients are taken from patches, whatever the layout",
    "tf32": "norms must be those of what is summed, so it computes in full float32 whatever a GPU may round",
}


def refuse_compiled(config: TrainingNumericsConfig, kind: str) -> None:
    """Refuse to compile the networks of a learner that makes one after another. Raises: ValueError."""
    if config.compile:
        raise ValueError(
            f"compile is not for the inner learner of {kind}, which makes a network for each of its trainings, and "
            "would compile each anew: leave compile out"
        )


def use_numerics(model: nn.Module, config: NumericsConfig, device: torch.device) -> None:
    """Let a network compute as a config says, in training mode alone; logits are float32.

    Raises:
        ValueError: If the device has no such precision.
    """
    if device.type == "cuda" and config.precision == "bfloat16" and not torch.cuda.is_bf16_supported(False):
        raise ValueError(
            f"precision bfloat16 needs a GPU of compute capability 8.0 or later, but {torch.cuda.get_device_name()} "
            "has none: set precision: float16 or float32"
        )
    plain: Callable[..., torch.Tensor] = _plain(model)
    trained, last = plain, False
    if isinstance(config, TrainingNumericsConfig):
        last = config.lays_channels_last(device)
        if config.compile:
            # Without dynamic shapes: what is compiled depends on a batch's shape, and not on those before it.
            trained = torch.compile(plain, dynamic=False)
    if config.precision == "float32" and trained is plain and not last:
        return
    dtype: torch.dtype = getattr(torch, config.precision)
    if config.precision != "float32" and device.type == "cpu":
        for module in model.modules():
            if isinstance(module, nn.GroupNorm | nn.LayerNorm):
                module.register_forward_pre_hook(_take_float32)

    def forward(images_BCHW: torch.Tensor) -> torch.Tensor:
        if not model.training:
            return plain(images_BCHW)
        if last and images_BCHW.dim() == 4:  # not of features of a frozen body
            images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        # No cache of cast weights: torch.func's transforms would meet those of another call.
        with torch.autocast(device.type, dtype, enabled=config.precision != "float32", cache_enabled=False):
            return trained(images_BCHW).float()

    vars(forward)[_PLAIN] = plain
    model.forward = forward


def _take_float32(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Let a norm layer compute in float32, as torch's autocast does on a GPU and not on a CPU."""
    return tuple(value.float() for value in given)


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Let a network compute in plain float32 inside, whatever `use_numerics` made of it."""
    changed = vars(model).get("forward")
    if changed is None:
        yield
        return
    model.forward = _plain(model)
    try:
        yield
    finally:
        model.forward = changed


def _plain(model: nn.Module) -> Callable[..., torch.Tensor]:
    """Return a network's forward pass as its class has it."""
    found: Callable[..., torch.Tensor] = getattr(model.forward, _PLAIN, model.forward)
    return found


@contextmanager
def tf32_in_convolutions(allowed: bool) -> Iterator[None]:
    """Let a GPU round to TF32 inside where it convolves in float32, or not."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before and allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
