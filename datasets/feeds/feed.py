"""The interface of a feed: batches for one training run, and images by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.selection.sampling import Sampler


@dataclass(frozen=True)
class Batch:
    """The examples of one step.

    Attributes:
        step: The step's number.
        positions: int64 [B], indices into the training set.
        rows: int64 [B], rows of the dataset.
        ids: int64 [B].
        images: uint8 [B, H, W, C] in [0, 255]; of a feed of features float32 [B, …].
    """

    step: int
    positions: NDArray[np.int64]
    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    images: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)


class Feed(Protocol):
    """Gives images. Every feed gives the same batches, id for id and pixel for pixel, from the same plan."""

    def batches(
        self, rows: NDArray[np.int64], sampler: Sampler, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Give the batches of steps [start, stop), in order; a step that draws nobody gives an empty batch.

        Args:
            rows: int64 [n], the training set's rows; the sampler's positions are indices into it.
            sampler: Who joins which step.
            start: First step.
            stop: Step to stop before; None goes on to the sampler's last.
        """
        ...

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of rows (int64 [B], any order) as uint8 [B, H, W, C], a copy of their own."""
        ...

    def close(self) -> None:
        """Lets go of files and memory; the feed gives nothing afterwards. May be called twice."""
        ...

    def __enter__(self) -> Self:
        """Return the feed."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the feed."""
        ...


def step_range(sampler: Sampler, start: int, stop: int | None) -> range:
    """Return the steps [start, stop) of a sampler.

    Raises:
        ValueError: The range is not within [0, sampler.steps].
    """
    end = sampler.steps if stop is None else stop
    if not 0 <= start <= end <= sampler.steps:
        raise ValueError(f"steps must satisfy 0 <= start <= stop <= {sampler.steps}, but got {start=}, {stop=}")
    return range(start, end)
