"""Names that become folder names: of sweeps and of learners."""

from __future__ import annotations

import re

from fairsweep.sweeps.syntax.errors import Location, SweepError

LONGEST_NAME = 80
_LONGEST_BYTES = 240
_NAME = re.compile(r"(?!\.)[\w.-]+")


def check_name(name: str, whose: str, place: Location) -> str:
    """Refuse a name that a folder cannot have, or that would hide it.

    Args:
        name: the name.
        whose: what it is the name of, for the message.
        place: where it stands in the sweep file.

    Returns:
        The name.

    Raises:
        SweepError: if it has other characters than letters, digits and ``._-``, begins with a dot, or is too long.
    """
    if _NAME.fullmatch(name) and len(name) <= LONGEST_NAME and len(name.encode()) <= _LONGEST_BYTES:
        return name
    shown = name if len(name) <= LONGEST_NAME else f"{name[:40]}… ({len(name):,} characters)"
    raise SweepError(
        f"the name of {whose} names folders: it must have letters, digits, '.', '_' and '-' only, must not begin with "
        f"a dot, and must have at most {LONGEST_NAME} characters, but got {shown!r}",
        place,
    )
