"""The tables of a user's dataset: one or several files, each possibly with its own split, and their rows."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.datasets.raw import raw_tables
from fairsweep.datasets.raw.listed_images import ImageFinder, is_absolute, normal, relative_paths
from fairsweep.datasets.raw.raw_files import MAX_FILE_BYTES, RawFiles, only, read_table_file
from fairsweep.datasets.raw.raw_images import SUFFIXES
from fairsweep.datasets.raw.raw_names import first_five
from fairsweep.datasets.storage.layout import RESERVED_COLUMNS, SPLITS, Attribute

SUFFIXES_OF_TABLES = (".csv", ".tsv", ".parquet")
SPLIT_WORDS = {
    **{split: split for split in SPLITS},
    **{"training": "train", "val": "validation", "valid": "validation", "dev": "validation", "testing": "test"},
}

LABEL = "label"
"""The attribute that splits are stratified by first, and that must have two values, where there is one of that name."""
BESIDE = ("split", "user")
"""Columns that are no attributes."""


def kept_columns(table: pa.Table, asked: Sequence[str] | None, beside: Sequence[str], where: str) -> list[str]:
    """Return the names of the columns that become attributes.

    Args:
        table: Columns of strings or numbers.
        asked: Those named by the user; None takes all but ``beside``.
        beside: Columns with a meaning of their own, in the table or not.
        where: How messages call the table.

    Raises:
        ValueError: There is none, one does not exist, or its name has another meaning.
    """
    kept = [name for name in table.column_names if name not in beside] if asked is None else list(asked)
    for name in kept:
        if name in RESERVED_COLUMNS or name in beside:
            raise ValueError(
                f"an attribute cannot be called {name!r}, which has a meaning of its own: rename that column of "
                f"{where}, or name those to keep (--columns)"
            )
        raw_tables.column(table, name, where)
    if not kept:
        raise ValueError(f"{where} must have at least one column of attributes beside {tuple(beside)}")
    return kept


def check_values(attributes: Sequence[Attribute], where: str) -> None:
    """Check that there is something to predict.

    Raises:
        ValueError: The label, or every attribute where none is called so, has one value.
    """
    label = [attribute for attribute in attributes if attribute.name == LABEL] or list(attributes)
    if all(len(attribute.values) < 2 for attribute in label):
        raise ValueError(
            f"a label must have at least two values, but {label[0].name!r} in {where} has only "
            f"{label[0].values[0]!r}: nothing could be learned from it"
        )


@dataclass(frozen=True)
class TablePart:
    """One table.

    Attributes:
        data: The whole file.
        where: How messages call it.
        folder: The folder in the raw files to which its paths are relative; empty for their top.
        split: The split of all its rows, where the file says it.
    """

    data: bytes
    where: str
    folder: str
    split: str | None


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of all parts.

    Attributes:
        table: Their columns, strings.
        paths: The path of each row, in normal form.
        files: The file of each row; None where there is no such image.
        ids: The place of each path among all paths, int64 [N].
        splits: The split of each row that its file says; None where files say none.
    """

    table: pa.Table
    paths: tuple[str, ...]
    files: tuple[str | None, ...]
    ids: NDArray[np.int64]
    splits: tuple[str, ...] | None


def open_parts(files: RawFiles, given: Sequence[str | Path]) -> tuple[TablePart, ...]:
    """Read the tables given, or the only one in the raw files.

    Args:
        files: The raw files.
        given: Paths, or names in the raw files; `SPLIT=PATH` says the split of all its rows.

    Raises:
        ValueError: There is none, or none that is meant; or one of several says no split.
    """
    if not given:
        name = _only_table(files)
        return (TablePart(read_table_file(files, name), name.rpartition("/")[2], name.rpartition("/")[0], None),)
    parts = tuple(_part(files, str(table), several=len(given) > 1) for table in given)
    return parts


@functools.lru_cache(maxsize=2)
def read_rows(
    files: RawFiles, parts: tuple[TablePart, ...], path_column: str, missing_words: tuple[str, ...] = ()
) -> Rows:
    """Read all tables and finds the image of each row.

    Args:
        files: The raw files.
        parts: The tables.
        path_column: The column of paths.
        missing_words: Words that mean a missing value, in all other columns.

    Raises:
        ValueError: A table is malformed, lacks a column that another has, or names an image twice; none of the images
            is there; several tables say no splits.
    """
    tables = [_read(part) for part in parts]
    for part, table in zip(parts, tables, strict=True):
        _check_path_column(table, path_column, part.where)
        raw_tables.check_once(table.column(path_column), part.where)
        for name in tables[0].column_names:
            raw_tables.column(table, name, part.where)
    columns = tables[0].column_names
    merged = pa.concat_tables([table.select(columns) for table in tables]).combine_chunks()
    where = " and ".join(part.where for part in parts)
    finder = _finder(files)
    paths, found = [], []
    for part, table in zip(parts, tables, strict=True):
        given = [normal(path) for path in table.column(path_column).to_pylist()]
        absolute = [path for path in given if is_absolute(path)]
        moved = dict(zip(absolute, relative_paths(absolute, files.path, finder), strict=True)) if absolute else {}
        for path in given:
            below = path if path in moved or not part.folder else f"{part.folder}/{path}"
            paths.append(below)
            # Some tables lie in a folder of their own, and speak from the top.
            found.append(finder.find(moved.get(path, below)) or (finder.find(path) if path not in moved else None))
    raw_tables.check_once(pa.chunked_array([pa.array(paths, pa.string())]), where)
    _check_found(paths, found, files, where)
    order = np.argsort(np.array(paths, dtype=object), kind="stable") if paths else np.empty(0, np.int64)
    ids = np.empty(len(paths), dtype=np.int64)
    ids[order] = np.arange(len(paths))
    splits = None
    if "split" not in columns and any(part.split is not None for part in parts):
        splits = tuple(_said(part) for part, table in zip(parts, tables, strict=True) for _ in range(len(table)))
    merged = _without_words(merged, missing_words, path_column)
    return Rows(merged, tuple(paths), tuple(found), ids, splits)


def _without_words(table: pa.Table, words: tuple[str, ...], path_column: str) -> pa.Table:
    """Empty the values that are such a word; paths stay."""
    if not words:
        return table
    columns = [
        values if name == path_column else pc.if_else(pc.is_in(values, pa.array(words)), None, values)
        for name, values in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.table(columns, names=table.column_names)


def _part(files: RawFiles, given: str, *, several: bool) -> TablePart:
    word, equals, rest = given.partition("=")
    split = SPLIT_WORDS.get(word.lower()) if equals else None
    text = rest if split is not None else given
    path = Path(text)
    if split is None and several:
        split = _split_in_name(path.stem)
    if path.is_file() and path.suffix.lower() in SUFFIXES_OF_TABLES:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ValueError(f"a table must have at most {MAX_FILE_BYTES:,} bytes, but {path} has {size:,}")
        return TablePart(path.read_bytes(), path.name, _folder_below(files.path, path.absolute()), split)
    inside = [name for name in files.names if name == text or name.endswith(f"/{text}")]
    if len(inside) == 1 and path.suffix.lower() in SUFFIXES_OF_TABLES:
        name = inside[0]
        return TablePart(read_table_file(files, name), name.rpartition("/")[2], name.rpartition("/")[0], split)
    raise ValueError(f"the table must be a .csv, .tsv or .parquet file, but {path} is not one: check the path")


def _folder_below(raw: Path, table: Path) -> str:
    folder = table.parent.relative_to(raw).as_posix() if raw in table.parents else "."
    return "" if folder == "." else folder


def _split_in_name(stem: str) -> str | None:
    """Return the split that a file's name says in one of its words: fairface_label_val says validation."""
    found = {SPLIT_WORDS[word] for word in re.findall(r"[a-z]+", stem.lower()) if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def _said(part: TablePart) -> str:
    if part.split is None:
        raise ValueError(
            f"each of several tables must say the split of its rows, but {part.where} does not: give it a column "
            f"split, or write --table train=FILE --table test=FILE (known: {', '.join(SPLIT_WORDS)})"
        )
    return part.split


@functools.lru_cache(maxsize=2)
def _only_table(files: RawFiles) -> str:
    """Return the name of the only table in a folder or archive, as near to its top as there is one."""
    tables = [name for name in files.names if name.lower().endswith(SUFFIXES_OF_TABLES)]
    nearest_top = min((name.count("/") for name in tables), default=0)
    found = only(
        [name for name in tables if name.count("/") == nearest_top],
        "table (.csv, .tsv or .parquet)",
        files.path,
        "choose one (--table FILE; --table train=FILE --table test=FILE for one a split)",
    )
    if found is None:
        raise ValueError(f"{files.path} must hold a table (.csv, .tsv or .parquet): put it there, or give --table FILE")
    return found


@functools.lru_cache(maxsize=4)
def _read(part: TablePart) -> pa.Table:
    if part.where.lower().endswith(".parquet"):
        return raw_tables.read_parquet(part.data, part.where)
    return raw_tables.read_csv(part.data, part.where)


@functools.lru_cache(maxsize=2)
def _finder(files: RawFiles) -> ImageFinder:
    return ImageFinder.of(files)


def _check_path_column(table: pa.Table, path_column: str, where: str) -> None:
    if path_column in table.column_names:
        return
    likely = [name for name in table.column_names if _looks_like_paths(table.column(name))]
    remedy = f"--path-column {likely[0]}" if likely else f"--path-column NAME ({', '.join(table.column_names[:20])})"
    raise ValueError(
        f"{where} must have a column of image paths, but has none called {path_column!r}: say which it is with {remedy}"
    )


def _looks_like_paths(column: pa.ChunkedArray) -> bool:
    first = column.slice(0, 20).drop_null().to_pylist()
    return bool(first) and all(value.lower().endswith(SUFFIXES) for value in first)


def _check_found(paths: list[str], found: list[str | None], files: RawFiles, where: str) -> None:
    """Check that some of the images are there (what is missing counts as damaged), and no two rows share one."""
    if paths and not any(found):
        raise ValueError(
            f"the rows of {where} must name images in {files.path}, but none of {len(paths):,} does: "
            f"{first_five(paths)}; paths are relative to the folder of the table, or to {files.path}"
        )
    there = [name for name in found if name is not None]
    if len(set(there)) < len(there):
        seen: set[str] = set()
        twice = sorted({name for name in there if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
        raise ValueError(
            f"{where} must have one row for each image, but several rows name {first_five(twice)}: keep one row of each"
        )


def words_of_splits(column: pa.ChunkedArray, where: str) -> pa.Array:
    """Read a column of splits in any of the usual words.

    Raises:
        ValueError: It has another word, or none.
    """
    words = pc.fill_null(pc.utf8_lower(column), "nothing")
    known = pa.array(list(SPLIT_WORDS))
    wrong = pc.unique(words.filter(pc.invert(pc.is_in(words, known)))).to_pylist()
    if wrong:
        raise ValueError(f"splits in {where} must be among {SPLITS}, but it has {first_five(list(map(str, wrong)))}")
    return pa.array(list(SPLIT_WORDS.values())).take(pc.index_in(words, known).combine_chunks())
