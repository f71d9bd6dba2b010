"""The stream feed: batches of a dataset that is larger than memory or stored elsewhere.

Ray Data reads the shards, several at a time, and keeps of each the rows that training wants. What fits the feed's
memory is read once and kept. What does not is read in passes: steps are cut into windows whose images fit a buffer;
each pass over the shards fills one window in memory and, where the disk has room, sorts the images of the windows after
it into a scratch file. Batches are those of the resident feed, id for id and pixel for pixel, from any step on.

Reading an epoch of E bytes of images takes ceil(E / (window + scratch)) passes over the shards.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fairsweep.datasets.feeds.feed import Batch, step_range
from fairsweep.datasets.feeds.image_cache import ImageCache
from fairsweep.datasets.feeds.machine_copy import cache_root
from fairsweep.datasets.feeds.schedule import plan_passes, plan_requests, plan_windows
from fairsweep.datasets.feeds.windows import Gauge, Images, WindowStream
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.datasets.storage.reading import PIECE_BYTES, Piece, StreamError, check_ray, spread


class StreamLimits(BaseModel):
    """What a stream feed may use of its machine. Changes speed, never a batch.

    Of `memory_bytes` one half keeps images that are asked for again (the training set if it fits, evaluation sets),
    three eighths are two windows of images, and one eighth is room in Ray's object store for images on their way.

    Attributes:
        memory_bytes: Memory for images.
        scratch_bytes: Disk for images that wait for their turn; 0 reads the shards anew for every window.
        scratch_dir: Folder for them; None takes a folder of the cache (`FAIRSWEEP_CACHE`).
        readers: Tasks that read at once; None leaves it to Ray.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_bytes: int = Field(default=2**30, ge=1)
    scratch_bytes: int = Field(default=8 * 2**30, ge=0)
    scratch_dir: Path | None = None
    readers: int | None = Field(default=None, ge=1)


@dataclass(frozen=True)
class StreamUsage:
    """What a stream feed has used so far.

    Attributes:
        peak_memory_bytes: The most memory that buffers of images took at any time, those given out aside.
        peak_scratch_bytes: The most disk that waiting images took at any time.
        passes: How often it went over the shards.
        shards: How many shards it read, each counted once a pass.
        images: How many images it took from them.
    """

    peak_memory_bytes: int
    peak_scratch_bytes: int
    passes: int
    shards: int
    images: int


@dataclass
class _Run:
    """A run of batches that goes on beyond what was asked for.

    Attributes:
        rows: The training set.
        sampler: Who joins which step.
        step: The step of the next batch.
        batches: The batches from there on.
    """

    rows: NDArray[np.int64]
    sampler: Sampler
    step: int
    batches: Generator[Batch, None, None]

    def goes_on(self, rows: NDArray[np.int64], sampler: Sampler, step: int) -> bool:
        """Whether the next batch is that of a step of a sampler on some rows."""
        return self.step == step and self.sampler is sampler and np.array_equal(self.rows, rows)


class StreamFeed:
    """Gives batches and images that Ray Data reads from shards, within a fixed amount of memory.

    Needs a running Ray in which at least one whole CPU stays outside trials; see `feed_choice` for what that means for
    a sweep. One thread at a time may ask for batches or images.
    """

    def __init__(self, dataset: PreparedDataset, limits: StreamLimits, again: NDArray[np.int64] | None = None) -> None:
        self._info = dataset.info
        self._ids = dataset.ids
        self._location = dataset.location
        self._limits = limits
        self._image_bytes = int(np.prod(dataset.info.image_shape))
        self._scratch_dir = limits.scratch_dir or cache_root() / "stream"
        self._held = ImageCache(len(dataset), self._image_bytes, limits.memory_bytes // 2 // self._image_bytes)
        # Rows that room is kept for until they are kept themselves.
        self._expected = np.zeros(len(dataset), dtype=bool)
        if again is not None:
            self._expected[again] = True
        self._verified = np.zeros(len(dataset.info.shards), dtype=bool)
        self._streams: set[WindowStream] = set()
        self._waiting: _Run | None = None
        self._closed = False
        self._memory, self._scratch = Gauge(), Gauge()
        # Passes, shards, images; `images` may be called while the thread of a window stream reads.
        self._counts = (0, 0, 0)
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, dataset: PreparedDataset, limits: StreamLimits | None = None, again: NDArray[np.int64] | None = None
    ) -> StreamFeed:
        """Open a feed on a dataset that every worker of the running Ray can read.

        Args:
            dataset: The dataset, on any file system.
            limits: What the feed may use.
            again: Rows that will be asked for again and again, int64 (evaluation sets): the first time they are read
                they are kept as far as there is memory, and a training set takes only what they leave of it.

        Raises:
            StreamError: Ray is not running, or no CPU is left to read with.
        """
        check_ray()
        return cls(dataset, limits or StreamLimits(), again)

    @property
    def usage(self) -> StreamUsage:
        """What the feed has used so far."""
        return StreamUsage(self._memory.peak, self._scratch.peak, *self._counts)

    def batches(
        self, rows: NDArray[np.int64], sampler: Sampler, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Give the batches of steps [start, stop); see `Feed.batches`.

        Raises:
            ValueError: The feed is closed, or the steps are not the sampler's.
            IndexError: A row is not in [0, N).
            DatasetError: A shard is damaged or cannot be read.
            StreamError: Ray cannot read, or there is no room on the disk.
        """
        steps = step_range(sampler, start, stop)
        self._check(rows)
        if not steps:
            return
        if self._keep(rows):
            for step in steps:
                positions = sampler.positions(step)
                yield self._batch(step, positions, rows[positions], self.images(rows[positions]))
        else:
            yield from self._read_ahead(rows, sampler, steps)

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of rows as uint8 [B, H, W, C], a copy of their own; see `batches` for what it raises."""
        self._check(rows)
        if self._keep(rows):
            return self._shaped(self._held.gather(rows))
        missing = self._held.missing(rows)
        found = np.empty((len(missing), self._image_bytes), np.uint8)
        self._read_into(missing, found)
        place = np.minimum(np.searchsorted(missing, rows), len(missing) - 1)
        images = found[place]
        held = missing[place] != rows
        images[held] = self._held.gather(rows[held])
        return self._shaped(images)

    def close(self) -> None:
        """Stop reading, lets go of memory and files; may be called twice."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.batches.close()
            self._waiting = None
        for stream in list(self._streams):
            stream.close()
        self._held.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_ahead(self, rows: NDArray[np.int64], sampler: Sampler, steps: range) -> Iterator[Batch]:
        """Give the batches of a training set that does not fit into memory.

        What was read ahead for the steps after the last call serves this one, if it goes on where that one ended.
        """
        run, self._waiting = self._waiting, None
        if run is not None and not run.goes_on(rows, sampler, steps.start):
            run.batches.close()
            run = None
        if run is None:
            run = _Run(rows, sampler, steps.start, self._windows(rows, sampler, steps))
        try:
            yield from islice(run.batches, len(steps))
            run.step = steps.stop
            # A feed that is closed meanwhile must not look like the end of the run.
            self._check_open()
            if run.step < sampler.steps and self._waiting is None:
                self._waiting = run
        finally:
            if self._waiting is not run:
                run.batches.close()

    def _windows(self, rows: NDArray[np.int64], sampler: Sampler, steps: range) -> Generator[Batch, None, None]:
        """Give the batches from a step to the sampler's last; no pass spans more steps than are asked for."""
        capacity = max(1, self._limits.memory_bytes * 3 // 16 // self._image_bytes)
        spill = self._spill()
        parts = (
            range(begin, min(begin + len(steps), sampler.steps))
            for begin in range(steps.start, sampler.steps, len(steps))
        )
        stream = WindowStream(
            (part for some in parts for part in plan_passes(plan_windows(rows, sampler, some, capacity), spill)),
            lambda part: self._read([window.rows for window in part.windows]),
            image_bytes=self._image_bytes,
            capacity=capacity,
            scratch_dir=self._scratch_dir,
            memory=self._memory,
            scratch=self._scratch,
        )
        self._streams.add(stream)
        try:
            for window, images in stream:
                for step, positions in enumerate(window.positions, window.first):
                    taken = rows[positions]
                    yield self._batch(step, positions, taken, images[np.searchsorted(window.rows, taken)])
        finally:
            stream.close()
            self._streams.discard(stream)

    def _keep(self, rows: NDArray[np.int64]) -> bool:
        """Take rows into memory for good, if there is room for all of them."""
        missing = self._held.missing(rows)
        room = self._held.free
        if not self._expected[missing].all():
            room -= int(self._expected.sum()) - int(self._expected[missing].sum())
        if len(missing) > room:
            return False
        if len(missing):
            self._read_into(missing, self._held.reserve(len(missing)))
            self._held.keep(missing)
            self._expected[missing] = False
            self._memory.add(len(missing) * self._image_bytes)
        return True

    def _read_into(self, rows: NDArray[np.int64], images: Images) -> None:
        """Read the images of some rows (ascending) into their places."""
        received = 0
        with closing(self._read([rows])) as pieces:
            for slots, piece in pieces:
                images[slots] = piece
                received += len(slots)
        if received != len(rows):
            raise DatasetError(f"the shards gave {received} of {len(rows)} images: were they replaced?")

    def _read(self, row_sets: Sequence[NDArray[np.int64]]) -> Generator[Piece, None, None]:
        """Goes once over the shards that hold any of the rows."""
        requests = plan_requests(row_sets, self._info.shards, self._verified)
        yield from spread(
            self._location,
            requests,
            self._info.image_shape,
            readers=self._limits.readers,
            store_bytes=max(self._limits.memory_bytes // 8, 2 * PIECE_BYTES),
        )
        with self._lock:
            # Images are compared with their hash the first time only: it costs as much as reading them.
            self._verified[[request.number for request in requests]] = True
            passes, shards, images = self._counts
            self._counts = (passes + 1, shards + len(requests), images + sum(len(r.picks) for r in requests))

    def _spill(self) -> int:
        """How many images may wait on the disk: half of what is free at most, other trials need room too."""
        if not self._limits.scratch_bytes:
            return 0
        try:
            self._scratch_dir.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._scratch_dir).free
        except OSError as error:
            raise StreamError(
                f"cannot use {self._scratch_dir} for waiting images ({error}): choose another folder "
                "(scratch_dir), or none (scratch_bytes 0)"
            ) from error
        return min(self._limits.scratch_bytes, free // 2) // self._image_bytes

    def _batch(self, step: int, positions: NDArray[np.int64], rows: NDArray[np.int64], images: Images) -> Batch:
        return Batch(step, positions, rows, self._ids[rows], self._shaped(images))

    def _shaped(self, images: Images) -> NDArray[np.uint8]:
        return images.reshape(len(images), *self._info.image_shape)

    def _check(self, rows: NDArray[np.int64]) -> None:
        self._check_open()
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self._ids):
            raise IndexError(f"rows must be in [0, {len(self._ids)}), but got {int(rows.min())} to {int(rows.max())}")

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this feed is closed: open a new one with StreamFeed.open(dataset)")
