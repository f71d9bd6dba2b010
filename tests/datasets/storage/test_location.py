import pickle
from pathlib import Path

import pytest
from pyarrow import fs

from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.location import Location


def test_a_local_path_is_a_folder_of_this_machine(tmp_path, monkeypatch):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.txt").write_bytes(b"abc")
    monkeypatch.chdir(tmp_path)
    for path in (
        "faces",
        Path("faces"),
        tmp_path / "faces",
        f"file://{tmp_path}/faces",
        Path(f"file://{tmp_path}/faces"),
    ):
        location = Location.of(path)
        assert location.is_local
        assert location.root == str(tmp_path / "faces")
        assert location.read("a.txt") == b"abc"
        assert [file.size for file in location.describe_all(["a.txt"])] == [3]
        assert location.describe("b.txt").type == fs.FileType.NotFound


def test_a_location_travels_to_another_process(tmp_path):
    location = pickle.loads(pickle.dumps(Location.of(tmp_path)))
    assert location == Location.of(tmp_path)


def test_a_uri_keeps_working_after_pathlib_has_taken_a_slash():
    options = "region=us-east-1&endpoint_override=127.0.0.1:1&scheme=http"
    for uri in (f"s3://bucket/faces?{options}", Path(f"s3://bucket/faces?{options}")):
        location = Location.of(uri)
        assert isinstance(location.filesystem, fs.S3FileSystem)
        assert (location.root, location.name) == ("bucket/faces", "s3://bucket/faces")
        assert not location.is_local


def test_a_file_system_may_be_given(tmp_path):
    (tmp_path / "faces").mkdir()
    below = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    assert Location.of("faces/", below).path("a") == "faces/a"
    assert Location.of("faces", below).describe().type == fs.FileType.Directory


def test_neither_names_nor_errors_show_credentials():
    location = Location.of("s3://user:hunter2@bucket/faces?region=us-east-1")
    assert "hunter2" not in repr(location) + str(location)
    with pytest.raises(DatasetError, match="not on a file system that pyarrow can open") as caught:
        Location.of("nowhere://user:hunter2@bucket/faces?token=hunter2")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("path", ["C:/faces", "a:b/c", "plain"])
def test_what_only_looks_like_a_uri_is_a_path(path):
    assert Location.of(path).is_local
