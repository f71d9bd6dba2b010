"""The examples that each client of a cohort sees in each local step of a round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.selection.partitions import Partition
from fairsweep.datasets.selection.randomness import generator
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.trainables.federated.fedavg_config import LocalConfig


@dataclass(frozen=True)
class CohortExamples:
    """A feed's sampler whose step r draws all training examples of the clients that join round r.

    Attributes:
        cohorts: Who joins which round.
        partition: What each client trains on.
    """

    cohorts: Sampler
    partition: Partition

    @property
    def steps(self) -> int:
        """Number of rounds."""
        return self.cohorts.steps

    def positions(self, step: int) -> NDArray[np.int64]:
        """Return the positions of a round's examples, int64, client by client in the cohort's order."""
        return examples_of(self.partition, self.cohorts.positions(step))


def examples_of(partition: Partition, clients: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of some clients' examples, int64, client by client."""
    if not len(clients):
        return np.empty(0, dtype=np.int64)
    return np.concatenate([partition.client(client) for client in clients.tolist()])


@dataclass(frozen=True)
class Schedule:
    """The local steps of some clients, in one table.

    Attributes:
        clients: int64 [C], ordered so that those with more steps come first.
        steps: int64 [C], number of local steps, descending.
        table: int64 [C, T, B], the place of each example among the round's examples; -1 where a batch is shorter or a
            client is done.
    """

    clients: NDArray[np.int64]
    steps: NDArray[np.int64]
    table: NDArray[np.int64]

    def part(self, start: int, stop: int) -> Schedule:
        """Return the schedule of some of the clients, without empty columns."""
        steps = self.steps[start:stop]
        return Schedule(self.clients[start:stop], steps, self.table[start:stop, : steps.max(initial=0)])


def schedule(
    partition: Partition, clients: NDArray[np.int64], local: LocalConfig, key: bytes, round_number: int
) -> Schedule:
    """Plans the local steps of a cohort.

    A client's order follows from the key, the round and the client's examples: who else joins changes nothing about it.

    Args:
        partition: What each client trains on.
        clients: int64 [C], distinct.
        local: How clients train.
        key: 32 bytes, public: the trial's key of the order.
        round_number: In [0, rounds).
    """
    sizes = partition.sizes[clients]
    batch = int(sizes.max(initial=1)) if local.batch_size is None else local.batch_size
    batch = min(batch, int(sizes.max(initial=1)))
    per_pass = -(-sizes // (sizes if local.batch_size is None else local.batch_size))
    steps = per_pass * local.epochs if local.steps is None else np.full(len(clients), local.steps)
    positions = examples_of(partition, clients)
    owners = np.repeat(np.arange(len(clients)), sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    table = np.full((len(clients), int(steps.max(initial=0)), batch), -1, dtype=np.int64)
    width = sizes if local.batch_size is None else np.full(len(clients), local.batch_size)
    for epoch in range(int((-(-steps // per_pass)).max(initial=0))):
        # A number for every example of the training set, not of the cohort.
        drawn = generator(key, "local order", round_number, epoch).random(len(partition.order))
        order = np.lexsort((drawn[_places(partition, clients, sizes)], owners))
        rank = np.arange(len(positions)) - starts[owners]
        step = epoch * per_pass[owners] + rank // width[owners]
        due = step < steps[owners]
        table[owners[due], step[due], (rank % width[owners])[due]] = order[due]
    longest_first = np.argsort(-steps, kind="stable")
    return Schedule(clients[longest_first], steps[longest_first], table[longest_first])


def _places(partition: Partition, clients: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the clients' examples stand in the partition's own list."""
    starts = partition.offsets[clients]
    ends = np.cumsum(sizes)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
    places: NDArray[np.int64] = np.repeat(starts, sizes) + within
    return places
