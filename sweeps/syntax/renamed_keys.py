"""Keys and words of the sweep file that have been renamed: refused in a new file, translated in a stored one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.trainables.dpsgd.mode_names import RENAMED_MODES, current_mode, former_mode

RENAMED_KEYS: Mapping[tuple[str, ...], str] = {
    ("search", "key"): "seed",
    ("search", "startup"): "startup_trials",
    ("scheduler", "grace"): "grace_period",
    ("scheduler", "least"): "min_trials",
    ("stop", "plateau", "least"): "min_delta",
}
"""Place of a former key → today's name of it."""
_MODE = "gradient_mode"


def check_renamed(content: Mapping[str, Any]) -> None:
    """Refuse keys and words that have another name now.

    Args:
        content: the fields of a sweep.

    Raises:
        SweepError: with today's name of the first one, and its place.
    """
    for place, new in RENAMED_KEYS.items():
        section = _section(content, place[:-1])
        if section is not None and place[-1] in section:
            raise SweepError(f"{place[-1]} is now called {new}: write {new}: {section[place[-1]]}", place)
    for where, word in _former_modes(content.get("learners"), ("learners",)):
        raise SweepError(f"{_MODE} {word} is now called {RENAMED_MODES[word]}: write {RENAMED_MODES[word]}", where)


def with_current_names(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a stored sweep in today's words.

    >>> with_current_names({"search": {"key": 3}, "seeds": 2})
    {'search': {'seed': 3}, 'seeds': 2}
    """
    return _renamed(content, {place: (place[-1], new) for place, new in RENAMED_KEYS.items()}, current_mode)


def with_former_names(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inverse of `with_current_names`: the names of searches are hashes of it, and stay what they were."""
    return _renamed(content, {place: (new, place[-1]) for place, new in RENAMED_KEYS.items()}, former_mode)


def _renamed(
    content: Mapping[str, Any], keys: Mapping[tuple[str, ...], tuple[str, str]], mode: Callable[[Any], Any]
) -> dict[str, Any]:
    found: dict[str, Any] = _with_modes(content, mode)
    for place, (before, after) in keys.items():
        section = _section(found, place[:-1])
        if section is not None and before in section:
            section[after] = section.pop(before)
    return found


def _section(content: Mapping[str, Any], place: tuple[str | int, ...]) -> dict[str, Any] | None:
    """Return the mapping at a place; None where there is none."""
    node: Any = content
    for part in place:
        node = node.get(part) if isinstance(node, Mapping) else None
    return node if isinstance(node, dict) else None


def _with_modes(value: Any, mode: Callable[[Any], Any], *, inside: bool = False) -> Any:  # noqa: ANN401 - any value
    """Return a copy with every gradient mode, or each of its values where it is a search dimension, renamed."""
    if isinstance(value, Mapping):
        return {key: _with_modes(item, mode, inside=inside or key == _MODE) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_modes(item, mode, inside=inside) for item in value]
    return mode(value) if inside and isinstance(value, str) else value


def _former_modes(value: object, place: Location, *, inside: bool = False) -> Iterator[tuple[Location, str]]:
    parts: Any = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in parts:
        yield from _former_modes(item, (*place, key), inside=inside or key == _MODE)
    if inside and isinstance(value, str) and value in RENAMED_MODES:
        yield place, value
