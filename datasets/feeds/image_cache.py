"""In-memory cache of a stream: small sets of rows that are requested repeatedly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class ImageCache:
    """Keeps the images of rows, first come first served, until it is full. Nothing is ever thrown out.

    Args:
        rows: Number of rows of the dataset.
        image_bytes: Size of an image.
        capacity: Images that may be kept.
    """

    def __init__(self, rows: int, image_bytes: int, capacity: int) -> None:
        self._slot = np.full(rows, -1, np.int64)
        # Memory is taken as it is written to, not here.
        self._images = np.empty((min(capacity, rows), image_bytes), np.uint8)
        self._used = 0

    @property
    def free(self) -> int:
        """How many more images may be kept."""
        return len(self._images) - self._used

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of some rows that are not kept, ascending, each once."""
        return np.unique(rows[self._slot[rows] < 0])

    def reserve(self, count: int) -> NDArray[np.uint8]:
        """Return room for more images, uint8 [count, H * W * C], to be filled and then named to `keep`."""
        return self._images[self._used : self._used + count]

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Says of which rows the images are that the reserved room has been filled with.

        Args:
            rows: int64 [count], in the order of the room; none of them kept before.
        """
        self._slot[rows] = np.arange(self._used, self._used + len(rows))
        self._used += len(rows)

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of rows that are all kept, uint8 [B, H * W * C], a copy of their own."""
        return self._images[self._slot[rows]]

    def clear(self) -> None:
        """Lets go of all images."""
        self._slot[:] = -1
        self._images = self._images[:0].copy()
        self._used = 0
