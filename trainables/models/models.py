"""The table of models: to add one, write its file, then one row here. Networks from elsewhere need no row."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny

from fairsweep.trainables.models.cnn import CnnConfig
from fairsweep.trainables.models.foreign import TorchvisionModel, torchvision_names
from fairsweep.trainables.models.linear import LinearConfig
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.models.own import OwnModel
from fairsweep.trainables.models.resnet18 import ResNet18Config

MODELS: dict[str, type[ModelConfig]] = {"linear": LinearConfig, "cnn": CnnConfig, "resnet18": ResNet18Config}
FAMILIES: dict[str, type[ModelConfig]] = {"a network of torchvision": TorchvisionModel, "FILE.py:FUNCTION": OwnModel}
"""Models that have names beyond the table's."""
DEFAULT_MODEL = CnnConfig()
_NO_FIELD = "source_hash"  # in records, for people


def model_type(content: object) -> type[ModelConfig]:
    """Return the config's type that a section's ``name`` says; without a name that of the default model.

    Raises:
        ValueError: If the section is no mapping, or there is no such model.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"must be a mapping (name: …), but got {content!r}: name one of {', '.join(MODELS)}")
    name = content.get("name", DEFAULT_MODEL.name)
    if isinstance(name, str) and name in MODELS:
        return MODELS[name]
    if isinstance(name, str) and ":" in name:
        return OwnModel
    known = torchvision_names()
    if isinstance(name, str) and name in known:
        return TorchvisionModel
    nearest = difflib.get_close_matches(name, [*MODELS, *known], n=1) if isinstance(name, str) else []
    raise ValueError(
        f"name must be one of {', '.join(map(repr, MODELS))}, a classification network of torchvision, or "
        f"FILE.py:FUNCTION of your own, but got {name!r}" + (f": did you mean {nearest[0]!r}?" if nearest else "")
    )


def _read(given: Any) -> ModelConfig:  # noqa: ANN401 - pydantic hands over whatever was given
    if isinstance(given, ModelConfig):
        return given
    kind = model_type(given)
    return kind.model_validate({name: value for name, value in given.items() if name != _NO_FIELD})


AnyModel = Annotated[SerializeAsAny[ModelConfig], PlainValidator(_read)]
"""A field that takes any model of the table, or of a family."""
