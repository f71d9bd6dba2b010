"""What makes a network's training repeat: keyed dropout, and nothing that overwrites what hooks need."""

from __future__ import annotations

from torch import nn

from fairsweep.trainables.layers.example_dropout import ExampleDropout
from fairsweep.trainables.layers.model_error import ModelError

_ALL_DIMS = 99
# Layers that draw from a global generator, and have no keyed form here.
_UNKEYED = (nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


def key_layers(network: nn.Module) -> None:
    """Make a network's layers ones that repeat; dropout of probability 0 is taken out.

    Raises:
        ModelError: If a random layer has no keyed form.
    """
    number = 0
    for parent in list(network.modules()):
        if getattr(parent, "inplace", None) is True:
            parent.inplace = False  # type: ignore[assignment]
        for name, child in parent.named_children():
            keyed = _keyed(child, name, number)
            if keyed is not None:
                setattr(parent, name, keyed.train(child.training))
                number += 1


def _keyed(layer: nn.Module, name: str, number: int) -> nn.Module | None:
    """Return the layer that takes the place of a random one; None for any other."""
    if isinstance(layer, _UNKEYED):
        raise ModelError(
            f"the layer {name!r} of type {type(layer).__name__} draws from a global generator, so that a resumed "
            "trial would not repeat: use nn.Dropout, whose masks follow from the train key here"
        )
    if type(layer).__name__ == "StochasticDepth" and type(layer).__module__.startswith("torchvision."):
        if layer.mode != "row":
            raise ModelError("stochastic depth must decide for each example (mode row): mode batch mixes examples")
        return _dropout(float(layer.p), number, _ALL_DIMS)  # type: ignore[arg-type]
    for kind, shared in ((nn.Dropout, 0), (nn.Dropout1d, 1), (nn.Dropout2d, 2), (nn.Dropout3d, 3)):
        if type(layer) is kind:
            return _dropout(layer.p, number, shared)
    return None


def _dropout(p: float, number: int, shared: int) -> nn.Module:
    return ExampleDropout(p, number, shared) if p > 0 else nn.Identity()
