"""CelebA: 202,599 photographs of 10,177 people with 40 attributes each, as its publishers or Kaggle hand it out."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.raw_files import RawFiles, fingerprint, only, open_raw, read_table_file
from fairsweep.datasets.raw.raw_images import SUFFIXES, Framing, read_images
from fairsweep.datasets.raw.raw_names import first_five
from fairsweep.datasets.sources import celeba_names, celeba_tables
from fairsweep.datasets.sources.source import source_paths
from fairsweep.datasets.sources.splits import HoldOut, split_column
from fairsweep.datasets.storage.layout import Attribute, Skipped, nearest

NO_PARTITION = "none"
_IMAGES = "img_align_celeba"


@dataclass(frozen=True)
class CelebA:
    """Reads CelebA. An example's id is the number in its file's name, so it never changes.

    `raw` is a folder, a zip or a tar with the images and tables anywhere in it: `img_align_celeba/000001.jpg`, Kaggle's
    `img_align_celeba/img_align_celeba/…` and `Img/img_align_celeba.zip` are all found. Where several folders hold
    images, the one called `img_align_celeba` is taken. An identity file, where there is one, fills `user`.

    Attributes:
        raw: The folder, zip or tar.
        image_size: Pixels of an edge after resizing.
        crop: Pixels of an edge of the centred square that is cut out first; None takes the largest that fits.
        attribute_file: `list_attr_celeba.txt` or `.csv` where `raw` does not hold just one of them.
        partition: `list_eval_partition.txt` or `.csv` likewise; "none" ignores the official split.
        identities: `identity_CelebA.txt` likewise.
        hold_out: The split where there is no official one.
        stratify: Attributes by which that split is stratified.

    References:
        Liu et al. 2015, "Deep Learning Face Attributes in the Wild", arXiv 1411.7766, section 4.
    """

    raw: str | Path
    image_size: int = 64
    crop: int | None = 178
    attribute_file: str | Path | None = None
    partition: str | Path | None = None
    identities: str | Path | None = None
    hold_out: HoldOut = field(default_factory=HoldOut)
    stratify: tuple[str, ...] = ("male", "smiling")

    name: ClassVar[str] = "celeba"

    def __post_init__(self) -> None:
        self._framing()
        # Workers run in folders of their own, where a relative path would lead elsewhere.
        object.__setattr__(self, "raw", Path(self.raw).absolute())
        for name in ("attribute_file", "partition", "identities"):
            given = getattr(self, name)
            if given is not None and str(given) != NO_PARTITION:
                object.__setattr__(self, name, Path(given).absolute())

    @property
    def version(self) -> str:
        """Version of the reading, and a hash of the files' names and sizes."""
        return f"1-{fingerprint(open_raw(self.raw))}"

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """All columns of the attribute file, in its order, with names in small letters and the values no and yes."""
        data, where = self._attribute_file(open_raw(self.raw))
        return tuple(celeba_names.attribute(name) for name in celeba_tables.attribute_names(data, where))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(image_size, image_size, 3)."""
        return self._framing().shape

    def examples(self) -> pa.Table:
        """List all images with their attributes, splits and, where known, people.

        Raises:
            ValueError: A file is missing or malformed, or the tables and the images do not name the same images.
        """
        files = open_raw(self.raw)
        data, where = self._attribute_file(files)
        listed, codes = celeba_tables.read_attributes(data, where)
        images = _images_of(files)
        _check_listed(images.ids, listed, where)
        there = np.isin(listed, images.ids)
        ids = listed[there]
        columns: dict[str, pa.Array] = {"id": pa.array(ids)}
        for name, values in codes.items():
            columns[celeba_names.attribute(name).name] = pa.array(values[there])
        inner = "" if images.files.path == files.path else f"{images.files.path.relative_to(files.path).as_posix()}/"
        columns["source_path"] = source_paths(inner + name for name in images.names_of(ids))
        people = _table(files, self.identities, "identity_celeba")
        if people is not None:
            named, users = celeba_tables.read_identities(*people)
            columns["user"] = pa.array(users[_places(named, ids, people[1])])
        columns["split"] = split_column(self._splits(files, ids, columns))
        return pa.table(columns).sort_by("id")

    def left_out(self) -> tuple[Skipped, ...]:
        """List the images that the attribute file lists and that are not there."""
        files = open_raw(self.raw)
        data, where = self._attribute_file(files)
        listed, _ = celeba_tables.read_attributes(data, where)
        missing = np.setdiff1d(listed, _images_of(files).ids, assume_unique=True)
        return tuple(
            Skipped(id=number, reason=f"{name} is listed in {where}, but does not exist")
            for number, name in zip(missing.tolist(), _file_names(missing), strict=True)
        )

    def notes(self) -> tuple[str, ...]:
        """Says whether the split was drawn, and how."""
        files = open_raw(self.raw)
        if str(self.partition) != NO_PARTITION and _table(files, self.partition, "list_eval_partition") is not None:
            return ()
        people = _table(files, self.identities, "identity_celeba") is not None
        together = "; images of one person stay together" if people else ""
        return (f"no official partition is used: the splits were drawn{together}",)

    def images(self, ids: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | Damaged]:
        """Decode the images of ids, uint8 [image_size, image_size, 3] each."""
        images = _images_of(open_raw(self.raw))
        return read_images(images.files, images.names_of(ids), self._framing())

    def _framing(self) -> Framing:
        return Framing(self.image_size, self.crop)

    def _attribute_file(self, files: RawFiles) -> tuple[bytes, str]:
        found = _table(files, self.attribute_file, "list_attr_celeba")
        if found is None:
            raise ValueError(
                f"{files.path} must hold list_attr_celeba.txt or list_attr_celeba.csv, but holds neither: "
                "put it there, or give its path (--attribute-file FILE)"
            )
        return found

    def _splits(self, files: RawFiles, ids: NDArray[np.int64], columns: dict[str, pa.Array]) -> NDArray[np.int8]:
        official = None
        if str(self.partition) != NO_PARTITION:
            official = _table(files, self.partition, "list_eval_partition")
        if official is not None:
            named, splits = celeba_tables.read_partition(*official)
            return splits[_places(named, ids, official[1])]
        for name in self.stratify:
            if name not in columns:
                raise ValueError(
                    f"the split cannot be stratified by {name!r}, which is no attribute: {nearest(name, list(columns))}"
                )
        users = columns["user"].to_numpy() if "user" in columns else None
        return self.hold_out.split(ids, [columns[name].to_numpy() for name in self.stratify], users=users)


@dataclass(frozen=True, eq=False)
class _Images:
    """Where the images lie.

    Attributes:
        files: The folder or zip that holds them.
        ids: Their numbers, int64 [N], ascending.
        names: Their names in `files`, in the order of `ids`.
    """

    files: RawFiles
    ids: NDArray[np.int64]
    names: tuple[str, ...]

    def names_of(self, ids: NDArray[np.int64]) -> list[str]:
        """Return the names of ids.

        Raises:
            ValueError: There is no such image.
        """
        places = np.minimum(np.searchsorted(self.ids, ids), max(len(self.ids) - 1, 0))
        missing = ids[self.ids[places] != ids] if len(self.ids) else ids
        if len(missing):
            raise ValueError(
                f"{self.files.path} has no image {_file_names(missing[:1])[0]}: did it change in the meantime?"
            )
        return [self.names[place] for place in places.tolist()]


@functools.lru_cache(maxsize=2)
def _images_of(files: RawFiles) -> _Images:
    """Find the folder of images, or the zip of them that lies in a folder (kept, since files stay the same object)."""
    by_folder: dict[str, list[str]] = {}
    for name in files.names:
        folder, _, file = name.rpartition("/")
        if file.lower().endswith(SUFFIXES):
            by_folder.setdefault(folder, []).append(name)
    if not by_folder:
        inner = only([n for n in files.names if n.lower().endswith(f"{_IMAGES}.zip")], "zip of images", files.path, "")
        if inner is None or not files.path.is_dir():
            raise ValueError(f"{files.path} must hold images such as 000001.jpg, but holds none: check the path")
        return _images_of(open_raw(files.path / inner))
    chosen = [folder for folder in by_folder if PurePosixPath(folder).name == _IMAGES] or list(by_folder)
    only(chosen, "folder of images", files.path, "give the right one, and the tables by their paths")
    names = pa.array(by_folder[chosen[0]])
    numbers = celeba_tables.image_numbers(pa.array([name.rpartition("/")[2] for name in names.to_pylist()]))
    strange = names.filter(numbers.is_null()).to_pylist()
    if strange:
        raise ValueError(
            f"images in {files.path} must be named like 000001.jpg, but {len(strange):,} are not: {first_five(strange)}"
        )
    order = pc.array_sort_indices(numbers)
    ids = numbers.take(order).to_numpy()
    if (np.diff(ids) == 0).any():
        raise ValueError(f"images in {files.path} must have unique numbers, but some share one: remove one of each")
    return _Images(files, ids, tuple(names.take(order).to_pylist()))


def _table(files: RawFiles, given: str | Path | None, stem: str) -> tuple[bytes, str] | None:
    """Read a table: the file given, else the one of this name in `files`; None where there is none."""
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise ValueError(f"there is no file {path}: check the path")
        return path.read_bytes(), path.name
    found = [name for name in files.names if PurePosixPath(name).name.lower() in (f"{stem}.txt", f"{stem}.csv")]
    name = only(found, f"{stem} file", files.path, "choose one by its path")
    return None if name is None else (read_table_file(files, name), PurePosixPath(name).name)


def _check_listed(wanted: NDArray[np.int64], listed: NDArray[np.int64], where: str) -> None:
    """Check that all images wanted are listed.

    Raises:
        ValueError: They are not: how many, and the first five.
    """
    missing = np.setdiff1d(wanted, listed, assume_unique=True)
    if len(missing):
        raise ValueError(
            f"tables and images must name the same images, but {len(missing):,} are not in {where}: "
            f"{first_five(_file_names(missing[:6]))}; complete the download, or remove what should be left out"
        )


def _places(named: NDArray[np.int64], ids: NDArray[np.int64], where: str) -> NDArray[np.int64]:
    """Find where each id stands in a table that must name it, and may name others."""
    _check_listed(ids, named, where)
    order = np.argsort(named)
    return order[np.searchsorted(named[order], ids)].astype(np.int64)


def _file_names(numbers: NDArray[np.int64]) -> list[str]:
    return [f"{number:06d}.jpg" for number in numbers.tolist()]
