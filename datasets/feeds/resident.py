"""The resident feed: one decoded, memory-mapped copy of a dataset for each machine, shared by all its trials.

The copy is built once under a file lock and renamed into place when whole, so eight trials that start together build it
once, and a crash leaves nothing that looks complete. It ends with checksums, which each process checks when it opens a
copy for the first time (2 to 3 GB a second and processor): a damaged copy is made anew.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from types import TracebackType
from typing import Self

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fairsweep.datasets.feeds.copy_checksums import ChecksumWriter, is_whole
from fairsweep.datasets.feeds.eviction import evict, mark_used
from fairsweep.datasets.feeds.feed import Batch, step_range
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.datasets.storage.writing import replaced

CACHE_VARIABLE = "FAIRSWEEP_CACHE"


def cache_root() -> Path:
    """Return the folder of resident copies: `FAIRSWEEP_CACHE` from the environment, or ~/.cache/fairsweep.

    Where the home folder cannot be written to, as that of a container's user, it is one among the temporary files that
    belongs to this user alone.
    """
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    own = Path.home() / ".cache" / "fairsweep"
    try:
        own.mkdir(parents=True, exist_ok=True)
        return own if os.access(own, os.W_OK) else _temporary_root() or own
    except OSError:
        return _temporary_root() or own


def _temporary_root() -> Path | None:
    """Return a folder among the temporary files; None where somebody else has taken its name."""
    folder = Path(tempfile.gettempdir()) / f"fairsweep-cache-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    return folder if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() else None


class ResidentFeed:
    """Gives batches by indexing a memory-mapped array: the page cache is shared by all processes of the machine."""

    def __init__(self, ids: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        self._ids = ids
        self._images: NDArray[np.uint8] | None = images

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
        return cls(dataset.ids, _open_copy(dataset, root / "resident"))

    def batches(
        self, rows: NDArray[np.int64], sampler: Sampler, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Give the batches of steps [start, stop); see `Feed.batches`."""
        for step in step_range(sampler, start, stop):
            positions = sampler.positions(step)
            taken = rows[positions]
            yield Batch(step, positions, taken, self._ids[taken], self.images(taken))

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
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
    """Return the memory map of the machine's copy, building it under a lock if it is missing or cut short."""
    path = folder / f"{dataset.info.content_hash}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        images = _map(dataset, path)
        if images is None:
            with FileLock(path.with_suffix(".lock")):
                # Another process may have built it while this one waited.
                images = _map(dataset, path)
                if images is None:
                    _build(dataset, path)
                    images = _map(dataset, path)
    except OSError as error:
        raise DatasetError(
            f"cannot keep a decoded copy of {dataset.info.name!r} in {folder}: {error}; "
            f"set {CACHE_VARIABLE} to a folder with space for {_copy_bytes(dataset) / 1e6:.0f} MB"
        ) from error
    if images is None:
        raise DatasetError(f"the copy {path} vanished while it was opened: is another program clearing {folder}?")
    return images


def _map(dataset: PreparedDataset, path: Path) -> NDArray[np.uint8] | None:
    """Map a copy, or returns None where there is none or it does not have the stated shape."""
    shape = (len(dataset), *dataset.info.image_shape)
    if not path.is_file():
        return None
    if 0 in shape:
        return np.empty(shape, np.uint8)
    try:
        with path.open("rb") as file:
            if not mark_used(file, path):
                return None
            np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0(file)
            if header != (shape, False, np.dtype(np.uint8)) or not is_whole(file, path):
                return None
            # From the opened file and not from its path, so that the map keeps the mark.
            return np.memmap(file, np.uint8, "r", offset=file.tell(), shape=shape)
    except (ValueError, EOFError, SyntaxError, TokenError):
        return None


def _build(dataset: PreparedDataset, path: Path) -> None:
    """Decode all shards into a file under a temporary name, then renames it. The caller holds the lock."""
    evict(path.parent, _copy_bytes(dataset))
    with replaced(path) as temporary, temporary.open("wb") as opened:
        file = ChecksumWriter(opened)
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(dataset), *dataset.info.image_shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for number in range(len(dataset.info.shards)):
            file.write(np.ascontiguousarray(dataset.shard_images(number)).data)
        file.finish()


def _copy_bytes(dataset: PreparedDataset) -> int:
    height, width, channels = dataset.info.image_shape
    return len(dataset) * height * width * channels
