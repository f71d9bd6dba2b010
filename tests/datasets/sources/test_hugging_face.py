"""Local copies of Hugging Face data sets, read without its package."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsweep.datasets.preparation.preparing import prepare
from fairsweep.datasets.sources.hugging_face import HuggingFace


@pytest.fixture
def saved(tmp_path, raw):
    return raw.hugging_face(tmp_path / "saved")


def test_class_labels_keep_their_names_and_splits_are_those_of_the_folders(saved, tmp_path):
    source = HuggingFace(saved, image_size=16, image_column="picture")
    info = prepare(source, tmp_path / "out", parallel=False)
    assert [(a.name, a.values) for a in info.attributes] == [
        ("mouth", ("frowning", "smiling")),
        ("tone", ("dark", "light")),
    ]
    assert info.counts["test"] == 12
    assert info.counts["train"] + info.counts["validation"] == 24
    assert info.counts["validation"] > 0
    table = source.examples().to_pandas()
    assert (table["mouth"] == table["id"] % 2).all()


def test_parquet_and_arrow_of_one_data_set_give_the_same(saved, tmp_path, raw):
    other = raw.hugging_face(tmp_path / "hub", parquet=True)
    one, two = (HuggingFace(folder, 16, image_column="picture") for folder in (saved, other))
    assert one.examples().equals(two.examples())
    ids = one.examples().column("id").to_numpy()[::-1]
    for image, same in zip(one.images(ids), two.images(ids), strict=True):
        np.testing.assert_array_equal(image, same)


def test_one_parquet_file_of_another_program_needs_no_notes(tmp_path, raw):
    table = pa.table({"image": [raw.jpeg(n, 30, 20) for n in range(20)], "label": [n % 2 == 0 for n in range(20)]})
    pq.write_table(table, tmp_path / "mine.parquet")
    source = HuggingFace(tmp_path / "mine.parquet", 16)
    assert source.attributes[0].values == ("false", "true")
    assert set(source.examples().column("split").to_pylist()) == {"train", "validation", "test"}


def test_rows_without_a_value_are_counted_or_left_out(tmp_path, raw):
    rows = [None if n == 4 else n % 2 for n in range(20)]
    pq.write_table(pa.table({"image": [raw.jpeg(n, 30, 20) for n in range(20)], "label": rows}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"'label' has no value in 1 of 20: .*--missing drop"):
        HuggingFace(tmp_path / "a.parquet", 16).examples()
    assert len(HuggingFace(tmp_path / "a.parquet", 16, missing="drop").examples()) == 19


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image_column": "image"}, "--image-column picture"),
        ({"image_column": "tone"}, r"must hold encoded files \(bytes\)"),
        ({"image_column": "picture", "columns": ("mout",)}, "did you mean 'mouth'"),
        ({"image_column": "picture", "columns": ("picture",)}, "cannot be called 'picture'"),
    ],
)
def test_what_does_not_fit_is_said(saved, options, said):
    with pytest.raises(ValueError, match=said):
        HuggingFace(saved, 16, **options).examples()


def test_a_column_of_ids_and_a_label_of_one_value_are_no_attributes(tmp_path, raw):
    columns = {"image": [raw.jpeg(n, 30, 20) for n in range(4)], "label": ["smiling"] * 4, "id": list(range(4))}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"cannot be called 'id'.*name those to keep \(--columns\)"):
        HuggingFace(tmp_path / "a.parquet", 16).examples()
    with pytest.raises(ValueError, match=r"'label' in .* has only 'smiling': nothing could be learned"):
        HuggingFace(tmp_path / "a.parquet", 16, columns=("label",)).examples()


def test_a_name_of_the_hub_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match="hf download NAME --repo-type dataset"):
        HuggingFace("user/faces")
    with pytest.raises(ValueError, match=r"\.parquet files"):
        HuggingFace(tmp_path).examples()
