"""The choice between feeds: resident if the decoded copy fits the machine, else the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from fairsweep.datasets.feeds.feed import Feed
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.feeds.stream import StreamFeed, StreamLimits
from fairsweep.datasets.storage.prepared import PreparedDataset

FeedKind = Literal["resident", "stream"]
FeedWish = Literal["auto", "resident", "stream"]

# A stream's tasks need one whole CPU of each machine that no trial reserves: a trial waits for the task that reads for
# it, and a task that finds every CPU reserved would wait for a trial to end.
CPUS_OUTSIDE_TRIALS = 1

# A decoded copy may take this share of a machine's memory: it lives in the page cache, beside the trials themselves.
_RESIDENT_SHARE = 0.5
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class FeedChoice:
    """The feed that a trial opens. Changes speed and memory, never a batch: no part of a trial's identity.

    Attributes:
        kind: Which feed.
        limits: What a stream may use of the machine.
        reason: Why, in words; empty where nobody chose.
    """

    kind: FeedKind = "resident"
    limits: StreamLimits = field(default_factory=StreamLimits)
    reason: str = ""


def decoded_bytes(dataset: PreparedDataset) -> int:
    """Return the size of all images of a dataset, decoded."""
    height, width, channels = dataset.info.image_shape
    return len(dataset) * height * width * channels


def machine_memory() -> int:
    """Return the memory of this machine in bytes, or of the container where that is less."""
    total = int(psutil.virtual_memory().total)
    for path in _CGROUP_LIMITS:
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):
            continue  # no limit of this kind
    return total


def choose_feed(
    datasets: Sequence[PreparedDataset],
    wish: FeedWish = "auto",
    limits: StreamLimits | None = None,
    memory_bytes: int | None = None,
) -> FeedChoice:
    """Settles on a feed. A sweep asks once, before it starts, so that all its trials use the same one.

    Args:
        datasets: The datasets of a trial: one, or two where it is tested on another.
        wish: What the user asks for; "auto" takes the resident feed if all decoded images fit into half the memory.
        limits: What a stream may use of the machine.
        memory_bytes: Memory of the smallest machine on which trials run; None takes this machine's.
    """
    memory = machine_memory() if memory_bytes is None else memory_bytes
    decoded = sum(map(decoded_bytes, datasets))
    sizes = f"{_shown(decoded)} of decoded images, {_shown(memory)} of memory"
    limits = limits or StreamLimits()
    if wish != "auto":
        return FeedChoice(wish, limits, f"as asked for; {sizes}")
    if decoded <= _RESIDENT_SHARE * memory:
        return FeedChoice("resident", limits, f"{sizes}: they fit into half of it")
    return FeedChoice("stream", limits, f"{sizes}: they do not fit into half of it")


def cpus_outside_trials(kind: FeedKind) -> int:
    """Return how many whole CPUs of each machine must stay outside the reservations of trials."""
    return CPUS_OUTSIDE_TRIALS if kind == "stream" else 0


def open_feed(dataset: PreparedDataset, choice: FeedChoice, again: NDArray[np.int64] | None = None) -> Feed:
    """Open a feed.

    Args:
        dataset: The dataset.
        choice: What `choose_feed` settled on.
        again: Rows that will be asked for again and again, int64: a stream keeps room for them.

    Raises:
        DatasetError: The resident copy cannot be built.
        StreamError: Ray is not running, or no CPU is left to read with.
    """
    if choice.kind == "stream":
        return StreamFeed.open(dataset, choice.limits, again)
    return ResidentFeed.open(dataset)


def _shown(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
