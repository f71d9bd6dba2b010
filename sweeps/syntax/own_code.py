"""Source of what a sweep names by ``FILE.py:NAME`` or ``PACKAGE.MODULE:NAME``, read when the sweep is made.

The text is stored with the sweep, so that trials on other machines, and a resume after the file has changed or gone,
use what the sweep was started with.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairsweep.analysis.own_code import is_file, place_of
from fairsweep.datasets.storage.location import settled
from fairsweep.sweeps.syntax.dimensions import Space
from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.sweeps.syntax.other_tools import KINDS

OWN_CODE = "own_code"
_MOST_BYTES = 1_000_000


def with_own_code(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sweep's fields with the sources of all that they name and do not hold yet.

    Raises:
        SweepError: If a file or module is not there.
    """
    known = fields.get(OWN_CODE)
    if known is not None and not isinstance(known, Mapping):
        return dict(fields)  # validation will name the mistake
    read: dict[str, str] = {}
    for where, name in _named(fields):
        place = place_of(name)
        if place not in (known or {}) and place not in read:
            read[place] = _source(place, where)
    return {**fields, **({OWN_CODE: {**(known or {}), **read}} if read else {})}


def _named(fields: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Yield what a sweep names outside of fairsweep, with its place: models of packages, and all kinds of files."""
    yield from ((("model", "name"), name) for name in _names(fields.get("model"), "name") if ":" in name)
    found: list[tuple[Location, str]] = []
    for number, learner in enumerate(_listed(fields.get("learners"))):
        found += [(("learners", number, "kind"), name) for name in _names(learner, "kind")]
    found += [(("metrics", number), name) for number, name in enumerate(_listed(fields.get("metrics")))]
    tracking = fields.get("tracking")
    own = tracking.get("own") if isinstance(tracking, Mapping) else tracking
    found += [(("tracking",), name) for name in (own if isinstance(own, Mapping) else _listed(own))]
    yield from ((where, name) for where, name in found if is_file(name))


def _listed(given: Any) -> Iterable[Any]:  # noqa: ANN401 - whatever the file has there
    return given if isinstance(given, list | tuple) else [given]


def _names(section: Any, field: str) -> Iterator[str]:  # noqa: ANN401 - a section with dimensions, or a mistake
    if isinstance(section, Space):
        section = section.raw
    if isinstance(section, str):
        yield section
    elif isinstance(section, Mapping) and len(section) == 1 and next(iter(section)) in KINDS:
        values = next(iter(section.values()))
        for value in values if isinstance(values, list | tuple) else ():
            yield from _names(value, field)
    elif isinstance(section, Mapping) and "source" not in section:
        yield from _names(section.get(field), field)


def _source(place: str, where: Location) -> str:
    path = settled(Path(place)) if place.endswith(".py") else _module_file(place, where)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SweepError(f"{place} must have at most {_MOST_BYTES:,} bytes: keep data in files of its own", where)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SweepError(
            f"there is no file {place} here: name it from the folder where fairsweep is started, or by its full path",
            where,
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(f"cannot read {place}: {error}", where) from error


def _module_file(place: str, where: Location) -> Path:
    try:
        found = importlib.util.find_spec(place)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise SweepError(
            f"there is no installed module {place!r} with a source: install the package here and on every node, or "
            "name a file, FILE.py:NAME",
            where,
        )
    return Path(found.origin)
