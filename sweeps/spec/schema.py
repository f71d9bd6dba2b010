"""The JSON schema of the sweep file, for editors that complete and check YAML.

It knows every field, its type and its range. What only the whole sweep can tell (two fields that exclude each other,
names that the dataset has) is checked by `fairsweep plan`. `make schema` writes it into the package, where the command
finds it without loading what learners need.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema
from pydantic_core import core_schema

from fairsweep.datasets.selection.division import SPLIT_KINDS
from fairsweep.datasets.selection.imbalance import KeepImbalance, MinoritySizeImbalance, ShareImbalance
from fairsweep.sweeps.spec.resources import ResourcesSection
from fairsweep.sweeps.spec.schema_file import schema_path
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.other_tools import KINDS
from fairsweep.trainables.learners import LEARNERS
from fairsweep.trainables.models.models import DEFAULT_MODEL, FAMILIES, MODELS

Schema = dict[str, Any]
_IMBALANCES: tuple[type[BaseModel], ...] = (ShareImbalance, MinoritySizeImbalance, KeepImbalance)
_DIMENSION: Schema = {"$ref": "#/$defs/Dimension"}
_CODE: Schema = {"type": "object", "properties": {"code": {"type": "integer"}}, "required": ["code"]}


def sweep_schema() -> Schema:
    """Make the schema (JSON Schema 2020-12)."""
    kinds = {kind: row.config for kind, row in LEARNERS.items()}
    models = [*MODELS.values(), *FAMILIES.values()]
    spaces: tuple[type[BaseModel], ...] = (*models, *_IMBALANCES, *SPLIT_KINDS.values(), *kinds.values())
    sections: tuple[type[BaseModel], ...] = (SweepSpec, ResourcesSection, *spaces)
    asked: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in sections]
    found, holder = models_json_schema(asked, schema_generator=_Generator)
    definitions: dict[str, Schema] = holder["$defs"]

    def name_of(model: type[BaseModel]) -> str:
        return str(found[model, "validation"]["$ref"]).rpartition("/")[2]

    for name in _reachable(definitions, [name_of(model) for model in spaces]):
        _allow_dimensions(definitions[name])
    for kind, config in kinds.items():
        _learner(definitions[name_of(config)], kind, found[ResourcesSection, "validation"])
    for kind, split in SPLIT_KINDS.items():
        _of_kind(definitions[name_of(split)], kind, optional="fold")
    for name, model in MODELS.items():
        definition = definitions[name_of(model)]
        definition["properties"]["name"] = {"anyOf": [{"const": name}, _DIMENSION]}
        definition["required"] = [] if name == DEFAULT_MODEL.name else ["name"]
    for model in FAMILIES.values():
        definition = definitions[name_of(model)]
        definition["properties"].pop("source", None)  # filled in
        definition["properties"]["name"] = {"anyOf": [{"type": "string", "not": {"enum": list(MODELS)}}, _DIMENSION]}
        definition["required"] = ["name"]
    definitions["Twin"] = _twin(found[ResourcesSection, "validation"])
    definitions["Dimension"] = {
        "description": "Several values instead of one.",
        "anyOf": [_dimension(k) for k in KINDS],
    }
    schema = definitions.pop(name_of(SweepSpec))
    fields = schema["properties"]
    fields["imbalance"] |= _any_of(*_references(found, _IMBALANCES), {"type": "null"})
    fields["split"] |= _any_of(*_references(found, SPLIT_KINDS.values()), {"type": "null"})
    fields["model"] |= _any_of(*_references(found, models))
    learners = [*_references(found, kinds.values()), {"$ref": "#/$defs/Twin"}]
    fields["learners"] |= {"type": "array", "minItems": 1, "items": {"anyOf": learners}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}


def schema_text() -> str:
    """Make the schema as text, as it is stored."""
    return json.dumps(sweep_schema(), indent=2) + "\n"


def write_schema() -> Path:
    """Write the schema into the package, and return the file; done after each change of a config."""
    path = schema_path()
    path.write_text(schema_text(), encoding="utf-8")
    return path


class _Generator(GenerateJsonSchema):
    """Pydantic's schema, widened by what our validators take before it checks types."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as pydantic declares it

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> Schema:
        """Return a section with dimensions: its schema is put in its place later."""
        return {}

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> Schema:
        """Return a word or a list that stands for a section; a value by its name, its number or its code."""
        inner = super().function_before_schema(schema)
        if "ref" in schema or "properties" in inner:  # a validator of the model itself
            return inner
        if "oneOf" in inner:  # where the name is a dimension, several members fit
            inner = {"anyOf": inner["oneOf"]}
        if inner.get("type") == "string":
            return {"anyOf": [inner, {"type": "integer"}, _CODE]}
        is_section = "$ref" in inner or any("$ref" in member for member in inner.get("anyOf", ()))
        return {"anyOf": [inner, {"type": ["string", "boolean", "array"]}]} if is_section else inner


def _references(found: Mapping[Any, Any], models: Any) -> list[Schema]:  # noqa: ANN401 - models, in any container
    return [found[model, "validation"] for model in models]


def _any_of(*schemas: Schema) -> Schema:
    return {"anyOf": [*schemas, _DIMENSION]}


def _dimension(kind: str) -> Schema:
    values = {"type": "array", "minItems": 1}
    return {"type": "object", "properties": {kind: values}, "required": [kind], "additionalProperties": False}


def _allow_dimensions(schema: Schema) -> None:
    """Let each field of a section be a dimension instead of a value; a kind cannot be one."""
    for name, field in schema.get("properties", {}).items():
        if name != "kind" or "const" not in field:
            kept = {key: field.pop(key) for key in ("description", "default", "title") if key in field}
            schema["properties"][name] = {**kept, "anyOf": [field, _DIMENSION]}


def _learner(schema: Schema, kind: str, resources: Schema) -> None:
    _of_kind(schema, kind, optional="name")
    schema["properties"]["resources"] = resources


def _of_kind(schema: Schema, kind: str, *, optional: str) -> None:
    schema["properties"]["kind"] = {"const": kind}
    schema["required"] = ["kind", *(name for name in schema.get("required", []) if name not in ("kind", optional))]


def _twin(resources: Schema) -> Schema:
    return {
        "type": "object",
        "description": "The same as another learner without its privacy.",
        "properties": {"name": {"type": "string"}, "twin_of": {"type": "string"}, "resources": resources},
        "required": ["twin_of"],
        "additionalProperties": False,
    }


def _reachable(definitions: Mapping[str, Schema], names: list[str]) -> set[str]:
    """Names of the definitions that some of them use, themselves included."""
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name not in seen:
            seen.add(name)
            names += _used(definitions[name])
    return seen


def _used(schema: Any) -> Iterator[str]:  # noqa: ANN401 - a part of a schema
    if isinstance(schema, Mapping):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for part in schema.values():
            yield from _used(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _used(part)
