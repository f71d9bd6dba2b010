"""Fairness between clients: accuracy of the federated model per client, and whose updates are clipped.

Exact functions of private data: research mode records them, release mode never computes them. Clients are grouped by
the value that most of their examples have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fairsweep.datasets.selection.partitions import Partition, majority_values
from fairsweep.trainables.federated.local_training import CohortSums
from fairsweep.trainables.learning.iteration_report import ClientDiagnostic
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.models.network import Network

_IMAGES_AT_ONCE = 4096
ALL = ""


@dataclass(frozen=True)
class ClientGroups:
    """The groups of clients that are reported: all of them first, then each value of each attribute.

    Attributes:
        names: (attribute, code) of each group; ("", -1) stands for all clients.
        members: bool [G, N].
    """

    names: tuple[tuple[str, int], ...]
    members: NDArray[np.bool_]

    @classmethod
    def of(cls, partition: Partition, task: LearningTask) -> ClientGroups:
        """Group clients by the value that most of their examples have, for every group attribute of the task."""
        names, members = [(ALL, -1)], [np.ones(len(partition), dtype=np.bool_)]
        for attribute, codes in task.groups.items():
            majority = majority_values(partition, np.asarray(codes))
            for value in np.unique(codes).tolist():
                names.append((attribute, int(value)))
                members.append(majority == value)
        return cls(tuple(names), np.stack(members))

    def as_floats(self) -> torch.Tensor:
        """Return the members as float32 [G, N]."""
        return torch.from_numpy(self.members.astype(np.float32))


class ClientFairness:
    """Measures each group of clients over an iteration's rounds.

    Args:
        task: The training set.
        groups: The groups of clients.
        held_out: The examples on which each client's own accuracy is measured.
    """

    def __init__(self, task: LearningTask, groups: ClientGroups, held_out: Partition) -> None:
        self._task, self._groups, self._held_out = task, groups, held_out
        self._labels = np.asarray(task.labels)[held_out.order]
        self.restart()

    def restart(self) -> None:
        """Forgets what was measured: a new iteration begins."""
        self._clients: list[NDArray[np.int64]] = []
        self._norms: list[NDArray[np.float64]] = []
        self._clipped: list[NDArray[np.bool_]] = []
        self._cosines: list[NDArray[np.float64]] = []

    def count(self, sums: CohortSums, update_P: torch.Tensor) -> None:
        """Take up one round.

        Args:
            sums: What its clients did.
            update_P: The noised mean update that the server got.
        """
        self._clients.append(sums.clients)
        self._norms.append(sums.norms)
        self._clipped.append(sums.clipped)
        by_group = sums.by_group.double()
        update = update_P.double()
        # 0/0 is NaN, as it should be: nobody of the group joined.
        cosines = (by_group @ update) / (torch.linalg.vector_norm(by_group, dim=1) * torch.linalg.vector_norm(update))
        self._cosines.append(cosines.cpu().numpy())

    def report(self, network: Network) -> tuple[ClientDiagnostic, ...]:
        """Return what was measured since the last restart, with the accuracies of the network as it is now."""
        accuracies = self.accuracies(network)
        clients = np.concatenate(self._clients) if self._clients else np.empty(0, np.int64)
        norms = np.concatenate(self._norms) if self._norms else np.empty(0)
        clipped = np.concatenate(self._clipped) if self._clipped else np.empty(0, np.bool_)
        cosines = _defined_mean(self._cosines, len(self._groups.names))
        report = []
        for index, (attribute, value) in enumerate(self._groups.names):
            members = self._groups.members[index]
            measured = accuracies[members & ~np.isnan(accuracies)]
            joined = members[clients]
            report.append(
                ClientDiagnostic(
                    attribute=attribute,
                    value=value,
                    clients=len(measured),
                    accuracy_mean=_mean(measured),
                    accuracy_variance=float(measured.var()) if len(measured) else math.nan,
                    accuracy_worst_decile=_mean(np.sort(measured)[: math.ceil(len(measured) / 10)]),
                    updates=int(joined.sum()),
                    mean_update_norm=_mean(norms[joined]),
                    clipped_share=_mean(clipped[joined]),
                    cosine=float(cosines[index]),
                )
            )
        return tuple(report)

    def accuracies(self, network: Network) -> NDArray[np.float64]:
        """Return each client's accuracy on its held-out examples, float64 [N]; NaN for a client without any."""
        held_out = self._held_out
        right = np.zeros(len(held_out.order))
        for start in range(0, len(right), _IMAGES_AT_ONCE):
            part = slice(start, start + _IMAGES_AT_ONCE)
            logits = network.predict(self._task.feed.images(self._task.rows[held_out.order[part]]))
            right[part] = logits.argmax(dim=1).numpy() == self._labels[part]
        counts = held_out.sizes
        hits = np.bincount(np.repeat(np.arange(len(counts)), counts), weights=right, minlength=len(counts))
        shares: NDArray[np.float64] = np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)
        return shares


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _defined_mean(measured: Sequence[NDArray[np.float64]], groups: int) -> NDArray[np.float64]:
    """Averages over the rounds in which a group has a cosine; NaN if there is none."""
    stacked = np.stack(measured) if measured else np.full((1, groups), np.nan)
    defined = ~np.isnan(stacked)
    counts = defined.sum(axis=0)
    sums = np.where(defined, stacked, 0.0).sum(axis=0)
    mean: NDArray[np.float64] = np.divide(sums, counts, out=np.full(groups, np.nan), where=counts > 0)
    return mean
