"""Size limits of a sweep file, so that a hostile or broken one ends in a clear error.

They are checked on the parser's events, one after the other, before anything is built of them.
"""

from __future__ import annotations

import re

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from fairsweep.sweeps.syntax.errors import SweepError

MOST_CHARACTERS = 1 << 17
MOST_LEVELS = 32
MOST_NODES = 20_000
MOST_DIGITS = 100
# The scanner takes quadratic time for these: they are seen before it is started.
_NESTED_LISTS = re.compile(rf"(\[\s*){{{MOST_LEVELS + 1}}}")
_PLAIN_TAG = re.compile(r"!|tag:yaml\.org,2002:(str|int|float|bool|null|seq|map|merge|timestamp)")
_NUMBER = re.compile(r"[-+]?(0(x[0-9a-f_]+|o[0-7_]+|b[01_]+)|\.?[0-9][0-9_.:]*(e[-+]?[0-9_]+)?)", re.IGNORECASE)


def check_limits(where: str, text: str) -> None:
    """Refuse a text that is too large, nests too deeply, grows too large by its aliases, or has absurd numbers.

    Args:
        where: name of the file, for messages.
        text: its text.

    Raises:
        SweepError: with the line.
        YAMLError: if it is no YAML.
    """
    if len(text) > MOST_CHARACTERS:
        raise SweepError(
            f"{where}: a sweep file must have at most {MOST_CHARACTERS:,} characters, but this one has more: is it the "
            "right file?"
        )
    if nested := _NESTED_LISTS.search(text):
        raise _too_deep(f"{where}, line {text.count(chr(10), 0, nested.start()) + 1}")
    sizes: dict[str, int] = {}  # of what each anchor stands for, its own aliases counted in full
    open_nodes: list[tuple[str | None, int]] = []  # anchor and size so far
    total = 0
    for event in YAML(typ="rt", pure=True).parse(text):
        line = f"{where}, line {event.start_mark.line + 1}"
        tag = str(getattr(event, "tag", None) or "")
        if tag and not _PLAIN_TAG.fullmatch(tag):
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            raise SweepError(f"{line}: tags such as {shown} are not read in a sweep file: write the value itself")
        if isinstance(event, SequenceEndEvent | MappingEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MOST_LEVELS:
                raise _too_deep(line)
            continue
        elif isinstance(event, AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise SweepError(f"{line}: the alias *{event.anchor} refers to itself; write it out")
            anchor, size = None, sizes.get(str(event.anchor), 1)
        elif isinstance(event, ScalarEvent):
            anchor, size = event.anchor, 1
            if len(event.value) > MOST_DIGITS and event.style is None and _NUMBER.fullmatch(event.value):
                raise SweepError(
                    f"{line}: a number must have at most {MOST_DIGITS} digits, but here one has {len(event.value):,}"
                )
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if open_nodes:
            above, so_far = open_nodes.pop()
            open_nodes.append((above, so_far + size))
            total = so_far + size
        if total > MOST_NODES:
            raise SweepError(
                f"{line}: a sweep file must hold at most {MOST_NODES:,} values, those that its aliases (*name) repeat "
                "included, but this one holds more: write out what is meant"
            )


def _too_deep(line: str) -> SweepError:
    return SweepError(f"{line}: values must be nested at most {MOST_LEVELS} deep, but these are deeper")
