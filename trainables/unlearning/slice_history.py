"""The history of each slice: its remaining examples and number of trainings, from which its name follows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.learning.learner_config import IDENTITY
from fairsweep.trainables.unlearning.placement import Placement
from fairsweep.trainables.unlearning.shards import SliceJob
from fairsweep.trainables.unlearning.sisa_config import SisaConfig

_NAME_BYTES = 16


def recipe_of(config: SisaConfig, task: LearningTask) -> str:
    """Return what a slice's weights are a function of, beside its examples and the weights before."""
    keys = (task.keys.train, task.keys.init, task.keys.order)
    key = hashlib.blake2b(b"".join(key for key in keys if key is not None), digest_size=16).hexdigest()
    content = [config.inner.model_dump(mode="json", context=IDENTITY), task.model.record(), task.classes]
    return json.dumps([*content, list(task.image_shape), key], sort_keys=True)


class SliceHistory:
    """The frozen map, who has been deleted since, and the names that follow.

    Args:
        placement: The map.
        ids: int64 [n], in the order of the task.
        recipe: Everything else that the weights are a function of, as text: configs, keys, shapes.
        nominal: Whether deleted examples keep their places (a private inner learner), so that sampling rates stay.

    Attributes:
        placement: The map.
        alive: bool [n], who is left.
        runs: int64 [S, R], how often each slice has been trained again.
    """

    def __init__(self, placement: Placement, ids: NDArray[np.int64], recipe: str, *, nominal: bool) -> None:
        self.placement = placement
        self.alive = np.ones(len(ids), dtype=bool)
        self.runs = np.zeros((placement.shards, placement.slices), dtype=np.int64)
        self._ids = ids
        self._recipe = recipe.encode()
        self._nominal = nominal
        # Within a slice the order is that of the ids, so that it depends on nobody else.
        self._members = [
            [
                held[np.argsort(ids[held], kind="stable")]
                for held in (
                    np.flatnonzero((placement.shard == shard) & (placement.slice == part))
                    for part in range(placement.slices)
                )
            ]
            for shard in range(placement.shards)
        ]

    def members(self, shard: int, part: int) -> NDArray[np.int64]:
        """Return the positions of a slice's examples that are left, int64, by ascending id."""
        held = self._members[shard][part]
        return held[self.alive[held]]

    def sizes(self) -> NDArray[np.int64]:
        """Return the number of examples left in slices 1 to r of each shard, int64 [S, R]."""
        s, r = self.placement.shards, self.placement.slices
        left = [[len(self.members(shard, part)) for part in range(r)] for shard in range(s)]
        return np.cumsum(np.array(left, dtype=np.int64), axis=1)

    def delete(self, positions: NDArray[np.int64]) -> dict[int, int]:
        """Delete examples; those deleted before make no difference.

        Args:
            positions: int64 [k].

        Returns:
            For each shard that loses any, the first slice that does: it and all later ones are to be trained again.
        """
        gone = positions[self.alive[positions]]
        self.alive[gone] = False
        affected: dict[int, int] = {}
        for shard in np.unique(self.placement.shard[gone]).tolist():
            first = int(self.placement.slice[gone[self.placement.shard[gone] == shard]].min())
            affected[shard] = first
            self.runs[shard, first:] += 1
        return affected

    def chain(self, shard: int) -> tuple[SliceJob, ...]:
        """Return all slices of a shard as jobs, each with the name that its history gives it."""
        name = b""
        jobs: list[SliceJob] = []
        union = np.empty(0, dtype=np.int64)
        for part, held in enumerate(self._members[shard]):
            kept = held[self.alive[held]]
            union = np.concatenate([union, held if self._nominal else kept])
            absent = np.flatnonzero(~self.alive[union]).astype(np.int64)
            digest = hashlib.blake2b(name or self._recipe, digest_size=_NAME_BYTES)
            for number in (shard, part, len(held) if self._nominal else 0):
                digest.update(number.to_bytes(8, "little"))
            if self._nominal:
                digest.update(int(self.runs[shard, part]).to_bytes(8, "little"))
            digest.update(self._ids[kept].astype("<i8").tobytes())
            name = digest.digest()
            run = int(self.runs[shard, part]) if self._nominal else 0
            jobs.append(SliceJob(f"{shard:03d}-{part:03d}-{name.hex()}", shard, part, union, absent, run))
        return tuple(jobs)

    def state(self) -> dict[str, Any]:
        """Return who has been deleted and how often slices were trained again; tensors only."""
        return {
            "deleted": torch.from_numpy(self._ids[~self.alive].copy()),
            "runs": torch.from_numpy(self.runs.copy()),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state.

        Raises:
            ValueError: If its ids or shape are not those of this map.
        """
        deleted = state["deleted"].numpy()
        if tuple(state["runs"].shape) != self.runs.shape or not np.isin(deleted, self._ids).all():
            raise ValueError("state must be of the same training set, shards and slices, but it is of others")
        self.alive = ~np.isin(self._ids, deleted)
        self.runs = state["runs"].numpy().copy()
