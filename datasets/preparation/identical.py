"""Count of identical images that occur in more than one split (leakage between splits)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.storage.layout import SPLITS, DatasetInfo
from fairsweep.datasets.storage.prepared import PreparedDataset

PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))


def picture_hashes(images: NDArray[np.uint8]) -> list[str]:
    """Hashes the pixels of each image, 16 hexadecimal digits: equal pictures have equal ones.

    Args:
        images: uint8 [N, H, W, C].
    """
    return [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).hexdigest() for image in images]


def count_identical(hashes: Sequence[str], splits: Iterable[str]) -> dict[str, int]:
    """Return the counts for each pair of splits the images of the second that are also in the first.

    Args:
        hashes: Of each image, as `picture_hashes` gives them.
        splits: Its split.

    >>> count_identical(["a", "b", "a", "a"], ["train", "train", "test", "test"])["train test"]
    2
    """
    by_split: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, value in zip(splits, hashes, strict=True):
        by_split[split].append(value)
    known = {split: set(values) for split, values in by_split.items()}
    return {f"{first} {second}": sum(value in known[first] for value in by_split[second]) for first, second in PAIRS}


def counted_identical(dataset: PreparedDataset) -> DatasetInfo:
    """Return what a dataset says of itself, with a count of identical pictures that it lacks; reads all images."""
    shards = map(dataset.shard_images, range(len(dataset.info.shards)))
    hashes = [value for images in shards for value in picture_hashes(images)]
    splits = dataset.examples().column("split").to_pylist()
    return dataset.info.model_copy(update={"identical": count_identical(hashes, splits)})
