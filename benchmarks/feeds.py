"""Images per second of the feeds beside PyTorch's DataLoader and plain Ray Data, and the memory of trials side by side.

    python benchmarks/feeds.py [--images 40000] [--size 64] [--repeats 3]

Everything runs on this machine, in one run, on the same smooth random images: as a prepared dataset, and as JPEG files
in an ImageFolder. One epoch in batches of 256, shuffled but for plain Ray Data; the median of the repeats is printed.
Each repeat measures every contender once, so that a busy moment meets all of them.
"""

import argparse
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray

from fairsweep.datasets.feeds.feed import Feed
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.feeds.stream import StreamFeed, StreamLimits
from fairsweep.datasets.selection.sampling import Shuffled
from fairsweep.datasets.storage.layout import Attribute
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared

BATCH = 256
TRIALS = 8
MEGABYTE = 2**20


def smooth_images(count: int, size: int) -> NDArray[np.uint8]:
    """Makes images that compress like photographs: coarse random colours, blended, with a little noise."""
    random = np.random.default_rng(0)
    images = np.empty((count, size, size, 3), np.uint8)
    place = np.linspace(0, 6, size)
    low, share = np.floor(place).astype(int), place % 1
    for start in range(0, count, 1000):
        coarse = random.uniform(20, 235, (min(1000, count - start), 8, 8, 3))
        rows = coarse[:, low] * (1 - share)[:, None, None] + coarse[:, low + 1] * share[:, None, None]
        blend = rows[:, :, low] * (1 - share)[:, None] + rows[:, :, low + 1] * share[:, None]
        images[start : start + 1000] = np.clip(blend + random.normal(0, 3, blend.shape), 0, 255)
    return images


def write_folder(folder: Path, images: NDArray[np.uint8]) -> None:
    """Writes an ImageFolder of two classes."""
    from PIL import Image

    for label in ("0", "1"):
        (folder / label).mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / str(number % 2) / f"{number:06d}.jpg", quality=90)


def write_dataset(folder: Path, images: NDArray[np.uint8]) -> PreparedDataset:
    """Writes the prepared dataset."""
    count = len(images)
    examples = pa.table(
        {"id": np.arange(count), "label": np.arange(count, dtype=np.int16) % 2, "split": ["train"] * count}
    )
    attributes = [Attribute(name="label", values=("no", "yes"))]
    return PreparedDataset.open(
        write_prepared(folder, name="smooth", attributes=attributes, examples=examples, images=images)
    )


def feed_epoch(feed: Feed, count: int, epoch: int) -> Iterator[int]:
    """One epoch of a feed; gives the size of each batch."""
    import torch

    order = Shuffled(count, BATCH, epoch + 1, b"benchmark of feeds, 32 bytes key")
    first = epoch * order.steps_per_epoch
    for batch in feed.batches(np.arange(count), order, start=first):
        # Learners take tensors; this shares memory with the batch.
        yield len(torch.from_numpy(batch.images))


def loader_epochs(folder: Path, workers: int) -> Callable[[int], Iterator[int]]:
    """PyTorch's DataLoader over an ImageFolder, decoded to uint8; its workers stay between epochs."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import PILToTensor

    loader = DataLoader(
        ImageFolder(folder, transform=PILToTensor()), BATCH, shuffle=True, num_workers=workers, persistent_workers=True
    )
    return lambda _epoch: (len(images) for images, _ in loader)


def plain_epochs(folder: Path, size: int) -> Callable[[int], Iterator[int]]:
    """Ray Data as its manual has it: read_parquet, decode, iter_torch_batches; in the order of the files."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)

    def decode(table: pa.Table) -> dict[str, NDArray[np.uint8]]:
        column = table.column("image").combine_chunks()
        return {"image": np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, size, size, 3)}

    def epoch(_epoch: int) -> Iterator[int]:
        data = ray.data.read_parquet(str(folder / "shards"), columns=["image"])
        data = data.map_batches(decode, batch_format="pyarrow", batch_size=None)
        data.context.enable_progress_bars = False
        for batch in data.iter_torch_batches(batch_size=BATCH, prefetch_batches=2):
            yield len(batch["image"])

    return epoch


def rate(epoch: Iterator[int], count: int) -> float:
    """Images per second of one epoch."""
    begin = time.perf_counter()
    seen = sum(epoch)
    seconds = time.perf_counter() - begin
    if seen != count:
        raise ValueError(f"an epoch must give {count} images, but gave {seen}")
    return count / seconds


def measure_rates(dataset: PreparedDataset, jpegs: Path, size: int, repeats: int) -> dict[str, list[float]]:
    """Rates of all contenders, one for each repeat; what runs once only (imports, the first copy) is left out."""
    count, total = len(dataset), len(dataset) * size * size * 3
    resident = ResidentFeed.open(dataset)
    # Room for a third of the epoch in two windows, so that images go through the disk, as they would were they larger.
    windows = StreamLimits(memory_bytes=total, scratch_bytes=2 * total)
    small = StreamFeed.open(dataset, windows)
    large = StreamFeed.open(dataset, StreamLimits(memory_bytes=3 * total))
    again = StreamFeed.open(dataset, StreamLimits(memory_bytes=total, scratch_bytes=0))
    contenders: dict[str, Callable[[int], Iterator[int]]] = {
        "resident": lambda epoch: feed_epoch(resident, count, epoch),
        "stream, through the disk": lambda epoch: feed_epoch(small, count, epoch),
        "stream, shards read for each window": lambda epoch: feed_epoch(again, count, epoch),
        "stream, kept in memory": lambda epoch: feed_epoch(large, count, epoch),
        "DataLoader, ImageFolder, 2 workers": loader_epochs(jpegs, 2),
        "plain Ray Data": plain_epochs(dataset.path, size),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for epoch in range(repeats + 1):
        for name, start in contenders.items():
            measured = rate(start(epoch), count)
            if epoch:
                rates[name].append(measured)
    for name, feed in (("through the disk", small), ("shards read for each window", again)):
        print(f"stream, {name}: {feed.usage}")
    for opened in (resident, small, large, again):
        opened.close()
    return rates


def _trial(path: Path, ready: "multiprocessing.Queue[int]", done: "multiprocessing.Event") -> None:  # type: ignore[valid-type]
    """A process that goes once over all images, as a trial does, and then waits to be measured."""
    dataset = PreparedDataset.open(path)
    with ResidentFeed.open(dataset) as feed:
        order = Shuffled(len(dataset), BATCH, 1, os.urandom(32))
        ready.put(sum(len(batch) for batch in feed.batches(np.arange(len(dataset)), order)))
        done.wait()  # type: ignore[attr-defined]


def measure_memory(path: Path, processes: int) -> tuple[float, float]:
    """Megabytes of some trials together: of the decoded copy, and of everything; shared pages count once (PSS)."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Queue(), context.Event()
    trials = [context.Process(target=_trial, args=(path, ready, done)) for _ in range(processes)]
    for trial in trials:
        trial.start()
    for _ in trials:
        ready.get()
    copy = everything = 0
    for trial in trials:
        process = psutil.Process(trial.pid)
        everything += process.memory_full_info().pss
        copy += sum(part.pss for part in process.memory_maps(grouped=True) if part.path.endswith(".npy"))
    done.set()
    for trial in trials:
        trial.join()
    return copy / MEGABYTE, everything / MEGABYTE


def report(rates: dict[str, list[float]]) -> None:
    """Prints rates and the ratios that matter."""
    middle = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{name:<40} {middle[name]:>10,.0f} images/s   ({min(values):,.0f} to {max(values):,.0f})")
    loader, plain = middle["DataLoader, ImageFolder, 2 workers"], middle["plain Ray Data"]
    print(f"resident / DataLoader: {middle['resident'] / loader:.1f} (target: at least 10)")
    for name, value in middle.items():
        if name.startswith("stream"):
            print(f"{name} / plain Ray Data: {value / plain:.1f} (target: at least 1)")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    with tempfile.TemporaryDirectory() as name:
        os.environ["FAIRSWEEP_CACHE"] = str(Path(name) / "cache")
        images = smooth_images(options.images, options.size)
        dataset = write_dataset(Path(name) / "dataset", images)
        write_folder(Path(name) / "jpegs", images)
        total = images.nbytes / MEGABYTE
        del images
        print(f"{options.images} images of {options.size} by {options.size}, {total:.0f} MB, {os.cpu_count()} CPUs")
        ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            report(measure_rates(dataset, Path(name) / "jpegs", options.size, options.repeats))
        finally:
            ray.shutdown()
        one, many = measure_memory(dataset.path, 1), measure_memory(dataset.path, TRIALS)
        for what, single, together in zip(("the decoded copy", "whole processes"), one, many, strict=True):
            print(
                f"memory, {what}: {single:,.0f} MB for 1 trial, {together:,.0f} MB for {TRIALS}: "
                f"{together / single:.2f} (target: at most 1.2)"
            )


if __name__ == "__main__":
    main()
