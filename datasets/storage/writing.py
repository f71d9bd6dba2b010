"""Writing of a prepared dataset: shards in a temporary folder, `dataset.json` last, then one rename."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsweep.datasets.storage.layout import (
    INFO_FILE,
    SHARD_FOLDER,
    SOURCE_PATH,
    SPLITS,
    Attribute,
    DatasetError,
    DatasetInfo,
    ShardInfo,
    Skipped,
    content_hash,
    examples_schema,
    hash_examples,
    hash_images,
    hash_source_paths,
    image_column,
    image_field,
    write_info,
)

# Small enough for steady progress and cheap restarts, large enough for a sensible read (3 MB of 32 by 32 pixels).
ROWS_PER_SHARD = 1024


def checked_examples(examples: pa.Table, attributes: Sequence[Attribute]) -> pa.Table:
    """Brings a table of examples into its stored form: fixed columns and types, ascending ids.

    Args:
        examples: Columns `id`, `split`, one column of codes for each attribute, optionally `user` and `source_path`;
            any order.
        attributes: The attributes, in the order in which their columns shall stand.

    Returns:
        The table in the schema of `examples_schema`, sorted by id.

    Raises:
        ValueError: A column is missing, an id occurs twice, a code or a split is unknown.
    """
    schema = examples_schema(
        attributes,
        has_user="user" in examples.column_names,
        has_source_path=SOURCE_PATH in examples.column_names,
    )
    missing = [name for name in schema.names if name not in examples.column_names]
    if missing:
        raise ValueError(f"examples must have the columns {schema.names}, but {missing} are missing")
    table = examples.select(schema.names).cast(schema).sort_by("id").combine_chunks()
    ids = table.column("id").to_numpy()
    if len(ids) > 1 and not (np.diff(ids) > 0).all():
        raise ValueError(f"each id must occur once, but {int(ids[1:][np.diff(ids) == 0][0])} is repeated")
    for attribute in attributes:
        codes = table.column(attribute.name).to_numpy()
        if len(codes) and not (codes.min() >= 0 and codes.max() < len(attribute.values)):
            raise ValueError(
                f"codes of {attribute.name!r} must be in 0 to {len(attribute.values) - 1}, "
                f"but range from {codes.min()} to {codes.max()}"
            )
    unknown = set(pc.unique(table.column("split")).to_pylist()) - set(SPLITS)
    if unknown:
        raise ValueError(f"splits must be among {SPLITS}, but got {sorted(unknown)}")
    return table


def write_shard(folder: Path, number: int, examples: pa.Table, images: NDArray[np.uint8]) -> ShardInfo:
    """Write one shard whole (temporary name, then rename).

    Args:
        folder: The dataset's folder; its subfolder of shards must exist.
        number: The shard's number, which becomes its name.
        examples: Rows of the shard as `checked_examples` returns them.
        images: uint8 [N, H, W, C], row for row.

    Returns:
        The shard's entry in `dataset.json`.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != examples.num_rows:
        raise ValueError(
            f"images must be uint8 [{examples.num_rows}, H, W, C], but got {images.dtype} {list(images.shape)}"
        )
    height, width, channels = images.shape[1:]
    table = examples.add_column(1, image_field((height, width, channels)), image_column(images))
    path = folder / SHARD_FOLDER / f"{number:05d}.parquet"
    with replaced(path) as temporary:
        # Dictionaries and statistics of pixels cost time and bring nothing.
        pq.write_table(
            table.replace_schema_metadata(None),
            temporary,
            compression="zstd",
            compression_level=1,
            use_dictionary=["split"],
            write_statistics=["id"],
        )
    size = path.stat().st_size
    ids = examples.column("id").to_numpy()
    return ShardInfo(file=f"{SHARD_FOLDER}/{path.name}", rows=len(ids), bytes=size, hash=hash_images(ids, images))


def finish(
    folder: Path,
    to: Path,
    *,
    name: str,
    version: str,
    attributes: Sequence[Attribute],
    image_shape: tuple[int, int, int],
    examples: pa.Table,
    shards: Sequence[ShardInfo],
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
    identical: dict[str, int] | None = None,
) -> DatasetInfo:
    """Write `dataset.json` into a folder of finished shards and renames the folder to its target.

    Args:
        folder: Where the shards lie: on the same file system as `to`.
        to: The target; must not exist, or be an empty folder.
        name: Name of the source.
        version: Version of the source's data.
        attributes: All attributes.
        image_shape: (H, W, C).
        examples: The examples of all shards, in order.
        shards: The shards' entries, in order.
        skipped: Images left out.
        notes: What a user should know.
        identical: Pictures that occur in several splits, counted.

    Returns:
        What `dataset.json` says.

    Raises:
        DatasetError: The target has appeared meanwhile and holds something.
    """
    splits = examples.column("split")
    examples_hash = hash_examples(examples)
    info = DatasetInfo(
        name=name,
        version=version,
        attributes=tuple(attributes),
        image_shape=image_shape,
        counts={split: int(pc.sum(pc.equal(splits, split)).as_py() or 0) for split in SPLITS},
        skipped=tuple(skipped),
        notes=tuple(notes),
        identical=identical,
        has_user="user" in examples.column_names,
        shards=tuple(shards),
        source_paths_hash=hash_source_paths(examples),
        examples_hash=examples_hash,
        content_hash=content_hash(attributes, image_shape, examples_hash, shards),
    )
    path = folder / INFO_FILE
    path.write_text(write_info(info), encoding="utf-8")
    _sync(path)
    check_target(to)
    try:
        folder.rename(to)
    except OSError as error:
        raise DatasetError(f"cannot move the finished dataset to {to}: {error}; choose another folder") from error
    return info


def check_target(to: Path) -> None:
    """Refuses a target that holds something: nothing is ever overwritten.

    Raises:
        DatasetError: The target is a file, or a folder with something in it.
    """
    above = next((folder for folder in to.resolve().parents if (folder / INFO_FILE).exists()), None)
    if above is not None:
        raise DatasetError(f"{to} is inside the prepared dataset {above}; choose a folder outside it")
    if to.is_file() or (to.is_dir() and any(to.iterdir())):
        remedy = "delete it or choose another folder" if (to / INFO_FILE).exists() else "choose another folder"
        raise DatasetError(f"{to} exists already: nothing is overwritten; {remedy}")


def write_prepared(
    to: str | Path,
    *,
    name: str,
    attributes: Sequence[Attribute],
    examples: pa.Table,
    images: NDArray[np.uint8],
    version: str = "1",
    skipped: Sequence[Skipped] = (),
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Path:
    """Write a prepared dataset from arrays in memory.

    Args:
        to: Target folder; must not exist, or be empty.
        name: Name of the dataset.
        attributes: All attributes.
        examples: Columns `id`, `split`, codes of each attribute, optionally `user` and `source_path`.
        images: uint8 [N, H, W, C], in the order of `examples`.
        version: Version of the data.
        skipped: Images left out.
        rows_per_shard: Rows of a Parquet file.

    Returns:
        The target.

    Raises:
        ValueError: The examples are malformed (see `checked_examples`).
        DatasetError: The target holds something.
    """
    to = Path(to)
    check_target(to)
    order = np.argsort(examples.column("id").to_numpy(), kind="stable")
    table = checked_examples(examples, attributes)
    folder = to.parent / f".{to.name}.{uuid.uuid4().hex[:8]}.partial"
    (folder / SHARD_FOLDER).mkdir(parents=True)
    try:
        shards = [
            write_shard(
                folder,
                start // rows_per_shard,
                table.slice(start, rows_per_shard),
                images[order[start : start + rows_per_shard]],
            )
            for start in range(0, len(table), rows_per_shard)
        ]
        finish(
            folder,
            to,
            name=name,
            version=version,
            attributes=attributes,
            image_shape=(images.shape[1], images.shape[2], images.shape[3]),
            examples=table,
            shards=shards,
            skipped=skipped,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return to


@contextmanager
def replaced(path: Path, *, is_only_writer: bool = True) -> Iterator[Path]:
    """Write a file whole: to a temporary path beside it, then to the disk, then by a rename.

    Args:
        path: the file.
        is_only_writer: whether nobody else writes it now: then what killed writers left is deleted.

    Yields:
        The temporary path.
    """
    for leftover in path.parent.glob(f"{path.stem}.*.partial") if is_only_writer else ():
        leftover.unlink(missing_ok=True)
    temporary = path.with_suffix(f".{uuid.uuid4().hex[:8]}.partial")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
