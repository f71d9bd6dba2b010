"""The head of a network, and which of its layers are trained."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from torch import nn

from fairsweep.trainables.layers.model_error import ModelError
from fairsweep.trainables.layers.norm_layers import freeze_norms

_HEAD = "head"


def _names(given: object) -> object:
    """Return a single layer's name as a list of it."""
    if given == []:
        raise ValueError("train must name at least one layer, but got []: write head, or all")
    return (given,) if isinstance(given, str) and given not in ("all", _HEAD) else given


Trained = Annotated[Literal["all", "head"] | tuple[str, ...], BeforeValidator(_names)]
"""Which layers are trained: ``all``, ``head``, or names of modules; ``head`` may be among them."""


class HeadConfig(BaseModel):
    """A head of several linear layers with ReLU between them, in place of the network's last layer.

    Attributes:
        hidden: Width of each hidden layer, the first one first.
        dropout: After each hidden layer, the probability in [0, 1) that a number is set to zero; empty: none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hidden: tuple[int, ...] = Field(min_length=1)
    dropout: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.hidden) < 1:
            raise ValueError(f"hidden layers must be at least 1 wide, but got hidden={list(self.hidden)}")
        if self.dropout and len(self.dropout) != len(self.hidden):
            raise ValueError(
                f"dropout must have one probability for each of the {len(self.hidden)} hidden layers, but got "
                f"dropout={list(self.dropout)}"
            )
        if not all(0 <= p < 1 for p in self.dropout):
            raise ValueError(f"dropout must be in [0, 1), but got dropout={list(self.dropout)}")
        return self

    def layers(self, features: int, classes: int) -> nn.Sequential:
        """Return the layers, from so many features to logits."""
        layers: list[nn.Module] = []
        for number, width in enumerate(self.hidden):
            layers += [nn.Linear(features, width), nn.ReLU()]
            if self.dropout:
                layers.append(nn.Dropout(self.dropout[number]))
            features = width
        return nn.Sequential(*layers, nn.Linear(features, classes))


def last_layer(network: nn.Module) -> str:
    """Return the name of the last layer with weights, in the order in which a network lists its layers.

    Raises:
        ModelError: If there is none.
    """
    names: list[str] = [
        n for n, module in network.named_modules() if any(True for _ in module.parameters(recurse=False))
    ]
    if not names:
        raise ModelError("a model needs at least one layer with weights, but has none")
    return names[-1]


def head_name(network: nn.Module, head: HeadConfig | None) -> str:
    """Return the name of the head: the network's last layer, or what `replace_head` put in its place."""
    last = last_layer(network)
    return last if head is None else last.rpartition(".")[0]


def replace_head(network: nn.Module, head: HeadConfig, classes: int) -> str:
    """Put a head in the place of a network's last layer, and return its name.

    Raises:
        ModelError: If the last layer is not linear.
    """
    name = last_layer(network)
    layer = network.get_submodule(name)
    if not isinstance(layer, nn.Linear) or not name:
        raise ModelError(
            f"head replaces a network's last layer, which must be linear, but {name or 'it'!r} is of type "
            f"{type(layer).__name__}: leave head out"
        )
    network.set_submodule(name, head.layers(layer.in_features, classes))
    return name


def freeze(network: nn.Module, train: Trained, head: HeadConfig | None) -> None:
    """Freeze all weights but those that are trained: they get no gradient, no noise, and are in no update.

    BatchNorm layers outside the trained ones keep their statistics too.

    Raises:
        ModelError: If a name is not that of a layer with weights; the nearest one is named.
    """
    if train == "all":
        return
    known = {name for name, module in network.named_modules() if name and any(True for _ in module.parameters())}
    names = [_trained(name, known, network, head) for name in ((train,) if isinstance(train, str) else train)]
    for place, parameter in network.named_parameters():
        parameter.requires_grad_(any(not name or place.startswith(f"{name}.") for name in names))
    freeze_norms(network, names)


def _trained(name: str, known: set[str], network: nn.Module, head: HeadConfig | None) -> str:
    if name in known:
        return name
    if name == _HEAD:
        return head_name(network, head)
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.3) or [_HEAD]
    top = sorted({name.partition(".")[0] for name in known})
    raise ModelError(
        f"train must name layers with weights, but the model has no {name!r}: did you mean {nearest[0]!r}? It has "
        f"{', '.join(top)}; {_HEAD!r} is the last one"
    )
