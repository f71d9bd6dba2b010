"""Preparation of a source: its images are written in shards, several by tasks of Ray, then the folder is renamed.

Which examples a shard holds follows from the source alone, so the result is the same byte for byte, however many
workers there are. What is finished stays in a hidden folder beside the target until the end: a preparation that was
killed goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fairsweep.datasets.preparation.identical import count_identical, picture_hashes
from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.sources.source import LeavesOut, Notes, Source
from fairsweep.datasets.storage.layout import (
    FORMAT_VERSION,
    SHARD_FOLDER,
    DatasetError,
    DatasetInfo,
    ShardInfo,
    Skipped,
    hash_examples,
    hash_source_paths,
)
from fairsweep.datasets.storage.writing import (
    ROWS_PER_SHARD,
    check_target,
    checked_examples,
    finish,
    replaced,
    write_shard,
)

MAX_DAMAGED = 0.01
_FINGERPRINT = "source.json"
_SHOWN = 5


@dataclass(frozen=True)
class PreparationProgress:
    """How far a preparation has come.

    Attributes:
        done: Images decoded or skipped, those of an earlier, interrupted preparation included.
        damaged: Images skipped so far.
        total: Images in all.
    """

    done: int
    damaged: int
    total: int


@dataclass(frozen=True)
class _Shard:
    """A finished shard: its entry in `dataset.json`, what was left out of it, and a hash of each picture."""

    number: int
    info: ShardInfo
    skipped: tuple[Skipped, ...]
    pictures: tuple[str, ...]


def prepare(
    source: Source,
    to: str | Path,
    *,
    max_damaged: float = MAX_DAMAGED,
    rows_per_shard: int = ROWS_PER_SHARD,
    parallel: bool = True,
    connected: Callable[[], AbstractContextManager[object]] = nullcontext,
    on_progress: Callable[[PreparationProgress], None] | None = None,
) -> DatasetInfo:
    """Write the prepared dataset of a source.

    Args:
        source: Where examples and images come from.
        to: Target folder; must not exist, or be empty.
        max_damaged: Share of images in [0, 1] that may be damaged or left out by the source; they are skipped, counted
            and listed.
        rows_per_shard: Examples of a Parquet file, before damaged ones are left out.
        parallel: Whether to decode several shards at once, on all CPUs of Ray; False decodes in this process, where a
            single shard is decoded in any case.
        connected: Gives the context in which Ray is connected, entered where it is needed; without it Ray must run
            already.
        on_progress: Called at the start and after each shard.

    Returns:
        What `dataset.json` says.

    Raises:
        DatasetError: The target holds something, too many images are damaged, or another preparation writes there.
        ValueError: The source is missing or malformed.
        RuntimeError: Several shards are to be decoded at once, but no Ray runs.
    """
    to = Path(to)
    check_target(to)
    if not 0 <= max_damaged <= 1 or rows_per_shard < 1:
        raise ValueError(
            f"max_damaged must be in [0, 1] and rows_per_shard >= 1, but got {max_damaged=}, {rows_per_shard=}"
        )
    attributes = source.attributes
    examples = checked_examples(source.examples(), attributes)
    if not len(examples):
        raise ValueError(f"a dataset must have at least one example, but the source {source.name!r} lists none")
    left_out = source.left_out() if isinstance(source, LeavesOut) else ()
    folder = to.parent / f".{to.name}.partial"
    parallel = parallel and len(examples) > rows_per_shard
    with connected() if parallel else nullcontext(), _held(folder):
        check_target(to)  # again: another preparation may have finished meanwhile
        _begin(folder, source, examples, rows_per_shard)
        writer = ShardWriter(source, folder, rows_per_shard)
        try:
            shards = _write_shards(writer, examples, left_out, max_damaged, parallel, on_progress)
        except DatasetError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        skipped = sorted([*left_out, *(e for shard in shards for e in shard.skipped)], key=lambda entry: entry.id)
        whole = np.isin(examples.column("id").to_numpy(), [entry.id for entry in skipped], invert=True)
        (folder / _FINGERPRINT).unlink()
        for shard in shards:
            _finished_path(folder, shard.number).unlink()
        return finish(
            folder,
            to,
            name=source.name,
            version=source.version,
            attributes=attributes,
            image_shape=source.image_shape,
            examples=examples.filter(pa.array(whole)),
            shards=[shard.info for shard in shards],
            skipped=skipped,
            notes=source.notes() if isinstance(source, Notes) else (),
            identical=count_identical(
                [picture for shard in shards for picture in shard.pictures],
                examples.filter(pa.array(whole)).column("split").to_pylist(),
            ),
        )


class ShardWriter:
    """Writes one shard at a time; travels to the workers.

    Args:
        source: Where images come from.
        folder: The partial dataset.
        rows_per_shard: Examples of a shard.
    """

    def __init__(self, source: Source, folder: Path, rows_per_shard: int) -> None:
        self.folder = folder.absolute()
        self.rows_per_shard = rows_per_shard
        self._source = source

    def write(self, number: int, examples: pa.Table) -> None:
        """Decode and writes a shard, then the note that it is finished.

        Args:
            number: Which shard.
            examples: All examples in their stored form.
        """
        rows = examples.slice(number * self.rows_per_shard, self.rows_per_shard)
        ids = rows.column("id").to_numpy()
        images: list[NDArray[np.uint8]] = []
        skipped: list[Skipped] = []
        whole = np.ones(len(ids), dtype=bool)
        for place, image in enumerate(self._source.images(ids)):
            if isinstance(image, Damaged):
                whole[place] = False
                skipped.append(Skipped(id=int(ids[place]), reason=image.reason))
            else:
                images.append(image)
        stack = np.stack(images) if images else np.empty((0, *self._source.image_shape), dtype=np.uint8)
        info = write_shard(self.folder, number, rows.filter(pa.array(whole)), stack)
        note = {
            "info": info.model_dump(),
            "skipped": [entry.model_dump() for entry in skipped],
            "pictures": picture_hashes(stack),
        }
        _write_json(_finished_path(self.folder, number), note)


def _write_shards(
    writer: ShardWriter,
    examples: pa.Table,
    left_out: tuple[Skipped, ...],
    max_damaged: float,
    parallel: bool,
    on_progress: Callable[[PreparationProgress], None] | None,
) -> list[_Shard]:
    """Write all shards that are not there yet and returns all, in order."""
    total = len(examples) + len(left_out)
    count = -(-len(examples) // writer.rows_per_shard)
    shards = {number: shard for number in range(count) if (shard := _finished(writer.folder, number))}
    missing = [number for number in range(count) if number not in shards]

    def report() -> None:
        skipped = [*left_out, *(entry for _, shard in sorted(shards.items()) for entry in shard.skipped)]
        _check_damage(skipped, total, max_damaged)
        if on_progress is not None:
            done = sum(shard.info.rows for shard in shards.values()) + len(skipped)
            on_progress(PreparationProgress(done, len(skipped), total))

    report()
    for number in _on_ray(writer, examples, missing) if parallel and missing else _here(writer, examples, missing):
        shard = _finished(writer.folder, number)
        if shard is None:
            raise RuntimeError(f"shard {number} must lie in {writer.folder} now, but does not: was the folder changed?")
        shards[number] = shard
        report()
    return [shards[number] for number in range(count)]


def _here(writer: ShardWriter, examples: pa.Table, numbers: Iterable[int]) -> Iterator[int]:
    for number in numbers:
        writer.write(number, examples)
        yield number


def _on_ray(writer: ShardWriter, examples: pa.Table, numbers: list[int]) -> Iterator[int]:
    """Write shards on all CPUs and yields their numbers as they are finished."""
    import ray

    if not ray.is_initialized():
        raise RuntimeError("prepare needs a running Ray: call ray.init() first, or give parallel=False")
    # The table is read once, here, and shared: large sources take seconds to list.
    shared = ray.put((writer, examples))

    def write(shared: tuple[ShardWriter, pa.Table], number: int) -> int:
        writer, examples = shared
        writer.write(number, examples)
        return number

    task = ray.remote(num_cpus=1)(write)
    left = [task.remote(shared, number) for number in numbers]
    try:
        while left:
            (done,), left = ray.wait(left, num_returns=1)
            yield ray.get(done)
    except ray.exceptions.RayTaskError as error:
        # The user is told what the source said, not what Ray made of it.
        cause = error.cause if isinstance(error.cause, Exception) else error
        raise cause from error
    finally:
        for unfinished in left:
            ray.cancel(unfinished)


def _check_damage(skipped: list[Skipped], total: int, max_damaged: float) -> None:
    """Raise as soon as more images are damaged than may be."""
    if len(skipped) > max_damaged * total:
        first = "; ".join(f"id {entry.id}: {entry.reason}" for entry in skipped[:_SHOWN])
        raise DatasetError(
            f"at most {max_damaged:.2%} of {total:,} images may be unusable, but {len(skipped):,} are already "
            f"({first}): "
            "repair the files, or allow more with --max-damaged"
        )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the partial folder against other preparations of the same target."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DatasetError(f"another preparation is writing {folder}: wait for it, or choose another folder") from None
    try:
        yield
    finally:
        # While it is still held: a file that another preparation has locked meanwhile must not be taken from it.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _begin(folder: Path, source: Source, examples: pa.Table, rows_per_shard: int) -> None:
    """Make the partial folder, or keeps one of an interrupted preparation of the very same source."""
    described = (
        f"{source!r} {source.version} {source.image_shape} {hash_examples(examples)} {hash_source_paths(examples)}"
    )
    fingerprint = {
        "format_version": FORMAT_VERSION,
        "rows_per_shard": rows_per_shard,
        "source": hashlib.blake2b(described.encode(), digest_size=16).hexdigest(),
    }
    path = folder / _FINGERPRINT
    if _read_json(path) == fingerprint:
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / SHARD_FOLDER).mkdir(parents=True)
    _write_json(path, fingerprint)


def _finished_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.json"


def _finished(folder: Path, number: int) -> _Shard | None:
    """Return a shard that was finished, by this attempt or an earlier one; None where it is missing or not whole."""
    note = _read_json(_finished_path(folder, number))
    if note is None:
        return None
    info = ShardInfo.model_validate(note["info"])
    path = folder / info.file
    if not path.is_file() or path.stat().st_size != info.bytes:
        return None
    skipped = tuple(Skipped.model_validate(entry) for entry in note["skipped"])
    return _Shard(number, info, skipped, tuple(note["pictures"]))


def _read_json(path: Path) -> dict[str, Any] | None:
    """Read a file of `_write_json`; None where there is none, or a machine that went down left it empty."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole."""
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
