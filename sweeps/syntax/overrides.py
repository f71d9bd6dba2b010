"""Changes to a sweep file on the command line: ``learners.0.epsilon=5``, ``--seeds 3``, ``--name again``.

They change the text of the file, so that what is stored beside the results is what ran.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from fairsweep.sweeps.syntax.errors import Location, SweepError, dotted
from fairsweep.sweeps.syntax.sweep_file import SweepSource
from fairsweep.sweeps.syntax.yaml_limits import check_limits

Change = tuple[Location, Any]


def parse_change(text: str) -> Change:
    """Read one change.

    Raises:
        SweepError: if it is not written ``PLACE=VALUE``.

    >>> parse_change("learners.0.epsilon=5"), parse_change("imbalance.share={grid: [0.5, 0.9]}")[1]
    ((('learners', 0, 'epsilon'), 5), {'grid': [0.5, 0.9]})
    """
    place, equals, value = text.partition("=")
    parts = [part.strip() for part in place.split(".")]
    if not equals or not all(parts):
        raise SweepError(
            f"a change is written PLACE=VALUE, for example learners.0.epsilon=5 or seeds=3, but got {text!r}"
        )
    try:
        check_limits(f"{place}=…", value)
        parsed = YAML(typ="safe", pure=True).load(value)
    except YAMLError as error:
        raise SweepError(f"the value of {place} must be YAML, as in the sweep file, but got {value!r}") from error
    return tuple(int(part) if part.isdigit() else part for part in parts), parsed


def changed(source: SweepSource, changes: Sequence[Change]) -> SweepSource:
    """Return the same sweep file with some values changed; comments, order and quotes stay.

    Args:
        source: the file.
        changes: place and value; an entry of ``learners`` is named by its position, from 0, or by its name.

    Raises:
        SweepError: if a place does not exist, or the result is no sweep file.
    """
    if not changes:
        return source
    text, places = _edit(source.text, changes)
    return source.changed_to(text, places)


def edited(text: str, changes: Sequence[Change]) -> str:
    """Return the text of a sweep file with some values changed; comments, order and quotes stay."""
    return _edit(text, changes)[0]


def _edit(text: str, changes: Sequence[Change]) -> tuple[str, list[Location]]:
    """Return the changed text, and the places as they are called in it."""
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(**_indentation(text))
    tree = yaml.load(text)
    places = [_set(tree, place, value) for place, value in changes]
    buffer = io.StringIO()
    yaml.dump(tree, buffer)
    return buffer.getvalue(), places


def _set(tree: CommentedMap, place: Location, value: Any) -> Location:  # noqa: ANN401 - any YAML value
    node: Any = tree
    keys: list[str | int] = []
    for depth, part in enumerate(place):
        key = _key(node, part, place[: depth + 1])
        keys.append(key)
        if depth == len(place) - 1:
            node[key] = value
        elif isinstance(node, Mapping) and node.get(key) is None:
            node[key] = node = CommentedMap()
        else:
            node = node[key]
    return tuple(keys)


def _key(node: Any, part: str | int, place: Location) -> str | int:  # noqa: ANN401 - a part of a YAML tree
    """How a part of a place is called in the tree."""
    if isinstance(node, CommentedSeq):
        names = [item.get("name", item.get("kind")) if isinstance(item, Mapping) else None for item in node]
        if part in names:
            return names.index(part)
        if isinstance(part, int) and part < len(node):
            return part
        known = ", ".join(f"{number} ({name})" if name else str(number) for number, name in enumerate(names))
        raise SweepError(f"there is no entry {part!r} here; there are {known}", place)
    if isinstance(node, CommentedMap):
        return next((key for key in node if str(key) == str(part)), part)
    raise SweepError(
        f"{dotted(place[:-1])} has no fields, so {part!r} cannot be changed; replace it as a whole", place[:-1]
    )


def _indentation(text: str) -> dict[str, int]:
    """How far the lists of a file are indented, so that they stay where they are."""
    indented = any(line.startswith("  - ") for line in text.splitlines())
    return {"mapping": 2, "sequence": 4, "offset": 2} if indented else {"mapping": 2, "sequence": 2, "offset": 0}


def read_changed(
    file: Path,
    changes: Sequence[str],
    *,
    name: str | None,
    seeds: int | None,
    trials_at_most: int | None,
    output: Path | None = None,
) -> SweepSource:
    """Read a sweep file with the changes of the command line; options come after places.

    The folder is not written into the text: a sweep's own file may lie anywhere.
    """
    source = SweepSource.read(file)
    listed = [parse_change(change) for change in changes]
    options = {"name": name, "seeds": seeds, "trials_at_most": trials_at_most}
    listed += [((option,), value) for option, value in options.items() if value is not None]
    source = changed(source, listed)
    if output is None:
        return source
    return replace(source, content=source.content | {"output": str(output)}, changed=(*source.changed, ("output",)))
