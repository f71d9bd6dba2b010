"""Canaries in the shards of a private learner: where each is trained on, and what all trainings reveal of it.

One audit looks at all shards at once. Shards share no example and no secret: to turn one canary's coin changes the
trainings of its own shard alone, and the other shards do not depend on it. So all shards together are as private for
that canary as its own shard is (parallel composition; McSherry 2009, "Privacy integrated queries", doi
10.1145/1559845.1559850, theorem 4), and nothing more is asked by the bounds of one run: that the whole output is
private for each coin by itself (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, theorem 5.2). What is tested is the
claim of the dearest slice of the dearest shard; a canary of a later slice takes part in fewer trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsweep.analysis.records.file_names import AUDIT
from fairsweep.analysis.records.learner_records import audit_table, read_audit, write_audit
from fairsweep.trainables.auditing.canaries import Canaries, ShardedAuditConfig
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.unlearning.known_examples import Population
from fairsweep.trainables.unlearning.shards import ShardWork, SliceJob
from fairsweep.trainables.unlearning.slice_store import SliceStore


@dataclass(frozen=True, eq=False)
class ShardCanaries:
    """The canaries of a training set that is divided into shards.

    Attributes:
        canaries: Their positions in the population, and their coins: one coin each, for all trainings of its shard.
        ids: int64 [m], the id of each.
        groups: The group of each, by name; None where canaries are not drawn by groups.
    """

    canaries: Canaries
    ids: NDArray[np.int64]
    groups: tuple[str, ...] | None

    @classmethod
    def of(cls, config: ShardedAuditConfig | None, task: LearningTask, population: Population) -> Self | None:
        """Draw the canaries of a trial, or take them from its record, for who is left of them keeps its coin.

        Args:
            config: The audit; None, or one without canaries, has none.
            task: What is learnt from, in research mode.
            population: The training set.

        Raises:
            ValueError: In release mode, or as `Canaries.draw`.
        """
        if config is None or config.canaries is None:
            return None
        if not task.diagnostics:
            raise ValueError("an audit records what canaries reveal, so it needs mode: research: leave audit out")
        codes = None if config.by is None else np.asarray(task.groups[config.by], np.int64)
        recorded = None if task.folder is None else task.folder / AUDIT
        if recorded is not None and recorded.exists():
            canaries = _recorded(read_audit(recorded), population)
        else:
            canaries = Canaries.draw(config.canaries, population.ids, codes, task.keys.data, task.keys.secret)
        if codes is None or config.by is None:
            return cls(canaries, population.ids[canaries.positions], None)
        names = population.attribute(config.by)[1]
        groups = tuple(names[code] for code in codes[canaries.positions].tolist())
        return cls(canaries, population.ids[canaries.positions], groups)

    def placed(self, work: ShardWork) -> ShardWork:
        """Return work whose jobs know their canaries."""
        return replace(work, jobs=tuple(replace(job, canaries=self.inside(job)) for job in work.jobs))

    def inside(self, job: SliceJob) -> Canaries:
        """Return the canaries that a slice is trained on, by their positions in it; none that was deleted."""
        places = np.flatnonzero(np.isin(job.positions, self.canaries.positions))
        places = np.setdiff1d(places, job.absent)
        return Canaries(places, self.canaries.coins[self._numbers(job.positions[places])])

    def files(
        self, jobs: Sequence[SliceJob], store: SliceStore, alive: NDArray[np.bool_]
    ) -> dict[str, Callable[[Path], None]]:
        """Return what writes ``audit.parquet``: a canary's score is the sum over the slices of the current models.

        Args:
            jobs: These slices.
            store: Where they are, with the scores of the canaries in them.
            alive: bool [n], who of the population has not been deleted; who has been is left out.
        """
        total = np.zeros(len(self.canaries.positions))
        for job in jobs:
            kept = store.get(job.name)
            if kept is not None and kept.scores is not None:
                total[self._numbers(job.positions[self.inside(job).positions])] += kept.scores.numpy()
        left = np.flatnonzero(alive[self.canaries.positions])
        groups = None if self.groups is None else [self.groups[number] for number in left.tolist()]
        table = audit_table(self.ids[left], self.canaries.coins[left], total[left], groups)
        return {AUDIT: lambda path: write_audit(path, table)}

    def _numbers(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.canaries.positions, positions).astype(np.int64)


def _recorded(table: pa.Table, population: Population) -> Canaries:
    positions = population.positions(table.column("unit").to_numpy())
    order = np.argsort(positions)
    return Canaries(positions[order], table.column("included").to_numpy(zero_copy_only=False)[order])
