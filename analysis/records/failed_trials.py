"""Failed trials, grouped by their cause, and how they run again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fairsweep.analysis.records.trial_folder import TrialFolder

UNKNOWN_CAUSE = "unknown cause"
# Causes that differ in numbers only are one: "the training loss is nan in iteration 3", "… in iteration 4".
_NUMBER = re.compile(r"\b\d[\w.,+-]*")
_MOST_WORDS = 6


@dataclass(frozen=True)
class FailedTrial:
    """One trial that failed, or whose state or records are damaged.

    Attributes:
        name: that of its folder.
        trial: its hash, or the start of it; empty where nothing tells.
        cause: one line.
        traceback: None where there is none.
    """

    name: str
    trial: str
    cause: str | None
    traceback: str | None = None

    def is_of(self, trial: str) -> bool:
        """Return whether it is the trial of a hash."""
        return bool(self.trial) and trial.startswith(self.trial)


@dataclass(frozen=True)
class FailureGroup:
    """Trials that failed of one cause.

    Attributes:
        cause: of the first of them, one line; the others' differs in numbers at most.
        trials: names of their folders.
        hashes: their hashes, in the same order.
        traceback: Of the first that has one; None if the workers exited without an error message.
        words: The first few words of the cause that no other group's cause has; empty for the only group.
    """

    cause: str
    trials: tuple[str, ...]
    hashes: tuple[str, ...]
    traceback: str | None
    words: str

    @property
    def count(self) -> int:
        """Return how many they are."""
        return len(self.trials)

    def has(self, words: str | None) -> bool:
        """Return whether the cause has these words in it, in any case; None is in every cause."""
        return words is None or _holds(self.cause, words)


def grouped(failed: Iterable[FailedTrial]) -> tuple[FailureGroup, ...]:
    """Return the failed trials by cause, the most frequent cause first."""
    kinds: dict[str, list[FailedTrial]] = {}
    for trial in failed:
        kinds.setdefault(_kind(trial.cause or UNKNOWN_CAUSE), []).append(trial)
    most_first = sorted(kinds.items(), key=lambda item: -len(item[1]))
    return tuple(
        FailureGroup(
            cause=trials[0].cause or UNKNOWN_CAUSE,
            trials=tuple(trial.name for trial in trials),
            hashes=tuple(trial.trial for trial in trials),
            traceback=next((trial.traceback for trial in trials if trial.traceback), None),
            words=_telling(kind, [other for other in kinds if other != kind]),
        )
        for kind, trials in most_first
    )


def failure_groups(folders: Iterable[TrialFolder]) -> tuple[FailureGroup, ...]:
    """Return the failed trials of a sweep by cause, the most frequent cause first."""
    failed = [(folder.name, folder.state) for folder in folders if folder.stage == "failed"]
    return grouped(FailedTrial(name, state.trial, state.error, state.traceback) for name, state in failed if state)


def counted_causes(causes: Iterable[str]) -> dict[str, int]:
    """Return how often each cause occurs, the most frequent first."""
    return {group.cause: group.count for group in grouped(FailedTrial("", "", cause) for cause in causes)}


def retry_command(sweep: Mapping[str, Any], folder: str, words: str = "") -> str | None:
    """Return the command that runs failed trials again, and only them.

    None for a guided search, which has counted them.

    Args:
        sweep: content of ``sweep.json``.
        folder: the output folder.
        words: of the cause; empty for all failed trials.
    """
    if is_guided(sweep):
        return None
    return shlex.join(["fairsweep", "retry-failed", folder, *(["--cause", words] if words else [])])


def more_settings_command(folder: str) -> str:
    """Return the command by which a search tries more settings."""
    return shlex.join(["fairsweep", "extend", folder, "--trials", "N"])


def more_seeds_command(folder: str, seeds: int) -> str:
    """Return the command by which a sweep gets so many seeds in all."""
    return shlex.join(["fairsweep", "extend", folder, "--seeds", str(seeds)])


def is_guided(sweep: Mapping[str, Any]) -> bool:
    """Return whether settings depend on the results of others: only such a search has objectives.

    Args:
        sweep: content of ``sweep.json``.
    """
    return bool(objectives_of(sweep))


def objectives_of(sweep: Mapping[str, Any]) -> str:
    """Return the objectives of a guided search in words, ``highest accuracy``; empty for other sweeps.

    Args:
        sweep: content of ``sweep.json``.
    """
    listed = ((sweep.get("sweep") or {}).get("search") or {}).get("objectives") or ()
    pairs = [(aim, of) for one in listed for aim, of in one.items() if of]
    return " and ".join(f"{'highest' if aim == 'max' else 'lowest'} {of}" for aim, of in pairs)


def _telling(kind: str, others: list[str]) -> str:
    """Return the first few words of a cause that no other one has; empty where there is no other."""
    if not others:
        return ""
    words = kind.split("#", maxsplit=1)[0].replace('"', " ").split()
    for count in range(1, _MOST_WORDS + 1):
        start = " ".join(words[:count]).rstrip(":")
        if start and not any(_holds(other, start) for other in others):
            return start
    return " ".join(words)


def _holds(cause: str, words: str) -> bool:
    return " ".join(words.lower().split()) in " ".join(cause.lower().split())


def _kind(cause: str) -> str:
    """Return a cause with its numbers left out."""
    return " ".join(_NUMBER.sub("#", cause).split())
