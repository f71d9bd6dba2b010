import os
import pickle
import zipfile

import pytest

from fairsweep.datasets.raw.raw_files import fingerprint, open_raw


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "Zürich, 写真"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "ö.jpg").write_bytes(b"one")
    (folder / "z.txt").write_bytes(b"two")
    (folder / ".DS_Store").write_bytes(b"noise")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._ö.jpg").write_bytes(b"noise")
    return folder


def settle(folder):
    """Makes folders look as if they had not changed for an hour, so that their listing is kept."""
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        os.utime(path, (1e9, 1e9))


def test_a_folder_and_its_zip_hold_the_same_files(tree, tmp_path, raw):
    packed = raw.zipped(tree, tmp_path / "packed.zip")
    for files in (open_raw(tree), open_raw(packed)):
        assert files.names == ("a/b/ö.jpg", "z.txt")
        assert files.read("a/b/ö.jpg") == b"one"


def test_an_unchanged_folder_is_listed_once_and_a_changed_one_again(tree):
    settle(tree)
    files = open_raw(tree)
    assert open_raw(tree) is files
    (tree / "a" / "b" / "new.jpg").write_bytes(b"three")
    again = open_raw(tree)
    assert again is not files
    assert "a/b/new.jpg" in again.names


def test_a_folder_that_changed_just_now_is_listed_again(tree):
    assert open_raw(tree) is not open_raw(tree)


def test_a_zip_is_opened_once_until_it_changes(tree, tmp_path, raw):
    path = raw.zipped(tree, tmp_path / "packed.zip")
    files = open_raw(path)
    assert open_raw(path) is files
    (tree / "more.txt").write_bytes(b"more")
    raw.zipped(tree, path)
    assert "more.txt" in open_raw(path).names


def test_the_fingerprint_is_that_of_the_content_and_not_of_its_place(tree, tmp_path, raw):
    packed = raw.zipped(tree, tmp_path / "packed.zip")
    before = fingerprint(open_raw(tree))
    assert fingerprint(open_raw(packed)) == before
    (tree / "z.txt").write_bytes(b"longer")
    assert fingerprint(open_raw(tree)) != before


def test_links_are_followed_but_never_in_circles(tree, tmp_path):
    (tree / "a" / "up").symlink_to(tree)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c.jpg").write_bytes(b"three")
    (tree / "link").symlink_to(elsewhere)
    assert open_raw(tree).names == ("a/b/ö.jpg", "link/c.jpg", "z.txt")


def test_what_is_not_there_or_no_zip_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nothing at .*nowhere"):
        open_raw(tmp_path / "nowhere")
    other = tmp_path / "faces.tar.gz"
    other.write_bytes(b"\x1f\x8b not a zip")
    with pytest.raises(ValueError, match="gzip-compressed, but does not contain a complete tar"):
        open_raw(other)


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"])
def test_a_zip_whose_names_climb_out_is_refused(tmp_path, name):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.jpg", b"")
        archive.writestr(name, b"")
    with pytest.raises(ValueError, match=r"1 in .*evil\.zip point outside it"):
        open_raw(path)


def test_a_cut_or_encrypted_zip_or_one_with_a_name_twice_is_refused(tree, tmp_path, raw):
    path = raw.zipped(tree, tmp_path / "packed.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is a truncated zip"):
        open_raw(path)
    # The flag that says "encrypted", in the local header and in the directory.
    locked = bytearray(whole)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + offset] |= 1
    path.write_bytes(locked)
    with pytest.raises(ValueError, match="encrypted"):
        open_raw(path)
    # Deflate64, which Windows uses for large zips.
    strange = bytearray(whole)
    strange[strange.index(b"PK\x01\x02") + 10] = 9
    path.write_bytes(strange)
    with pytest.raises(ValueError, match="compressed in a way"):
        open_raw(path)
    twice = tmp_path / "twice.zip"
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("a.jpg", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.jpg", b"2")
    with pytest.raises(ValueError, match=r"1 are repeated in .*: a\.jpg"):
        open_raw(twice)


def test_names_of_a_folder_survive_pickling_of_nothing_open(tree, tmp_path, raw):
    # What travels between processes is the path; open files never do.
    files = open_raw(raw.zipped(tree, tmp_path / "packed.zip"))
    with pytest.raises(TypeError):
        pickle.dumps(files)
