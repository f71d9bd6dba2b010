"""The read schedule of a stream: rows are assigned to steps, steps to windows, windows to passes.

A *window* is a run of consecutive steps; the images of all rows that join any of them are in memory together. A *pass*
reads each shard once, for one window or for several: all but the first of them wait on the disk. Reading everything
takes one pass for each (window + disk) of images, wherever the steps begin.

References:
    Chua et al. 2024, arXiv 2411.04205, section 4 (Poisson batches at scale: sample the steps of each example, then
    group by step).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.datasets.storage.layout import ShardInfo
from fairsweep.datasets.storage.reading import ShardRequest

# A window also ends when it lists this many times as many positions as it may hold images: rows drawn again and again
# take no room as images, but their positions do.
_POSITIONS_PER_IMAGE = 8


@dataclass(frozen=True)
class Window:
    """Consecutive steps.

    Attributes:
        first: Number of the first step.
        positions: For each step int64 [B], who joins it.
        rows: int64 [U], ascending: the rows of the dataset that join any of the steps.
    """

    first: int
    positions: tuple[NDArray[np.int64], ...]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Pass:
    """Consecutive windows whose images are read together.

    Attributes:
        windows: The windows. Image k of window w has slot `offsets[w] + k`.
        offsets: int64 [len(windows) + 1].
    """

    windows: tuple[Window, ...]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Pass:
        """Make the pass of some windows."""
        sizes = [len(window.rows) for window in windows]
        return cls(tuple(windows), np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64))


def plan_windows(rows: NDArray[np.int64], sampler: Sampler, steps: Iterable[int], capacity: int) -> Iterator[Window]:
    """Cuts steps into windows, each as long as it can be.

    Args:
        rows: int64 [n], the training set's rows.
        sampler: Who joins which step.
        steps: Consecutive steps.
        capacity: Images that a window may need, >= 1. A step that needs more by itself gets a window of its own.

    Returns:
        Windows that hold every step once, in order; drawn as they are asked for.
    """
    joined = np.zeros(len(rows), dtype=bool)
    count = listed = first = 0
    positions: list[NDArray[np.int64]] = []

    def window() -> Window:
        return Window(first, tuple(positions), np.unique(rows[joined]))

    for step in steps:
        drawn = sampler.positions(step)
        # Where small groups are dealt more than once in a step, this counts too many of them, which is safe.
        new = int((~joined[drawn]).sum())
        full = count + new > capacity or listed + len(drawn) + 1 > capacity * _POSITIONS_PER_IMAGE
        if positions and full:
            yield window()
            joined[:] = False
            positions, count, listed, new = [], 0, 0, len(drawn)
        if not positions:
            first = step
        joined[drawn] = True
        positions.append(drawn)
        count += new
        listed += len(drawn) + 1
    if positions:
        yield window()


def plan_passes(windows: Iterable[Window], spill: int) -> Iterator[Pass]:
    """Group windows into passes.

    Args:
        windows: The windows, in order.
        spill: Images that may wait on the disk, >= 0: those of all windows of a pass but its first.
    """
    group: list[Window] = []
    waiting = 0
    for window in windows:
        if group and waiting + len(window.rows) > spill:
            yield Pass.of(group)
            group, waiting = [], 0
        elif group:
            waiting += len(window.rows)
        group.append(window)
    if group:
        yield Pass.of(group)


def plan_requests(
    row_sets: Sequence[NDArray[np.int64]], shards: Sequence[ShardInfo], verified: NDArray[np.bool_]
) -> list[ShardRequest]:
    """Says what to read of which shard.

    Args:
        row_sets: Sets of rows, each ascending. Slots count through all of them, one set after the other.
        shards: All shards, in order.
        verified: bool [len(shards)], whose images have been compared with their hash before.

    Returns:
        One request for each shard that holds any of the rows.
    """
    ends = np.cumsum([shard.rows for shard in shards], dtype=np.int64)
    # Rows are sorted by shard, so what a set wants of a shard is one slice of it.
    cuts = [np.concatenate([[0], np.searchsorted(rows, ends)]) for rows in row_sets]
    offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in row_sets], dtype=np.int64)])
    wanted = np.sum([np.diff(cut) for cut in cuts], axis=0, dtype=np.int64)
    requests = []
    for number in np.flatnonzero(wanted).tolist():
        begin = ends[number] - shards[number].rows
        slices = [slice(cut[number], cut[number + 1]) for cut in cuts]
        picks = [rows[part] - begin for rows, part in zip(row_sets, slices, strict=True)]
        slots = [np.arange(part.start, part.stop) + offset for part, offset in zip(slices, offsets[:-1], strict=True)]
        requests.append(
            ShardRequest(
                number=number,
                shard=shards[number],
                verify=not verified[number],
                picks=np.concatenate(picks).astype(np.int32),
                slots=np.concatenate(slots).astype(np.int64),
            )
        )
    return requests
