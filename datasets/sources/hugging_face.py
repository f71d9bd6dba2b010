"""Local copies of Hugging Face data sets: what `save_to_disk` wrote, or Parquet files as the hub has them.

They are read with pyarrow: the package `datasets` is not needed.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.raw_files import RawFiles, fingerprint, open_raw
from fairsweep.datasets.raw.raw_images import Framing
from fairsweep.datasets.raw.table_columns import attribute, pairs
from fairsweep.datasets.sources.own_tables import (
    BESIDE,
    LABEL,
    SPLIT_WORDS,
    check_values,
    kept_columns,
    words_of_splits,
)
from fairsweep.datasets.sources.splits import HoldOut, splits_of, users_of
from fairsweep.datasets.storage.layout import Attribute

_FEATURES = b"huggingface"


@dataclass(frozen=True)
class HuggingFace:
    """Reads a local copy of a Hugging Face data set: a folder of `save_to_disk`, or of Parquet files, or one such file.

    Fetch it first, for example with `hf download NAME --repo-type dataset --local-dir FOLDER`. Names of files and
    folders say the splits (train-00000-of-00001.parquet, test/data-00000-of-00001.arrow); one that none says is drawn.
    A column `split` or `user` means what it does for `prepare folder`. Class labels keep their names and their order.

    Attributes:
        raw: The folder, or one file.
        image_size: Pixels of an edge after resizing.
        crop: Pixels of an edge of the centred square that is cut out first; by default the largest that fits.
        image_column: The column of images.
        columns: The columns to keep as attributes; by default all but the image.
        name: Name of the dataset.
        missing: `drop` leaves rows out where a value is missing. By default that is an error that counts them.
        order: The order of an attribute's values, age=young,old; repeat it for more attributes.
        bins: The lower edges of bins of a column of numbers: age=0,18,40,65; age=each keeps every number. Repeat it for
            more columns.
        hold_out: The splits that the data set lacks; stratified by `label`, then by the other attributes in order.
    """

    raw: str | Path
    image_size: int = 64
    crop: int | None = None
    image_column: str = "image"
    columns: tuple[str, ...] | None = None
    name: str = "hf"
    missing: Literal["drop"] | None = None
    order: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    bins: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    hold_out: HoldOut = field(default_factory=HoldOut)

    def __post_init__(self) -> None:
        self._framing()
        if self.missing not in ("drop", None):
            raise ValueError(f"missing must be drop, or left out, but got {self.missing!r}")
        path = Path(self.raw).absolute()
        if not path.exists():
            raise ValueError(
                f"the data set must be a local folder or file, but there is nothing at {self.raw}: fetch it first, for "
                "example with `hf download NAME --repo-type dataset --local-dir FOLDER`"
            )
        object.__setattr__(self, "raw", path)
        for name in ("order", "bins"):
            content = {column: tuple(map(str, words)) for column, words in getattr(self, name).items()}
            object.__setattr__(self, name, content)

    @property
    def version(self) -> str:
        """Version of the reading, and a hash of the files' names and sizes."""
        return f"1-{fingerprint(self._files())}"

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The columns kept, with their values."""
        return tuple(found for found, _ in self._attributes())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(image_size, image_size, 3)."""
        return self._framing().shape

    def examples(self) -> pa.Table:
        """List all rows; an example's id is its place among the rows of all files, sorted by name.

        Raises:
            ValueError: There is no such file or column, a value is missing, or a split has no known name.
        """
        rows, used = self._rows(), self._used()
        ids = used.astype(np.int64)
        columns: dict[str, pa.Array] = {"id": pa.array(ids)}
        found = self._attributes()
        check_values(tuple(whole for whole, _ in found), self._where())
        columns |= {whole.name: codes for whole, codes in found}
        if "user" in rows.table.column_names:
            columns["user"] = users_of(_words(rows.table.column("user")).take(pa.array(used)), self._where())
        strata = [columns[name].to_numpy() for name in sorted(self._kept(), key=lambda name: name != LABEL)]
        users = columns["user"].to_numpy() if "user" in columns else None
        if "split" in rows.table.column_names:
            words = _words(_named(rows.table.column("split"), rows.names.get("split")))
            columns["split"] = words_of_splits(words.take(pa.array(used)), self._where())
        else:
            said = None if rows.splits is None else rows.splits[used]
            columns["split"] = splits_of(self.hold_out, ids, strata, users, said)
        return pa.table(columns)

    def images(self, ids: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | Damaged]:
        """Decode the images of ids, uint8 [image_size, image_size, 3] each."""
        rows, framing = self._rows(), self._framing()
        found: dict[int, NDArray[np.uint8] | Damaged] = {}
        for number, file in enumerate(rows.files):
            start = rows.starts[number]
            inside = np.unique(ids[(ids >= start) & (ids < rows.starts[number + 1])]) - start
            for row, cell in _cells(self._path(file), self.image_column, inside):
                image = _decoded(cell, framing)
                found[start + row] = (
                    Damaged(f"row {row} of {file}: {image.reason}") if isinstance(image, Damaged) else image
                )
        yield from (found[example] for example in ids.tolist())

    def _framing(self) -> Framing:
        return Framing(self.image_size, self.crop)

    def _files(self) -> RawFiles:
        path = Path(self.raw)
        return open_raw(path.parent if path.is_file() else path)

    def _path(self, file: str) -> Path:
        return self._files().path / file

    def _where(self) -> str:
        return str(self.raw)

    def _rows(self) -> _Rows:
        path = Path(self.raw)
        return _read(self._files(), path.name if path.is_file() else None, self.image_column)

    def _kept(self) -> list[str]:
        return kept_columns(self._rows().table, self.columns, (self.image_column, *BESIDE), self._where())

    def _used(self) -> NDArray[np.int64]:
        rows, kept = self._rows(), self._kept()
        lacking = {name: _missing(rows, name) for name in kept}
        counts = {name: int(missing.sum()) for name, missing in lacking.items() if missing.any()}
        if counts and self.missing is None:
            listed = ", ".join(f"{name!r} has no value in {count:,}" for name, count in counts.items())
            raise ValueError(
                f"every row of {self._where()} must have a value in each column, but {listed} of {len(rows.table):,}: "
                "leave such rows out (--missing drop), or leave columns out (--columns)"
            )
        return np.flatnonzero(~np.logical_or.reduce([*lacking.values()])).astype(np.int64)

    def _attributes(self) -> list[tuple[Attribute, pa.Array]]:
        rows, kept, used = self._rows(), self._kept(), pa.array(self._used())
        order, bins = pairs(self.order, kept, "--order"), pairs(self.bins, kept, "--bins")
        found = []
        for name in kept:
            column = rows.table.column(name).take(used)
            if (values := rows.names.get(name)) is not None and name not in {*order, *bins}:
                whole = Attribute(name=name, values=tuple(values))
                found.append((whole, pc.cast(column, pa.int16()).combine_chunks()))
                continue
            words = _words(_named(column, values))
            found.append(attribute(words, name, self._where(), order=order.get(name), bins=bins.get(name)))
        return found


@dataclass(frozen=True, eq=False)
class _Rows:
    """All rows without their images.

    Attributes:
        files: The files, sorted by name.
        starts: Where each file's rows begin, and last how many there are.
        table: All columns but the images.
        splits: The split that each row's file says; None where none does.
        names: Of columns of class labels the names.
    """

    files: tuple[str, ...]
    starts: tuple[int, ...]
    table: pa.Table
    splits: NDArray[Any] | None
    names: Mapping[str, Sequence[str]]


@functools.lru_cache(maxsize=2)
def _read(files: RawFiles, only: str | None, image_column: str) -> _Rows:
    listed = list(files.names) if only is None else [only]
    arrow = [n for n in listed if n.endswith(".arrow") and not n.rpartition("/")[2].startswith(("cache-", "indices"))]
    chosen = sorted(arrow or [name for name in listed if name.endswith(".parquet")])
    if not chosen:
        raise ValueError(
            f"{files.path} must hold .parquet files, or what datasets.save_to_disk wrote (.arrow), but has neither"
        )
    schemas = [_schema(files.path / name) for name in chosen]
    _check_image(schemas[0], image_column, chosen[0])
    others = [name for name in schemas[0].names if name != image_column]
    for name, schema in zip(chosen, schemas, strict=True):
        if set(schema.names) != set(schemas[0].names):
            raise ValueError(
                f"all files of {files.path} must have the same columns, but {name} has {schema.names} and {chosen[0]} "
                f"{schemas[0].names}: give the folder of one of its configurations"
            )
    tables = [_columns(files.path / name, others) for name in chosen]
    starts = tuple(np.cumsum([0, *map(len, tables)]).tolist())
    said = [_split_of(name) for name in chosen]
    if any(said) and not all(said):
        raise ValueError(
            f"names of files must say splits ({', '.join(SPLIT_WORDS)}), but {chosen[said.index(None)]} says none: "
            "move it away"
        )
    splits = np.repeat(np.array(said, dtype=object), np.diff(starts)) if all(said) else None
    plain = [table.replace_schema_metadata(None) for table in tables]
    return _Rows(
        tuple(chosen), starts, pa.concat_tables(plain, promote_options="permissive"), splits, _names(schemas[0])
    )


def _split_of(file: str) -> str | None:
    """Return the split that the words of a file's path say: the nearest to its end counts."""
    words = [word for word in re.findall(r"[a-z]+", file.lower()) if word in SPLIT_WORDS]
    return SPLIT_WORDS[words[-1]] if words else None


def _schema(path: Path) -> pa.Schema:
    try:
        if path.suffix == ".parquet":
            return pq.read_schema(path)
        with pa.memory_map(str(path)) as file:
            return pa.ipc.open_stream(file).schema
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): fetch it again") from error


def _columns(path: Path, names: Sequence[str]) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path, columns=list(names), partitioning=None)
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all().select(list(names))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): fetch it again") from error


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """Return what Hugging Face noted of the columns; nothing in files of other programs."""
    text = (schema.metadata or {}).get(_FEATURES)
    found = {} if text is None else json.loads(text).get("info", {}).get("features")
    return found if isinstance(found, Mapping) else {}


def _names(schema: pa.Schema) -> dict[str, Sequence[str]]:
    described = {name: feature for name, feature in _features(schema).items() if isinstance(feature, Mapping)}
    return {name: feature["names"] for name, feature in described.items() if feature.get("_type") == "ClassLabel"}


def _check_image(schema: pa.Schema, column: str, file: str) -> None:
    likely = [field.name for field in schema if _is_image(field.type)]
    if column not in schema.names:
        hint = f"say which it is with --image-column {likely[0]}" if likely else f"it has {', '.join(schema.names)}"
        raise ValueError(f"{file} must have a column of images, but has none called {column!r}: {hint}")
    if column not in likely:
        raise ValueError(
            f"a column of images must hold encoded files (bytes), but {column!r} of {file} is "
            f"{schema.field(column).type}: cast it to datasets.Image() first"
        )


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _cells(path: Path, column: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
    """Read the images of some rows (ascending) of a file, of Parquet only the row groups that hold them."""
    if not len(rows):
        return
    if path.suffix != ".parquet":
        taken = _columns(path, [column]).column(0).take(pa.array(rows))
        yield from zip(rows.tolist(), (cell.as_py() for cell in taken), strict=True)
        return
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            inside = rows[(rows >= start) & (rows < stop)]
            if len(inside):
                taken = file.read_row_group(group, columns=[column]).column(0).take(pa.array(inside - start))
                yield from zip(inside.tolist(), (cell.as_py() for cell in taken), strict=True)
            start = stop


def _decoded(cell: Any, framing: Framing) -> NDArray[np.uint8] | Damaged:  # noqa: ANN401 - a struct, bytes or None
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if data is None:
        path = cell.get("path") if isinstance(cell, Mapping) else None
        return Damaged(f"the file holds a path instead of the image ({path})" if path else "there is no image")
    return framing.decode(data)


def _named(column: pa.ChunkedArray, names: Sequence[str] | None) -> pa.ChunkedArray:
    """Return the names of class labels; other columns as they are."""
    if names is None:
        return column
    known = pc.if_else(pc.greater_equal(column, 0), column, None)
    return pa.chunked_array([pa.array(names, pa.string()).take(known.combine_chunks())])


def _words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        return pc.cast(column, pa.string())
    except (pa.ArrowException, NotImplementedError) as error:
        raise ValueError(
            f"attributes must be words or numbers, but a column is {column.type}: name those to keep (--columns)"
        ) from error


def _missing(rows: _Rows, name: str) -> NDArray[np.bool_]:
    column = rows.table.column(name)
    missing = pc.is_null(column)
    if name in rows.names:  # -1 is what Hugging Face writes for no label
        missing = pc.or_(missing, pc.fill_null(pc.less(column, 0), True))
    found: NDArray[np.bool_] = missing.to_numpy()
    return found
