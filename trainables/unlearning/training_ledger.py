"""Which trainings of slices a private learner is charged for: each is written down before its first step.

A training that is repeated under the same secret repeats its own steps and noise, and is charged once. Under another
secret, as after the secret or a checkpoint was lost, its noise is fresh: one more training, and one more charge.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsweep.analysis.records.checksums import CHECKSUM, ChecksumError, check_line, with_line_checksum
from fairsweep.analysis.records.files import RecordError
from fairsweep.datasets.selection.randomness import fingerprint
from fairsweep.trainables.learning.learner import TrialKeys
from fairsweep.trainables.unlearning.shards import SliceJob

TRAININGS = "trainings.jsonl"
_TRACES = re.compile(rb'"training": "([0-9a-f]{32})".*"checksum": "(crc32:[0-9a-f]{8})"')


class TrainingLedger:
    """The trainings of the slices of one trial.

    Args:
        shards: S.
        slices: R.
        folder: The trial's folder; None keeps the ledger in memory, as a part of the learner's state.

    Raises:
        RecordError: If a line of the file is damaged.
    """

    def __init__(self, shards: int, slices: int, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / TRAININGS
        self._shape = shards, slices
        self._lines: dict[str, dict[str, Any]] = {}
        if self._path is not None:
            self._take(_read(self._path))

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been written down."""
        return not self._lines

    def charge(self, jobs: Iterable[SliceJob], keys: TrialKeys) -> None:
        """Write down trainings that begin now, durably, but for those that repeat one which is there."""
        self._add(
            {
                "training": blake2b(f"{job.name} {keys.run}".encode(), key=keys.secret, digest_size=16).hexdigest(),
                "secret": fingerprint(keys.secret),
                "shard": job.shard + 1,
                "slice": job.slice + 1,
            }
            for job in jobs
        )

    def assume(self, counts: NDArray[np.int64]) -> None:
        """Take over how often each slice was trained, int64 [S, R], from records of a version without a ledger."""
        self._add(
            {"training": f"before {shard}-{part}-{number}", "secret": "", "shard": shard + 1, "slice": part + 1}
            for (shard, part), count in np.ndenumerate(counts)
            for number in range(int(count))
        )

    def top_up(self, counts: NDArray[np.int64]) -> None:
        """Charge trainings that were planned, int64 [S, R], as far as they are not charged yet."""
        self._add(
            {"training": f"planned {shard}-{part}-{number}", "secret": "", "shard": shard + 1, "slice": part + 1}
            for (shard, part), lacking in np.ndenumerate(counts - self.counts())
            for number in range(int(lacking))
        )

    def counts(self) -> NDArray[np.int64]:
        """Return how many trainings of each slice are charged, int64 [S, R]."""
        found = np.zeros(self._shape, dtype=np.int64)
        for line in self._lines.values():
            found[line["shard"] - 1, line["slice"] - 1] += 1
        return found

    def unknown(self, secrets: Collection[str]) -> int:
        """Return how many of some secrets, by their fingerprints, no training is written down for."""
        return len(set(secrets) - {line["secret"] for line in self._lines.values()})

    def state(self) -> list[dict[str, Any]]:
        """Return what a checkpoint has to hold: nothing where there is a file."""
        return list(self._lines.values()) if self._path is None else []

    def load(self, state: Iterable[dict[str, Any]]) -> None:
        """Take over a state; what the file has beyond it stays charged."""
        self._add(state)

    def _add(self, lines: Iterable[dict[str, Any]]) -> None:
        new = {line["training"]: line for line in lines if line["training"] not in self._lines}
        if new and self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = b"".join(with_line_checksum(json.dumps(line)) + b"\n" for line in new.values())
            _append(self._path, text)
        self._take(new.values())

    def _take(self, lines: Iterable[dict[str, Any]]) -> None:
        self._lines.update((line["training"], line) for line in lines)


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a ledger; one that a crash cut short is of a training that had not begun."""
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            if check_line(line):
                entry: dict[str, Any] = json.loads(line)
                del entry[CHECKSUM]  # it is of the bytes of this line, not of what is written anew
                found.append(entry)
            elif (line and not line.startswith(b"{")) or line.endswith(b"}"):
                raise ChecksumError("it has no checksum")
        except ValueError as error:
            raise RecordError(
                f"line {number} of {path}, which says what the trial's privacy has cost, is damaged: {error}; "
                "put the file back from a copy"
            ) from error
    return found


def _append(path: Path, content: bytes) -> None:
    """Add lines durably, after an end of line where a crash has cut one short."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            content = b"\n" + content
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def without_contents(folder: Path) -> bytes:
    """Return a trial's ledger with as many trainings of each slice, but nothing that follows from their examples."""
    lines = (line | {"training": f"erased {os.urandom(8).hex()}"} for line in _read(folder / TRAININGS))
    return b"".join(with_line_checksum(json.dumps(line)) + b"\n" for line in lines)


def traces_of_contents(folder: Path) -> frozenset[str]:
    """Return what in a trial's ledger follows from the examples of slices: hashes, and checksums of lines with them."""
    try:
        content = (folder / TRAININGS).read_bytes()
    except FileNotFoundError:
        return frozenset()
    return frozenset(trace.decode() for line in _TRACES.findall(content) for trace in line)
