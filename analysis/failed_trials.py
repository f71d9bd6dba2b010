"""Failed trials, grouped by their cause."""

from collections.abc import Iterable
from dataclasses import dataclass

from fairsweep.analysis.loading import TrialFolder

_UNKNOWN = "no cause recorded"


@dataclass(frozen=True)
class FailureGroup:
    """Trials that failed of one cause.

    Attributes:
        cause: in one line.
        trials: their names.
        traceback: of the first of them that recorded one; empty if none did.
    """

    cause: str
    trials: tuple[str, ...]
    traceback: str


def failure_groups(folders: Iterable[TrialFolder]) -> tuple[FailureGroup, ...]:
    """The failed trials of a sweep by cause, the most frequent cause first."""
    causes: dict[str, list[TrialFolder]] = {}
    for folder in folders:
        if folder.stage == "failed":
            causes.setdefault(str((folder.state or {}).get("error") or _UNKNOWN), []).append(folder)
    groups = []
    for cause, failed in sorted(causes.items(), key=lambda item: -len(item[1])):
        traces = (str((folder.state or {}).get("traceback") or "") for folder in failed)
        names = tuple(folder.name for folder in failed)
        groups.append(FailureGroup(cause, names, next((trace for trace in traces if trace), "")))
    return tuple(groups)
