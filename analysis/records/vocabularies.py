"""Vocabularies: the values behind the codes of an attribute, and their form in records."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Vocabulary:
    """The values of one attribute, in the order of their codes.

    Attributes:
        name: the attribute, e.g. ``tone``.
        values: its values as written in a sweep file; position = code.
        display: how the values are shown; equal to ``values`` where nothing else is given.
    """

    name: str
    values: tuple[str, ...]
    display: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.display and len(self.display) != len(self.values):
            raise ValueError(
                f"display names must match the values one to one, but attribute {self.name!r} has "
                f"{len(self.values)} values and {len(self.display)} display names"
            )
        if not self.display:
            object.__setattr__(self, "display", self.values)

    def shown(self, code: int) -> str:
        """Return the display name of a code; a code outside the vocabulary is shown as a number."""
        return self.display[code] if 0 <= code < len(self.display) else f"code {code}"


def packed(vocabularies: Sequence[Vocabulary]) -> bytes:
    """Return JSON for the schema metadata of a record."""
    return json.dumps([{"name": v.name, "values": v.values, "display": v.display} for v in vocabularies]).encode()


@functools.lru_cache(maxsize=64)
def unpacked(text: bytes) -> tuple[Vocabulary, ...]:
    """Return the inverse of `packed`; those of all trials of a sweep are the same text, which is read once."""
    return tuple(Vocabulary(row["name"], tuple(row["values"]), tuple(row["display"])) for row in json.loads(text))
