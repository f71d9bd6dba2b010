"""Images are found by the files that they were prepared from."""

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.datasets.preparation.image_names import ids_of_images, read_names
from fairsweep.datasets.storage.layout import Attribute, DatasetError
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared

PATHS = ["women/17.png", "men/17.png", "men/18.png", "old men/é.png", "19.png"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    columns = {"id": [3, 5, 7, 9, 11], "split": ["train"] * 5, "smiling": np.zeros(5, np.int16), "source_path": PATHS}
    folder = write_prepared(
        tmp_path_factory.mktemp("named") / "set",
        name="named",
        attributes=[Attribute(name="smiling", values=("no", "yes"))],
        examples=pa.table(columns),
        images=np.zeros((5, 2, 2, 1), np.uint8),
    )
    return PreparedDataset.open(folder)


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["18.png"], [7]),
        (["men/17.png"], [5]),  # the exact path, though "women/17.png" ends alike
        (["./women/17.png", "19.png", "19.png"], [3, 11]),
        (["men\\18.png", "e\u0301.png"], [7, 9]),
    ],
)
def test_a_name_needs_as_much_of_the_path_as_tells_it_apart(dataset, names, ids):
    assert ids_of_images(dataset, names).tolist() == ids


def test_ambiguous_and_unknown_names_are_refused_with_what_there_is(dataset, toy_dataset_without_files):
    with pytest.raises(DatasetError, match=r"'17.png' must name one image, but 2 fit: women/17.png, men/17.png; name"):
        ids_of_images(dataset, ["18.png", "17.png"])
    with pytest.raises(DatasetError, match=r"no image of these names: 7.png, en/18.png; .*for instance women/17.png"):
        ids_of_images(dataset, ["7.png", "en/18.png"])
    with pytest.raises(DatasetError, match="does not know the files of its images"):
        ids_of_images(toy_dataset_without_files, ["17.png"])


@pytest.fixture
def toy_dataset_without_files(tmp_path):
    folder = write_prepared(
        tmp_path / "set",
        name="nameless",
        attributes=[Attribute(name="smiling", values=("no", "yes"))],
        examples=pa.table({"id": [1], "split": ["train"], "smiling": np.zeros(1, np.int16)}),
        images=np.zeros((1, 2, 2, 1), np.uint8),
    )
    return PreparedDataset.open(folder)


def test_a_list_of_names_is_a_file_with_one_a_line(tmp_path):
    (tmp_path / "list").write_text("\ufeffa.png\n\n b/c d.png \n", encoding="utf-8")
    assert read_names(tmp_path / "list") == ("a.png", "b/c d.png")
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "none"):
        with pytest.raises(ValueError, match="names"):
            read_names(tmp_path / name)
