"""Failed trials of a sweep, grouped by what they failed of, and which of them to run again."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fairsweep.analysis import SweepResults
from fairsweep.sweeps.errors import SweepError
from fairsweep.sweeps.ledger import Entry
from fairsweep.sweeps.output import OutputFolder
from fairsweep.sweeps.run import resume_sweep, run_sweep

UNKNOWN_CAUSE = "no cause known"
# Causes that differ in numbers only are one: "the training loss is nan in iteration 3", "… in iteration 4".
_NUMBER = re.compile(r"\b\d[\w.,+-]*")
_MOST_WORDS = 6


@dataclass(frozen=True)
class FailureGroup:
    """Trials that failed of one cause.

    Attributes:
        cause: of the first of them, one line; the others' differs in numbers at most.
        trials: names of their folders.
        hashes: their hashes, in the same order.
        traceback: of the first that has one; None where workers died without a word.
        retry: the command that runs them again, and only them.
    """

    cause: str
    trials: tuple[str, ...]
    hashes: tuple[str, ...]
    traceback: str | None
    retry: str

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.trials)


def failure_groups(folder: str | Path) -> tuple[FailureGroup, ...]:
    """The failed trials in a sweep's folder by cause, the most frequent cause first.

    Raises:
        SweepError: if a state file is damaged.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in OutputFolder.at(folder).ledger.entries().values():
        if entry.state.state == "failed":
            groups.setdefault(_kind(entry.state.error or UNKNOWN_CAUSE), []).append(entry)
    most_first = sorted(groups.values(), key=lambda entries: -len(entries))
    return tuple(_group(folder, entries, groups.keys()) for entries in most_first)


def failed_trials(folder: str | Path, cause: str | None = None) -> frozenset[str]:
    """Hashes of the failed trials whose cause has some words in it, in any case; of all failed ones for None.

    Raises:
        SweepError: if none failed of such a cause; the message lists the causes that there are.
    """
    groups = failure_groups(folder)
    found = [hash_ for group in groups if _matches(cause, group.cause) for hash_ in group.hashes]
    if found or not groups or cause is None:
        return frozenset(found)
    raise SweepError(f"no trial failed of {cause!r}; causes: {'; '.join(group.cause for group in groups)}")


def retry_failed(
    folder: str | Path, cause: str | None = None, *, address: str | None = None, quiet: bool = False
) -> SweepResults:
    """Run the failed trials of a sweep again, from their last checkpoint, and nothing else.

    Args:
        folder: the output folder of the sweep.
        cause: words in the cause; None for all failed trials.
        address: of a Ray cluster.
        quiet: whether to show nothing.

    Raises:
        SweepError: if the folder holds no sweep, or none failed of such a cause.
    """
    sweep, text = resume_sweep(folder)
    return run_sweep(sweep, text=text, address=address, quiet=quiet, only=failed_trials(folder, cause))


def _group(folder: str | Path, entries: list[Entry], kinds: Iterable[str]) -> FailureGroup:
    cause = entries[0].state.error or UNKNOWN_CAUSE
    others = [kind for kind in kinds if kind != _kind(cause)]
    words = _telling(_kind(cause), others)
    return FailureGroup(
        cause,
        tuple(entry.folder.name for entry in entries),
        tuple(entry.state.trial for entry in entries),
        next((entry.state.traceback for entry in entries if entry.state.traceback), None),
        f"fairsweep retry-failed {folder}" + (f' --cause "{words}"' if others else ""),
    )


def _telling(kind: str, others: Iterable[str]) -> str:
    """The first few words of a cause that no other one has."""
    words = kind.split("#", maxsplit=1)[0].replace('"', " ").split()
    for count in range(1, _MOST_WORDS + 1):
        start = " ".join(words[:count]).rstrip(":")
        if start and not any(_matches(start, other) for other in others):
            return start
    return " ".join(words)


def _matches(words: str | None, cause: str) -> bool:
    return words is None or " ".join(words.lower().split()) in " ".join(cause.lower().split())


def _kind(cause: str) -> str:
    return " ".join(_NUMBER.sub("#", cause).split())
