"""Decoding of raw images into the shape of a prepared dataset."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, features

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.file_kinds import what_it_is
from fairsweep.datasets.raw.raw_archives import ARCHIVE_DAMAGE
from fairsweep.datasets.raw.raw_files import RawFiles

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

MAX_IMAGE_BYTES = 2**28
MAX_PIXELS = 100_000_000
"""An image file of more bytes, or an image of more pixels, is refused before it fills the memory."""
# Formats that come as images; what else Pillow reads (PostScript, which runs a program) has no place in a dataset.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000"),
    *(("AVIF",) if features.modules.get("avif") and features.check("avif") else ()),
)

# What Pillow raises for files that are no image, cut short, or broken inside.
_DAMAGE = (
    *(OSError, ValueError, SyntaxError, TypeError, EOFError, OverflowError, KeyError, IndexError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
# What to do to an image whose EXIF orientation is not 1 (upright).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Framing:
    """How an image of any size and kind becomes uint8 [size, size, 3].

    It is turned as its EXIF data say, brought to RGB, cut to a centred square, and resized with Pillow's antialiased
    bilinear filter: the pixels that torchvision's `CenterCrop` and `Resize` give for an RGB image.

    Attributes:
        size: Pixels of an edge of the result, >= 1.
        crop: Pixels of an edge of the square that is cut out; None takes the largest square that fits.
    """

    size: int = 64
    crop: int | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or (self.crop is not None and self.crop < 1):
            raise ValueError(f"size and crop must be at least 1 pixel, but got size={self.size}, crop={self.crop}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(size, size, 3)."""
        return (self.size, self.size, 3)

    def decode(self, data: bytes) -> NDArray[np.uint8] | Damaged:
        """Decode a file.

        Args:
            data: The whole file.

        Returns:
            uint8 [size, size, 3], or what is wrong with it.
        """
        try:
            # Odd metadata make Pillow warn about images that are whole; what it cannot decode it raises.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                opened = Image.open(io.BytesIO(data), formats=_FORMATS)
                if opened.width * opened.height > MAX_PIXELS:
                    return _too_large(f"{opened.width}x{opened.height} pixels, where {MAX_PIXELS:,} in all may be")
                image = to_rgb(_upright(opened))
        except UnidentifiedImageError:
            return Damaged(f"not an image (the file {what_it_is(data[:512])})")
        except Image.DecompressionBombError:
            return _too_large(f"more than {MAX_PIXELS:,} pixels")
        except _DAMAGE as error:
            return Damaged(f"damaged image ({str(error) or type(error).__name__})")
        return self.frame(image)

    def frame(self, image: Image.Image) -> NDArray[np.uint8] | Damaged:
        """Cut and resize an RGB image: uint8 [size, size, 3], or what is wrong with it."""
        width, height = image.size
        crop = min(width, height) if self.crop is None else self.crop
        if crop > min(width, height):
            return Damaged(f"image of {width}x{height} pixels is smaller than the crop of {crop}")
        # Half a pixel is rounded as torchvision's CenterCrop rounds it (half to even).
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        square = image.crop((left, top, left + crop, top + crop))
        if crop != self.size:
            square = square.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.array(square, dtype=np.uint8)


def read_images(files: RawFiles, names: Sequence[str], framing: Framing) -> Iterator[NDArray[np.uint8] | Damaged]:
    """Read and decodes images, in order.

    Args:
        files: Where they lie.
        names: Names in `files`.
        framing: What to make of them.

    Yields:
        uint8 [size, size, 3] each, or why there is none.
    """
    places = [files.place(name) for name in names]
    if places == sorted(places):
        yield from (_read_image(files, name, framing) for name in names)
        return
    # A compressed tar is read from front to back, once; what is decoded waits for its turn.
    decoded = {
        place: _read_image(files, names[place], framing) for place in sorted(range(len(names)), key=places.__getitem__)
    }
    yield from (decoded[place] for place in range(len(names)))


def _read_image(files: RawFiles, name: str, framing: Framing) -> NDArray[np.uint8] | Damaged:
    try:
        size = files.size(name)
        image = (
            _too_large(f"{size:,} bytes, where {MAX_IMAGE_BYTES:,} may be")
            if size > MAX_IMAGE_BYTES
            else framing.decode(files.read(name))
        )
    except ARCHIVE_DAMAGE as error:
        return Damaged(f"{name} cannot be read ({error})")
    return Damaged(f"{name}: {image.reason}") if isinstance(image, Damaged) else image


def _too_large(what: str) -> Damaged:
    return Damaged(f"refused as too large ({what})")


def to_rgb(image: Image.Image) -> Image.Image:
    """Brings an image of any mode to RGB.

    Grey is repeated, CMYK and YCbCr are converted, transparency is dropped. Grey of 16 bits keeps its upper eight,
    where Pillow's own conversion would clip it to white.

    Raises:
        ValueError: Its pixels are floating-point numbers, which have no range of their own.
    """
    if image.mode.startswith("I"):
        grey = np.asarray(image) >> 8
        image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no range: store the image with 8 or 16 bits")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data say; where they cannot be read, it stays as it is."""
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGE:
        turn = None
    return image if turn is None else image.transpose(turn)
