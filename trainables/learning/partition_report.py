"""Summary of a partition: sizes of clients and their composition by group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsweep.analysis.records.cell_records import group_column
from fairsweep.datasets.selection.partitions import Partition, majority_values
from fairsweep.trainables.learning.learner import LearningTask

# Of more clients only the first are listed one by one.
_LISTED = 500


def describe_partition(partition: Partition, task: LearningTask) -> dict[str, Any]:
    """Describe a partition in JSON values, for ``data.json``.

    Args:
        partition: Who holds which examples.
        task: The training set.

    Returns:
        ``count``; ``examples`` (least, median and most of a client); ``majority``: for each group attribute the number
        of clients by the value that most of their examples have; ``listed``: for the label and each group attribute the
        counts of each of the first clients by value, and the values' codes.
    """
    sizes = partition.sizes
    groups = {group_column(name): np.asarray(codes) for name, codes in task.groups.items()}
    columns = {"label": np.asarray(task.labels), **groups}
    return {
        "count": len(partition),
        "examples": {"least": int(sizes.min()), "median": float(np.median(sizes)), "most": int(sizes.max())},
        "majority": {name: _majorities(partition, np.asarray(codes)) for name, codes in task.groups.items()},
        "listed": {name: _composition(partition, codes) for name, codes in columns.items()},
    }


def _majorities(partition: Partition, codes: NDArray[np.integer]) -> dict[str, list[int]]:
    values, counts = np.unique(majority_values(partition, codes), return_counts=True)
    return {"values": values.tolist(), "clients": counts.tolist()}


def _composition(partition: Partition, codes: NDArray[np.integer]) -> dict[str, list[Any]]:
    values, index = np.unique(codes, return_inverse=True)
    owners = partition.owners()
    listed = owners < _LISTED
    counts = np.zeros((min(len(partition), _LISTED), len(values)), dtype=np.int64)
    np.add.at(counts, (owners[listed], index.reshape(-1)[listed]), 1)
    return {"values": values.tolist(), "counts": counts.tolist()}
