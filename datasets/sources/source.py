"""The interface of a source of images."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.storage.layout import Attribute, Skipped


class Source(Protocol):
    """A set of labelled images, before preparation.

    A source is small, frozen and picklable: it travels to the workers, which then open what they need. What it says
    depends on its fields and on the files it names, never on when or where it is asked.
    """

    @property
    def name(self) -> str:
        """Name of the dataset, for example "faces"."""
        ...

    @property
    def version(self) -> str:
        """Version of the data; changes whenever the same fields give other examples or images."""
        ...

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """All attributes, in the order of the columns."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        ...

    def examples(self) -> pa.Table:
        """List all examples: `id` int64, `split`, a column of codes for each attribute, optionally `user`.

        Sources that read files also say in `source_path` (string) where each image lies below `raw`.

        Raises:
            ValueError: The raw files are missing or malformed.
        """
        ...

    def images(self, ids: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | Damaged]:
        """Give the image of each id, in order: uint8 [H, W, C], or why there is none.

        Args:
            ids: int64 [N], ids that `examples` lists.
        """
        ...


@runtime_checkable
class Notes(Protocol):
    """What a source also offers if it decides anything about its examples that a user should know."""

    def notes(self) -> tuple[str, ...]:
        """Says it, one sentence each, with counts."""
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """What a source also offers if some of its files cannot become examples, whatever their images look like."""

    def left_out(self) -> tuple[Skipped, ...]:
        """List these files, each under an id that no example has; they are counted and listed with the damaged."""
        ...


def source_paths(names: Iterable[str]) -> pa.Array:
    """Return the `source_path` column of files, strings in one Unicode form (NFC), since archives differ in theirs.

    Bytes of names that are not UTF-8 become question marks.
    """
    whole = (name.encode(errors="replace").decode() for name in names)
    return pa.array([unicodedata.normalize("NFC", name) for name in whole], pa.string())
