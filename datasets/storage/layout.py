"""The layout of a prepared dataset on disk: attributes, `dataset.json`, the columns of a shard, the content hash.

FOLDER/dataset.json             written last: a folder without it is not a dataset
FOLDER/shards/00000.parquet     id int64, image (H * W * C bytes), one int16 column an attribute, user int64?, split,
                                source_path string?
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

FORMAT_VERSION = 1
INFO_FILE = "dataset.json"
SHARD_FOLDER = "shards"
SPLITS = ("train", "validation", "test")
SOURCE_PATH = "source_path"
RESERVED_COLUMNS = ("id", "image", "split", "user", SOURCE_PATH)

PREPARE_AGAIN = "copy it again from where it is whole, or run `fairsweep prepare` once more into another folder"
# Not `checksum`, which in the records of trials is one of the bytes of the file.
_CHECKSUM = "info_checksum"

Split = Literal["train", "validation", "test"]
_CODE_REFERENCE = re.compile(r"\{\s*code\s*:\s*(-?\d+)\s*\}")


class DatasetError(ValueError):
    """A prepared dataset is missing, half written or damaged; the message ends with the remedy."""


def nearest(name: str, known: Sequence[str]) -> str:
    """Says which known name comes nearest, for the end of an error message.

    >>> nearest("smilling", ["smiling", "tone"])
    "did you mean 'smiling'? (known: smiling, tone)"
    """
    match = difflib.get_close_matches(name.lower(), [value.lower() for value in known], n=1, cutoff=0.5)
    listed = "known: " + ", ".join(known[:20]) + (f", … {len(known)} in all" if len(known) > 20 else "")
    if not match:
        return listed
    original = next(value for value in known if value.lower() == match[0])
    return f"did you mean {original!r}? ({listed})"


def value_reference(value: object) -> str:
    """Write a reference to an attribute's value in its one canonical form.

    Args:
        value: The value's name, a number that is a name (YAML reads the digit 8 as a number), or `{code: 0}`.

    Returns:
        The name, or "{code: 0}".

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, Mapping):
        codes = list(value.items())
        if len(codes) == 1 and codes[0][0] == "code" and isinstance(codes[0][1], int):
            return f"{{code: {codes[0][1]}}}"
    elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        match = _CODE_REFERENCE.fullmatch(str(value).strip())
        return f"{{code: {int(match[1])}}}" if match else str(value)
    raise ValueError(f"a value must be given by its name or as {{code: 0}}, but got {value!r}")


class Attribute(BaseModel):
    """A column of codes with its vocabulary.

    Attributes:
        name: Column name.
        values: Names of the values, in order: code c means values[c].
        display: Names to show in plots and tables instead, in the same order; None shows `values`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    values: tuple[str, ...]
    display: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Attribute:
        if not self.name or self.name in RESERVED_COLUMNS:
            raise ValueError(f"an attribute's name must not be empty or one of {RESERVED_COLUMNS}, got {self.name!r}")
        if len(self.values) < 1 or len(set(self.values)) != len(self.values):
            raise ValueError(f"values of attribute {self.name!r} must be distinct and at least one, got {self.values}")
        if len(self.values) > np.iinfo(np.int16).max:
            raise ValueError(f"attribute {self.name!r} has {len(self.values)} values; int16 codes hold at most 32767")
        if self.display is not None and len(self.display) != len(self.values):
            raise ValueError(
                f"display of attribute {self.name!r} must name each of its {len(self.values)} values, "
                f"got {len(self.display)}"
            )
        return self

    def code(self, value: str | int | Mapping[str, int]) -> int:
        """Find the code of a value.

        Args:
            value: Its name (compared as a string, so 8 finds "8"), the name that it is shown by, or `{"code": 0}`.

        Returns:
            The code, in [0, len(values)).

        Raises:
            ValueError: There is no such value; the message names the nearest one.

        >>> Attribute(name="tone", values=("light", "dark")).code("dark")
        1
        """
        reference = value_reference(value)
        # A value that is really called "{code: 0}" is found by its name first.
        if reference in self.values:
            return self.values.index(reference)
        match = _CODE_REFERENCE.fullmatch(reference)
        if match is None:
            shown = self.display or ()
            if shown.count(reference) == 1:
                return shown.index(reference)
            known = [*self.values, *shown]
            raise ValueError(f"attribute {self.name!r} has no value {reference!r}: {nearest(reference, known)}")
        code = int(match[1])
        if not 0 <= code < len(self.values):
            raise ValueError(f"codes of attribute {self.name!r} are 0 to {len(self.values) - 1}, but got {code=}")
        return code

    def named(self, value: str) -> str:
        """Return the name of a value that may be given by the name that it is shown by; all else stays as it is.

        So that `female` and `no` of CelebA's attribute `male` are one setting.

        >>> Attribute(name="male", values=("no", "yes"), display=("female", "male")).named("female")
        'no'
        """
        if value in self.values or value not in (self.display or ()):
            return value
        return self.values[self.code(value)]

    def shown(self, code: int) -> str:
        """Return the display name of a code."""
        return (self.display or self.values)[code]


class Skipped(BaseModel):
    """One image that was left out, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    reason: str


class ShardInfo(BaseModel):
    """One Parquet file: its name, rows, size, and a hash of its ids and images (not of its bytes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    rows: int
    bytes: int
    hash: str


class DatasetInfo(BaseModel):
    """What `dataset.json` says.

    Attributes:
        name: Name of the source, for example "faces".
        version: Version of the source's data.
        format_version: Version of this layout.
        attributes: All attributes, in the order of the columns.
        image_shape: (H, W, C) of every image.
        counts: Number of examples of each split.
        skipped: Images left out, with reasons.
        notes: What the source decided about its examples and a user should know, a sentence each.
        identical: For each pair of splits ("train test"), how many images of the second are also in the first, pixel
            for pixel; None where nobody has counted.
        has_user: Whether there is a `user` column.
        shards: The Parquet files, in the order of ids.
        source_paths_hash: Hash of the `source_path` column: where each image lies in the raw data, with `/` between
            folders. None where there is no such column, as in datasets of drawn images or of earlier versions.
        examples_hash: Hash of all other columns but the images.
        content_hash: Hash of everything that can change a result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    format_version: int = FORMAT_VERSION
    attributes: tuple[Attribute, ...]
    image_shape: tuple[int, int, int]
    counts: dict[str, int]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    identical: dict[str, int] | None = None
    has_user: bool = False
    shards: tuple[ShardInfo, ...]
    source_paths_hash: str | None = None
    examples_hash: str
    content_hash: str

    def identical_images(self) -> list[tuple[tuple[str, str], int]]:
        """Return the counts of `identical` by pair of splits; none where nobody has counted."""
        counts = (self.identical or {}).items()
        return [((first, second), count) for pair, count in counts for first, second in [pair.split(" ")]]


def write_info(info: DatasetInfo) -> str:
    """Return the text of `dataset.json`: what it says, and last a checksum of that."""
    content = info.model_dump(mode="json")
    return json.dumps(content | {_CHECKSUM: _checksum(content)}, indent=1, ensure_ascii=False) + "\n"


def read_info(text: bytes) -> tuple[DatasetInfo, bool]:
    """Read `dataset.json`.

    Args:
        text: Its bytes.

    Returns:
        What it says, and whether that matches its checksum; files of earlier versions have none, and do.

    Raises:
        ValidationError: It cannot be understood.
    """
    try:
        content = json.loads(text)
    except ValueError:
        return DatasetInfo.model_validate_json(text), False  # which says what is wrong
    is_whole = _pop_checksum(content)
    return DatasetInfo.model_validate_json(json.dumps(content)), is_whole


def format_version(text: bytes) -> int:
    """Return the format version in the bytes of `dataset.json`, whatever else it holds; 0 where it is damaged."""
    try:
        content = json.loads(text)
    except ValueError:
        return 0
    version = content.get("format_version") if _pop_checksum(content) and isinstance(content, dict) else None
    return version if isinstance(version, int) else 0


def _pop_checksum(content: object) -> bool:
    """Take the checksum out; returns whether it is that of the rest, or there is none."""
    known = content.pop(_CHECKSUM, None) if isinstance(content, dict) else None
    return known is None or (isinstance(content, dict) and known == _checksum(content))


def _checksum(content: Mapping[str, object]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def content_hash(
    attributes: Sequence[Attribute],
    image_shape: tuple[int, int, int],
    examples_hash: str,
    shards: Sequence[ShardInfo],
) -> str:
    """Hashes what can change a result: vocabularies, image shape, all columns and all images.

    Name, version, display names, source paths and the bytes of the Parquet files (pyarrow releases differ in them) are
    left out: no result depends on what a file was called.
    """
    digest = hashlib.blake2b(digest_size=20)
    for part in (
        f"format {FORMAT_VERSION} image {image_shape}",
        *(f"{attribute.name} {list(attribute.values)}" for attribute in attributes),
        examples_hash,
        *(f"{shard.rows} {shard.hash}" for shard in shards),
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def examples_schema(attributes: Sequence[Attribute], *, has_user: bool, has_source_path: bool = False) -> pa.Schema:
    """Return the schema of all columns but the image."""
    fields = [pa.field("id", pa.int64(), nullable=False)]
    fields += [pa.field(attribute.name, pa.int16(), nullable=False) for attribute in attributes]
    if has_user:
        fields.append(pa.field("user", pa.int64(), nullable=False))
    fields.append(pa.field("split", pa.string(), nullable=False))
    if has_source_path:
        fields.append(pa.field(SOURCE_PATH, pa.string(), nullable=False))
    return pa.schema(fields)


def image_type(image_shape: tuple[int, int, int]) -> pa.DataType:
    """Return the Arrow type of an image: its H * W * C bytes, row by row, the channels of a pixel side by side.

    Parquet keeps these as they are. A tensor of uint8 would be stored as a list of 32-bit numbers: a third larger on
    disk and 40 times slower to read.
    """
    height, width, channels = image_shape
    return pa.binary(height * width * channels)


def image_field(image_shape: tuple[int, int, int]) -> pa.Field:
    """Return the column of images; its metadata tell a reader without `dataset.json` the shape, as [H, W, C]."""
    return pa.field("image", image_type(image_shape), nullable=False, metadata={"shape": str(list(image_shape))})


def hash_examples(examples: pa.Table) -> str:
    """Hashes a table of examples without its source paths, in order, independent of its chunks and of Parquet."""
    digest = hashlib.blake2b(digest_size=20)
    for name in examples.column_names:
        if name == SOURCE_PATH:
            continue
        column = examples.column(name)
        if name == "split":
            values = np.array([SPLITS.index(split) for split in column.to_pylist()], dtype=np.int8)
        else:
            values = column.to_numpy()
        digest.update(f"{name} {values.dtype.str} {len(values)}".encode() + b"\0")
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def hash_source_paths(examples: pa.Table) -> str | None:
    """Hashes the source paths of a table of examples; None where it has none."""
    if SOURCE_PATH not in examples.column_names:
        return None
    digest = hashlib.blake2b(digest_size=20)
    for path in examples.column(SOURCE_PATH).to_pylist():
        digest.update(path.encode() + b"\0")
    return digest.hexdigest()


def hash_images(ids: NDArray[np.int64], images: NDArray[np.uint8]) -> str:
    """Hashes the ids (int64 [N]) and images (uint8 [N, H, W, C]) of one shard."""
    digest = hashlib.blake2b(np.ascontiguousarray(ids).tobytes(), digest_size=20)
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def image_column(images: NDArray[np.uint8]) -> pa.Array:
    """Return images (uint8 [N, H, W, C], or [N, H * W * C]) as a column, without a copy where they are contiguous."""
    size = int(np.prod(images.shape[1:]))
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(size), len(images), [None, pa.py_buffer(np.ascontiguousarray(images))]
    )


def images_of(column: pa.ChunkedArray | pa.Array, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a column of images as uint8 [N, H, W, C], read-only, without a copy where it is in one chunk."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    size = int(np.prod(image_shape))
    if len(array) == 0:
        return np.empty((0, *image_shape), np.uint8)
    images = np.frombuffer(array.buffers()[1], np.uint8, count=len(array) * size, offset=array.offset * size)
    return images.reshape(len(array), *image_shape)
