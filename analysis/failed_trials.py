"""Failed trials, grouped by their cause."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fairsweep.analysis.loading import TrialFolder

_UNKNOWN = "no cause recorded"
# Causes that differ in numbers only are one: "the training loss is nan in iteration 3", "… in iteration 4".
_NUMBER = re.compile(r"\b\d[\w.,+-]*")


@dataclass(frozen=True)
class FailureGroup:
    """Trials that failed of one cause.

    Attributes:
        cause: of the first of them, in one line; the others' differs in numbers at most.
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
            causes.setdefault(" ".join(_NUMBER.sub("#", _cause(folder)).split()), []).append(folder)
    groups = []
    for failed in sorted(causes.values(), key=lambda listed: -len(listed)):
        traces = (str((folder.state or {}).get("traceback") or "") for folder in failed)
        names = tuple(folder.name for folder in failed)
        groups.append(FailureGroup(_cause(failed[0]), names, next((trace for trace in traces if trace), "")))
    return tuple(groups)


def _cause(folder: TrialFolder) -> str:
    return str((folder.state or {}).get("error") or _UNKNOWN)
