"""Durable checkpoints of one trial: tensors and JSON values with a checksum; at least one valid one is on disk.

A checkpoint is two files, ``<iteration>.pt`` (the state) and ``<iteration>.json`` (its size and SHA-256). The second is
written last, so a checkpoint that lacks it, or whose bytes differ, was cut short and counts as absent. Which one is the
newest is read off the folder and from nowhere else; an older one is deleted only after the newer is on the disk. Where
several stay, the one with the best validation score is among them; a budget in bytes lets fewer stay, never none.

There is no generator state in a checkpoint: all randomness is a function of keys and of the step.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fairsweep.analysis.records.checksums import with_zip_checksum
from fairsweep.analysis.records.files import read_json, remove_temporary, write_json, write_whole, written_together
from fairsweep.trainables.learning.tensor_bytes import State, decode, encode
from fairsweep.trainables.trial.trial_files import checkpoint_files, clear_checkpoints


@dataclass(frozen=True)
class Checkpoint:
    """A state and the number of iterations that were done when it was taken."""

    iteration: int
    state: dict[str, Any]


@dataclass(frozen=True)
class CheckpointPolicy:
    """When a trial writes records and a checkpoint, and which checkpoints it keeps.

    Attributes:
        every: iterations between two checkpoints, at least.
        seconds: seconds between two checkpoints, at least: a kill costs no more than that, and iterations of a few
            milliseconds do not spend most of their time on writing.
        keep: how many stay on disk while the trial runs: the newest and, from 2 on, the best on the validation split.
        keep_final_weights: whether the trained model's weights stay when the trial is done.
        budget_bytes: how much checkpoints may take together; None for no limit. The newest always stays.
    """

    every: int = 1
    seconds: float = 2.0
    keep: int = 1
    keep_final_weights: bool = True
    budget_bytes: int | None = None


class CheckpointFolder:
    """The checkpoints of one trial.

    Args:
        folder: where they are; made with the first save.
        keep: how many stay, at least 1: the newest; from 2 on also the one with the best score, where scores are
            given; then the next newest.
        budget_bytes: how much they may take together; None for no limit. The newest stays even where it alone is more.
        owned: makes the context in which files are written or deleted; it may raise to refuse (a stale worker must not
            touch the files of its successor).
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 1,
        budget_bytes: int | None = None,
        owned: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        if keep < 1:
            raise ValueError(f"at least one checkpoint must be kept, but got {keep=}")
        self.folder = folder
        self._keep = keep
        self._budget = budget_bytes
        self._owned = owned
        self.damaged: list[str] = []

    def save(self, iteration: int, state: State, score: float | None = None) -> None:
        """Write a checkpoint durably, then delete those that need not stay.

        Args:
            iteration: iterations done.
            state: nested dicts, lists and tuples of tensors, strings, numbers, booleans and None.
            score: on the validation split, higher is better; None where there is none.

        Raises:
            TypeError: if the state holds anything else (it could not be loaded without running code).
            OSError: if it cannot be written, for example because the disk is full; what was there is untouched.
        """
        content = encode(state)
        with self._owned():
            self.folder.mkdir(exist_ok=True)
            checksum = {"iteration": iteration, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            with written_together():
                write_whole(self._state_path(iteration), lambda file: file.write(content))
                write_json(self._checksum_path(iteration), checksum | {"score": score})
            _flush_folder(self.folder)
            self.delete_superseded()

    def delete_superseded(self) -> None:
        """Delete what need not stay, and what a kill left half written."""
        kept = set(self._staying())
        for path in checkpoint_files(self.folder):
            if int(path.stem) not in kept:
                path.unlink(missing_ok=True)
        remove_temporary(self.folder)

    def _staying(self) -> list[int]:
        """Return the iterations whose checkpoints stay, the most important first."""
        newest_first = self.iterations()
        if len(newest_first) <= 1:
            return newest_first
        order = newest_first
        scores = {iteration: self._score(iteration) for iteration in newest_first} if self._keep > 1 else {}
        scored = [iteration for iteration, score in scores.items() if score is not None]
        if scored:
            # Of equal ones the earliest, as in the selection of predictions.
            best = max(scored, key=lambda iteration: (scores[iteration] or 0.0, -iteration))
            order = list(dict.fromkeys([newest_first[0], best, *newest_first]))
        order = order[: self._keep]
        while self._budget is not None and len(order) > 1 and sum(map(self._bytes, order)) > self._budget:
            order.pop()
        return order

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint whose checksum holds.

        None if there is none. Those that are damaged are `damaged`.
        """
        self.damaged = []
        for iteration in self.iterations():
            content = self._valid_content(iteration)
            if content is not None:
                return Checkpoint(iteration, decode(content))
            self.damaged.append(self._state_path(iteration).name)
        return None

    def iterations(self) -> list[int]:
        """Return the iterations with a checkpoint, newest first; checksums are not verified."""
        if not self.folder.is_dir():
            return []
        numbers = [int(path.stem) for path in checkpoint_files(self.folder) if path.suffix == ".json"]
        return sorted((number for number in numbers if self._state_path(number).is_file()), reverse=True)

    def clear(self) -> None:
        """Delete every checkpoint and the folder."""
        if not self.folder.is_dir():
            return
        with self._owned():
            clear_checkpoints(self.folder)

    def _score(self, iteration: int) -> float | None:
        try:
            score = read_json(self._checksum_path(iteration)).get("score")
        except (OSError, ValueError):
            return None
        return float(score) if isinstance(score, int | float) else None

    def _bytes(self, iteration: int) -> int:
        return self._state_path(iteration).stat().st_size + self._checksum_path(iteration).stat().st_size

    def _valid_content(self, iteration: int) -> bytes | None:
        try:
            checksum = read_json(self._checksum_path(iteration))
            content = self._state_path(iteration).read_bytes()
        except (OSError, ValueError):
            return None
        if len(content) != checksum.get("bytes") or hashlib.sha256(content).hexdigest() != checksum.get("sha256"):
            return None
        return content

    def _state_path(self, iteration: int) -> Path:
        return self.folder / f"{iteration:06d}.pt"

    def _checksum_path(self, iteration: int) -> Path:
        return self.folder / f"{iteration:06d}.json"


def save_weights(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a model's weights whole, with a checksum; ``torch.load(path, weights_only=True)`` reads them."""
    content = with_zip_checksum(encode({name: tensor.detach().cpu() for name, tensor in weights.items()}))
    write_whole(path, lambda file: file.write(content))


def _flush_folder(folder: Path) -> None:
    """Make renames in a folder durable: until then a power cut may undo them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
