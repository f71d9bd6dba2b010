"""Prepared datasets from what a program holds."""

import numpy as np
import pytest
import torch
from PIL import Image

from fairsweep import datasets
from fairsweep.datasets.storage.layout import DatasetError

N = 40
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 6, 5, 3)).astype(np.uint8)
MOUTH = ["smiling" if n % 2 else "frowning" for n in range(N)]
TONE = ["light" if n % 3 else "dark" for n in range(N)]
COLUMNS = {"mouth": MOUTH, "tone": TONE}


class Faces(torch.utils.data.Dataset):
    """A torch Dataset whose images are made by a function."""

    def __init__(self, image):
        self._image = image

    def __len__(self):
        return N

    def __getitem__(self, place):
        return self._image(PIXELS[place]), {"mouth": MOUTH[place], "tone": TONE[place]}


class Feature:
    names = ("frowning", "smiling")


class Table(list):
    """What a Hugging Face Dataset offers of what is used here: rows that are mappings, and features."""

    features = {"image": object(), "mouth": Feature()}  # noqa: RUF012 - as theirs


def images_of(dataset):
    return dataset.shard_images(0)


def test_arrays_become_a_dataset(tmp_path):
    dataset = datasets.write(PIXELS, COLUMNS, to=tmp_path / "my faces", name="mine")
    np.testing.assert_array_equal(images_of(dataset), PIXELS)
    assert dataset.attribute("mouth").values == ("frowning", "smiling")
    assert [dataset.attribute("tone").values[code] for code in dataset.codes("tone")] == TONE
    assert dataset.info.name == "mine"
    assert all(dataset.info.counts.values())
    with pytest.raises(DatasetError, match="exists already"):
        datasets.write(PIXELS, COLUMNS, to=tmp_path / "my faces")


@pytest.mark.parametrize(
    "image",
    [
        lambda pixels: pixels,
        Image.fromarray,
        lambda pixels: torch.from_numpy(pixels.copy()).permute(2, 0, 1),
        lambda pixels: torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255,
    ],
)
def test_any_torch_dataset_of_images_with_attributes_gives_the_same(tmp_path, image):
    of_arrays = datasets.write(PIXELS, COLUMNS, to=tmp_path / "arrays")
    of_torch = datasets.write(Faces(image), to=tmp_path / "torch")
    assert of_torch.info.content_hash == of_arrays.info.content_hash


def test_hugging_face_rows_keep_the_names_of_class_labels_and_splits(tmp_path):
    rows = [{"image": Image.fromarray(PIXELS[n]), "mouth": n % 2, "tone": TONE[n], "text": str(n)} for n in range(N)]
    given = {"train": Table(rows[:30]), "test": Table(rows[30:])}
    dataset = datasets.write(given, ["mouth", "tone"], to=tmp_path / "hf", image_size=8)
    assert dataset.info.image_shape == (8, 8, 3)
    assert dataset.attribute("mouth").values == ("frowning", "smiling")
    np.testing.assert_array_equal(dataset.codes("mouth"), np.arange(N) % 2)
    assert dataset.info.counts["test"] == 10
    assert [attribute.name for attribute in dataset.info.attributes] == ["mouth", "tone"]


def test_grey_images_numbers_users_and_bins(tmp_path):
    columns = {"digit": np.arange(N) % 4, "age": np.arange(N) + 10.0, "user": np.arange(N) // 4}
    dataset = datasets.write(PIXELS[..., 0], columns, to=tmp_path / "grey", bins={"age": [0, 18, 40]})
    assert dataset.info.image_shape == (6, 5, 1)
    assert dataset.attribute("digit").values == ("0", "1", "2", "3")
    assert dataset.attribute("age").values == ("0-17", "18-39", "40+")
    assert dataset.info.has_user


@pytest.mark.parametrize(
    ("images", "attributes", "said"),
    [
        (PIXELS[:3], COLUMNS, "one entry an example"),
        (PIXELS / 127.5 - 1, COLUMNS, r"floats in \[0, 1\]"),
        (PIXELS.reshape(N, -1), COLUMNS, r"must be \[H, W\]"),
        (PIXELS, {"mouth": [None, *MOUTH[1:]]}, "1 have none, the first is number 0"),
        (PIXELS, {"split": ["train"] * N}, "at least one attribute"),
        (PIXELS, {"label": ["smiling"] * N, "tone": TONE}, "has only .smiling.: nothing could be learned"),
        (PIXELS, {"mouth": MOUTH, "split": ["trian"] * N}, "splits in"),
        (Faces(lambda pixels: pixels), ["mout"], "did you mean 'mouth'"),
        ([(PIXELS[0], 1)], None, r"wrap it so that its label is named"),
        ([(PIXELS[0], {"mouth": "no"}), (PIXELS[0], {"month": "no"})], None, "example 1 has no 'mouth'"),
        ([(PIXELS[0], {"mouth": "no"}), (PIXELS[0][:3], {"mouth": "no"})], None, "image_size=64"),
        ([], None, "at least one example"),
        (iter([]), None, "an array with attributes"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, images, attributes, said):
    with pytest.raises(ValueError, match=said):
        datasets.write(images, attributes, to=tmp_path / "out")
    assert not (tmp_path / "out").exists()
