"""A new version of a prepared dataset, without some of its examples."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsweep.datasets.feeds.machine_copy import COPIES, cache_root
from fairsweep.datasets.storage.layout import SHARD_FOLDER, SOURCE_PATH, DatasetError, DatasetInfo, ShardInfo
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.datasets.storage.writing import check_target, finish, write_shard


def write_without(
    dataset: PreparedDataset, ids: NDArray[np.int64], to: str | Path, token: str | None = None
) -> DatasetInfo:
    """Write a dataset without some examples; every other column, image and id stays as it is.

    Args:
        dataset: The dataset; it is not changed.
        ids: int64 [k], all of them in the dataset.
        to: Target folder; must not exist, or be empty.
        token: Marks the temporary folder; what a writer with the same token left behind when it was killed is deleted.

    Returns:
        What the new ``dataset.json`` says; its version names how many examples were left out.

    Raises:
        ValueError: If an id is not in the dataset.
        DatasetError: If the target holds something, or an image does not match its hash.
    """
    dataset.rows_of(ids)
    to = Path(to)
    check_target(to)
    folder = to.parent / f".{to.name}.{token or uuid.uuid4().hex[:8]}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / SHARD_FOLDER).mkdir(parents=True)
    try:
        shards, tables = _write_shards(dataset, ids, folder)
        return finish(
            folder,
            to,
            name=dataset.info.name,
            version=f"{dataset.info.version}, {len(np.unique(ids))} erased",
            attributes=dataset.info.attributes,
            image_shape=dataset.info.image_shape,
            examples=pa.concat_tables(tables),
            shards=shards,
            skipped=dataset.info.skipped,
            notes=dataset.info.notes,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def next_version(path: Path) -> Path:
    """Return where the next version of a dataset goes: beside it, ``NAME-v2`` or the first number that is free."""
    number = 2
    while (target := path.with_name(f"{path.name}-v{number}")).exists():
        number += 1
    return target


def purge_copies(content_hash: str) -> list[Path]:
    """Delete this machine's decoded copies of a dataset, and features of it: they hold every image.

    Returns:
        What was deleted. A process that still maps a copy keeps its memory until it ends.
    """
    found = sorted((cache_root() / COPIES).glob(f"{content_hash}*"))
    for path in found:
        path.unlink(missing_ok=True)
    return found


def _write_shards(
    dataset: PreparedDataset, ids: NDArray[np.int64], folder: Path
) -> tuple[Sequence[ShardInfo], list[pa.Table]]:
    shards: list[ShardInfo] = []
    tables: list[pa.Table] = []
    examples, start = dataset.examples(), 0
    if dataset.source_paths is not None:
        examples = examples.append_column(pa.field(SOURCE_PATH, pa.string(), nullable=False), dataset.source_paths)
    for number, shard in enumerate(dataset.info.shards):
        kept = ~np.isin(dataset.ids[start : start + shard.rows], ids)
        table = examples.slice(start, shard.rows).filter(pa.array(kept))
        start += shard.rows
        if kept.any():
            shards.append(write_shard(folder, len(shards), table, dataset.shard_images(number)[kept]))
            tables.append(table)
    if not shards:
        raise DatasetError(f"dataset {dataset.info.name!r} would be empty: delete its folder instead")
    return shards, tables
