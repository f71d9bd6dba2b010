"""Features of a frozen body in the place of images: kept in the machine's cache, or computed as they are asked for."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fairsweep.datasets.feeds.copy_checksums import ChecksumWriter
from fairsweep.datasets.feeds.eviction import cache_limit
from fairsweep.datasets.feeds.feed import Feed
from fairsweep.datasets.feeds.machine_copy import COPIES, cache_root, open_copy
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.trainables.models.frozen_body import BLOCK, BodyFeatures, Tail
from fairsweep.trainables.models.model import ModelConfig

_BLOCKS_AT_ONCE = 64
_FLOAT = np.dtype(np.float32)


def features_bytes(tail: Tail, dataset: PreparedDataset) -> int:
    """Return the size of the features of all images of a dataset."""
    return len(dataset) * math.prod(tail.shape) * _FLOAT.itemsize


def open_features(
    model: ModelConfig,
    classes: int,
    dataset: PreparedDataset,
    tail: Tail,
    device: torch.device,
    open_images: Callable[[], Feed],
) -> Feed:
    """Open the features of a dataset's images.

    Those of the machine's cache are computed by the first trial that asks for them. Where they would take more than the
    cache may hold (`FAIRSWEEP_CACHE_LIMIT_GB`), each trial computes those of the blocks of images that it meets, once,
    and keeps them in memory: the same numbers.

    Args:
        model: Whose body.
        classes: Number of classes.
        dataset: What it is trained or tested on.
        tail: Where its body ends.
        device: Where features are computed.
        open_images: Opens the images of the dataset, where they are needed.

    Raises:
        DatasetError: If the features cannot be kept.
    """
    make = partial(BodyFeatures, model, tail, dataset.info.image_shape, classes, device)
    shape = (len(dataset), *tail.shape)
    if features_bytes(tail, dataset) > cache_limit():
        return ResidentFeed(dataset.ids, _Computed(make(), shape, open_images))

    def write(file: ChecksumWriter) -> None:
        body = make()
        with open_images() as images:
            for start in range(0, len(dataset), _BLOCKS_AT_ONCE * BLOCK):
                stop = min(start + _BLOCKS_AT_ONCE * BLOCK, len(dataset))
                file.write(np.concatenate(_features(body, images, range(start, stop, BLOCK), len(dataset))).data)

    fingerprint = _fingerprint(model, tail, dataset.info.image_shape, classes, device, model.file_stamps)
    path = cache_root() / COPIES / f"{dataset.info.content_hash}-features-{fingerprint}.npy"
    name = f"features of {dataset.info.name!r} by the frozen body of {model.name}"
    return ResidentFeed(dataset.ids, open_copy(path, shape, _FLOAT, write, name))


@functools.lru_cache(maxsize=64)
def _fingerprint(
    model: ModelConfig,
    tail: Tail,
    image_shape: tuple[int, int, int],
    classes: int,
    device: torch.device,
    _stamps: tuple[tuple[int, int], ...],
) -> str:
    """Return what features follow from; a process that runs trials one after another builds the body once for it."""
    return BodyFeatures(model, tail, image_shape, classes, device).fingerprint


class _Computed:
    """Features that are computed block by block, as they are asked for."""

    def __init__(self, body: BodyFeatures, shape: tuple[int, ...], open_images: Callable[[], Feed]) -> None:
        self._body, self._images = body, open_images()
        self._features = np.empty(shape, _FLOAT)  # memory is taken as it is written to
        self._known = np.zeros(-(-shape[0] // BLOCK), np.bool_)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the features of rows."""
        blocks = np.unique(rows // BLOCK)
        new = blocks[~self._known[blocks]]
        found = _features(self._body, self._images, (new * BLOCK).tolist(), len(self._features))
        for block, features in zip(new, found, strict=True):
            self._features[block * BLOCK : (block + 1) * BLOCK] = features
        self._known[new] = True
        return self._features[rows]


def _features(body: BodyFeatures, images: Feed, starts: Sequence[int], rows: int) -> list[NDArray[np.float32]]:
    """Return the features of the blocks that begin at some rows."""
    return body.of_blocks([images.images(np.arange(start, min(start + BLOCK, rows))) for start in starts])
