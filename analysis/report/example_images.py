"""Example images by group and label, read from the prepared dataset with pyarrow."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fairsweep.analysis.records.files import RecordError, SweepLocation
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, shown
from fairsweep.analysis.results.sweep_records import SweepRecords

PUBLIC_DATASETS = frozenset({"faces", "mnist", "fashion-mnist", "kmnist"})
"""Names of drawings, and of images that anyone may publish."""

_MOST_ROWS, _MOST_COLUMNS = 10, 8
_IMAGES_ACROSS = 12
_MOST_SHARDS = 32
_TALLEST, _SMALLEST = 72, 40
_GAP = 3

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Strip:
    """Some images side by side.

    Attributes:
        text: what they are, for readers who do not see them.
        uri: the picture as a ``data:`` URI.
        width: in pixels of the page.
        height: in pixels of the page.
    """

    text: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class ImageSheet:
    """Example images of the groups that the sweep makes imbalanced.

    Attributes:
        columns: headings, one a value of the label; one empty heading where the groups are the classes.
        rows: a group's name with its strips, None where the dataset has no such image; empty without pictures.
        note: how they were chosen, or why there are none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Strip | None, ...]], ...]
    note: str


def image_sheet(results: SweepRecords, design: ImbalanceDesign, *, pictures: bool = False) -> ImageSheet:
    """Return the example images by group and label, the first of the test split.

    Args:
        results: the sweep; its dataset is looked for where the sweep found it.
        design: whose groups are shown.
        pictures: whether to show any; the dataset is not looked for otherwise.

    Returns:
        The sheet; without rows, and with the reason, where images must not or cannot be shown.
    """
    refusal = refused(results, pictures=pictures)
    if refusal:
        return ImageSheet((), (), refusal)
    dataset = results.sweep.get("dataset", {})
    folder = SweepLocation.of(str(dataset.get("path", "")))
    try:
        info = (folder / "dataset.json").json()
        if info is None:
            return ImageSheet((), (), "No example images: the prepared data set cannot be reached from here.")
        if info.get("content_hash") != dataset.get("content_hash"):
            return ImageSheet((), (), "No example images: the prepared data set has changed since the sweep ran.")
        return _sheet(results, design, folder, info)
    except (OSError, RecordError, pa.ArrowInvalid, KeyError) as error:
        return ImageSheet((), (), f"No example images: the prepared data set cannot be read ({error}).")


def refused(results: SweepRecords, *, pictures: bool) -> str:
    """Return why images of a sweep's dataset must not be shown; empty if they may be."""
    if any((folder.config or {}).get("mode") == "release" for folder in results.folders):
        return "No example images: the sweep was trained in release mode, and its images are private."
    return "" if pictures else "No example images: they are shown only with fairsweep report --pictures."


def _sheet(
    results: SweepRecords, design: ImbalanceDesign, folder: SweepLocation, info: Mapping[str, Any]
) -> ImageSheet:
    groups = range(min(_MOST_ROWS, len(results.vocabulary(design.attribute).values)))
    labels = range(1) if design.of_label else range(min(_MOST_COLUMNS, len(results.classes)))
    each = max(1, min(8, _IMAGES_ACROSS // len(labels)))
    cells = [(group, label) for group in groups for label in labels]
    columns = [design.attribute] if design.of_label else [design.attribute, results.label]
    found = _read(folder, info, columns, cells, each)
    texts = [shown(results, design.attribute, results.vocabulary(design.attribute).values[group]) for group in groups]
    names = [] if design.of_label else [shown(results, results.label, results.classes[label]) for label in labels]
    rows = tuple(
        (
            texts[group],
            tuple(_strip(found[group, label], [texts[group], *names[label : label + 1]]) for label in labels),
        )
        for group in groups
    )
    height, width = info["image_shape"][:2]
    note = f"The first test images of each group, {height} by {width} pixels; in dataset order, not selected by hand."
    return ImageSheet(tuple(names) or ("",), tuple(rows), note)


def _read(
    folder: SweepLocation, info: Mapping[str, Any], columns: Sequence[str], cells: Sequence[tuple[int, int]], each: int
) -> dict[tuple[int, int], list[Pixels]]:
    """Return the first ``each`` images of each cell, shard by shard; of the test split where there is one."""
    found: dict[tuple[int, int], list[Pixels]] = {cell: [] for cell in cells}
    tested = bool(info["counts"].get("test"))
    for shard in info["shards"][:_MOST_SHARDS]:
        wanting = [cell for cell in cells if len(found[cell]) < each]
        if not wanting:
            break
        place = folder / shard["file"]
        with place.filesystem.open_input_file(place.path) as stream:
            file = pq.ParquetFile(stream)
            table = file.read(columns=["split", *columns])
            usable = table["split"].to_numpy() == "test" if tested else np.ones(len(table), bool)
            codes = np.stack([table[name].to_numpy() for name in columns])
            chosen = {}
            for cell in wanting:
                fits = usable & (codes == np.array(cell[: len(columns)])[:, None]).all(0)
                chosen[cell] = np.flatnonzero(fits)[: each - len(found[cell])]
            if any(len(rows) for rows in chosen.values()):
                images = file.read(columns=["image"])["image"]
                for cell, rows in chosen.items():
                    found[cell] += [_pixels(images[int(row)].as_py(), info["image_shape"]) for row in rows]
    return found


def _pixels(content: bytes, shape: Sequence[int]) -> Pixels:
    """Return an image, uint8 [H, W, 3]; grey ones get three equal channels."""
    image = np.frombuffer(content, np.uint8).reshape(shape)
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _strip(images: Sequence[Pixels], words: Sequence[str]) -> Strip | None:
    """Return the images side by side, large ones brought down, with a transparent gap between them."""
    if not images:
        return None
    height, width = images[0].shape[:2]
    if height > _TALLEST:
        height, width = _TALLEST, max(1, round(width * _TALLEST / height))
    across = len(images) * (width + _GAP) - _GAP
    strip = Image.new("RGBA", (across, height), (0, 0, 0, 0))
    for place, image in enumerate(images):
        tile = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(tile, (place * (width + _GAP), 0))
    file = io.BytesIO()
    strip.save(file, "WEBP", quality=85, method=6)
    uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    scale = max(1, -(-_SMALLEST // height))
    count = f"{len(images)} image{'s' if len(images) != 1 else ''}"
    return Strip(f"{count}: {', '.join(words)}", uri, across * scale, height * scale)
