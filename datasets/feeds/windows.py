"""Prefetching of image windows ahead of training, within a fixed amount of memory.

A thread goes through the passes of a schedule. Of each pass the first window's images go straight into memory, those
of later windows into a file, which is read back window by window. Two buffers alternate: one is consumed while the
other is filled.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.feeds.schedule import Pass, Window
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.reading import Piece, StreamError

_BUFFERS = 2
# How long `close` waits for a read that is under way.
_CLOSE_SECONDS = 60

Images = NDArray[np.uint8]
"""uint8 [U, H * W * C], one row an image."""

ReadPass = Callable[[Pass], Generator[Piece, None, None]]
"""Reads the images of a pass: every slot once, in any order, in pieces of any size."""


class Gauge:
    """Adds up bytes that are in use and remembers the peak. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self._peak = 0

    @property
    def peak(self) -> int:
        """The most bytes in use at any time."""
        return self._peak

    def add(self, count: int) -> None:
        """Count bytes in, or out where the number is negative."""
        with self._lock:
            self._now += count
            self._peak = max(self._peak, self._now)


class _StoppedError(Exception):
    """The consumer went away."""


class WindowStream:
    """Gives each window of a schedule with its images, in order, and reads ahead meanwhile.

    Args:
        passes: The schedule.
        read: Reads a pass; called in the stream's own thread.
        image_bytes: Size of an image.
        capacity: Images of a buffer; a larger window gets a buffer of its own.
        scratch_dir: Folder where images wait on the disk, in a file without a name: nothing is left after a crash.
        memory: Counts the bytes of buffers.
        scratch: Counts the bytes on the disk.
    """

    def __init__(
        self,
        passes: Iterator[Pass],
        read: ReadPass,
        *,
        image_bytes: int,
        capacity: int,
        scratch_dir: Path,
        memory: Gauge,
        scratch: Gauge,
    ) -> None:
        self._passes = passes
        self._read = read
        self._image_bytes = image_bytes
        self._capacity = capacity
        self._scratch_dir = scratch_dir
        self._memory = memory
        self._scratch = scratch
        self._allocated = 0
        self._stop = threading.Event()
        self._filled: SimpleQueue[tuple[Window, Images] | Exception | None] = SimpleQueue()
        # Empty ones stand for buffers that are made when they are first needed.
        self._free: SimpleQueue[Images] = SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(np.empty((0, image_bytes), np.uint8))
        self._thread = threading.Thread(target=self._run, name="fairsweep-stream", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Window, Images]]:
        """Give the windows; images stay as they are until the next window is asked for.

        Raises:
            DatasetError: A shard is damaged or cannot be read.
            StreamError: Ray cannot read, or there is no room on the disk.
        """
        while not self._stop.is_set():
            item = self._filled.get()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            window, buffer = item
            yield window, buffer[: len(window.rows)]
            self._free.put(buffer)

    def close(self) -> None:
        """Stop reading ahead and lets go of buffers and files; may be called twice."""
        self._stop.set()
        # Wakes whoever waits: the thread for a buffer, or a consumer in another thread for a window.
        self._free.put(np.empty((0, self._image_bytes), np.uint8))
        self._filled.put(None)
        self._thread.join(_CLOSE_SECONDS)
        self._memory.add(-self._allocated)
        self._allocated = 0

    def _run(self) -> None:
        try:
            for part in self._passes:
                self._fill(part)
            self._filled.put(None)
        except _StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - handed to the consumer, whatever it is
            self._filled.put(error)

    def _fill(self, part: Pass) -> None:
        """Read a pass and hands out its windows."""
        first = self._buffer(len(part.windows[0].rows))
        with _Scratch(self._scratch_dir, int(part.offsets[-1] - part.offsets[1]) * self._image_bytes) as scratch:
            self._scratch.add(scratch.size)
            try:
                self._receive(part, first, scratch)
                self._filled.put((part.windows[0], first))
                for window, offset in zip(part.windows[1:], part.offsets[1:-1], strict=True):
                    images = self._buffer(len(window.rows))
                    scratch.read(int(offset - part.offsets[1]) * self._image_bytes, images[: len(window.rows)])
                    self._filled.put((window, images))
            finally:
                self._scratch.add(-scratch.size)

    def _receive(self, part: Pass, first: Images, scratch: _Scratch) -> None:
        """Put each image of a pass where it belongs."""
        in_memory = int(part.offsets[1])
        received = 0
        with closing(self._read(part)) as pieces:
            for slots, images in pieces:
                self._check_stop()
                # Slots come in long runs: what one window wants of one shard is one run.
                edges = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)]
                for begin, end in itertools.pairwise(edges):
                    slot = int(slots[begin])
                    middle = begin + min(max(in_memory - slot, 0), end - begin)
                    first[slot : slot + middle - begin] = images[begin:middle]
                    if middle < end:
                        scratch.write((slot + middle - begin - in_memory) * self._image_bytes, images[middle:end])
                received += len(slots)
        if received != part.offsets[-1]:
            raise DatasetError(f"the shards gave {received} of {part.offsets[-1]} images: were they replaced?")

    def _buffer(self, count: int) -> Images:
        """Wait for a free buffer with room for some images."""
        buffer = self._free.get()
        self._check_stop()
        # One that was made for a single huge step does not stay.
        if not count <= len(buffer) <= max(count, self._capacity):
            size = max(count, self._capacity) * self._image_bytes
            self._memory.add(size - buffer.nbytes)
            self._allocated += size - buffer.nbytes
            buffer = np.empty((max(count, self._capacity), self._image_bytes), np.uint8)
        return buffer

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _StoppedError


class _Scratch:
    """A file without a name for images that wait; none is made where nothing does."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self._folder = folder
        self._file = -1

    def __enter__(self) -> _Scratch:
        if self.size:
            with self._explained():
                self._folder.mkdir(parents=True, exist_ok=True)
                # Unlinked at once: the system takes the room back when the process ends, however it ends.
                self._file, name = tempfile.mkstemp(dir=self._folder, prefix="stream-")
                Path(name).unlink()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def write(self, at: int, images: Images) -> None:
        """Write images to a place, in bytes."""
        rest = np.ascontiguousarray(images).reshape(-1).data
        with self._explained():
            while rest:
                count = os.pwrite(self._file, rest, at)
                rest, at = rest[count:], at + count

    def read(self, at: int, images: Images) -> None:
        """Fill images from a place, in bytes."""
        rest = images.reshape(-1).data
        with self._explained():
            while rest:
                count = os.preadv(self._file, [rest], at)
                if count == 0:
                    raise OSError("the file ends early")
                rest, at = rest[count:], at + count

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StreamError(
                f"cannot keep {self.size / 1e6:.0f} MB of images in {self._folder} while they wait ({error}): "
                "free some space, choose another folder (scratch_dir), or lower scratch_bytes"
            ) from error
