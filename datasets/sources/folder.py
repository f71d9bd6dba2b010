"""Any images with a table: a folder, zip or tar, and a CSV or Parquet file with a row for each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.raw_files import fingerprint, open_raw
from fairsweep.datasets.raw.raw_images import Framing, read_images
from fairsweep.datasets.raw.table_columns import MISSING, attribute, pairs
from fairsweep.datasets.sources.own_tables import (
    BESIDE,
    LABEL,
    SPLIT_WORDS,
    Rows,
    check_values,
    kept_columns,
    open_parts,
    read_rows,
    words_of_splits,
)
from fairsweep.datasets.sources.source import source_paths
from fairsweep.datasets.sources.splits import HoldOut, splits_of, users_of
from fairsweep.datasets.storage.layout import Attribute, Skipped


@dataclass(frozen=True)
class Folder:
    """Reads images that a table lists. An example's id is its path's place among the table's sorted paths.

    So ids are the same on every machine that holds the same table; a row added or taken away moves the ids of those
    that sort after it. Images without a row are no examples; a row without its image counts as damaged.

    The table is a CSV (commas, semicolons or tabs) or Parquet file. It has a column of paths, relative to the folder in
    which it lies or to `raw` (to `raw`, for a table elsewhere), and a column for each attribute. Two columns have a
    meaning of their own: `split` (train, validation or test) divides the examples, `user` says whose an image is: a
    client of federated learning, whose images also stay together where a split is drawn. The values of an attribute
    are its words in order: those that begin with a number first, by it, then text by letter.

    FairFace comes as two tables and one folder of images:
    `--table train=fairface_label_train.csv --table test=fairface_label_val.csv --path-column file`.

    Attributes:
        raw: The folder, zip or tar.
        table: The CSV or Parquet file; by default the only one in `raw`. Repeat it for one table a split: the split is
            said before the path (train=a.csv, test=b.csv) or by a word in the file's name; a split that no table gives
            is drawn from the training examples.
        image_size: Pixels of an edge after resizing.
        crop: Pixels of an edge of the centred square that is cut out first; by default the largest that fits.
        columns: The columns to keep as attributes; by default all.
        path_column: The column of paths.
        name: Name of the dataset.
        missing: What to do where a value is missing: `drop` leaves the row out, `group` makes `missing` a value of its
            own. By default it is an error that counts them.
        missing_words: Words that mean a missing value, beside an empty one, for example NA,nan.
        order: The order of an attribute's values, age=young,old; repeat it for more attributes.
        bins: The lower edges of bins of a column of numbers: age=0,18,40,65 makes 0-17, 18-39, 40-64, 65+; age=each
            keeps every number as a value of its own. Repeat it for more columns.
        hold_out: The split where the table has none; stratified by `label`, then by the other attributes in order.
    """

    raw: str | Path
    table: str | Path | tuple[str | Path, ...] | None = None
    image_size: int = 64
    crop: int | None = None
    columns: tuple[str, ...] | None = None
    path_column: str = "path"
    name: str = "folder"
    missing: Literal["drop", "group"] | None = None
    missing_words: tuple[str, ...] = ()
    order: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    bins: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    hold_out: HoldOut = field(default_factory=HoldOut)

    def __post_init__(self) -> None:
        self._framing()
        if self.missing not in ("drop", "group", None):
            raise ValueError(f"missing must be drop or group, but got {self.missing!r}")
        # Workers run in folders of their own, where a relative path would lead elsewhere.
        object.__setattr__(self, "raw", Path(self.raw).absolute())
        given = () if self.table is None else self.table if isinstance(self.table, tuple) else (self.table,)
        object.__setattr__(self, "table", tuple(map(_settled, given)) or None)
        for name in ("order", "bins"):
            content = {column: tuple(map(str, words)) for column, words in getattr(self, name).items()}
            object.__setattr__(self, name, content)

    @property
    def version(self) -> str:
        """Version of the reading, and a hash of the files' names and sizes."""
        return f"1-{fingerprint(open_raw(self.raw))}"

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The columns kept, with their values."""
        return tuple(found for found, _ in self._attributes())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(image_size, image_size, 3)."""
        return self._framing().shape

    def examples(self) -> pa.Table:
        """List all images that the table lists and that are there.

        Raises:
            ValueError: There is no table, it lacks a column or a value, names an image twice or none that is there, or
                a label has one value.
        """
        rows, used = self._rows(), self._used()
        columns: dict[str, pa.Array] = {"id": pa.array(rows.ids[used])}
        found = self._attributes()
        check_values(tuple(attribute for attribute, _ in found), self._where())
        columns |= {attribute.name: codes for attribute, codes in found}
        if "user" in rows.table.column_names:
            columns["user"] = users_of(rows.table.column("user").take(pa.array(used)), self._where())
        columns["split"] = self._splits(rows, used, columns)
        columns["source_path"] = source_paths(rows.files[row] or "" for row in used.tolist())
        return pa.table(columns).sort_by("id")

    def left_out(self) -> tuple[Skipped, ...]:
        """List the rows whose image is not there."""
        rows = self._rows()
        complete = self._complete(rows)
        return tuple(
            Skipped(id=int(rows.ids[row]), reason=f"{rows.paths[row]} is listed in {self._where()}, but does not exist")
            for row, file in enumerate(rows.files)
            if file is None and complete[row]
        )

    def notes(self) -> tuple[str, ...]:
        """Says what was decided about rows and splits, with counts."""
        rows = self._rows()
        said = []
        lacking = {name: count for name, count in self._lacking(rows).items() if count}
        if lacking:
            listed = ", ".join(f"{name} {count:,}" for name, count in lacking.items())
            dropped = len(rows.paths) - int(self._complete(rows).sum())
            what = f"{dropped:,} rows left out" if self.missing == "drop" else f"value {MISSING!r} given"
            said.append(f"{what} where a value was missing ({listed})")
        if rows.splits is not None:
            drawn = [split for split in ("validation", "test") if split not in rows.splits]
            if drawn:
                said.append(f"no table gives the split {' or '.join(drawn)}: drawn from the training examples")
        if "user" in rows.table.column_names and "split" not in rows.table.column_names:
            said.append("images of one user stay together in the splits that were drawn")
        return tuple(said)

    def images(self, ids: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | Damaged]:
        """Decode the images of ids, uint8 [image_size, image_size, 3] each."""
        rows = self._rows()
        row_of = np.empty(len(rows.ids), np.int64)
        row_of[rows.ids] = np.arange(len(rows.ids))
        names = [rows.files[row] or rows.paths[row] for row in row_of[ids].tolist()]
        return read_images(open_raw(self.raw), names, self._framing())

    def _framing(self) -> Framing:
        return Framing(self.image_size, self.crop)

    def _given(self) -> tuple[str | Path, ...]:
        return self.table if isinstance(self.table, tuple) else ()

    def _where(self) -> str:
        return " and ".join(part.where for part in open_parts(open_raw(self.raw), self._given()))

    def _rows(self) -> Rows:
        files = open_raw(self.raw)
        return read_rows(files, open_parts(files, self._given()), self.path_column, self.missing_words)

    def _kept(self, table: pa.Table) -> list[str]:
        """Return the names of the columns that become attributes."""
        return kept_columns(table, self.columns, (self.path_column, *BESIDE), self._where())

    def _lacking(self, rows: Rows) -> dict[str, int]:
        """Return how many values each column lacks that is used."""
        used = [*self._kept(rows.table), *(name for name in BESIDE if name in rows.table.column_names)]
        return {name: rows.table.column(name).null_count for name in used}

    def _complete(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows are kept, whatever their image, bool [N]."""
        lacking = [name for name, count in self._lacking(rows).items() if count]
        if not lacking or self.missing == "group":
            return np.ones(len(rows.paths), bool)
        if self.missing is None:
            listed = ", ".join(f"{name!r} has no value in {rows.table.column(name).null_count:,}" for name in lacking)
            raise ValueError(
                f"every row of {self._where()} must have a value in each column, but {listed} "
                f"of {len(rows.paths):,}: leave such rows out (--missing drop), make {MISSING!r} a value (--missing "
                "group), or leave columns out (--columns)"
            )
        complete = np.ones(len(rows.paths), bool)
        for name in lacking:
            complete &= rows.table.column(name).is_valid().to_numpy()
        return complete

    def _used(self) -> NDArray[np.int64]:
        """Return the rows that become examples, int64."""
        rows = self._rows()
        there = np.array([file is not None for file in rows.files], bool)
        return np.flatnonzero(self._complete(rows) & there).astype(np.int64)

    def _attributes(self) -> list[tuple[Attribute, pa.Array]]:
        """Return each attribute with the codes of the rows used."""
        table, used, where = self._rows().table, pa.array(self._used()), self._where()
        kept = self._kept(table)
        order, bins = pairs(self.order, kept, "--order"), pairs(self.bins, kept, "--bins")
        found = []
        for name in kept:
            column = table.column(name).take(used)
            if column.null_count:
                if MISSING in pc.unique(column).to_pylist():
                    raise ValueError(f"{name!r} in {where} has the value {MISSING!r} already: rename it there")
                whole, codes = attribute(column.drop_null(), name, where, order=order.get(name), bins=bins.get(name))
                found.append(_with_missing(whole, codes, column))
            else:
                found.append(attribute(column, name, where, order=order.get(name), bins=bins.get(name)))
        return found

    def _splits(self, rows: Rows, used: NDArray[np.int64], columns: dict[str, pa.Array]) -> pa.Array:
        if "split" in rows.table.column_names:
            return words_of_splits(rows.table.column("split").take(pa.array(used)), self._where())
        ids = columns["id"].to_numpy()
        names = sorted(self._kept(rows.table), key=lambda name: name != LABEL)
        strata = [columns[name].to_numpy() for name in names]
        users = columns["user"].to_numpy() if "user" in columns else None
        said = None if rows.splits is None else np.array(rows.splits, dtype=object)[used]
        return splits_of(self.hold_out, ids, strata, users, said)


def _settled(table: str | Path) -> str:
    """Make a table's path absolute, where there is such a file; else it is a name in the raw files."""
    word, equals, rest = str(table).partition("=")
    if equals and word.lower() in SPLIT_WORDS and not Path(table).is_file():
        return f"{word}={_settled(rest)}"
    return str(Path(table).absolute()) if Path(table).is_file() else str(table)


def _with_missing(whole: Attribute, codes: pa.Array, column: pa.ChunkedArray) -> tuple[Attribute, pa.Array]:
    """Add the value of those that lack one, behind all others."""
    filled = np.full(len(column), len(whole.values), np.int16)
    filled[column.is_valid().to_numpy()] = codes.to_numpy()
    return Attribute(name=whole.name, values=(*whole.values, MISSING)), pa.array(filled)
