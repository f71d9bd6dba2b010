"""Any images with a table: a folder or zip, and a CSV or Parquet file with a row for each image."""

import functools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.datasets.layout import RESERVED_COLUMNS, SPLITS, Attribute
from fairsweep.datasets.sources import raw_tables
from fairsweep.datasets.sources.raw_files import RawFiles, fingerprint, first_five, only, open_raw
from fairsweep.datasets.sources.raw_images import Framing, read_images
from fairsweep.datasets.sources.source import Damaged, source_paths
from fairsweep.datasets.sources.splits import HoldOut, split_column

_TABLES = (".csv", ".parquet")
_LABEL = "label"
_SPLIT_WORDS = {
    **{split: split for split in SPLITS},
    **{"training": "train", "val": "validation", "valid": "validation", "dev": "validation", "testing": "test"},
}


@dataclass(frozen=True)
class Folder:
    """Reads images that a table lists. An example's id is its path's place among the table's sorted paths.

    So ids are the same on every machine that holds the same table; a row added or taken away moves the ids of those
    that sort after it. Images without a row are no examples.

    The table has a column of paths, relative to the folder in which it lies (to `raw`, for a table elsewhere), and a
    column for each attribute; optionally `split` (train, validation, test) and `user`. The values of an attribute are
    its words in order: by number where all are whole numbers, else by letter.

    Attributes:
        raw: The folder or zip.
        table: The CSV or Parquet file; None takes the only one in `raw`.
        image_size: Pixels of an edge after resizing.
        crop: Pixels of an edge of the centred square that is cut out first; None takes the largest that fits.
        columns: The columns to keep as attributes; None keeps all.
        path_column: The column of paths.
        name: Name of the dataset.
        hold_out: The split where the table has none; stratified by `label`, then by the other attributes in order.
    """

    raw: str | Path
    table: str | Path | None = None
    image_size: int = 64
    crop: int | None = None
    columns: tuple[str, ...] | None = None
    path_column: str = "path"
    name: str = "folder"
    hold_out: HoldOut = field(default_factory=HoldOut)

    def __post_init__(self) -> None:
        self._framing()
        # Workers run in folders of their own, where a relative path would lead elsewhere.
        object.__setattr__(self, "raw", Path(self.raw).absolute())
        if self.table is not None:
            object.__setattr__(self, "table", Path(self.table).absolute())

    @property
    def version(self) -> str:
        """Version of the reading, and a hash of the files' names and sizes."""
        return f"1-{fingerprint(open_raw(self.raw))}"

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The columns kept, with their values."""
        table = self._read()
        return tuple(_attribute(table, name, self._where()) for name in self._kept(table))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(image_size, image_size, 3)."""
        return self._framing().shape

    def examples(self) -> pa.Table:
        """Lists all images that the table lists.

        Raises:
            ValueError: There is no table, it lacks a column or a value, names an image twice or one that is not there,
                or a label has one value.
        """
        table, where = self._read(), self._where()
        listing = self._listing()
        attributes = self.attributes
        _check_values(attributes, where)
        columns: dict[str, pa.Array] = {"id": pa.array(listing.ids)}
        for attribute in attributes:
            codes = pc.index_in(table.column(attribute.name), pa.array(attribute.values))
            columns[attribute.name] = codes.combine_chunks().cast(pa.int16())
        if "user" in table.column_names:
            columns["user"] = _users(table, where)
        columns["split"] = self._splits(table, listing.ids, attributes, columns)
        columns["source_path"] = source_paths(listing.files).take(pa.array(listing.ids))
        return pa.table(columns).sort_by("id")

    def images(self, ids: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | Damaged]:
        """Decodes the images of ids, uint8 [image_size, image_size, 3] each."""
        listing = self._listing()
        return read_images(open_raw(self.raw), [listing.files[place] for place in ids.tolist()], self._framing())

    def _framing(self) -> Framing:
        return Framing(self.image_size, self.crop)

    def _where(self) -> str:
        return Path(_only_table(open_raw(self.raw)) if self.table is None else self.table).name

    def _data(self) -> bytes:
        if self.table is None:
            files = open_raw(self.raw)
            return files.read(_only_table(files))
        path = Path(self.table)
        if not path.is_file() or path.suffix.lower() not in _TABLES:
            raise ValueError(f"the table must be a .csv or .parquet file, but {path} is not one: check the path")
        return path.read_bytes()

    def _read(self) -> pa.Table:
        return _read_table(self._data(), self._where())

    def _listing(self) -> "_Listing":
        return _listing(open_raw(self.raw), self._data(), self._where(), self.path_column, self._table_folder())

    def _table_folder(self) -> str:
        """Returns the folder in `raw` to which the table's paths are relative."""
        if self.table is None:
            return _only_table(open_raw(self.raw)).rpartition("/")[0]
        raw, table = Path(self.raw), Path(self.table)
        folder = table.parent.relative_to(raw).as_posix() if raw in table.parents else "."
        return "" if folder == "." else folder

    def _kept(self, table: pa.Table) -> list[str]:
        """Returns the names of the columns that become attributes."""
        beside = (self.path_column, "split", "user")
        kept = [name for name in table.column_names if name not in beside] if self.columns is None else self.columns
        for name in kept:
            if name in RESERVED_COLUMNS or name == self.path_column:
                raise ValueError(
                    f"an attribute cannot be called {name!r}, which has a meaning of its own: rename that column of "
                    f"{self._where()}, or name those to keep (--columns)"
                )
            raw_tables.column(table, name, self._where())
        if not kept:
            raise ValueError(f"{self._where()} must have at least one column of attributes beside {beside}")
        return list(kept)

    def _splits(
        self,
        table: pa.Table,
        ids: NDArray[np.int64],
        attributes: tuple[Attribute, ...],
        columns: dict[str, pa.Array],
    ) -> pa.Array:
        if "split" in table.column_names:
            words = pc.utf8_lower(table.column("split"))
            known = pa.array(list(_SPLIT_WORDS))
            wrong = pc.unique(words.filter(pc.invert(pc.is_in(words, known)))).to_pylist()
            if wrong:
                raise ValueError(
                    f"splits in {self._where()} must be among {SPLITS}, but it has {first_five(list(map(str, wrong)))}"
                )
            return pa.array(list(_SPLIT_WORDS.values())).take(pc.index_in(words, known).combine_chunks())
        names = sorted((attribute.name for attribute in attributes), key=lambda name: name != _LABEL)
        return split_column(self.hold_out.split(ids, [columns[name].to_numpy() for name in names]))


@dataclass(frozen=True, eq=False)
class _Listing:
    """Where the images of a table lie.

    Attributes:
        ids: The id of each row, int64 [N], in the order of the table.
        files: The file of each id, in the order of ids.
    """

    ids: NDArray[np.int64]
    files: tuple[str, ...]


@functools.lru_cache(maxsize=2)
def _only_table(files: RawFiles) -> str:
    """Returns the name of the only table in a folder or zip, as near to its top as there is one."""
    tables = [name for name in files.names if name.lower().endswith(_TABLES)]
    nearest_top = min((name.count("/") for name in tables), default=0)
    found = only(
        [name for name in tables if name.count("/") == nearest_top],
        "table (.csv or .parquet)",
        files.path,
        "say which one is meant (--table FILE)",
    )
    if found is None:
        raise ValueError(f"{files.path} must hold a table (.csv or .parquet): put it there, or give --table FILE")
    return found


@functools.lru_cache(maxsize=2)
def _read_table(data: bytes, where: str) -> pa.Table:
    if where.lower().endswith(".parquet"):
        return raw_tables.read_parquet(data, where)
    return raw_tables.read_csv(data, where)


@functools.lru_cache(maxsize=2)
def _listing(files: RawFiles, data: bytes, where: str, path_column: str, prefix: str) -> _Listing:
    """Finds the file of each row; names are compared in one Unicode form, since archives differ in theirs."""
    given = raw_tables.column(_read_table(data, where), path_column, where)
    raw_tables.check_once(given, where)
    paths = [_normal(f"{prefix}/{path}" if prefix else path) for path in given.to_pylist()]
    raw_tables.check_once(pa.chunked_array([pa.array(paths, pa.string())]), where)
    known = {_normal(name): name for name in files.names}
    missing = [path for path in paths if path not in known]
    if missing:
        raise ValueError(
            f"every row of {where} must name an image in {files.path}, but {len(missing):,} of {len(paths):,} do not: "
            f"{first_five(missing)}; paths are relative to the folder of the table"
        )
    order = np.argsort(np.array(paths, dtype=object), kind="stable") if paths else np.empty(0, np.int64)
    ids = np.empty(len(paths), dtype=np.int64)
    ids[order] = np.arange(len(paths))
    return _Listing(ids, tuple(known[paths[row]] for row in order.tolist()))


def _normal(path: str) -> str:
    """Writes a path in the form in which paths are compared."""
    return unicodedata.normalize("NFC", path.replace("\\", "/")).removeprefix("./")


def _attribute(table: pa.Table, name: str, where: str) -> Attribute:
    column = table.column(name)
    if column.null_count:
        raise ValueError(
            f"every row of {where} must have a value of {name!r}, but {column.null_count:,} have none: "
            "write a word such as unknown"
        )
    values = pc.unique(column).to_pylist()
    if len(values) > np.iinfo(np.int16).max:
        raise ValueError(
            f"column {name!r} of {where} has {len(values):,} different values, too many for an attribute: "
            "name the columns to keep (--columns)"
        )
    if not values:
        raise ValueError(f"{where} must have at least one row")
    numbers = all(value.removeprefix("-").isdecimal() for value in values)
    return Attribute(name=name, values=tuple(sorted(values, key=lambda value: (int(value) if numbers else 0, value))))


def _check_values(attributes: tuple[Attribute, ...], where: str) -> None:
    """Checks that there is something to predict."""
    label = [attribute for attribute in attributes if attribute.name == _LABEL] or list(attributes)
    if all(len(attribute.values) < 2 for attribute in label):
        raise ValueError(
            f"a label must have at least two values, but {label[0].name!r} in {where} has only "
            f"{label[0].values[0]!r}: nothing could be learnt from it"
        )


def _users(table: pa.Table, where: str) -> pa.Array:
    """Returns the users: numbers as they are; words by their place among the sorted words."""
    users = table.column("user")
    if users.null_count:
        raise ValueError(f"every row of {where} must have a user, but {users.null_count:,} have none")
    if pc.all(pc.match_substring_regex(users, r"^-?[0-9]{1,18}$")).as_py():
        return pc.cast(users, pa.int64()).combine_chunks()
    words = pa.array(sorted(pc.unique(users).to_pylist()))
    return pc.index_in(users, words).combine_chunks().cast(pa.int64())
