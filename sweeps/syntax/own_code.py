"""Source of what a sweep names by ``FILE.py:NAME`` or ``PACKAGE.MODULE:NAME``, read when the sweep is made.

The text is stored with the sweep, so that trials on other machines, and a resume after the file has changed or gone,
use what the sweep was started with.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairsweep.datasets.storage.location import settled
from fairsweep.sweeps.syntax.dimensions import Space
from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.sweeps.syntax.other_tools import KINDS

OWN_CODE = "own_code"
_MOST_BYTES = 1_000_000
_NAME: Location = ("model", "name")


def with_own_code(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sweep's fields with the sources of all that they name and do not hold yet.

    Raises:
        SweepError: If a file or module is not there.
    """
    known = fields.get(OWN_CODE)
    if known is not None and not isinstance(known, Mapping):
        return dict(fields)  # validation will name the mistake
    places = {place_of(name) for name in _names(fields.get("model")) if ":" in name}
    read = {place: _source(place) for place in sorted(places - (known or {}).keys())}
    return {**fields, **({OWN_CODE: {**(known or {}), **read}} if read else {})}


def place_of(name: str) -> str:
    """Return the file or module of a name.

    >>> place_of("nets/mine.py:Net"), place_of("mine.nets:make")
    ('nets/mine.py', 'mine.nets')
    """
    return name.rpartition(":")[0]


def _names(section: Any) -> Iterator[str]:  # noqa: ANN401 - a section with dimensions, or a mistake
    if isinstance(section, Space):
        section = section.raw
    if isinstance(section, str):
        yield section
    elif isinstance(section, Mapping) and len(section) == 1 and next(iter(section)) in KINDS:
        values = next(iter(section.values()))
        for value in values if isinstance(values, list | tuple) else ():
            yield from _names(value)
    elif isinstance(section, Mapping) and "source" not in section:
        yield from _names(section.get("name"))


def _source(place: str) -> str:
    path = settled(Path(place)) if place.endswith(".py") else _module_file(place)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SweepError(f"{place} must have at most {_MOST_BYTES:,} bytes: keep data in files of its own", _NAME)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SweepError(
            f"there is no file {place} here: name it from the folder where fairsweep is started, or by its full path",
            _NAME,
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(f"cannot read {place}: {error}", _NAME) from error


def _module_file(place: str) -> Path:
    try:
        found = importlib.util.find_spec(place)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise SweepError(
            f"there is no installed module {place!r} with a source: install the package here and on every node, or "
            "name a file, FILE.py:NAME",
            _NAME,
        )
    return Path(found.origin)
