"""Columns of a user's table as attributes: order of values, bins of numbers, missing values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairsweep.datasets.raw.raw_names import first_five
from fairsweep.datasets.storage.layout import Attribute, nearest

MANY_NUMBERS = 50
"""A column with more different numbers must be binned, or each number be wanted as a value of its own."""
EACH = "each"
MISSING = "missing"

_NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_LEADING = re.compile(r"([<>≤≥]?)=?\s*(-?\d+(?:\.\d+)?)")
_RANGE = re.compile(r"\d+-\d+")
_MONTHS = {
    **{
        m: n
        for n, m in enumerate(
            ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
        )
    },
    **{"mrz": 3, "mär": 3, "mai": 5, "okt": 10, "dez": 12},
}
_DAY_MONTH = re.compile(r"(\d{1,2})[-. ]+([^\W\d]{3})\.?", re.IGNORECASE)
_MONTH_YEAR = re.compile(r"([^\W\d]{3})[-. ]+(\d{2})", re.IGNORECASE)


def natural_order(value: str) -> tuple[int, float, int, str]:
    """Return the key by which values are sorted: those that begin with a number first, by it, then text by letter.

    >>> sorted(["more than 70", "10-19", "3-9", "<3"], key=natural_order)
    ['<3', '3-9', '10-19', 'more than 70']
    """
    match = _LEADING.match(value)
    if match is None:
        return (1, 0.0, 0, value)
    side = {"<": -1, "≤": -1, ">": 1, "≥": 1}.get(match[1], 0)
    return (0, float(match[2]), side, value)


def attribute(
    column: pa.ChunkedArray, name: str, where: str, *, order: Sequence[str] | None, bins: Sequence[str] | None
) -> tuple[Attribute, pa.Array]:
    """Make an attribute of a column without missing values.

    Args:
        column: Its words.
        name: Its name.
        where: How messages call the table.
        order: All its values in the order wanted; None takes `natural_order`.
        bins: The lower edges of bins of numbers, ascending; `("each",)` keeps each number; None does so for few.

    Returns:
        The attribute, and its codes, int16 [N].

    Raises:
        ValueError: It has too many numbers without a word on bins, edges or an order that do not fit it, or a range
            that a spreadsheet has made a date.
    """
    binned = bins is not None and tuple(bins) != (EACH,)
    column = _binned(column, name, where, bins or ()) if binned else _whole(column)
    values = pc.unique(column).to_pylist()
    _check_dates(values, name, where)
    if len(values) > MANY_NUMBERS and bins is None and _are_numbers(column):
        raise ValueError(_question(column, values, name, where))
    if len(values) > np.iinfo(np.int16).max:
        raise ValueError(
            f"column {name!r} of {where} has {len(values):,} different values, too many for an attribute: "
            "name the columns to keep (--columns)"
        )
    if not values:
        raise ValueError(f"{where} must have at least one row")
    ordered = sorted(values, key=natural_order) if order is None else _given_order(values, order, name, where)
    codes = pc.index_in(column, pa.array(ordered, pa.string()))
    return Attribute(name=name, values=tuple(ordered)), codes.combine_chunks().cast(pa.int16())


def pairs(content: Mapping[str, Sequence[str]], columns: Sequence[str], option: str) -> Mapping[str, Sequence[str]]:
    """Return the checks that what an option says is about columns that are kept.

    Raises:
        ValueError: A column is unknown.
    """
    for name in content:
        if name not in columns:
            raise ValueError(
                f"{option} names the column {name!r}, which is not one of those kept: {nearest(name, columns)}"
            )
    return content


def _are_numbers(column: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, _NUMBER)).as_py())


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write 1.0 as 1 where all are such numbers: pandas writes whole numbers so when a value is missing."""
    if pc.all(pc.match_substring_regex(column, r"^-?\d+\.0+$")).as_py():
        return pc.replace_substring_regex(column, r"\.0+$", "")
    return column


def _question(column: pa.ChunkedArray, values: list[str], name: str, where: str) -> str:
    numbers = pc.cast(column, pa.float64()).to_numpy()
    edges = sorted({float(np.floor(edge)) for edge in np.quantile(numbers, [0, 0.25, 0.5, 0.75])})
    shown = ",".join(f"{edge:g}" for edge in edges)
    return (
        f"column {name!r} of {where} has {len(values):,} different numbers, but a label or group is a class "
        f"(regression is not supported): bin it by lower edges (--bins {name}={shown}), keep each number as a value of "
        f"its own (--bins {name}={EACH}), or leave the column out (--columns)"
    )


def _binned(column: pa.ChunkedArray, name: str, where: str, bins: Sequence[str]) -> pa.ChunkedArray:
    """Write the bin of each number: 0-17, 18-39, 40+ for whole numbers and the edges 0, 18, 40; else [0, 0.5)."""
    try:
        edges = [float(edge) for edge in bins]
    except ValueError:
        edges = []
    if not edges or (np.diff(edges) <= 0).any():
        raise ValueError(
            f"bins must be ascending numbers (--bins {name}=0,18,40,65) or the word {EACH}, but {name} has "
            f"{','.join(bins)}"
        )
    wrong = pc.unique(column.filter(pc.invert(pc.match_substring_regex(column, _NUMBER)))).to_pylist()
    if wrong:
        raise ValueError(
            f"a column with bins must hold numbers, but {name!r} of {where} has {first_five(wrong)}: mend these, or "
            f"say which words mean that a value is missing (--missing-words {wrong[0]} --missing drop)"
        )
    numbers = pc.cast(column, pa.float64()).to_numpy()
    whole = bool((numbers == np.floor(numbers)).all()) and all(edge == int(edge) for edge in edges)
    names = [f"<{edges[0]:g}"]
    for low, high in itertools.pairwise(edges):
        inside = f"{low:g}" if high == low + 1 else f"{low:g}-{high - 1:g}"
        names.append(inside if whole else f"[{low:g}, {high:g})")
    names.append(f"{edges[-1]:g}+")
    return pa.chunked_array([pa.array(names).take(pa.array(np.searchsorted(edges, numbers, side="right")))])


def _given_order(values: list[str], order: Sequence[str], name: str, where: str) -> list[str]:
    unknown = [value for value in order if value not in values]
    left = [value for value in values if value not in order]
    if unknown or left or len(set(order)) != len(order):
        raise ValueError(
            f"an order must name every value of {name!r} in {where} once ({', '.join(sorted(values)[:20])}), but "
            + (
                f"{first_five(unknown)} is none"
                if unknown
                else f"{first_five(left) or 'one'} is missing or named twice"
            )
        )
    return list(order)


def _check_dates(values: list[str], name: str, where: str) -> None:
    """Refuses a range that a spreadsheet has taken for a date, in a column that has such ranges.

    Raises:
        ValueError: There is one; the message says which range it was.
    """
    dates = {value: was for value in values if (was := _range_of_date(value)) is not None}
    if dates and any(map(_RANGE.match, values)):
        named = ", ".join(f"{value!r} (was {was})" for value, was in list(dates.items())[:5])
        raise ValueError(
            f"column {name!r} of {where} holds ranges, but a spreadsheet has turned some into dates: {named}; write "
            "these "
            "back in a text editor, or take the original file"
        )


def _range_of_date(value: str) -> str | None:
    """Return the range that a date was before a spreadsheet opened it; None for what is no such date.

    >>> _range_of_date("9-Mar"), _range_of_date("Oct-19"), _range_of_date("20-29")
    ('3-9', '10-19', None)
    """
    if (match := _DAY_MONTH.fullmatch(value)) and match[2].lower() in _MONTHS:
        return f"{_MONTHS[match[2].lower()]}-{int(match[1])}"
    if (match := _MONTH_YEAR.fullmatch(value)) and match[1].lower() in _MONTHS:
        return f"{_MONTHS[match[1].lower()]}-{int(match[2])}"
    return None
