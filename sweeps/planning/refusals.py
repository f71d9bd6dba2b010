"""Settings of a search that were refused before they ran: counts and causes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fairsweep.analysis.records.failed_trials import cause_kind

_MOST_CAUSES = 3


def counted_causes(causes: Iterable[str]) -> dict[str, int]:
    """Count refusals by cause, the most frequent first; causes that differ in numbers only are one, the first's."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for cause in causes:
        shown = first.setdefault(cause_kind(cause), cause)
        counts[shown] = counts.get(shown, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def refusal_lines(counts: Mapping[str, int]) -> list[str]:
    """Say in a few lines what was refused.

    Args:
        counts: what `counted_causes` returned.
    """
    lines = [
        f"{count} {'setting was' if count == 1 else 'settings were'} refused: {cause}"
        for cause, count in list(counts.items())[:_MOST_CAUSES]
    ]
    rest = sum(list(counts.values())[_MOST_CAUSES:])
    return lines + ([f"{rest} more were refused for other reasons"] if rest else [])
