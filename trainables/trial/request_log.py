"""The log of deletion requests: append-only, with keyed hashes of ids under a key that erasure destroys.

While the key is there, whoever holds it can tell whether an id was deleted; without it the hashes say nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsweep.analysis.disclosure.columns import check_columns, without_private
from fairsweep.analysis.records.checksums import CHECKSUM, ChecksumError, check_line, with_line_checksum
from fairsweep.analysis.records.files import RecordError
from fairsweep.trainables.privacy.privacy_statement import Mode
from fairsweep.trainables.trial.key_file import stored_key

REQUEST_LOG = "requests.jsonl"
REQUEST_KEY = "requests.key"
_START = b'{"event"'


class RequestLog:
    """The log of one trial.

    Args:
        folder: The trial's folder.
        mode: ``research`` or ``release``, which records no time.
    """

    def __init__(self, folder: Path, mode: Mode = "research") -> None:
        self._mode = mode
        self._path = folder / REQUEST_LOG
        self._key_path = folder / REQUEST_KEY

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries; a line that a crash cut short is left out.

        Raises:
            RecordError: If a line is damaged.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        lines = content.removesuffix(b"\n").split(b"\n") if content else []
        return [entry for number, line in enumerate(lines, 1) if (entry := self._entry(number, line)) is not None]

    def _entry(self, number: int, line: bytes) -> dict[str, Any] | None:
        """Return the entry in a line; None for one that was cut short."""
        try:
            has_checksum = check_line(line)
            if not line or not (line.startswith(_START) or _START.startswith(line)):
                raise ChecksumError("it is not the beginning of an entry")
        except ChecksumError as error:
            lost = '{"event": "lost", "number": 0}'
            raise RecordError(
                f"line {number} of {self._path} is damaged: {error}; put the file back from a copy, or write {lost} in "
                "place of the line (deletions stay in effect, and the number of lines matters)"
            ) from error
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            return None
        if has_checksum:
            del entry[CHECKSUM]
        return entry

    def append(self, event: str, number: int, **content: Any) -> None:  # noqa: ANN401 - JSON values
        """Add an entry durably.

        Args:
            event: ``asked``, ``done`` or ``erased``.
            number: Of the request, from 1.
            content: Further JSON values.
        """
        _append(self._path, self._line(event, number, content))

    def write_with(self, path: Path, event: str, number: int, **content: Any) -> None:  # noqa: ANN401 - JSON values
        """Write the log with one more entry to a new file, which takes its place together with other changes.

        Args:
            path: The new file; must not exist.
            event: As in `append`.
            number: As in `append`.
            content: As in `append`.
        """
        before = self._path.read_bytes() if self._path.exists() else b""
        _append(path, before + self._line(event, number, content))

    def find_unfinished(self, ids: NDArray[np.int64]) -> int | None:
        """Return the position of the last entry if it asks for just these ids: the request was cut short."""
        entries = self.entries()
        if not entries or entries[-1]["event"] != "asked" or not self._key_path.exists():
            return None
        return len(entries) - 1 if entries[-1].get("ids") == self.hashes(ids) else None

    def hashes(self, ids: NDArray[np.int64]) -> list[str]:
        """Return the keyed hash of each id, 32 hexadecimal digits; the key is made with the first."""
        key = self._key()
        return [
            hashlib.blake2b(example.to_bytes(8, "little", signed=True), key=key, digest_size=16).hexdigest()
            for example in ids.tolist()
        ]

    def _key(self) -> bytes:
        return stored_key(self._key_path, f"put it back from a copy, or delete it: nothing but {REQUEST_LOG} uses it")

    def _line(self, event: str, number: int, content: dict[str, Any]) -> bytes:
        entry = _standard({"event": event, "number": number, "time": round(time.time(), 3), **content})
        check_columns(REQUEST_LOG, entry)
        if self._mode == "release":
            entry = without_private(REQUEST_LOG, entry)
        # A line that was cut short must not swallow this one.
        return (b"" if self._ends_well() else b"\n") + with_line_checksum(json.dumps(entry, allow_nan=False)) + b"\n"

    def _ends_well(self) -> bool:
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return True
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except FileNotFoundError:
            return True


def _standard(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value with null in the place of NaN: a release does not record times."""
    if isinstance(value, dict):
        return {name: _standard(item) for name, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _append(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
