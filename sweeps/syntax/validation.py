"""Conversion of pydantic's errors into one clear line: the place, the nearest known key, and the remedy."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Tag, ValidationError

from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.sweeps.syntax.other_tools import KINDS, instead_of_number
from fairsweep.sweeps.syntax.sweep_file import nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def clear_error(
    error: ValidationError, model: object, content: object, prefix: Location = (), *, tagged: bool = False
) -> SweepError:
    """Return a validation's errors, a line each: the most telling one, with the others beside it.

    Args:
        error: what pydantic found.
        model: the model or annotation that was validated.
        content: the plain values that were given.
        prefix: where the values stand in the sweep file.
        tagged: whether the model is a union whose members have tags: the tag comes first in each of pydantic's places,
            and may be the name of a field too.
    """
    # An unknown key often causes further errors (a field is missing because it was misspelt): it comes first.
    listed = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    misspelt = {item["loc"][:-1] for item in listed if item["type"] == "extra_forbidden"}
    telling = [item for item in listed if item["type"] != "missing" or item["loc"][:-1] not in misspelt] or listed
    telling = [item for item in telling if not _follows(item)] or telling
    clears = [(item["type"], _clear(item, model, content, prefix, tagged=tagged)) for item in telling]
    # What another member of a union says of the mapping in which a key is misspelt.
    holders = {clear.location[:-1] for kind, clear in clears if kind == "extra_forbidden"}
    found: dict[Location, SweepError] = {}
    for kind, clear in clears:
        if kind == "extra_forbidden" or clear.location not in holders:
            found.setdefault(clear.location, clear)  # members of a union complain of one place, each
    first, *others = found.values()
    return SweepError(first.message, first.location, [*first.others, *others])


def _clear(found: ErrorDetails, model: object, content: object, prefix: Location, *, tagged: bool) -> SweepError:
    location = found["loc"]
    if tagged and location:
        model, location = _member(model, location[0]), location[1:]
    place = _place(location, content)
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, SweepError):
        return cause.at((*prefix, *place))
    if _is_dimension(found["input"]) or (found["type"] == "extra_forbidden" and place and place[-1] in KINDS):
        where = place[0] if place else ""
        reason = ": it is fixed, so that all trials are compared on the same examples" if where == "evaluation" else ""
        raise_at = (*prefix, *place) if found["type"] != "extra_forbidden" else (*prefix, *place[:-1])
        return SweepError(
            f"{where or 'this'} cannot be a search dimension{reason}; fields of learners, model, imbalance and split "
            "can: give a value here, or run a sweep for each",
            raise_at,
        )
    if found["type"] == "extra_forbidden":
        if place[-1] in _OF_LEARNERS and (*prefix, *place)[0] != "learners":
            remedy = f"it is a field of a learner; write it there: learners: [{{…, {place[-1]}: …}}]"
            return SweepError(f"unknown key {place[-1]!r}: {remedy}", (*prefix, *place))
        known = sorted(_fields_at(model, location[:-1]))
        return SweepError(f"unknown key {str(place[-1])!r}: {nearest(str(place[-1]), known)}", (*prefix, *place))
    if found["type"] == "missing":
        return SweepError(f"{location[-1]} is required, but missing", (*prefix, *place))
    message = found["msg"].removeprefix("Value error, ")
    if found["type"] not in ("value_error", "imbalance_form"):
        most = found.get("ctx", {}).get("min_length")
        must = f"must have at least {most} item{'s' if most != 1 else ''}" if found["type"] == "too_short" else None
        message = f"{must or _must_be(found['type'], message)}, but got {_shown(found['input'])}"
        if found["type"] in _NUMBERS:
            message += instead_of_number(found["input"], searchable=bool(prefix))
    return SweepError(message, (*prefix, *place))


def _follows(found: ErrorDetails) -> bool:
    """Whether a list is called too short only because errors were found in its items."""
    return found["type"] == "too_short" and len(found["input"]) >= found["ctx"]["min_length"]


def _is_dimension(value: object) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in KINDS


_OF_LEARNERS = frozenset({"epsilon", "delta", "noise_multiplier", "l2_clip_norm", "epochs", "batch_size", "optimizer"})
_NUMBERS = frozenset({"int_type", "int_parsing", "int_from_float", "float_type", "float_parsing"})
_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "mapping_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "path_type": "a path",
    "invalid_key": "a field's name (decimals are written with a point, 0.5: a comma ends the value)",
}


def _must_be(kind: str, message: str) -> str:
    """Return what must hold, in our words where pydantic's speak of parsing."""
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}"
    if kind == "union_tag_invalid":
        return f"must be one of {message.rpartition(': ')[2]}"
    text = message.replace("Input should be", "must be", 1).replace("Input should have", "must have", 1)
    return f"{text[0].lower()}{text[1:]}"


def _place(location: tuple[str | int, ...], content: object) -> Location:
    """Return the part of pydantic's location that exists in the values: names of union members are left out."""
    place: list[str | int] = []
    node = content
    for part in location:
        if isinstance(node, Mapping) and any(key == part or str(key) == str(part) for key in node):
            node = next(item for key, item in node.items() if key == part or str(key) == str(part))
        elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            continue
        place.append(part)
    return tuple(place)


def _fields_at(annotation: object, location: tuple[str | int, ...]) -> set[str]:
    """Names of the fields that the models at a location have."""
    models = list(models_of(annotation))
    for part in location:
        inner = [field.annotation for m in models if (field := m.model_fields.get(str(part)))]
        if inner:
            models = [model for item in inner for model in models_of(item)]
        else:
            # The name or tag of one member of a union: keep that member.
            models = [m for m in models if _is_tag(m, part)] or models
    return {name for model in models for name in model.model_fields}


def _member(annotation: object, tag: str | int) -> object:
    """Return the member of a tagged union that has a tag."""
    union = typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation
    for member in typing.get_args(union):
        if Tag(str(tag)) in typing.get_args(member)[1:]:
            return member
    return annotation


def _is_tag(model: type[BaseModel], part: str | int) -> bool:
    if model.__name__ == part:
        return True
    fields = [field for name, field in model.model_fields.items() if name in ("kind", "name")]
    return any(part in (field.default, *typing.get_args(field.annotation)) for field in fields)


def models_of(annotation: object) -> Iterator[type[BaseModel]]:
    """Every pydantic model inside an annotation: Optional, unions, Annotated, containers."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from models_of(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType, tuple, list, dict):
        for argument in typing.get_args(annotation):
            yield from models_of(argument)


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever the user wrote
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
