"""UTKFace: about 23,700 faces with age, gender and race encoded in their file names."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.raw_files import RawFiles, fingerprint, open_raw
from fairsweep.datasets.raw.raw_images import SUFFIXES, Framing, read_images
from fairsweep.datasets.raw.raw_names import first_five
from fairsweep.datasets.sources.source import source_paths
from fairsweep.datasets.sources.splits import BalancedTest, HoldOut, split_column
from fairsweep.datasets.storage.layout import Attribute, Skipped

AGE_EDGES = (2, 9, 20, 27, 45, 65, 120)
GENDERS = ("male", "female")
RACES = ("white", "black", "asian", "indian", "others")
# Age, gender, race, date and time, and whatever follows: some real names have "jpg" without its dot, or ".pg".
_NAME = r"^(?P<age>[0-9]{1,3})_(?P<gender>[01])_(?P<race>[0-4])_[0-9]+[A-Za-z.]*$"
_FOLDER = "UTKFace"


@dataclass(frozen=True)
class UTKFace:
    """Reads UTKFace. An example's id is its file's place among the sorted names of all files.

    So ids are the same on every machine that holds the same files; a file added or taken away moves the ids of those
    that sort after it. Files whose names do not say age, gender and race are `left_out`; they keep their places.

    `raw` is a folder, a zip, or the tar.gz in which UTKFace is handed out. Where folders in it are called `UTKFace`,
    the outermost is taken alone (Kaggle's copy holds every face several times); else all that it holds. The folder in
    which a file lies is no part of its name.

    Attributes:
        raw: The folder, zip or tar.
        image_size: Pixels of an edge, after the largest centred square was cut out.
        age_edges: Largest age of each bin in years, ascending.
        hold_out: Validation and test split; its share for the test split is not used beside `balanced_test`.
        balanced_test: A test split with equally many faces of each race and age bin instead; an image in it that turns
            out to be damaged is missing from it.

    References:
        Zhang et al. 2017, "Age Progression/Regression by Conditional Adversarial Autoencoder", arXiv 1702.08423,
        section 5.1.
    """

    raw: str | Path
    image_size: int = 64
    age_edges: tuple[int, ...] = AGE_EDGES
    hold_out: HoldOut = field(default_factory=HoldOut)
    balanced_test: BalancedTest | None = None

    name: ClassVar[str] = "utkface"

    def __post_init__(self) -> None:
        edges = np.array((-1, *self.age_edges))
        if len(edges) < 2 or (np.diff(edges) < 1).any():
            raise ValueError(f"age edges must be ascending ages in years, but got age_edges={self.age_edges}")
        self._framing()
        # Workers run in folders of their own, where a relative path would lead elsewhere.
        object.__setattr__(self, "raw", Path(self.raw).absolute())

    @property
    def version(self) -> str:
        """Version of the reading, and a hash of the files' names and sizes."""
        return f"1-{fingerprint(open_raw(self.raw))}"

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """age_bin, gender, race, and age in years."""
        lows = (0, *(edge + 1 for edge in self.age_edges[:-1]))
        bins = tuple(
            f"{low}-{high}" if low < high else str(high) for low, high in zip(lows, self.age_edges, strict=True)
        )
        return (
            Attribute(name="age_bin", values=bins),
            Attribute(name="gender", values=GENDERS),
            Attribute(name="race", values=RACES),
            Attribute(name="age", values=tuple(str(age) for age in range(self.age_edges[-1] + 1))),
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(image_size, image_size, 3)."""
        return self._framing().shape

    def examples(self) -> pa.Table:
        """List all faces whose names are whole.

        Raises:
            ValueError: There are no such faces, two files have one name, someone is older than the last bin, or the
                balanced test split asks for more faces than exist.
        """
        files = open_raw(self.raw)
        parsed = _parse(files)
        faces = np.flatnonzero(parsed.is_valid()).astype(np.int64)
        if not len(faces):
            raise ValueError(
                f"{files.path} must hold faces named like 26_0_1_20170116184028385.jpg, but holds none: check the path"
            )
        whole = parsed.drop_null()
        age, gender, race = (
            pc.cast(pc.struct_field(whole, field), pa.int16()).to_numpy() for field in ("age", "gender", "race")
        )
        old = np.flatnonzero(age > self.age_edges[-1])
        if len(old):
            raise ValueError(
                f"the last age edge must not be below any age, but {len(old):,} faces are older than "
                f"{self.age_edges[-1]}: end the edges with {age.max()} or more"
            )
        age_bin = np.searchsorted(np.array(self.age_edges), age).astype(np.int16)
        test = None
        if self.balanced_test is not None:
            balanced = {attribute.name: attribute for attribute in self.attributes}
            test = self.balanced_test.choose(faces, [balanced["race"], balanced["age_bin"]], [race, age_bin])
        splits = self.hold_out.split(faces, [race, age_bin, gender], test)
        return pa.table(
            {
                **{"id": faces, "age_bin": age_bin, "gender": gender, "race": race, "age": age},
                "split": split_column(splits),
                "source_path": source_paths(_names(files)).take(pa.array(faces)),
            }
        )

    def left_out(self) -> tuple[Skipped, ...]:
        """List the files that are no examples, since their names do not say what is on them."""
        files = open_raw(self.raw)
        names = _names(files)
        return tuple(
            Skipped(id=place, reason=f"{names[place]}: the name must be [age]_[gender]_[race]_[date&time].jpg")
            for place in np.flatnonzero(_parse(files).is_null()).tolist()
        )

    def images(self, ids: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | Damaged]:
        """Decode the images of ids, uint8 [image_size, image_size, 3] each."""
        files = open_raw(self.raw)
        names = _names(files)
        return read_images(files, [names[place] for place in ids.tolist()], self._framing())

    def _framing(self) -> Framing:
        return Framing(self.image_size)


@functools.lru_cache(maxsize=2)
def _names(files: RawFiles) -> tuple[str, ...]:
    """Return the files that may be faces, sorted by the last part of their names.

    Raises:
        ValueError: Two have the same one.
    """
    depths = [path.parts.index(_FOLDER) for path in map(PurePosixPath, files.names) if _FOLDER in path.parts[:-1]]
    inside = [
        name
        for name in files.names
        if (not depths or PurePosixPath(name).parts[min(depths) : min(depths) + 1] == (_FOLDER,))
        # Landmark lists and read-me files beside the faces are none; some faces lack the dot of their extension.
        and (name.lower().endswith(SUFFIXES) or _last(name)[:1].isdecimal())
    ]
    names = sorted(inside, key=_last)
    twice = [name for name, following in itertools.pairwise(names) if _last(name) == _last(following)]
    if twice:
        raise ValueError(
            f"each face must have a unique name, but {len(twice):,} names occur in several folders of "
            f"{files.path}: {first_five(twice)}; give the right folder"
        )
    return tuple(names)


def _parse(files: RawFiles) -> pa.Array:
    """Split names into age, gender and race (strings); null where a name does not say them."""
    return pc.extract_regex(pa.array([_last(name) for name in _names(files)], pa.string()), _NAME)


def _last(name: str) -> str:
    return name.rpartition("/")[2]
