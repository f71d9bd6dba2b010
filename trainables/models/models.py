"""The table of models: to add one, write its file, then one row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny

from fairsweep.trainables.models.cnn import CnnConfig
from fairsweep.trainables.models.linear import LinearConfig
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.models.resnet18 import ResNet18Config

MODELS: dict[str, type[ModelConfig]] = {"linear": LinearConfig, "cnn": CnnConfig, "resnet18": ResNet18Config}
DEFAULT_MODEL = CnnConfig()


def model_type(content: object) -> type[ModelConfig]:
    """Return the config's type that a section's ``name`` says; without a name that of the default model.

    Raises:
        ValueError: If the section is no mapping, or there is no such model.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"must be a mapping (name: …), but got {content!r}: name one of {', '.join(MODELS)}")
    name = content.get("name", DEFAULT_MODEL.name)
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"name must be one of {', '.join(map(repr, MODELS))}, but got {name!r}")
    return MODELS[name]


def _read(given: Any) -> ModelConfig:  # noqa: ANN401 - pydantic hands over whatever was given
    return given if isinstance(given, ModelConfig) else model_type(given).model_validate(given)


AnyModel = Annotated[SerializeAsAny[ModelConfig], PlainValidator(_read)]
"""A field that takes any model of the table."""
