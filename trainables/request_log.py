"""The log of requests for deletion: append-only, with keyed hashes of ids under a key that erasure throws away.

While the key is there, whoever holds it can tell whether an id was deleted; without it the hashes say nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOG = "requests.jsonl"
_KEY = "requests.key"
_KEY_BYTES = 32


class RequestLog:
    """The log of one trial.

    Args:
        folder: The trial's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _LOG
        self._key_path = folder / _KEY

    def entries(self) -> list[dict[str, Any]]:
        """Returns all entries; a line that a crash cut short is left out."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def append(self, event: str, number: int, **content: Any) -> None:  # noqa: ANN401 - JSON values
        """Adds an entry durably.

        Args:
            event: ``asked``, ``done`` or ``erased``.
            number: Of the request, from 1.
            content: Further JSON values.
        """
        entry = {"event": event, "number": number, "time": round(time.time(), 3), **content}
        # A line that was cut short must not swallow this one.
        text = ("" if self._ends_well() else "\n") + json.dumps(entry, allow_nan=False) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def hashes(self, ids: NDArray[np.int64]) -> list[str]:
        """Returns the keyed hash of each id, 32 hexadecimal digits; the key is made with the first."""
        key = self._key()
        return [
            hashlib.blake2b(example.to_bytes(8, "little", signed=True), key=key, digest_size=16).hexdigest()
            for example in ids.tolist()
        ]

    def throw_key_away(self) -> None:
        """Overwrites and deletes the key: the hashes so far cannot be traced to ids any more."""
        if not self._key_path.exists():
            return
        with self._key_path.open("r+b") as file:
            file.write(bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        self._key_path.unlink()

    def _key(self) -> bytes:
        try:
            stored = self._key_path.read_bytes()
        except FileNotFoundError:
            stored = b""
        if len(stored) == _KEY_BYTES:
            return stored
        key = os.urandom(_KEY_BYTES)
        descriptor = os.open(self._key_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return key

    def _ends_well(self) -> bool:
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return True
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except FileNotFoundError:
            return True
