"""Checkpoints of slices: each named by what it was trained on, with its checksum and cost.

A name is a hash of everything that the weights are a function of: the recipe, the checkpoint before, the examples. So a
checkpoint is never out of date: what has another history has another name, and what is missing or damaged is trained
again from the last one that is there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from fairsweep.analysis.records.files import read_json, remove_temporary, write_json, write_whole
from fairsweep.trainables.learning.tensor_bytes import decode, encode

Weights = dict[str, torch.Tensor]
_SCORES = "canary scores"  # beside the weights, among which none is called so


@dataclass(frozen=True)
class SliceCost:
    """What training one slice cost.

    Attributes:
        examples: Examples seen, with repetition.
        steps: Optimiser steps.
        seconds: Wall-clock time of the training alone; NaN in release mode, for it tells who took part.
        bytes: Size of the checkpoint.
        loss: Mean training loss of the last epoch; NaN in release mode and where nothing was seen.
    """

    examples: int = 0
    steps: int = 0
    seconds: float = 0.0
    bytes: int = 0
    loss: float = math.nan


@dataclass(frozen=True)
class TrainedSlice:
    """A slice as trained.

    Attributes:
        name: Its content address.
        weights: The model's ``state_dict`` afterwards, on the CPU; never changed in place.
        cost: What it cost.
        scores: Of an audited training, what it revealed of each canary in the slice, float64; else None.
    """

    name: str
    weights: Weights
    cost: SliceCost
    scores: torch.Tensor | None = None


class SliceStore(Protocol):
    """Keeps checkpoints of slices by name."""

    def put(self, trained: TrainedSlice) -> TrainedSlice:
        """Keep a checkpoint durably; returns it with its size."""
        ...

    def get(self, name: str) -> TrainedSlice | None:
        """Return a checkpoint; None if it is missing or damaged."""
        ...

    def cost(self, name: str) -> SliceCost | None:
        """Return what a checkpoint cost, without reading its weights."""
        ...

    def others(self, names: Collection[str]) -> list[Path]:
        """Return the files that belong to no checkpoint of these names."""
        ...

    def keep(self, names: Collection[str]) -> None:
        """Delete all others."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint of the trial has to hold for the store to be as it is."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state."""
        ...


class MemoryStore:
    """Checkpoints in memory; they are part of the learner's state."""

    def __init__(self) -> None:
        self._kept: dict[str, TrainedSlice] = {}

    def put(self, trained: TrainedSlice) -> TrainedSlice:
        """Keep a checkpoint."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in trained.weights.values())
        self._kept[trained.name] = replace(trained, cost=replace(trained.cost, bytes=size))
        return self._kept[trained.name]

    def get(self, name: str) -> TrainedSlice | None:
        """Return a checkpoint, or None."""
        return self._kept.get(name)

    def cost(self, name: str) -> SliceCost | None:
        """Return what a checkpoint cost."""
        return self._kept[name].cost if name in self._kept else None

    def others(self, names: Collection[str]) -> list[Path]:
        """Return nothing: there are no files."""
        return []

    def keep(self, names: Collection[str]) -> None:
        """Delete all others."""
        self._kept = {name: trained for name, trained in self._kept.items() if name in names}

    def state(self) -> dict[str, Any]:
        """Return all checkpoints."""
        return {
            name: {
                "weights": dict(t.weights),
                "cost": asdict(t.cost),
                **({} if t.scores is None else {_SCORES: t.scores}),
            }
            for name, t in self._kept.items()
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over checkpoints."""
        self._kept = {
            name: TrainedSlice(name, dict(kept["weights"]), SliceCost(**kept["cost"]), kept.get(_SCORES))
            for name, kept in state.items()
        }


class FolderStore:
    """Checkpoints as files: ``NAME.pt`` and ``NAME.json`` (size, SHA-256, cost), the second written last.

    Args:
        folder: Where they are; made with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, trained: TrainedSlice) -> TrainedSlice:
        """Write a checkpoint whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = encode(trained.weights if trained.scores is None else {**trained.weights, _SCORES: trained.scores})
        sized = replace(trained, cost=replace(trained.cost, bytes=len(content)))
        write_whole(self._weights(trained.name), lambda file: file.write(content))
        checksum = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "cost": asdict(sized.cost)}
        write_json(self._checksum(trained.name), checksum)
        return sized

    def get(self, name: str) -> TrainedSlice | None:
        """Read a checkpoint; None if it is missing, or its bytes are not those that were written."""
        cost = self.cost(name)
        if cost is None:
            return None
        try:
            content = self._weights(name).read_bytes()
            expected = read_json(self._checksum(name)).get("sha256")
        except (OSError, ValueError):
            return None
        if hashlib.sha256(content).hexdigest() != expected:
            return None
        weights = decode(content)
        scores = weights.pop(_SCORES, None)
        return TrainedSlice(name, weights, cost, scores)

    def cost(self, name: str) -> SliceCost | None:
        """Read what a checkpoint cost; None if it is missing."""
        try:
            stored = read_json(self._checksum(name))["cost"]
            numbers = {n: math.nan if stored[n] is None else float(stored[n]) for n in ("seconds", "loss")}
            return SliceCost(**{**stored, **numbers}) if self._weights(name).is_file() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def others(self, names: Collection[str]) -> list[Path]:
        """Return the files of no checkpoint of these names; checksums first, for a part of a pair is no checkpoint."""
        found = sorted(self.folder.iterdir(), key=lambda path: path.suffix != ".json") if self.folder.is_dir() else []
        # Also copies under other names, for they may know what is forgotten; not what a drive hides there.
        return [path for path in found if not path.name.startswith(".") and path.name.partition(".")[0] not in names]

    def keep(self, names: Collection[str]) -> None:
        """Delete all others, and what a kill left half written."""
        for path in self.others(names):
            path.unlink(missing_ok=True)
        remove_temporary(self.folder)

    def state(self) -> dict[str, Any]:
        """Return nothing: the files are the state."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over checkpoints that a state without a folder carried."""
        memory = MemoryStore()
        memory.load(state)
        for name in state:
            if self.cost(name) is None and (kept := memory.get(name)) is not None:
                self.put(kept)

    def _weights(self, name: str) -> Path:
        return self.folder / f"{name}.pt"

    def _checksum(self, name: str) -> Path:
        return self.folder / f"{name}.json"
