"""A prepared dataset, opened and checked: every column except the images is kept in memory."""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs
from pydantic import ValidationError

from fairsweep.datasets.storage.layout import (
    FORMAT_VERSION,
    INFO_FILE,
    PREPARE_AGAIN,
    SOURCE_PATH,
    SPLITS,
    Attribute,
    DatasetError,
    DatasetInfo,
    ShardInfo,
    content_hash,
    examples_schema,
    format_version,
    hash_examples,
    hash_source_paths,
    image_type,
    nearest,
    read_info,
)
from fairsweep.datasets.storage.location import Location
from fairsweep.datasets.storage.reading import shard_images
from fairsweep.datasets.storage.writing import write_prepared

NOT_FOUND = fs.FileType.NotFound
# Requests to a remote file system wait for each other otherwise.
_REMOTE_THREADS = 16

__all__ = ["Attribute", "DatasetError", "DatasetInfo", "PreparedDataset", "write_prepared"]


class PreparedDataset:
    """A prepared dataset, opened. Row r is the example `ids[r]`; rows are sorted by id.

    Attributes:
        location: The folder, on any file system.
        info: What `dataset.json` says.
        ids: int64 [N], ascending.
    """

    def __init__(self, location: Location, info: DatasetInfo, examples: pa.Table) -> None:
        self.location = location
        self.info = info
        self._examples = examples
        self.ids: NDArray[np.int64] = _column(examples, "id")

    @classmethod
    def open(cls, path: str | Path | Location, filesystem: fs.FileSystem | None = None) -> PreparedDataset:
        """Open a folder that `fairsweep prepare` made.

        Sizes of all files, the hash of all columns but the images, and the content hash are checked. Images are checked
        where they are read (`shard_images`).

        Args:
            path: The folder: a local path, a URI (`s3://bucket/faces`), or a path on `filesystem`; see `Location.of`.
            filesystem: A pyarrow file system; None takes that of the URI, or the local one.

        Returns:
            The dataset.

        Raises:
            DatasetError: The folder is missing, half written or damaged; the message ends with the remedy.
        """
        location = Location.of(path, filesystem)
        try:
            info, is_whole = _read_info(location)
            _check_files(location, info)
            examples = _read_examples(location, info)
        except OSError as error:
            raise DatasetError(
                f"the dataset at {location} cannot be reached ({error}): check path, network and permissions"
            ) from error
        try:
            found = hash_examples(examples)
        except ValueError as error:
            raise _damaged(location, f"its columns hold invalid values ({error})") from error
        if found != info.examples_hash:
            raise _damaged(location, "its columns do not match the hash in dataset.json")
        expected = content_hash(info.attributes, info.image_shape, info.examples_hash, info.shards)
        if expected != info.content_hash:
            raise _damaged(location, "dataset.json does not match its own content hash (was it edited?)")
        if not is_whole:
            raise _damaged(location, "dataset.json has changed since it was written (was it edited?)")
        return cls(location, info, examples)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"PreparedDataset({str(self.location)!r}, {self.info.name!r}, {self.info.counts})"

    @property
    def path(self) -> Path:
        """The folder on this machine.

        Raises:
            DatasetError: The dataset is on another file system.
        """
        if not self.location.is_local:
            raise DatasetError(f"the dataset at {self.location} is not a folder on this machine: use its location")
        return Path(self.location.root)

    def attribute(self, name: str) -> Attribute:
        """Return an attribute by name.

        Raises:
            ValueError: There is none; the message names the nearest one.
        """
        for attribute in self.info.attributes:
            if attribute.name == name:
                return attribute
        known = [attribute.name for attribute in self.info.attributes]
        raise ValueError(f"dataset {self.info.name!r} has no attribute {name!r}: {nearest(name, known)}")

    def codes(self, attribute: str) -> NDArray[np.int16]:
        """Return the codes of an attribute, int16 [N], row for row (read-only).

        Raises:
            ValueError: There is no such attribute.
        """
        return _column(self._examples, self.attribute(attribute).name)

    def split(self, name: str) -> NDArray[np.int64]:
        """Return the rows of a split ("train", "validation" or "test"), int64, ascending; may be empty.

        Raises:
            ValueError: There is no such split.
        """
        if name not in SPLITS:
            raise ValueError(f"there is no split {name!r}: {nearest(name, SPLITS)}")
        return np.flatnonzero(self._split_codes == SPLITS.index(name)).astype(np.int64)

    def recorded_hash(self, mode: str) -> str:
        """Return the hash by which a sweep's records name what is trained on.

        Args:
            mode: ``release`` takes a hash of what is public, ids, splits and vocabularies: one of images or attributes
                would tell a training set from another that differs in one person. Else the content hash.
        """
        return self.public_hash if mode == "release" else self.info.content_hash

    @cached_property
    def public_hash(self) -> str:
        """A hash of ids, splits and vocabularies."""
        public = self._examples.select(["id", "split"])
        return f"public-{content_hash(self.info.attributes, self.info.image_shape, hash_examples(public), ())}"

    @cached_property
    def users(self) -> NDArray[np.int64] | None:
        """Whom each example belongs to, int64 [N], or None where the dataset does not know."""
        return _column(self._examples, "user") if self.info.has_user else None

    @cached_property
    def source_paths(self) -> pa.ChunkedArray | None:
        """Where each image lies in the raw data, strings [N], row for row; None where the dataset does not know.

        Paths are relative to the folder or archive that was prepared, with `/` between folders. They may name people:
        what leaves them out of sight is the caller's to decide, so that they are no part of `examples`.

        Raises:
            DatasetError: A shard is damaged.
        """
        if self.info.source_paths_hash is None:
            return None
        tables = [self._read_source_paths(shard) for shard in self.info.shards]
        table = pa.concat_tables(tables) if tables else pa.table({SOURCE_PATH: pa.array([], pa.string())})
        if len(table) != len(self) or hash_source_paths(table) != self.info.source_paths_hash:
            raise _damaged(self.location, f"its source paths do not match the hash in {INFO_FILE}")
        return table.column(SOURCE_PATH)

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find the rows of ids, in the order given.

        Raises:
            ValueError: An id is not in the dataset.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        rows = np.searchsorted(self.ids, wanted).astype(np.int64)
        found = (
            self.ids[np.minimum(rows, max(len(self) - 1, 0))] == wanted if len(self) else np.zeros(len(wanted), bool)
        )
        if not found.all():
            raise ValueError(
                f"{int((~found).sum())} ids are not in dataset {self.info.name!r}, "
                f"for example {int(wanted[~found][0])}: are they from another dataset?"
            )
        return rows

    def shards(self) -> list[Path]:
        """Return the Parquet files of a local dataset, in the order of ids; see `path`."""
        return [self.path / shard.file for shard in self.info.shards]

    def examples(self) -> pa.Table:
        """Return all columns but images and source paths: id, attributes, user where there is one, split."""
        return self._examples

    def shard_images(self, number: int) -> NDArray[np.uint8]:
        """Read the images of one shard and checks their hash.

        Args:
            number: Which shard, in [0, len(info.shards)).

        Returns:
            uint8 [n, H, W, C], in the order of ids.

        Raises:
            DatasetError: The shard cannot be read or its images are not those that were prepared.
        """
        try:
            return shard_images(self.location, self.info.shards[number], self.info.image_shape)
        except OSError as error:
            raise _damaged(self.location, f"{self.info.shards[number].file} cannot be read ({error})") from error

    def _read_source_paths(self, shard: ShardInfo) -> pa.Table:
        try:
            with self.location.open(shard.file) as opened:
                return pq.ParquetFile(opened).read(columns=[SOURCE_PATH])
        except (OSError, KeyError, pa.ArrowException, UnicodeDecodeError) as error:
            raise _damaged(self.location, f"{shard.file} cannot be read ({error})") from error

    @cached_property
    def _split_codes(self) -> NDArray[np.int8]:
        encoded = self._examples.column("split").combine_chunks().dictionary_encode()
        order = np.array([SPLITS.index(name) for name in encoded.dictionary.to_pylist()], dtype=np.int8)
        codes: NDArray[np.int8] = order[encoded.indices.to_numpy()] if len(order) else np.empty(0, np.int8)
        return codes


def _read_info(location: Location) -> tuple[DatasetInfo, bool]:
    """Return what `dataset.json` says, and whether its bytes are those that were written."""
    folder = location.describe()
    if folder.type == fs.FileType.NotFound:
        start = "" if "://" in str(location) else "; a relative path starts at the folder in which the command runs"
        raise DatasetError(
            f"there is no dataset at {location}: make one with "
            f"`fairsweep prepare NAME --to {shlex.quote(str(location))}`{start}"
        )
    if folder.type == fs.FileType.File:
        raise DatasetError(f"{location} is not a folder: a dataset is a folder made by `fairsweep prepare`")
    if not location.describe(INFO_FILE).is_file:
        raise DatasetError(f"{location} {_instead(location)}")
    text = location.read(INFO_FILE)
    if (version := format_version(text)) > FORMAT_VERSION:
        raise DatasetError(
            f"the dataset at {location} has format version {version}, but this fairsweep reads up to {FORMAT_VERSION}: "
            "update fairsweep"
        )
    try:
        info, is_whole = read_info(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _damaged(location, f"{INFO_FILE} is invalid ({where}: {first['msg']})") from error
    return info, is_whole


def _instead(location: Location) -> str:
    """Return what a folder without `dataset.json` is."""
    names = ["sweep.json", "sweep.yaml", "trials", "state.json", "config.json"]
    found = {name for name, file in zip(names, location.describe_all(names), strict=True) if file.type != NOT_FOUND}
    if found & {"sweep.json", "trials"}:
        look = f"fairsweep ls {shlex.quote(str(location))}"
        return f"is the output of a sweep, not a prepared dataset; look at it with: {look}"
    if {"state.json", "config.json"} <= found:
        sweep = Path(location.root).parent.parent
        look = f"fairsweep ls {shlex.quote(str(sweep))}"
        return f"is a trial of a sweep, not a prepared dataset; look at its sweep with: {look}"
    return (
        f"is not a prepared dataset: there is no {INFO_FILE} in it; make one with `fairsweep prepare NAME --to FOLDER`"
    )


def _check_files(location: Location, info: DatasetInfo) -> None:
    for shard, file in zip(info.shards, location.describe_all([s.file for s in info.shards]), strict=True):
        if not file.is_file:
            raise _damaged(location, f"{shard.file} is missing")
        if file.size != shard.bytes:
            raise _damaged(location, f"{shard.file} has {file.size} bytes instead of {shard.bytes}")


def _read_examples(location: Location, info: DatasetInfo) -> pa.Table:
    schema = examples_schema(info.attributes, has_user=info.has_user)

    def read(shard: ShardInfo) -> pa.Table:
        return _read_shard_examples(location, info, shard, schema)

    if location.is_local:
        tables = list(map(read, info.shards))
    else:
        with ThreadPoolExecutor(_REMOTE_THREADS) as threads:
            tables = list(threads.map(read, info.shards))
    examples = pa.concat_tables(tables) if tables else schema.empty_table()
    examples = examples.combine_chunks()
    ids = examples.column("id").to_numpy()
    if not (np.diff(ids) > 0).all():
        raise _damaged(location, "its ids are not ascending")
    return examples


def _read_shard_examples(location: Location, info: DatasetInfo, shard: ShardInfo, schema: pa.Schema) -> pa.Table:
    try:
        with location.open(shard.file) as opened:
            file = pq.ParquetFile(opened)
            table = file.read(columns=schema.names)
            stored = file.schema_arrow.field("image").type
            examples = table.select(schema.names).cast(schema)
    except (OSError, KeyError, ValueError, OverflowError, pa.ArrowException) as error:
        raise _damaged(location, f"{shard.file} cannot be read ({error})") from error
    if table.num_rows != shard.rows or set(table.column_names) != set(schema.names):
        raise _damaged(location, f"{shard.file} does not hold the rows and columns that {INFO_FILE} states")
    if stored != image_type(info.image_shape):
        raise _damaged(location, f"{shard.file} holds images of type {stored}, not {list(info.image_shape)}")
    return examples


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column as a read-only array of its own type."""
    array: NDArray[Any] = table.column(name).to_numpy()
    array.flags.writeable = False
    return array


def _damaged(location: Location, what: str) -> DatasetError:
    return DatasetError(f"the dataset at {location} is damaged: {what}; {PREPARE_AGAIN}")
