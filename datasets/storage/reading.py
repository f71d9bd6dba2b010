"""Reading of selected rows from the shards of a dataset, distributed over Ray workers.

`read_pieces` is the part that a worker runs; `spread` hands the requests to Ray Data and gives back what comes, in
whatever order it comes: each image says by its slot where it belongs.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsweep.datasets.storage.layout import (
    PREPARE_AGAIN,
    DatasetError,
    ShardInfo,
    hash_images,
    image_column,
    image_type,
    images_of,
)
from fairsweep.datasets.storage.location import Location

# A piece is one object in Ray's object store: large enough that its overhead does not count, small enough to move soon.
PIECE_BYTES = 8 * 2**20
# A task that reads several small shards reads about this much.
_TASK_BYTES = 32 * 2**20
# In Ray's logs the reads of a stream go by this name.
_NAME = "fairsweep_stream"

Piece = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Slots, int64 [b], and images, uint8 [b, H * W * C]."""


class StreamError(RuntimeError):
    """Ray cannot read: it is not running, or trials hold every CPU; the message ends with the remedy."""


@dataclass(frozen=True)
class ShardRequest:
    """What is wanted of one shard.

    Attributes:
        number: The shard's number.
        shard: The shard, as `dataset.json` describes it.
        verify: Whether all its images are compared with its hash.
        picks: int32 [k], rows within the shard; a row may be wanted more than once.
        slots: int64 [k], where each of them belongs.
    """

    number: int
    shard: ShardInfo
    verify: bool
    picks: NDArray[np.int32]
    slots: NDArray[np.int64]


def shard_images(
    location: Location, shard: ShardInfo, image_shape: tuple[int, int, int], *, verify: bool = True
) -> NDArray[np.uint8]:
    """Read all images of one shard.

    Args:
        location: The dataset's folder.
        shard: The shard.
        image_shape: (H, W, C).
        verify: Whether to compare the images with the shard's hash.

    Returns:
        uint8 [n, H, W, C], in the order of ids.

    Raises:
        DatasetError: The shard is missing, cannot be understood, or does not hold what was prepared.
        OSError: The file system cannot be reached.
    """
    try:
        with location.open(shard.file) as opened:
            # One thread: whoever reads many shards reads them side by side.
            file = pq.ParquetFile(opened, pre_buffer=not location.is_local)
            table = file.read(columns=["id", "image"] if verify else ["image"], use_threads=False)
        stored = table.column("image")
    except (FileNotFoundError, KeyError, ValueError, OverflowError, pa.ArrowException) as error:
        raise _damaged(location, f"{shard.file} cannot be read ({error})") from error
    except OSError as error:
        # Bytes that cannot be decompressed are one too; a local file that is there can be reached.
        if not location.is_local or not location.describe(shard.file).is_file:
            raise
        raise _damaged(location, f"{shard.file} cannot be read ({error})") from error
    if len(stored) != shard.rows or stored.type != image_type(image_shape):
        raise _damaged(location, f"{shard.file} does not hold {shard.rows} images of {list(image_shape)}")
    images = images_of(stored, image_shape)
    if verify and hash_images(table.column("id").to_numpy(), images) != shard.hash:
        raise _damaged(location, f"the images in {shard.file} do not match their hash")
    return images


def read_pieces(
    location: Location, requests: Sequence[ShardRequest], image_shape: tuple[int, int, int]
) -> Iterator[pa.Table]:
    """Read what some requests want, in pieces of at most about `PIECE_BYTES`; holds one shard at a time.

    Returns:
        Tables with columns `slot` (int64), `image` (fixed-size binary) and `error` (a message in the place of a
        shard that is damaged, else null).
    """
    for request in requests:
        try:
            images = shard_images(location, request.shard, image_shape, verify=request.verify)
        except DatasetError as error:
            # As data and not as an exception: Ray would wrap it in its own and retry what cannot succeed.
            yield _table(np.array([-1]), np.zeros((1, *image_shape), np.uint8), str(error))
            return
        step = max(1, PIECE_BYTES * len(images) // images.nbytes)
        for start in range(0, len(request.picks), step):
            picks = request.picks[start : start + step]
            whole = picks[-1] - picks[0] == len(picks) - 1 and bool((np.diff(picks) == 1).all())
            chosen = images[picks[0] : picks[-1] + 1] if whole else images[picks]
            yield _table(request.slots[start : start + step], chosen, None)


def piece_of(batch: pa.RecordBatch, image_shape: tuple[int, int, int]) -> Piece:
    """Take a part of a table of `read_pieces` apart, without a copy.

    Raises:
        DatasetError: It tells of damage.
    """
    errors = batch.column("error")
    if errors.null_count < len(errors):
        raise DatasetError(errors.drop_null()[0].as_py())
    images = images_of(batch.column("image"), image_shape)
    return batch.column("slot").to_numpy(), images.reshape(len(images), -1)


def spread(
    location: Location,
    requests: Sequence[ShardRequest],
    image_shape: tuple[int, int, int],
    *,
    readers: int | None,
    store_bytes: int,
) -> Iterator[Piece]:
    """Read requests on Ray's workers, several at a time, and gives the pieces in the order in which they come.

    Args:
        location: The dataset's folder, which every worker must be able to read.
        requests: What to read.
        image_shape: (H, W, C).
        readers: How many tasks may read at once; None leaves it to Ray.
        store_bytes: How much of Ray's object store pieces may fill that nobody has taken yet.

    Raises:
        StreamError: Ray is not running, or no CPU is left outside reservations.
        DatasetError: A shard is damaged or cannot be read.
    """
    if not requests:
        return
    check_ray()
    import ray.data

    image_bytes = int(np.prod(image_shape))
    tasks = [
        (_reader(location, group, image_shape), sum(len(request.picks) for request in group))
        for group in _grouped(requests, image_bytes)
    ]
    dataset = ray.data.read_datasource(
        _datasource(tasks, image_bytes), concurrency=readers, override_num_blocks=len(tasks)
    )
    dataset.set_name(_NAME)
    settings = dataset.context
    settings.enable_progress_bars = False
    settings.print_on_execution_start = False
    settings.target_max_block_size = PIECE_BYTES
    settings.execution_options.resource_limits = ray.data.ExecutionResources.for_limits(object_store_memory=store_bytes)
    try:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for batch in table.to_batches():
                yield piece_of(batch, image_shape)
    except OSError as error:
        reason = getattr(error, "cause", error)
        raise DatasetError(f"the dataset at {location} cannot be read from Ray's workers ({reason})") from error


def check_ray() -> None:
    """Check that Ray runs and can read for a trial.

    Raises:
        StreamError: It is not running, or placement groups (that is, trials) hold every CPU: a task that reads would
            wait forever for a trial that waits for the task.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise StreamError("the stream feed reads with Ray Data: pip install 'fairsweep[train]'") from error
    if not ray.is_initialized():
        raise StreamError(
            "the stream feed reads with Ray Data and needs a running Ray: `fairsweep run` starts one, "
            "in a notebook call ray.init() first; or take the resident feed"
        )
    _settle_ray_data()
    total = float(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
    held = sum(
        float(bundle.get("CPU", 0))
        for group in ray.util.placement_group_table().values()
        if group["state"] == "CREATED"
        for bundle in group["bundles"].values()
    )
    if total - held < 1:
        raise StreamError(
            f"at least one whole CPU must stay outside trials for the stream feed's readers, but trials hold "
            f"{held:g} of the {total:g} CPUs: run fewer trials at once, or give each fewer CPUs"
        )


def _damaged(location: Location, what: str) -> DatasetError:
    return DatasetError(f"the dataset at {location} is damaged: {what}; {PREPARE_AGAIN}")


def _table(slots: NDArray[np.int64], images: NDArray[np.uint8], error: str | None) -> pa.Table:
    errors = pa.array([error] * len(images), pa.string())
    return pa.table({"slot": slots, "image": image_column(images), "error": errors})


def _grouped(requests: Sequence[ShardRequest], image_bytes: int) -> Iterator[list[ShardRequest]]:
    """Put small shards together, so that a task's overhead does not count."""
    group: list[ShardRequest] = []
    size = 0
    for request in requests:
        group.append(request)
        size += request.shard.rows * image_bytes
        if size >= _TASK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _reader(
    location: Location, requests: list[ShardRequest], image_shape: tuple[int, int, int]
) -> Callable[[], Iterator[pa.Table]]:
    return lambda: read_pieces(location, requests, image_shape)


def _datasource(tasks: Sequence[tuple[Callable[[], Iterator[pa.Table]], int]], image_bytes: int) -> object:
    """Make the Ray Data source of some tasks, each with the number of images it gives."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class PreparedImages(Datasource):
        def estimate_inmemory_data_size(self) -> int:
            return sum(count for _, count in tasks) * image_bytes

        def get_read_tasks(self, *_arguments: object, **_options: object) -> list[ReadTask]:
            return [
                ReadTask(read, BlockMetadata(count, count * image_bytes, input_files=None, exec_stats=None))
                for read, count in tasks
            ]

    return PreparedImages()  # type: ignore[no-untyped-call]


class _OwnLines(logging.Filter):
    """Drops what Ray Data says about each read: a stream reads hundreds of times."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return not (text.startswith("Progress bars disabled") or (record.levelno <= logging.INFO and _NAME in text))


_OWN_LINES = _OwnLines()


def _settle_ray_data() -> None:
    """Make Ray Data's settings of this process and silences what it says about each read; may be called often."""
    from ray.data import DataContext

    with warnings.catch_warnings():
        # Ray 2.60 warns about a deprecated setting of its own when it makes its settings for the first time.
        warnings.simplefilter("ignore", DeprecationWarning)
        DataContext.get_current()
    # On the handlers, for a logger's filters do not see what comes from the loggers below it.
    for handler in logging.getLogger("ray.data").handlers:
        # Adding the same filter twice does nothing.
        handler.addFilter(_OWN_LINES)
