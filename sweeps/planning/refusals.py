"""Settings of a search that were refused before they ran: counts and causes."""

from __future__ import annotations

from collections.abc import Mapping

_MOST_CAUSES = 3


def refusal_lines(counts: Mapping[str, int]) -> list[str]:
    """Say in a few lines what was refused.

    Args:
        counts: how many were refused of each cause, the most frequent first.
    """
    lines = [
        f"{count} {'setting was' if count == 1 else 'settings were'} refused: {cause}"
        for cause, count in list(counts.items())[:_MOST_CAUSES]
    ]
    rest = sum(list(counts.values())[_MOST_CAUSES:])
    return lines + ([f"{rest} more were refused for other reasons"] if rest else [])
