"""Names of raw files: which belong to the data, which point outside their archive, how messages list them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:")
# What file managers, archivers and synced drives leave beside the data; all else of theirs begins with a dot.
_LEFT_BEHIND = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})


def visible(name: str) -> bool:
    """Whether a file or folder is part of the data, and not left there by a file manager or an archiver.

    >>> visible("Thumbs.db"), visible("._1.jpg"), visible("1.jpg")
    (False, False, True)
    """
    return not name.startswith(".") and name.lower() not in _LEFT_BEHIND


def member_name(name: str) -> str:
    """Write the name of an archive's member with `/` between folders and none before it, as folders list theirs.

    >>> member_name("./faces" + chr(92) + "1.jpg")
    'faces/1.jpg'
    """
    return name.replace("\\", "/").removeprefix("./")


def check_members(names: Sequence[str], path: Path) -> None:
    """Check the names of an archive's files.

    Raises:
        ValueError: Some climb out of it, or occur twice.
    """
    climbing = [name for name in names if _climbs(name)]
    if climbing:
        raise ValueError(
            f"names in an archive must stay inside it, but {len(climbing)} in {path} point outside it: "
            f"{first_five(climbing)}; do not trust this file, download it from its publisher"
        )
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise ValueError(f"each name must occur once, but {len(twice)} are repeated in {path}: {first_five(twice)}")


def first_five(names: Sequence[str]) -> str:
    """List the first five names of a list, for an error message.

    >>> first_five(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d, e, …'
    """
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _climbs(name: str) -> bool:
    return name.startswith("/") or _DRIVE.match(name) is not None or ".." in name.split("/")
