"""Predictions of a trained model on images: of a prepared dataset, or of files of any size and kind."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsweep.analysis.records.files import write_whole
from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.raw_files import open_raw
from fairsweep.datasets.raw.raw_images import SUFFIXES, Framing, read_images
from fairsweep.datasets.sources import SOURCES
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.trainables.trained.trained_model import TrainedModel

_FILES_AT_ONCE = 512
_GREY = np.array([0.299, 0.587, 0.114])  # as Pillow weighs the channels of an RGB image


def predict_dataset(model: TrainedModel, dataset: PreparedDataset) -> pa.Table:
    """Predict every image of a prepared dataset.

    Args:
        model: What predicts.
        dataset: With images of the model's shape.

    Returns:
        ``id``, ``split``, the label's true value where the dataset has that attribute, ``prediction``, and a column
        ``probability_CLASS`` for each class; a row an example, by ascending id.

    Raises:
        ValueError: If its images have another shape.
    """
    if dataset.info.image_shape != model.facts.image_shape:
        raise ValueError(
            f"the model takes images of {list(model.facts.image_shape)}, but those of {dataset.location} are "
            f"{list(dataset.info.image_shape)}: prepare them with that image size"
        )
    found = [model.probabilities(dataset.shard_images(number)) for number in range(len(dataset.info.shards))]
    columns: dict[str, pa.Array | pa.ChunkedArray] = {name: dataset.examples().column(name) for name in ("id", "split")}
    label = model.facts.label
    if label in {attribute.name for attribute in dataset.info.attributes}:
        names = pa.array(dataset.attribute(label).values)
        columns[label] = names.take(pa.array(dataset.codes(label)))
    return pa.table(columns | _predicted(model, np.concatenate(found)))


def predict_files(model: TrainedModel, place: str | Path, framing: Framing) -> pa.Table:
    """Predict every image file of a folder, zip or tar.

    Args:
        model: What predicts.
        place: The folder or archive; files that have no suffix of an image are left out.
        framing: How images of any size are brought to the model's; see `framing_of`.

    Returns:
        ``file``, ``prediction``, a column ``probability_CLASS`` for each class, and ``damaged``, what is wrong with an
        image, for which the others are null; a row a file, by name.

    Raises:
        ValueError: If there is no image.
    """
    files = open_raw(place)
    names = [name for name in files.names if name.lower().endswith(SUFFIXES)]
    if not names:
        raise ValueError(f"{place} must hold image files ({', '.join(SUFFIXES)}), but has none")
    channels = model.facts.image_shape[2]
    probabilities = np.full((len(names), len(model.facts.classes)), np.nan, np.float32)
    damaged: list[str | None] = [None] * len(names)
    for start in range(0, len(names), _FILES_AT_ONCE):
        part = range(start, min(start + _FILES_AT_ONCE, len(names)))
        images: dict[int, NDArray[np.uint8]] = {}
        for place_of, image in zip(part, read_images(files, [names[i] for i in part], framing), strict=True):
            if isinstance(image, Damaged):
                damaged[place_of] = image.reason
            else:
                images[place_of] = image
        if images:
            probabilities[list(images)] = model.probabilities(_with_channels(np.stack([*images.values()]), channels))
    table = pa.table({"file": pa.array(names)} | _predicted(model, probabilities))
    return table.append_column("damaged", pa.array(damaged, pa.string()))


def framing_of(model: TrainedModel, crop: int | None = None) -> Framing:
    """Return how images of any size are brought to a model's, as preparation brought those that it was trained on.

    Args:
        model: The model.
        crop: Pixels of an edge of the centred square that is cut out first. None takes the default of the source from
            which the training set was prepared, for most the largest square that fits.

    Raises:
        ValueError: If the model takes images that are no squares of one or three channels.
    """
    height, width, channels = model.facts.image_shape
    if height != width or channels not in (1, 3):
        raise ValueError(
            f"files can be brought to squares of 1 or 3 channels, but the model takes {[height, width, channels]}: "
            "prepare a dataset with `fairsweep.datasets.write`, and give that"
        )
    return Framing(height, _usual_crop(model.facts.dataset) if crop is None else crop)


def _usual_crop(dataset: str) -> int | None:
    """Return the crop that the source of a dataset has by default."""
    source = SOURCES.get(dataset)
    found = [] if source is None else [field.default for field in fields(source) if field.name == "crop"]
    return found[0] if found and isinstance(found[0], int) else None


def write_predictions(table: pa.Table, path: str | Path) -> None:
    """Write predictions whole: Parquet or CSV, by the suffix.

    Raises:
        ValueError: If the suffix is another.
    """
    check_table_path(path)
    write = pq.write_table if Path(path).suffix == ".parquet" else pa_csv.write_csv
    write_whole(path, lambda file: write(table, file))


def check_table_path(path: str | Path) -> None:
    """Refuse a path whose suffix says no format. Raises: ValueError."""
    if Path(path).suffix not in (".parquet", ".csv"):
        raise ValueError(f"predictions are written as .parquet or .csv, but got {Path(path).name!r}")


def _predicted(model: TrainedModel, probabilities_BK: NDArray[np.float32]) -> dict[str, pa.Array]:
    """Return the columns of predictions; NaN becomes null."""
    known = ~np.isnan(probabilities_BK).any(axis=1)
    codes = np.where(known, np.nan_to_num(probabilities_BK).argmax(axis=1), 0)
    classes = pa.array(model.facts.classes)
    columns = {"prediction": classes.take(pa.array(codes, mask=~known))}
    for code, name in enumerate(model.facts.classes):
        columns[f"probability_{name}"] = pa.array(probabilities_BK[:, code], mask=~known)
    return columns


def _with_channels(images_BHWC: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    if channels == 3:
        return images_BHWC
    grey: NDArray[np.uint8] = np.rint(images_BHWC @ _GREY).astype(np.uint8)[..., None]
    return grey
