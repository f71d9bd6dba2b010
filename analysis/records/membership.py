"""Trials that belong to the current version of a sweep: ``sweep.json`` lists their hashes.

A value that was edited makes other trials; those of before stay in the output folder and are no results any more. Where
nothing is listed, since a guided search finds its trials as it runs, or an earlier fairsweep ran it, all belong.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

MEMBERS = "members"


def members_of(sweep: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the hashes of the trials that belong to a sweep.

    Args:
        sweep: ``sweep.json``.

    Returns:
        The hashes; None if all trials in the folder do.
    """
    listed = sweep.get(MEMBERS)
    return None if listed is None else frozenset(map(str, listed))


def describe_former(count: int, folder: str) -> str:
    """Return one line on trials that belong to an earlier version of a sweep."""
    trials, are, them = ("trial", "is", "it") if count == 1 else ("trials", "are", "them")
    return (
        f"{count} {trials} of earlier versions of the sweep {are} left out: show {them} with --all (in Python "
        f"former=True), remove {them} with fairsweep prune {shlex.quote(folder)}"
    )
