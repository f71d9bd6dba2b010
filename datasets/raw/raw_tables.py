"""Reading of tables beside raw images: CSV, Parquet, and text separated by spaces. All values are strings."""

from __future__ import annotations

import codecs
import csv
import functools
import io
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsweep.datasets.raw.raw_names import first_five
from fairsweep.datasets.storage.layout import nearest

_DELIMITERS = (",", ";", "\t")
_HEADER_BYTES = 2**20
# What pandas calls a column without a name when it reads it, and its index when it writes Parquet.
_UNNAMED = re.compile(r"Unnamed: \d+|__index_level_\d+__")


def read_csv(data: bytes, name: str) -> pa.Table:
    """Read a CSV with a header.

    Args:
        data: The whole file; see `tidied`.
        name: How messages call it.

    Returns:
        One string column for each that the header names; spaces around values are gone, empty values are null, empty
        rows left out. Commas, semicolons and tabs may stand between values.

    Raises:
        ValueError: It is empty or no UTF-8, its header names a column twice, or a row has another number of values.
    """
    data = tidied(data, name)
    header = read_header(data, name)
    # Columns without a name hold what a program has counted (`df.to_csv`), or nothing. Here they get a number.
    columns = [column or f"Unnamed: {place}" for place, column in enumerate(header.columns)]
    table = _read(data, name, columns, lines_before=header.lines, delimiter=header.delimiter)
    return _without_empty(table.select([column for column in columns if not _UNNAMED.fullmatch(column)]))


@dataclass(frozen=True)
class Header:
    """How a CSV begins.

    Attributes:
        columns: The names of its columns.
        delimiter: What stands between values: a comma, a semicolon or a tab.
        lines: How many lines it takes.
    """

    columns: tuple[str, ...]
    delimiter: str
    lines: int


def read_header(data: bytes, name: str) -> Header:
    """Read the header of a CSV, and which delimiter it uses.

    That is the one that makes as many values of the next line as columns of the first, and most of them.

    Args:
        data: The file, or its beginning; see `tidied`.
        name: How messages call it.

    Raises:
        ValueError: It is empty.
    """
    lines = data[:_HEADER_BYTES].decode(errors="replace").splitlines(keepends=True)
    # Excel's own way to say which delimiter follows.
    said = 1 if lines and lines[0].strip().lower() in ("sep=,", "sep=;") else 0
    found = []
    for delimiter in _DELIMITERS:
        reader = csv.reader(lines[said:], delimiter=delimiter, skipinitialspace=True)
        columns = tuple(column.strip() for column in next(reader, []))
        taken = said + reader.line_num
        fits = len(columns) > 1 and len(next(reader, columns)) == len(columns)
        found.append((fits, len(columns), Header(columns, delimiter, taken)))
    best = max(found, key=lambda choice: choice[:2])[2]
    if not any(best.columns):
        raise ValueError(f"{name} must start with a line of column names, but that line is empty")
    return best


def tidied(data: bytes, name: str) -> bytes:
    """Brings the text of a table to UTF-8 without a byte-order mark, with a line feed at the end of lines.

    Raises:
        ValueError: It is no UTF-8 (nor UTF-16 that says so by its first bytes).
    """
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            data = data.decode("utf-16").encode()
        data = data.removeprefix(codecs.BOM_UTF8)
        str(data, "utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{name} must be UTF-8 text, but line {line:,} is not: save it again as UTF-8 (in Excel: "
            '"CSV UTF-8 (comma delimited)")'
        ) from error
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def read_spaced(data: bytes, name: str, columns: list[str], lines_before: int = 0) -> pa.Table:
    """Read a text table whose values are separated by runs of spaces or tabs.

    Args:
        data: The whole file, UTF-8.
        name: How messages call it.
        columns: Names of the columns.
        lines_before: Lines before the first row.

    Returns:
        The columns as strings.

    Raises:
        ValueError: A row has another number of values.
    """
    tidy = tidied(data, name).replace(b"\t", b" ")
    # Plain replacing takes a tenth of the time and memory that a regular expression needs for eight million values.
    while b"  " in tidy:
        tidy = tidy.replace(b"  ", b" ")
    tidy = tidy.replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ")
    return _read(tidy, name, columns, lines_before=lines_before, delimiter=" ")


def read_parquet(data: bytes, name: str) -> pa.Table:
    """Read a Parquet file; every column of numbers, words or truth values becomes strings (true, false).

    Raises:
        ValueError: It is no Parquet file, or a column holds something else.
    """
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} cannot be read as Parquet ({error})") from error
    columns = {}
    for column in table.column_names:
        if _UNNAMED.fullmatch(column) or not column:
            continue
        try:
            columns[column] = pc.cast(_decoded(table.column(column)), pa.string())
        except (pa.ArrowException, NotImplementedError) as error:
            raise ValueError(
                f"columns of {name} must hold words or numbers, but {column!r} is {table.schema.field(column).type}: "
                "leave it out"
            ) from error
    return pa.table(columns)


def column(table: pa.Table, name: str, where: str) -> pa.ChunkedArray:
    """Return a column.

    Raises:
        ValueError: There is none of that name; the message names the nearest.
    """
    if name not in table.column_names:
        raise ValueError(f"{where} must have a column {name!r}, but has none: {nearest(name, table.column_names)}")
    return table.column(name)


def whole_numbers(values: pa.ChunkedArray, what: str, names: pa.ChunkedArray) -> NDArray[np.int64]:
    """Read words as whole numbers, int64 [N].

    Args:
        values: The words.
        what: How messages call them, for example "partitions in list_eval_partition.txt".
        names: Whose they are, for messages.

    Raises:
        ValueError: Some are not whole numbers, or missing: how many, and whose.
    """
    matched = pc.fill_null(pc.match_substring_regex(values, r"^[+-]?\d{1,18}(\.0*)?$"), False)
    wrong = names.filter(pc.invert(matched)).to_pylist()
    if wrong:
        raise ValueError(f"{what} must be whole numbers, but {len(wrong):,} are not, for {first_five(wrong)}")
    unsigned = pc.replace_substring_regex(values, r"^\+|\.0*$", "")
    numbers: NDArray[np.int64] = pc.cast(unsigned, pa.int64()).to_numpy()
    return numbers


def check_once(names: pa.ChunkedArray, where: str) -> None:
    """Check that a table names every image once.

    Raises:
        ValueError: A name is missing, or occurs again: how many, and the first five.
    """
    if names.null_count:
        raise ValueError(f"every row of {where} must name its image, but {names.null_count:,} rows do not")
    counted = pc.value_counts(names.combine_chunks())
    twice = counted.field("values").filter(pc.greater(counted.field("counts"), 1)).to_pylist()
    if twice:
        raise ValueError(
            f"{where} must have one row for each image, but {len(twice):,} images have several: {first_five(twice)}; "
            "keep one row of each"
        )


def _read(data: bytes, name: str, columns: list[str], *, lines_before: int, delimiter: str) -> pa.Table:
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise ValueError(f"the columns of {name} must have unique names, but it repeats {first_five(twice)}")
    try:
        table = pv.read_csv(
            io.BytesIO(data),
            pv.ReadOptions(column_names=columns, skip_rows=lines_before),
            pv.ParseOptions(
                delimiter=delimiter,
                quote_char=False if delimiter == " " else '"',
                newlines_in_values=delimiter != " " and b'"' in data,
            ),
            # Words stay as they are written: "no", "NA" and "01" are names here, not a truth value, a gap or a one.
            pv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), null_values=[""], strings_can_be_null=True
            ),
        )
    except pa.ArrowException as error:
        raise ValueError(f"{name} cannot be read as a table of {len(columns)} columns: {error}") from error
    trimmed = [pc.utf8_trim_whitespace(table.column(column)) for column in columns]
    return pa.table([pc.if_else(pc.equal(values, ""), None, values) for values in trimmed], names=columns)


def _without_empty(table: pa.Table) -> pa.Table:
    """Leaves out rows without a single value, as spreadsheets write them below a table."""
    empty = functools.reduce(pc.and_, (pc.is_null(column) for column in table.columns))
    return table.filter(pc.invert(empty)) if table.num_columns and pc.any(empty).as_py() else table


def _decoded(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undoes dictionary encoding."""
    return pc.cast(values, values.type.value_type) if pa.types.is_dictionary(values.type) else values
