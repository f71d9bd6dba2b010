import io

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.raw_files import open_raw
from fairsweep.datasets.raw.raw_images import Framing, read_images


def encoded(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "crop", "size"), [(178, 218, 178, 64), (200, 200, None, 64), (61, 40, 33, 48)]
)
def test_framing_gives_the_pixels_that_torchvision_gives(raw, width, height, crop, size):
    data = raw.jpeg(1, width, height)
    square = crop or min(width, height)
    expected = v2.Compose([v2.CenterCrop(square), v2.Resize(size)])(Image.open(io.BytesIO(data)))
    assert np.array_equal(Framing(size, crop).decode(data), np.asarray(expected))


def test_without_resizing_the_crop_is_cut_pixel_for_pixel(raw):
    photo = raw.photo(1, 50, 40)
    framed = Framing(20, 20).decode(encoded(photo, "PNG"))
    assert np.array_equal(framed, np.asarray(photo)[10:30, 15:35])


MODES = ("L", "RGB", "CMYK", "1", "P", "RGBA", "LA")
# What these formats cannot hold.
IMPOSSIBLE = {
    **{"JPEG": ("P", "RGBA", "LA"), "PNG": ("CMYK",), "BMP": ("CMYK", "LA"), "GIF": ("CMYK",)},
    **{"TIFF": (), "WEBP": ("1",)},
}


@pytest.mark.parametrize(
    ("form", "mode"), [(form, mode) for form, without in IMPOSSIBLE.items() for mode in MODES if mode not in without]
)
def test_every_mode_becomes_rgb(raw, form, mode):
    photo = raw.photo(2, 32, 32)
    data = encoded(photo.convert(mode), form)
    image = Framing(32).decode(data)
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    # Grey and palettes lose colour, but no conversion may turn dark into light.
    grey = np.asarray(photo.convert("L")).astype(float)
    if mode not in ("1", "P"):
        assert np.abs(np.asarray(Image.fromarray(image).convert("L")) - grey).mean() < 12


def test_grey_of_sixteen_bits_keeps_its_range():
    ramp = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    image = Framing(16).decode(encoded(Image.fromarray(ramp), "PNG"))
    assert np.array_equal(image, np.repeat((ramp >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_data_say(raw, orientation):
    upright = np.zeros((24, 24, 3), dtype=np.uint8)
    upright[:8, :12] = (255, 0, 0)
    upright[16:, 12:] = (0, 0, 255)
    # How a camera held this way would have stored the scene: the inverse of what a viewer must do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert np.array_equal(Framing(24).decode(data), upright)


def test_broken_exif_data_do_not_lose_an_image(raw):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = raw.jpeg(1, 40, 40, exif=exif.tobytes()[:14] + b"\xff" * 8)
    assert Framing(40).decode(data).shape == (40, 40, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_files_cut_short_are_damaged_wherever_the_cut_is(raw, form):
    data = encoded(raw.photo(3, 64, 64), form)
    for length in (0, 1, 10, len(data) // 3, len(data) // 2):
        assert isinstance(Framing(16).decode(data[:length]), Damaged), length


def test_noise_in_a_file_never_raises(raw):
    rng = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        data = np.frombuffer(encoded(raw.photo(4, 48, 48), form), np.uint8)
        for _ in range(60):
            noisy = data.copy()
            noisy[rng.integers(0, len(noisy), 12)] = rng.integers(0, 256, 12)
            image = Framing(8).decode(noisy.tobytes())
            assert isinstance(image, Damaged) or image.shape == (8, 8, 3)


def test_an_image_smaller_than_the_crop_is_not_padded(raw):
    image = Framing(64, 178).decode(raw.jpeg(1, 160, 200))
    assert image == Damaged("image of 160x200 pixels is smaller than the crop of 178")


def test_floating_point_pixels_are_refused():
    data = encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")
    assert "floating-point" in Framing(8).decode(data).reason


def test_reading_names_the_file_that_is_damaged_and_goes_on(tmp_path, raw):
    (tmp_path / "a.jpg").write_bytes(raw.jpeg(1))
    (tmp_path / "b.jpg").write_bytes(b"<html>404</html>")
    files = open_raw(tmp_path)
    first, second, third, fourth = read_images(files, ["a.jpg", "b.jpg", "gone.jpg", "a.jpg"], Framing(16))
    assert np.array_equal(first, fourth)
    assert second.reason.startswith("b.jpg: not an image (the file is a web page")
    assert third.reason.startswith("gone.jpg cannot be read")


def test_a_damaged_member_of_a_zip_is_reported(tmp_path, raw):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(encoded(raw.photo(1, 32, 32), "PNG"))
    packed = raw.zipped(tmp_path / "in", tmp_path / "packed.zip")
    data = bytearray(packed.read_bytes())
    middle = (data.index(b"a.png") + data.index(b"b.png")) // 2
    data[middle : middle + 20] = bytes(20)
    packed.write_bytes(data)
    first, second = read_images(open_raw(packed), ["a.png", "b.png"], Framing(32))
    assert first.reason.startswith("a.png cannot be read")
    assert np.array_equal(second, np.asarray(raw.photo(1, 32, 32)))


@pytest.mark.parametrize("arguments", [(0, None), (64, 0), (-1, 3)])
def test_sizes_must_be_positive(arguments):
    with pytest.raises(ValueError, match=r"at least 1 pixel, but got size="):
        Framing(*arguments)
