"""Which feed gives a dataset's images: the resident one while the decoded copy fits the machine, else the stream."""

from pathlib import Path
from typing import Literal

import psutil

from fairsweep.datasets.feeds import Feed
from fairsweep.datasets.prepared import PreparedDataset
from fairsweep.datasets.resident import ResidentFeed
from fairsweep.datasets.stream import StreamFeed, StreamLimits

FeedKind = Literal["resident", "stream"]
FeedWish = Literal["auto", "resident", "stream"]

# A stream's tasks need one whole CPU of each machine that no trial reserves: a trial waits for the task that reads for
# it, and a task that finds every CPU reserved would wait for a trial to end.
CPUS_OUTSIDE_TRIALS = 1

# A decoded copy may take this share of a machine's memory: it lives in the page cache, beside the trials themselves.
_RESIDENT_SHARE = 0.5
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def decoded_bytes(dataset: PreparedDataset) -> int:
    """Returns the size of all images of a dataset, decoded."""
    height, width, channels = dataset.info.image_shape
    return len(dataset) * height * width * channels


def machine_memory() -> int:
    """Returns the memory of this machine in bytes, or of the container where that is less."""
    total = int(psutil.virtual_memory().total)
    for path in _CGROUP_LIMITS:
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):
            continue  # no limit of this kind
    return total


def choose_feed(dataset: PreparedDataset, wish: FeedWish = "auto", memory_bytes: int | None = None) -> FeedKind:
    """Settles on a feed. A sweep asks once, before it starts, so that all its trials use the same one.

    Args:
        dataset: The dataset.
        wish: What the user asks for; "auto" takes the resident feed if all decoded images fit into half the memory.
        memory_bytes: Memory of the smallest machine on which trials run; None takes this machine's.

    Returns:
        The kind of feed.
    """
    if wish != "auto":
        return wish
    memory = machine_memory() if memory_bytes is None else memory_bytes
    return "resident" if decoded_bytes(dataset) <= _RESIDENT_SHARE * memory else "stream"


def cpus_outside_trials(kind: FeedKind) -> int:
    """Returns how many whole CPUs of each machine must stay outside the reservations of trials."""
    return CPUS_OUTSIDE_TRIALS if kind == "stream" else 0


def open_feed(dataset: PreparedDataset, kind: FeedKind, limits: StreamLimits | None = None) -> Feed:
    """Opens a feed.

    Args:
        dataset: The dataset.
        kind: What `choose_feed` settled on.
        limits: What a stream may use of the machine.

    Raises:
        DatasetError: The resident copy cannot be built.
        StreamError: Ray is not running, or no CPU is left to read with.
    """
    return StreamFeed.open(dataset, limits) if kind == "stream" else ResidentFeed.open(dataset)
