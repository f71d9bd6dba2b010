"""Plain JSON values from what YAML and Python users write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from fairsweep.sweeps.syntax.errors import SweepError

_LONGEST_RANGE = 1_000_000


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever was given
    """Turn numbers and arrays of numpy, numbers of YAML, ranges and tuples into Python's own numbers and lists.

    Objects that are no values (configs, paths) stay as they are.

    Raises:
        SweepError: if a range is too long to be written out.

    >>> plain({"grid": range(3)}), plain((0.5, "a"))
    ({'grid': [0, 1, 2]}, [0.5, 'a'])
    """
    if callable(listed := getattr(value, "tolist", None)):
        return plain(listed())
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, range) and len(value) > _LONGEST_RANGE:
        raise SweepError(f"a range must have at most {_LONGEST_RANGE:,} numbers, but got {value}")
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, date):
        return str(value)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
