"""The journal of a tracker: what has been sent, appended line by line, so that a crash costs the last line at most."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sent:
    """How far a trial has been sent.

    Attributes:
        iteration: the last iteration that was sent.
        state: its state then.
        attempt: its attempt then.
    """

    iteration: int = 0
    state: str = ""
    attempt: int = 0


class Journal:
    """The journal of one tracker.

    Args:
        path: its file; made with the first sending.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sent: dict[str, Sent] = {}
        text = path.read_text(errors="replace") if path.exists() else ""
        for line in text.splitlines():
            try:
                content = json.loads(line)
                trial = content.pop("trial")
                self._sent[trial] = Sent(**content)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # a line that a crash cut short
        # What follows must not be glued to such a line.
        self._start = "" if not text or text.endswith("\n") else "\n"

    def __getitem__(self, trial: str) -> Sent:
        return self._sent.get(trial, Sent())

    def note(self, trial: str, sent: Sent) -> None:
        """Take note of a sending. Raises: OSError if it cannot be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(self._start + json.dumps({"trial": trial, **asdict(sent)}) + "\n")
        self._start = ""
        self._sent[trial] = sent
