"""The paths of a sweep: every field that names a file or folder, made absolute when the sweep is made.

A relative path is taken from the folder where fairsweep is started, and ``~`` is the user's home. What is settled here
means the same for workers, for other processes, and for a resume that is started elsewhere.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fairsweep.datasets.storage.location import settled
from fairsweep.sweeps.syntax.dimensions import Space
from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.sweeps.syntax.other_tools import KINDS
from fairsweep.sweeps.syntax.storage_uri import uri_of

_EACH = "*"
PATHS: tuple[tuple[str, ...], ...] = (
    ("dataset", "path"),
    ("evaluation", "dataset"),
    ("model", "pretrained"),
    ("model", "weights"),
    ("learners", _EACH, "requests", "file"),
    ("search", "storage"),
    ("feed", "scratch_dir"),
    ("mirror", "to"),
    ("output",),
)
"""Every field that names a file or folder; `*` is each entry of a list."""
_STORED = {"dataset": "path", "evaluation": "dataset"}


def settle_paths(content: Mapping[str, Any]) -> dict[str, Any]:
    """Make every path in the content of a sweep independent of the working folder; URIs stay as they are.

    Args:
        content: the fields of a sweep: plain values, or config objects in their place.

    Raises:
        SweepError: if a path cannot be settled.
    """
    found = dict(content)
    for place in PATHS:
        if place[0] in found:
            found[place[0]] = _settled(found[place[0]], place[1:], (place[0],))
    return found


def resume_command(folder: str, address: str | None) -> str:
    """Return the command that goes on with a sweep where it ran: on this machine, or on the cluster at an address."""
    return shlex.join(["fairsweep", "resume", folder, *(["--address", address] if address else [])])


def shown(path: Path) -> str:
    """Return a path relative to the working folder where that is shorter."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def shown_from_here(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a sweep for ``sweep.json`` and the report: datasets and output as people write them.

    Where the datasets lay is kept beside it, see `with_stored_paths`; the output is the folder that holds the record.
    """
    found = dict(content)
    if found.get("output") is not None:
        found["output"] = shown(Path(found["output"])) if "://" not in found["output"] else found["output"]
    for section, field in _STORED.items():
        if found[section][field] is not None:
            found[section] = found[section] | {field: shown(Path(found[section][field]))}
    return found


def with_stored_paths(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a sweep as ``sweep.json`` describes it.

    Its datasets are where they lay when it was written.
    """
    found, stored = dict(description["sweep"]), description["dataset"]
    for section, field in _STORED.items():
        path = (found.get(section) or {}).get(field)
        if path is not None and uri_of(path) is None and not Path(path).is_absolute():
            lay = stored["path"] if section == "dataset" else stored["evaluation"]["path"]
            found[section] = found[section] | {field: lay}
    return found


def _settled(value: Any, rest: tuple[str, ...], place: Location) -> Any:  # noqa: ANN401 - whatever was given
    if isinstance(value, Space):
        value = value.raw
    if isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in KINDS:  # a dimension: each of its values
        kind, values = next(iter(value.items()))
        return {kind: _each(values, rest, (*place, kind))}
    if not rest:
        return _path(value, place)
    if rest[0] == _EACH:
        return _each(value, rest[1:], place)
    if isinstance(value, Mapping) and value.get(rest[0]) is not None:
        return dict(value) | {rest[0]: _settled(value[rest[0]], rest[1:], (*place, rest[0]))}
    if isinstance(value, BaseModel) and getattr(value, rest[0], None) is not None:
        return value.model_copy(update={rest[0]: _settled(getattr(value, rest[0]), rest[1:], (*place, rest[0]))})
    return value


def _each(values: Any, rest: tuple[str, ...], place: Location) -> Any:  # noqa: ANN401 - a list, or a mistake
    if not isinstance(values, list | tuple):
        return values
    return [_settled(value, rest, (*place, index)) for index, value in enumerate(values)]


def _path(value: Any, place: Location) -> Any:  # noqa: ANN401 - a path, or a mistake that validation will name
    if not isinstance(value, str | Path) or not str(value) or "://" in str(value):
        return value
    try:
        path = settled(Path(value))
    except ValueError as error:
        raise SweepError(str(error), place) from error
    return str(path) if isinstance(value, str) else path
