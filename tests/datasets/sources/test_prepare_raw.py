"""From raw files to a prepared dataset: what is kept, what is left out, and that nothing half made remains."""

import json

import numpy as np
import pytest

from fairsweep.datasets.preparation.identical import counted_identical
from fairsweep.datasets.preparation.preparing import prepare
from fairsweep.datasets.sources import SOURCES
from fairsweep.datasets.sources.celeba import CelebA
from fairsweep.datasets.sources.folder import Folder
from fairsweep.datasets.sources.options import from_options
from fairsweep.datasets.sources.utkface import UTKFace
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.datasets.storage.writing import checked_examples

MALFORMED = "61_1_20170109142408075.jpg.chip.jpg"


@pytest.fixture
def utkface(tmp_path, raw):
    """140 faces, two of them damaged, and one name without a race."""
    folder = raw.utkface(tmp_path / "UTKFace", per_cell=4)
    for name in sorted(path.name for path in folder.iterdir())[3:5]:
        (folder / name).write_bytes((folder / name).read_bytes()[:900])
    (folder / MALFORMED).write_bytes(raw.jpeg(1, 20, 20))
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_celeba_keeps_every_attribute_split_and_person(tmp_path, raw):
    source = CelebA(raw.celeba(tmp_path / "raw", 24), image_size=16)
    prepare(source, tmp_path / "out", parallel=False)
    dataset = PreparedDataset.open(tmp_path / "out")
    table = source.examples()
    assert dataset.examples().equals(checked_examples(table, source.attributes).drop_columns("source_path"))
    assert (
        dataset.info.counts
        == {"train": 20, "validation": 2, "test": 2}
        == {split: table.column("split").to_pylist().count(split) for split in ("train", "validation", "test")}
    )
    assert dataset.attribute("male").shown(1) == "male"
    assert np.array_equal(dataset.shard_images(0), np.stack(list(source.images(dataset.ids))))
    paths = [f"img_align_celeba/{number:06d}.jpg" for number in range(1, 25)]
    assert dataset.source_paths.to_pylist() == paths


def test_each_example_says_which_file_it_was(tmp_path, utkface):
    prepare(UTKFace(utkface, 16), tmp_path / "out", parallel=False, max_damaged=0.05)
    dataset = PreparedDataset.open(tmp_path / "out")
    names = sorted(path.name for path in utkface.iterdir())
    assert dataset.source_paths.to_pylist() == [names[place] for place in dataset.ids.tolist()]


def test_malformed_names_and_damaged_files_are_skipped_counted_and_listed(tmp_path, utkface):
    seen = []
    arguments = {"max_damaged": 0.05, "rows_per_shard": 50, "on_progress": seen.append}
    info = prepare(UTKFace(utkface, 16), tmp_path / "out", parallel=False, **arguments)
    names = sorted(path.name for path in utkface.iterdir())
    listed = {names[skipped.id]: skipped.reason for skipped in info.skipped}
    assert set(listed) == {*names[3:5], MALFORMED}
    assert all(reason.startswith(f"{name}: ") for name, reason in listed.items())
    assert sum(info.counts.values()) == 138
    assert (seen[-1].done, seen[-1].damaged, seen[-1].total) == (141, 3, 141)
    told = json.loads((tmp_path / "out" / "dataset.json").read_text())["skipped"]
    assert [entry["id"] for entry in told] == sorted(names.index(name) for name in listed)


@pytest.mark.parametrize("limit", [0.01, 0.02])
def test_too_many_unusable_files_are_an_error_that_leaves_nothing(tmp_path, utkface, limit):
    # 3 of 141 are 2.1%.
    with pytest.raises(DatasetError, match=r"of 141 images may be unusable, but .*--max-damaged"):
        prepare(UTKFace(utkface, 16), tmp_path / "out", parallel=False, max_damaged=limit)
    assert [path.name for path in tmp_path.iterdir()] == ["UTKFace"]


def test_bad_raw_files_leave_nothing(tmp_path, raw):
    folder = raw.celeba(tmp_path / "raw", 24)
    (folder / "img_align_celeba" / "000007.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 are already \(id 7: 000007.jpg is listed in .*, but does not exist\)"):
        prepare(CelebA(folder), tmp_path / "out", parallel=False)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_an_interrupted_preparation_goes_on_but_not_with_other_files(tmp_path, utkface, raw):
    whole = prepare(UTKFace(utkface, 16), tmp_path / "whole", parallel=False, max_damaged=1, rows_per_shard=30)

    def stop(progress):
        if progress.done > 60:
            raise KeyboardInterrupt

    again = {"parallel": False, "max_damaged": 1, "rows_per_shard": 30}
    with pytest.raises(KeyboardInterrupt):
        prepare(UTKFace(utkface, 16), tmp_path / "out", **again, on_progress=stop)
    assert not (tmp_path / "out").exists()
    done = []
    assert prepare(UTKFace(utkface, 16), tmp_path / "out", **again, on_progress=done.append) == whole
    assert done[0].done > 60
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepare(UTKFace(utkface, 16), tmp_path / "other", **again, on_progress=stop)
    # A file was replaced meanwhile: the shards that are there may hold the old one.
    (utkface / sorted(path.name for path in utkface.iterdir())[0]).write_bytes(raw.jpeg(999, 200, 200))
    started = []
    prepare(UTKFace(utkface, 16), tmp_path / "other", **again, on_progress=started.append)
    assert started[0].done == 1  # the malformed name


def test_workers_give_the_same_bytes_and_read_a_zip_too(tmp_path, utkface, raw, ray_session):
    arguments = {"max_damaged": 0.05, "rows_per_shard": 40}
    prepare(UTKFace(utkface, 16), tmp_path / "here", parallel=False, **arguments)
    prepare(UTKFace(utkface, 16), tmp_path / "there", **arguments)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    packed = raw.zipped(utkface, tmp_path / "faces.zip")
    prepare(UTKFace(packed, 16), tmp_path / "packed", **arguments)
    assert contents(tmp_path / "here") == contents(tmp_path / "packed")


def test_a_folder_of_any_images(tmp_path, raw):
    (tmp_path / "raw").mkdir()
    for number in range(30):
        (tmp_path / "raw" / f"{number}.jpg").write_bytes(raw.jpeg(number, 40, 30, ("RGB", "L", "CMYK")[number % 3]))
    rows = [f"{number}.jpg,{number % 2},{'ab'[number // 2 % 2]},{number % 5}" for number in range(30)]
    (tmp_path / "raw" / "t.csv").write_text("\n".join(["path,label,group,user", *rows]))
    info = prepare(Folder(tmp_path / "raw", image_size=16, name="mine"), tmp_path / "out", parallel=False)
    dataset = PreparedDataset.open(tmp_path / "out")
    assert info.name == "mine"
    assert sorted(dataset.users.tolist()) == sorted([0, 1, 2, 3, 4] * 6)
    assert dataset.info.image_shape == (16, 16, 3)
    # Five users of six images each: a fifth of them, and at least one more.
    assert dataset.info.counts == {"train": 18, "validation": 6, "test": 6}
    assert info.notes == ("images of one user stay together in the splits that were drawn",)


def test_pictures_that_occur_in_two_splits_are_counted(tmp_path, raw):
    (tmp_path / "raw").mkdir()
    for number in range(20):
        # The last six are copies of the first six.
        (tmp_path / "raw" / f"{number:02d}.jpg").write_bytes(raw.jpeg(number % 14, 20, 20))
    rows = [f"{number:02d}.jpg,{number % 2},{'train' if number < 14 else 'test'}" for number in range(20)]
    (tmp_path / "raw" / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    info = prepare(Folder(tmp_path / "raw", image_size=16), tmp_path / "out", parallel=False, rows_per_shard=7)
    assert info.identical == {"train validation": 0, "train test": 6, "validation test": 0}
    dataset = PreparedDataset.open(tmp_path / "out")
    assert dataset.info == info == counted_identical(dataset)


def test_every_source_in_the_table_can_be_made_from_words(tmp_path, raw):
    folders = {
        **{name: raw.mnist(tmp_path / name) for name in ("mnist", "fashion-mnist", "kmnist")},
        "celeba": raw.celeba(tmp_path / "celeba", 12),
        "utkface": raw.utkface(tmp_path / "utkface"),
        "hf": raw.hugging_face(tmp_path / "hf", image="image"),
    }
    (tmp_path / "folder").mkdir()
    for number in range(8):
        (tmp_path / "folder" / f"{number}.png").write_bytes(raw.jpeg(number, 8, 8))
    (tmp_path / "folder" / "t.csv").write_text("path,label\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(8)))
    folders["folder"] = tmp_path / "folder"
    for name, kind in SOURCES.items():
        words = {"raw": str(folders[name])} if name in folders else {"count": "64"}
        info = prepare(from_options(kind, words), tmp_path / f"{name} out", parallel=False)
        assert info.name == name
