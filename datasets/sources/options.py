"""Construction of a source from command-line options: each field of a source is an option of the same name."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from fairsweep.datasets.storage.layout import nearest

T = TypeVar("T")
# A field in the section "Attributes" of a docstring, with the lines that go on about it.
_DESCRIBED = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def option_names(kind: type[Any]) -> tuple[str, ...]:
    """List the options of a source: its fields, and those of the dataclasses in them behind a dot.

    Args:
        kind: The source's class, a dataclass.

    >>> from fairsweep.datasets.sources.splits import HoldOut
    >>> option_names(HoldOut)
    ('validation', 'test', 'key')
    """
    return tuple(_names(kind, ""))


def option_words(kind: type[Any]) -> dict[str, str]:
    """Explains each option in the words of the docstring that describes its field.

    Args:
        kind: The source's class, a dataclass.

    >>> from fairsweep.datasets.sources.splits import HoldOut
    >>> option_words(HoldOut)["key"]
    'Public number that keys the draw; another one gives another split.'
    """
    words = {}
    for name in option_names(kind):
        holder = kind
        *outer, own = name.split(".")
        for part in outer:
            holder = _dataclass_in(_fields(holder)[part]) or holder
        words[name] = _described(holder).get(own, "")
    return words


def from_options(kind: type[T], options: Mapping[str, str | Sequence[str]]) -> T:
    """Make a source.

    Args:
        kind: The source's class, a dataclass.
        options: Words by option; `-` and `_` are identical in names. Several values stand with commas between them, the
            fields of a field behind a dot (`hold_out.key`), and `none` where a field may have no value. An option that
            was repeated has a list of words: several paths, or several times `NAME=VALUE,VALUE`.

    Returns:
        The source; fields without an option keep their defaults.

    Raises:
        ValueError: An option is unknown, missing, or no value of its field; or the source refuses it.

    >>> from fairsweep.datasets.sources.splits import HoldOut
    >>> from_options(HoldOut, {"test": "0.3", "key": "1"})
    HoldOut(validation=0.1, test=0.3, key=1)
    """
    known = option_names(kind)
    words = {name.replace("-", "_"): word for name, word in options.items()}
    for name in words:
        if name not in known:
            shown = [_shown(option) for option in known]
            raise ValueError(f"there is no option {_shown(name)} here: {nearest(_shown(name), shown)}")
    return _build(kind, words, "")


def _names(kind: type[Any], prefix: str) -> Iterator[str]:
    for name, annotation in _fields(kind).items():
        inner = _dataclass_in(annotation)
        if inner is None:
            yield prefix + name
        else:
            yield from _names(inner, f"{prefix}{name}.")


def _build(kind: type[T], words: Mapping[str, str | Sequence[str]], prefix: str) -> T:
    values: dict[str, Any] = {}
    for name, annotation in _fields(kind).items():
        inner = _dataclass_in(annotation)
        if inner is not None:
            within = f"{prefix}{name}."
            if any(word.startswith(within) for word in words):
                values[name] = _build(inner, words, within)
        elif prefix + name in words:
            values[name] = _value(annotation, words[prefix + name], prefix + name)
    missing = [
        _shown(prefix + field.name)
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in values
    ]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be given")
    return kind(**values)


_DUE = {
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_parsing": "it must be a number",
    "bool_parsing": "it must be true or false",
}


def _value(annotation: Any, given: str | Sequence[str], name: str) -> Any:  # noqa: ANN401 - a field may have any type
    words = [given] if isinstance(given, str) else list(given)
    forms = {get_origin(option): option for option in (annotation, *get_args(annotation))}
    reading: Any = words[0]
    if Mapping in forms:
        reading = _named_values(words, name)
    elif tuple in forms and Path in _inside(forms[tuple]):
        reading = tuple(words)
    elif tuple in forms:
        reading = [part.strip() for word in words for part in word.split(",")]
    elif len(words) > 1:
        raise ValueError(f"{_shown(name)} is given twice")
    try:
        return TypeAdapter(annotation).validate_python(reading)
    except ValidationError as error:
        found = error.errors()[0]
        reason = _DUE.get(found["type"], found["msg"])
    # Only a word that is no value itself stands for none: "none" may be the name of something.
    if words[0].lower() == "none" and type(None) in get_args(annotation):
        return None
    raise ValueError(f"{_shown(name)} cannot be {words[0]!r}: {reason}")


def _named_values(words: Sequence[str], name: str) -> dict[str, list[str]]:
    """Read `age=0,18,40` (several of them) as lists by name."""
    found: dict[str, list[str]] = {}
    for word in words:
        key, equals, values = word.partition("=")
        if not equals or not key.strip() or key.strip() in found:
            raise ValueError(
                f"{_shown(name)} must be of the form NAME=VALUE,VALUE, with each NAME once, but got {word!r}"
            )
        found[key.strip()] = [value.strip() for value in values.split(",")]
    return found


def _inside(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the types of a tuple's values."""
    return tuple(option for part in get_args(annotation) for option in (part, *get_args(part)))


def _described(kind: type[Any]) -> dict[str, str]:
    """Return what the docstrings of a dataclass and of those it inherits from say about each field."""
    words: dict[str, str] = {}
    for holder in kind.__mro__:
        section = (inspect.getdoc(holder) or "").partition("\nAttributes:\n")[2].partition("\n\n")[0]
        for match in _DESCRIBED.finditer(section):
            words.setdefault(match[1], " ".join(match[2].split()))
    return words


def _fields(kind: type[Any]) -> dict[str, Any]:
    """Return the annotation of each field."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _dataclass_in(annotation: Any) -> type[Any] | None:  # noqa: ANN401
    """Return the dataclass of a field that holds one, or may."""
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and dataclasses.is_dataclass(option):
            return option
    return None


def _shown(name: str) -> str:
    return "--" + name.replace("_", "-")
