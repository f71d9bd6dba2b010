"""A prepared dataset from what a program holds: arrays, a torch Dataset, or a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.raw_images import Framing, to_rgb
from fairsweep.datasets.raw.table_columns import attribute, pairs
from fairsweep.datasets.sources.own_tables import LABEL, SPLIT_WORDS, check_values, words_of_splits
from fairsweep.datasets.sources.splits import HoldOut, splits_of, users_of
from fairsweep.datasets.storage.layout import Attribute, nearest
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.datasets.storage.writing import check_target, write_prepared

_BESIDE = ("id", "split", "user")
_CHANNELS = (1, 3)
Row = Mapping[str, Any]


def write(
    images: Any,  # noqa: ANN401 - whatever gives images
    attributes: Mapping[str, Sequence[Any]] | Sequence[str] | None = None,
    *,
    to: str | Path,
    name: str = "own",
    image_column: str = "image",
    image_size: int | None = None,
    crop: int | None = None,
    order: Mapping[str, Sequence[str]] | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    hold_out: HoldOut | None = None,
) -> PreparedDataset:
    """Write a prepared dataset from images in memory.

    An image is uint8 [H, W, C] or [H, W] in [0, 255], floats in [0, 1], a torch tensor [C, H, W] of either, or a
    picture of Pillow. Columns ``split`` (train, validation, test), ``user`` (whose an image is) and ``id`` have the
    meaning that they have in prepared datasets; a split that is missing is drawn.

    Args:
        images: One of: an array of images [N, H, W, C]; any `torch.utils.data.Dataset`, or other sequence, of pairs
            (image, mapping of attributes); a Hugging Face `Dataset`, whose rows are mappings; or a mapping of such by
            split, as a `DatasetDict` is.
        attributes: Of an array of images the columns: a value for each image, by name. Else the names of the columns to
            keep; None keeps all.
        to: Target folder; must not exist, or be empty.
        name: Name of the dataset.
        image_column: The column of images, in rows that are mappings.
        image_size: Pixels of an edge after resizing, as `fairsweep prepare folder` does it (the result has 3 channels);
            None takes images as they are, all of one shape.
        crop: Pixels of an edge of the centred square that is cut out before resizing; None takes the largest.
        order: The order of an attribute's values; by default numbers, then words by letter. Class labels of Hugging
            Face have their own.
        bins: The lower edges of bins of numbers, by attribute.
        hold_out: The splits that are not given.

    Returns:
        The dataset, opened.

    Raises:
        ValueError: If an image or value is not as it must be; the message names the first.
        DatasetError: If the target holds something.
    """
    check_target(Path(to))
    framing = None if image_size is None else Framing(image_size, crop)
    if isinstance(attributes, Mapping):
        rows: Iterable[tuple[Any, Row]] = _of_arrays(images, attributes)
        wanted: Sequence[str] | None = None
    else:
        rows = _rows(images, image_column)
        wanted = None if attributes is None else list(attributes)
    stored, table = _gathered(rows, framing, wanted)
    labels = _class_labels(images)
    columns, found = _columns(table, labels, order or {}, bins or {}, name)
    check_values(found, name)
    ids = np.array(table["id"], np.int64) if "id" in table else np.arange(len(stored), dtype=np.int64)
    codes = [columns[one.name].to_numpy() for one in sorted(found, key=lambda one: one.name != LABEL)]
    if "user" in table:
        columns["user"] = users_of(_words(table["user"], "user"), name)
    users = columns["user"].to_numpy() if "user" in columns else None
    said = None
    if "split" in table:
        said = np.array(words_of_splits(_words(table["split"], "split"), name).to_pylist(), dtype=object)
    columns["split"] = splits_of(hold_out or HoldOut(), ids, codes, users, said)
    examples = pa.table({"id": pa.array(ids)} | columns)
    write_prepared(to, name=name, attributes=found, examples=examples, images=stored)
    return PreparedDataset.open(to)


def _of_arrays(images: Any, attributes: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Any, Row]]:  # noqa: ANN401
    lengths = {"images": len(images)} | {name: len(values) for name, values in attributes.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"images and each attribute must have one entry an example, but have {lengths}")
    for place in range(len(images)):
        yield images[place], {name: values[place] for name, values in attributes.items()}


def _rows(given: Any, image_column: str) -> Iterator[tuple[Any, Row]]:  # noqa: ANN401
    """Give each image with its attributes."""
    if isinstance(given, Mapping):
        unknown = [split for split in given if split not in SPLIT_WORDS]
        if unknown:
            raise ValueError(f"splits must be among {', '.join(SPLIT_WORDS)}, but got {unknown}: leave them out")
        for split, part in given.items():
            yield from ((image, {**row, "split": split}) for image, row in _rows(part, image_column))
        return
    if not hasattr(given, "__len__") or not hasattr(given, "__getitem__"):
        raise ValueError(
            "images must be an array with attributes, a Dataset of (image, mapping), or one of Hugging Face, but got "
            f"a {type(given).__name__}"
        )
    for place in range(len(given)):
        row = given[place]
        if isinstance(row, Mapping):
            if image_column not in row:
                raise ValueError(f"rows must have the column {image_column!r}: {nearest(image_column, list(row))}")
            yield row[image_column], {name: value for name, value in row.items() if name != image_column}
        elif isinstance(row, Sequence) and len(row) == 2 and isinstance(row[1], Mapping):
            yield row[0], row[1]
        else:
            raise ValueError(
                f"a Dataset must give (image, mapping of attributes), but item {place} is {_described(row)}: wrap it "
                "so that its label is named, {'label': …}"
            )


def _gathered(
    rows: Iterable[tuple[Any, Row]], framing: Framing | None, wanted: Sequence[str] | None
) -> tuple[NDArray[np.uint8], dict[str, list[Any]]]:
    """Return all images, uint8 [N, H, W, C], and all columns."""
    images: list[NDArray[np.uint8]] = []
    table: dict[str, list[Any]] = {}
    for place, (image, row) in enumerate(rows):
        if place == 0:
            _check_wanted(wanted, row)
            table = {name: [] for name in row if wanted is None or name in {*wanted, *_BESIDE}}
        missing = [name for name in table if name not in row]
        if missing:
            raise ValueError(f"every example must have the same attributes, but example {place} has no {missing[0]!r}")
        images.append(_stored(image, framing, place))
        if images[-1].shape != images[0].shape:
            raise ValueError(
                f"images must have one shape, but the first is {list(images[0].shape)} and image {place} is "
                f"{list(images[-1].shape)}: give image_size=64, to which all are cut and resized"
            )
        for name, values in table.items():
            values.append(row[name].item() if hasattr(row[name], "item") else row[name])
    if not images:
        raise ValueError("a dataset must have at least one example, but there is none")
    return np.stack(images), table


def _check_wanted(wanted: Sequence[str] | None, row: Row) -> None:
    for name in wanted or ():
        if name not in row:
            raise ValueError(f"there is no attribute {name!r}: {nearest(name, list(row))}")


def _stored(image: Any, framing: Framing | None, place: int) -> NDArray[np.uint8]:  # noqa: ANN401
    """Return an image as it is stored, uint8 [H, W, C]."""
    if isinstance(image, Image.Image):
        grey = framing is None and image.mode in ("1", "L")
        pixels = np.asarray(image.convert("L") if grey else to_rgb(image))
    elif hasattr(image, "detach"):  # a torch tensor: channels first
        pixels = image.detach().cpu().numpy()
        pixels = np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 else pixels
    else:
        pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] not in _CHANNELS:
        raise ValueError(
            f"an image must be [H, W], [H, W, 1] or [H, W, 3] (a torch tensor [C, H, W]), but image {place} is "
            f"{_described(image)}"
        )
    pixels = _bytes(pixels, place)
    if framing is None:
        return pixels
    framed = framing.frame(to_rgb(Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)))
    if isinstance(framed, Damaged):
        raise ValueError(f"image {place}: {framed.reason}")
    return framed


def _bytes(pixels: NDArray[Any], place: int) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        stored: NDArray[np.uint8] = pixels
        return stored
    low, high = float(pixels.min()), float(pixels.max())
    if np.issubdtype(pixels.dtype, np.floating) and low >= 0 and high <= 1:
        scaled: NDArray[np.uint8] = np.rint(pixels * 255).astype(np.uint8)
        return scaled
    if np.issubdtype(pixels.dtype, np.integer) and low >= 0 and high <= 255:
        return pixels.astype(np.uint8)
    raise ValueError(
        f"pixels must be bytes in [0, 255] or floats in [0, 1], but those of image {place} are {pixels.dtype} in "
        f"[{low:g}, {high:g}]: leave normalisation out, training does it"
    )


def _columns(
    table: Mapping[str, list[Any]],
    labels: Mapping[str, Sequence[str]],
    order: Mapping[str, Sequence[str]],
    bins: Mapping[str, Sequence[float]],
    where: str,
) -> tuple[dict[str, pa.Array], list[Attribute]]:
    """Return each attribute's column of codes, and the attributes."""
    kept = [name for name in table if name not in _BESIDE]
    if not kept:
        raise ValueError("there must be at least one attribute beside id, split and user: what is to be predicted")
    pairs({name: tuple(map(str, words)) for name, words in order.items()}, kept, "order")
    pairs({name: tuple(map(str, edges)) for name, edges in bins.items()}, kept, "bins")
    columns, found = {}, []
    for name in kept:
        values = table[name]
        if name in labels and name not in {*order, *bins}:
            names = labels[name]
            values = [names[value] if isinstance(value, int) and 0 <= value < len(names) else None for value in values]
            words = _words(values, name)
            whole = Attribute(name=name, values=tuple(names))
            codes = pa.array([names.index(word) for word in words.to_pylist()], pa.int16())
        else:
            edges = None if name not in bins else tuple(f"{edge:g}" for edge in bins[name])
            whole, codes = attribute(_words(values, name), name, where, order=order.get(name), bins=edges)
        columns[name] = codes
        found.append(whole)
    return columns, found


def _words(values: Sequence[Any], name: str) -> pa.ChunkedArray:
    """Return values as words; truth values are true and false."""
    missing = [place for place, value in enumerate(values) if value is None or value != value]  # NaN is not itself
    if missing:
        raise ValueError(
            f"each example must have a value of {name!r}, but {len(missing):,} have none, the first is number "
            f"{missing[0]}: leave these examples out, or give the value a name"
        )
    words = [str(value).lower() if isinstance(value, bool | np.bool_) else str(value) for value in values]
    return pa.chunked_array([pa.array(words, pa.string())])


def _class_labels(given: Any) -> dict[str, Sequence[str]]:  # noqa: ANN401
    """Return the names of class labels that Hugging Face's features have; none of anything else."""
    if isinstance(given, Mapping) and not isinstance(given, np.ndarray):
        parts = list(given.values())
        return _class_labels(parts[0]) if parts else {}
    features = getattr(given, "features", None)
    if not isinstance(features, Mapping):
        return {}
    return {name: list(feature.names) for name, feature in features.items() if getattr(feature, "names", None)}


def _described(value: Any) -> str:  # noqa: ANN401
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + ("" if shape is None else f" of shape {list(shape)}")
