"""CelebA's three tables in all published formats: attributes, partition, identities."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.datasets.raw import raw_tables
from fairsweep.datasets.raw.raw_names import first_five
from fairsweep.datasets.storage.layout import SPLITS

_IMAGE = "image_id"
# 000001.jpg; the aligned images in PNG are listed under the same names.
_NUMBERED = r"^(?P<number>[0-9]{1,9})\.(?i:jpe?g|png)$"


def attribute_names(head: bytes, where: str) -> tuple[str, ...]:
    """Read the names of the attributes from the first lines of the attribute file.

    Args:
        head: The file, or its first lines.
        where: How messages call it.

    Raises:
        ValueError: The file begins in another way.
    """
    head = raw_tables.tidied(head, where)
    if _is_csv(head):
        names = [name for name in raw_tables.read_header(head, where).columns if name]
        if _IMAGE not in names:
            raise ValueError(f"{where} must have a column {_IMAGE!r} beside its attributes, but names {names[:5]}")
        names.remove(_IMAGE)
    else:
        lines = [line.decode().strip() for line in head.split(b"\n", 2)[:2]]
        if len(lines) < 2 or not lines[0].isdigit():
            raise ValueError(
                f"{where} must begin with a line that counts its rows and a line that names the attributes, "
                f"but begins with {lines[0][:40]!r}: is it list_attr_celeba.txt (or .csv)?"
            )
        names = lines[1].split()
    if not names:
        raise ValueError(f"{where} must name at least one attribute")
    return tuple(names)


def read_attributes(data: bytes, where: str) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int16]]]:
    """Read the attribute file: text (count, names, then rows with runs of spaces) or CSV.

    Args:
        data: The whole file.
        where: How messages call it.

    Returns:
        Numbers of the images, int64 [N], and for each attribute, under its raw name, 0 (no) or 1 (yes), int16 [N].

    Raises:
        ValueError: The file is malformed, cut short, or has two rows for one image.
    """
    data = raw_tables.tidied(data, where)
    names = attribute_names(data, where)
    if _is_csv(data):
        table = raw_tables.read_csv(data, where)
    else:
        table = raw_tables.read_spaced(data, where, [_IMAGE, *names], lines_before=2)
        stated = int(data.split(b"\n", 1)[0])
        if stated != table.num_rows:
            raise ValueError(
                f"the first line of {where} states {stated:,} rows, but there are {table.num_rows:,}: "
                "was the file truncated or edited?"
            )
    return _numbers(table, where), {name: _codes(table, name, where) for name in names}


def read_partition(data: bytes, where: str) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Read the official partition: text or CSV of image and 0 (train), 1 (validation) or 2 (test).

    Returns:
        Numbers of the images, int64 [N], and places in `SPLITS`, int8 [N].

    Raises:
        ValueError: The file is malformed or has two rows for one image.
    """
    numbers, values = _pairs(data, where, "partition")
    wrong = sorted(set(values.tolist()) - set(range(len(SPLITS))))
    if wrong:
        raise ValueError(f"partitions in {where} must be 0 (train), 1 (validation) or 2 (test), but it has {wrong[:5]}")
    return numbers, values.astype(np.int8)


def read_identities(data: bytes, where: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read who is on each image: text or CSV of image and identity.

    Returns:
        Numbers of the images and of the people, int64 [N] each.

    Raises:
        ValueError: The file is malformed or has two rows for one image.
    """
    return _pairs(data, where, "identity")


def image_numbers(names: pa.Array) -> pa.Array:
    """Return the numbers in file names such as 000001.jpg, int64; null for other names."""
    return pc.cast(pc.struct_field(pc.extract_regex(names, _NUMBERED), "number"), pa.int64())


def _is_csv(data: bytes) -> bool:
    return any(delimiter in data.split(b"\n", 1)[0] for delimiter in (b",", b";"))


def _pairs(data: bytes, where: str, value: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    data = raw_tables.tidied(data, where)
    as_csv = _is_csv(data)
    table = raw_tables.read_csv(data, where) if as_csv else raw_tables.read_spaced(data, where, [_IMAGE, value])
    numbers = _numbers(table, where)
    values = raw_tables.column(table, value, where)
    return numbers, raw_tables.whole_numbers(values, f"values of {value} in {where}", table.column(_IMAGE))


def _numbers(table: pa.Table, where: str) -> NDArray[np.int64]:
    names = raw_tables.column(table, _IMAGE, where)
    raw_tables.check_once(names, where)
    numbers = image_numbers(names)
    if numbers.null_count:
        wrong = names.filter(pc.is_null(numbers)).to_pylist()
        raise ValueError(
            f"images in {where} must be named like 000001.jpg, but {len(wrong):,} are not: {first_five(wrong)}"
        )
    ids: NDArray[np.int64] = numbers.to_numpy()
    if (np.diff(np.sort(ids)) == 0).any():
        raise ValueError(f"images in {where} must have unique numbers, but some share one (1.jpg and 000001.jpg)")
    return ids


def _codes(table: pa.Table, name: str, where: str) -> NDArray[np.int16]:
    values = pc.replace_substring_regex(table.column(name), r"\.0+$", "")
    given = set(pc.unique(values).to_pylist())
    if not given <= {"-1", "0", "1"} or {"-1", "0"} <= given:
        shown = sorted(map(str, given - {"-1", "1"}))
        raise ValueError(f"values in {where} must be 1 (yes) and -1 or 0 (no), but {name} has {first_five(shown)}")
    codes: NDArray[np.int16] = pc.equal(values, "1").to_numpy().astype(np.int16)
    return codes
