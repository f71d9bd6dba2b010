"""Pictures of a prepared dataset: a contact sheet by group, and a bar chart of group sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fairsweep.datasets.storage.layout import SPLITS, Attribute
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.datasets.storage.writing import replaced

CONTACT_SHEET = "contact-sheet.png"
COUNTS_CHART = "counts.png"
MAX_GROUPS = 64
_DEFAULT_VALUES = 8
_ACROSS = 12

_INK, _FAINT, _RULE, _PAPER = "#1f2933", "#66727f", "#e3e7eb", "#ffffff"
# Blue, orange, green of a palette that colour-blind readers tell apart (Okabe and Ito 2008).
_SPLIT_COLOURS = dict(zip(SPLITS, ("#0072b2", "#e69f00", "#009e73"), strict=True))
_TITLE, _TEXT, _SMALL = 24, 17, 14
_MARGIN, _GAP = 28, 6
_TILE = 72
_BAR_WIDTH, _BAR_HEIGHT, _BAR_PITCH = 520, 20, 30


@dataclass(frozen=True)
class _Group:
    """One combination of values: its caption and its rows, int64, ascending."""

    caption: str
    rows: NDArray[np.int64]


def contact_sheet(dataset: PreparedDataset, attributes: Sequence[str], to: str | Path) -> Path:
    """Draws a row of images for each group, with its name, count and share.

    Args:
        dataset: The dataset.
        attributes: Attributes whose combinations of values are the groups; none takes the first two that have few
            values.
        to: Folder of the picture.

    Returns:
        The PNG, `contact-sheet.png` in that folder.

    Raises:
        ValueError: An attribute is unknown, or there are more than 64 groups.
        DatasetError: Images are damaged.
        OSError: The folder cannot be written.
    """
    chosen = _chosen(dataset, attributes)
    groups = _groups(dataset, chosen)
    shown = [group.rows[:_ACROSS] for group in groups]
    tiles = _tiles(dataset, np.unique(np.concatenate(shown)))
    width, height = _tile_size(dataset.info.image_shape)
    texts = [(group.caption, _share(len(group.rows), len(dataset))) for group in groups]
    left = (
        _MARGIN + 24 + max([_length(name, _TEXT) for name, _ in texts] + [_length(count, _SMALL) for _, count in texts])
    )
    across = max([len(rows) for rows in shown] + [1])
    pitch = max(height, 52) + _GAP
    title = f"{dataset.info.name} by {_joined(chosen)}"
    subtitle = f"{len(dataset):,} images; the first {across} of each group"
    right = max(left + across * (width + _GAP), _MARGIN + _length(title, _TITLE), _MARGIN + _length(subtitle, _SMALL))
    sheet, draw = _paper(right + _MARGIN, 100 + len(groups) * (pitch + _GAP) + _MARGIN)
    _heading(draw, title, subtitle)
    for number, ((name, count), rows) in enumerate(zip(texts, shown, strict=True)):
        top = 100 + number * (pitch + _GAP)
        draw.line([(_MARGIN, top - _GAP), (sheet.width - _MARGIN, top - _GAP)], fill=_RULE)
        draw.text((_MARGIN, top + pitch / 2 - 3), name, fill=_INK, font=_font(_TEXT), anchor="ls")
        draw.text((_MARGIN, top + pitch / 2 + 3), count, fill=_FAINT, font=_font(_SMALL), anchor="lt")
        for place, row in enumerate(rows.tolist()):
            sheet.paste(tiles[row], (left + place * (width + _GAP), top + (pitch - height) // 2 - _GAP // 2))
    return _save(sheet, Path(to) / CONTACT_SHEET)


def counts_chart(dataset: PreparedDataset, attributes: Sequence[str], to: str | Path) -> Path:
    """Draws bars of how many examples each value has, and each combination of values, by split.

    Args:
        dataset: The dataset.
        attributes: Which attributes; none takes the first two that have few values.
        to: Folder of the picture.

    Returns:
        The PNG, `counts.png` in that folder.

    Raises:
        ValueError: An attribute is unknown, or there are more than 64 groups.
        OSError: The folder cannot be written.
    """
    chosen = _chosen(dataset, attributes)
    sections = [(attribute.name, _groups(dataset, [attribute])) for attribute in chosen]
    if len(chosen) > 1:
        sections.append((_joined(chosen), _groups(dataset, chosen)))
    splits = [(name, dataset.split(name)) for name in SPLITS if len(dataset.split(name))]
    left = _MARGIN + 14 + max(_length(group.caption, _TEXT) for _, groups in sections for group in groups)
    bars = sum(len(groups) for _, groups in sections)
    picture, draw = _paper(left + _BAR_WIDTH + 180, 142 + 54 * len(sections) + bars * _BAR_PITCH)
    _heading(draw, f"{dataset.info.name}: examples of each group", f"{len(dataset):,} images")
    _legend(draw, splits)
    top = 136
    for name, groups in sections:
        draw.text((_MARGIN, top), name, fill=_INK, font=_font(_TEXT + 2), anchor="lt")
        draw.line([(_MARGIN, top + 26), (picture.width - _MARGIN, top + 26)], fill=_RULE)
        top += 34
        # Each section has its own scale: combinations would vanish beside whole attributes.
        longest = max(1, *(len(group.rows) for group in groups))
        for group in groups:
            parts = [(split, len(np.intersect1d(group.rows, rows, assume_unique=True))) for split, rows in splits]
            _bar(draw, (left, top), group.caption, parts, longest, len(dataset))
            top += _BAR_PITCH
        top += 20
    return _save(picture, Path(to) / COUNTS_CHART)


def _chosen(dataset: PreparedDataset, names: Sequence[str]) -> list[Attribute]:
    """Return the attributes asked for, or a sensible choice where none is named."""
    known = dataset.info.attributes
    if not names:
        few = [attribute for attribute in known if len(attribute.values) <= _DEFAULT_VALUES]
        return few[:2] or list(known[:1])
    if len(set(names)) != len(names):
        raise ValueError(f"each attribute must be named once, but got {list(names)}")
    return [dataset.attribute(name) for name in names]


def _groups(dataset: PreparedDataset, attributes: Sequence[Attribute]) -> list[_Group]:
    """Divides all rows by the values of attributes, in vocabulary order; groups may be empty."""
    shape = tuple(len(attribute.values) for attribute in attributes)
    count = int(np.prod(shape))
    if count > MAX_GROUPS:
        sizes = " times ".join(f"{len(attribute.values)} of {attribute.name}" for attribute in attributes)
        raise ValueError(f"a picture shows at most {MAX_GROUPS} groups, but {sizes} are {count}: name fewer attributes")
    codes = [dataset.codes(attribute.name).astype(np.int64) for attribute in attributes]
    cells = np.ravel_multi_index(codes, shape)
    groups = []
    for cell in range(count):
        values = zip(attributes, np.unravel_index(cell, shape), strict=True)
        caption = " · ".join(_described(attribute, int(code)) for attribute, code in values)
        groups.append(_Group(caption, np.flatnonzero(cells == cell).astype(np.int64)))
    return groups


def _joined(attributes: Sequence[Attribute]) -> str:
    """Names attributes for a title; the font has no multiplication sign."""
    return " and ".join(attribute.name for attribute in attributes)


def _described(attribute: Attribute, code: int) -> str:
    """Names a value so that it is understood without its attribute: "light" is, "no" and "3" are not."""
    plain = attribute.display is not None or all(len(value) > 3 and value[0].isalpha() for value in attribute.values)
    return attribute.shown(code) if plain else f"{attribute.name} {attribute.shown(code)}"


def _tiles(dataset: PreparedDataset, rows: NDArray[np.int64]) -> dict[int, Image.Image]:
    """Read the images of rows (ascending), shard by shard, and scales them to tiles."""
    starts = np.cumsum([0, *(shard.rows for shard in dataset.info.shards)])
    number = np.searchsorted(starts, rows, side="right") - 1
    size = _tile_size(dataset.info.image_shape)
    # Small images keep their pixels; large ones are averaged.
    resample = Image.Resampling.NEAREST if size[1] >= dataset.info.image_shape[0] else Image.Resampling.LANCZOS
    tiles = {}
    for shard in np.unique(number).tolist():
        images = dataset.shard_images(shard)
        for row in rows[number == shard].tolist():
            pixels = images[row - starts[shard]]
            tiles[row] = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).resize(size, resample)
    return tiles


def _tile_size(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Width and height of a tile: whole multiples of small images, large ones brought down to one height."""
    height, width, _ = image_shape
    if height <= _TILE:
        factor = max(round(_TILE / height), 1)
        return width * factor, height * factor
    return max(round(width * _TILE / height), 1), _TILE


def _bar(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    caption: str,
    parts: Iterable[tuple[str, int]],
    longest: int,
    total: int,
) -> None:
    """Draws one bar, its parts side by side, with its caption before and its count behind."""
    left, top = at
    middle = top + _BAR_HEIGHT / 2
    draw.text((left - 14, middle), caption, fill=_INK, font=_font(_TEXT), anchor="rm")
    done = 0
    for split, count in parts:
        start, end = (left + _BAR_WIDTH * n / longest for n in (done, done + count))
        if count:
            draw.rectangle([(start, top), (max(end - 1, start), top + _BAR_HEIGHT)], fill=_SPLIT_COLOURS[split])
        done += count
    behind = left + _BAR_WIDTH * done / longest + 10
    draw.text((behind, middle), _share(done, total), fill=_FAINT, font=_font(_SMALL), anchor="lm")


def _legend(draw: ImageDraw.ImageDraw, splits: Iterable[tuple[str, NDArray[np.int64]]]) -> None:
    left = _MARGIN
    for name, rows in splits:
        text = f"{name}  {len(rows):,}"
        draw.rectangle([(left, 90), (left + 14, 104)], fill=_SPLIT_COLOURS[name])
        draw.text((left + 22, 97), text, fill=_INK, font=_font(_SMALL), anchor="lm")
        left += 22 + _length(text, _SMALL) + 28


def _heading(draw: ImageDraw.ImageDraw, title: str, subtitle: str) -> None:
    draw.text((_MARGIN, 24), title, fill=_INK, font=_font(_TITLE), anchor="lt")
    draw.text((_MARGIN, 58), subtitle, fill=_FAINT, font=_font(_SMALL), anchor="lt")


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})" if total else f"{count:,}"


def _paper(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), _PAPER)
    return image, ImageDraw.Draw(image)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow brings this font along, so that pictures look the same on every machine.
    return ImageFont.load_default(size)


def _length(text: str, size: int) -> int:
    return int(_font(size).getlength(text)) + 1


def _save(image: Image.Image, path: Path) -> Path:
    """Write a picture whole: under a temporary name, then by a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path, is_only_writer=False) as temporary:
        image.save(temporary, "PNG", optimize=True)
    return path
