"""The resident feed: one decoded, memory-mapped copy of a dataset for each machine, shared by all its trials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.feeds.copy_checksums import ChecksumWriter
from fairsweep.datasets.feeds.feed import Batch, step_range
from fairsweep.datasets.feeds.machine_copy import COPIES, cache_root, open_copy
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.datasets.storage.prepared import PreparedDataset


class RowArray(Protocol):
    """What is indexed by rows: an array, or what computes one."""

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return an array of its own for rows, int64 [B] in [-N, N)."""
        ...


class ResidentFeed:
    """Gives batches by indexing a memory-mapped array: the page cache is shared by all processes of the machine.

    Args:
        ids: int64 [N], the ids of the dataset's rows.
        images: The image of each row, or what stands for it.
    """

    def __init__(self, ids: NDArray[np.int64], images: RowArray) -> None:
        self._ids = ids
        self._images: RowArray | None = images

    @classmethod
    def open(cls, dataset: PreparedDataset, cache_dir: str | Path | None = None) -> ResidentFeed:
        """Open the machine's copy of a dataset, and builds it where there is none.

        Args:
            dataset: The dataset.
            cache_dir: Folder of copies; None takes `cache_root()`.

        Returns:
            The feed.

        Raises:
            DatasetError: An image does not match its hash, or the copy cannot be written.
        """
        root = cache_root() if cache_dir is None else Path(cache_dir)
        return cls(dataset.ids, _open_copy(dataset, root / COPIES))

    def batches(
        self, rows: NDArray[np.int64], sampler: Sampler, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Give the batches of steps [start, stop); see `Feed.batches`."""
        for step in step_range(sampler, start, stop):
            positions = sampler.positions(step)
            taken = rows[positions]
            yield Batch(step, positions, taken, self._ids[taken], self.images(taken))

    def images(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the images of rows as uint8 [B, H, W, C], a copy of their own.

        Raises:
            ValueError: The feed is closed.
            IndexError: A row is not in [0, N).
        """
        if self._images is None:
            raise ValueError("this feed is closed: open a new one with ResidentFeed.open(dataset)")
        if len(rows) and int(rows.min()) < 0:
            raise IndexError(f"rows must be in [0, {len(self._ids)}), but got {int(rows.min())}")
        return np.ascontiguousarray(self._images[rows])

    def close(self) -> None:
        """Lets go of the memory map; may be called twice."""
        self._images = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_copy(dataset: PreparedDataset, folder: Path) -> NDArray[np.uint8]:
    """Return the memory map of the machine's decoded copy, building it where there is none."""

    def write(file: ChecksumWriter) -> None:
        for number in range(len(dataset.info.shards)):
            file.write(np.ascontiguousarray(dataset.shard_images(number)).data)

    name, shape = f"a decoded copy of {dataset.info.name!r}", (len(dataset), *dataset.info.image_shape)
    return open_copy(folder / f"{dataset.info.content_hash}.npy", shape, np.dtype(np.uint8), write, name)
