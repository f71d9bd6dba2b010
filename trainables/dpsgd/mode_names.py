"""Names of the gradient modes, and the name that one of them had before."""

from __future__ import annotations

from typing import Literal

GradientModeName = Literal["auto", "bookkeeping", "functorch", "hooks", "ghost", "expanded_weights"]
RENAMED_MODES = {"ew": "expanded_weights"}
"""Former name → name. Records, checkpoints and configs of earlier versions hold former names."""
_FORMER = {new: old for old, new in RENAMED_MODES.items()}


def current_mode(name: object) -> object:
    """Return today's name of a gradient mode; anything else as it is.

    >>> current_mode("ew"), current_mode("hooks")
    ('expanded_weights', 'hooks')
    """
    return RENAMED_MODES.get(name, name) if isinstance(name, str) else name


def former_mode(name: str) -> str:
    """Return the name that a gradient mode first had.

    >>> former_mode("expanded_weights"), former_mode("hooks")
    ('ew', 'hooks')
    """
    return _FORMER.get(name, name)
