"""Archives as they are handed out: tars, zips of other systems, what is no archive at all, and bombs."""

import io
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from fairsweep.datasets.raw import raw_images
from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.raw_files import open_raw
from fairsweep.datasets.raw.raw_images import Framing, read_images
from fairsweep.datasets.sources.utkface import UTKFace


@pytest.fixture
def faces(tmp_path, raw):
    folder = raw.utkface(tmp_path / "UTKFace", per_cell=1)
    (folder / "landmark_list_part1.txt").write_text("1_0_0_20170109.jpg 1 2 3")
    (folder / "Thumbs.db").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("name", ["UTKFace.tar.gz", "UTKFace.tgz", "UTKFace.tar"])
def test_a_tar_is_read_like_its_folder(faces, tmp_path, name):
    with tarfile.open(tmp_path / name, "w" if name.endswith("tar") else "w:gz") as archive:
        # In an order of its own, as archivers write; the first one turns to the last.
        for path in sorted(faces.iterdir(), reverse=True):
            archive.add(path, f"./UTKFace/{path.name}")
            archive.addfile(tarfile.TarInfo(f"./UTKFace/._{path.name}"))
    packed, unpacked = UTKFace(tmp_path / name, 16), UTKFace(faces, 16)
    assert packed.examples().drop_columns("source_path").equals(unpacked.examples().drop_columns("source_path"))
    assert packed.left_out() == unpacked.left_out() == ()
    ids = packed.examples().column("id").to_numpy()
    for one, other in zip(packed.images(ids), unpacked.images(ids), strict=True):
        assert np.array_equal(one, other)


def test_a_tar_that_was_cut_short_is_refused(faces, tmp_path):
    path = tmp_path / "faces.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(faces, "faces")
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ValueError, match=r"is truncated or damaged .*download it again"):
        open_raw(path)


def test_a_tar_whose_names_climb_out_is_refused(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../evil.jpg"))
    with pytest.raises(ValueError, match="point outside it"):
        open_raw(tmp_path / "evil.tar")


def test_a_zip_of_windows_and_one_of_macos(tmp_path):
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        archive.writestr("faces\\", b"")
        archive.writestr("faces\\1.jpg", b"one")
        archive.writestr("faces\\Thumbs.db", b"x")
    files = open_raw(tmp_path / "windows.zip")
    assert files.names == ("faces/1.jpg",)
    assert files.read("faces/1.jpg") == b"one"
    with zipfile.ZipFile(tmp_path / "macos.zip", "w") as archive:
        archive.writestr("Gesichter/Jürgen.jpg", b"two")
        archive.writestr("__MACOSX/Gesichter/._Jürgen.jpg", b"x")
    data = bytearray((tmp_path / "macos.zip").read_bytes())
    # UTF-8 names without the flag that says so, as macOS writes them.
    for mark, offset in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset] &= ~0x08
            place = data.find(mark, place + 4)
    (tmp_path / "macos.zip").write_bytes(data)
    assert open_raw(tmp_path / "macos.zip").names == ("Gesichter/Jürgen.jpg",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page, not the download"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(40), "is a 7z archive"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_archive_is_called_what_it_is(tmp_path, content, words):
    (tmp_path / "faces.zip").write_bytes(content)
    with pytest.raises(ValueError, match=f"faces.zip {words}"):
        open_raw(tmp_path / "faces.zip")


def test_a_member_that_would_fill_the_memory_is_refused(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(raw_images, "MAX_IMAGE_BYTES", 100_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(200_000))
        archive.writestr("good.jpg", raw.jpeg(1))
    files = open_raw(tmp_path / "bomb.zip")
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it must not be read"))
    (refused,) = read_images(files, ["bomb.jpg"], Framing(16))
    assert refused == Damaged("bomb.jpg: refused as too large (200,000 bytes, where 100,000 may be)")


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    for edge in (11_000, 60_000):
        header = edge.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        refused = Framing(16).decode(b"\x89PNG\r\n\x1a\n" + body)
        assert isinstance(refused, Damaged)
        assert "refused as too large" in refused.reason


def test_a_program_is_no_image():
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "EPS")
    assert Framing(4).decode(stream.getvalue()) == Damaged("not an image (the file is something else)")
