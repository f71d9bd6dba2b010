import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fairsweep.datasets.raw.table_columns import attribute
from fairsweep.datasets.sources.folder import Folder
from fairsweep.datasets.sources.splits import HoldOut

NAMES = ["zebra/ä.png", "ape/1.jpg", "ape/2.jpg", "b c.jpg", "写真.webp", "ape/10.jpg"]


@pytest.fixture
def images(tmp_path, raw):
    """Six images without a table; image k is uniform grey of 10 (k + 1)."""
    folder = tmp_path / "мои фото"
    for number, name in enumerate(NAMES, start=1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (10 * number,) * 3).save(path, quality=100)
    return folder


def write(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(images):
    values = zip(NAMES, "xyxyxy", (3, 10, 2, 3, 2, 10), strict=True)
    rows = "".join(f"{name},{label},{age}\n" for name, label, age in values)
    return write(images, "path,label,age\n" + rows)


def told(source):
    """All that a source says about its examples, but where their files lie."""
    return source.examples().drop_columns("source_path")


def decoded(source, table):
    return {row["id"]: {a.name: a.values[row[a.name]] for a in source.attributes} for row in table.to_pylist()}


def test_rows_become_examples_in_the_order_of_their_paths(folder):
    source = Folder(folder, image_size=8)
    table = source.examples()
    assert [attribute.name for attribute in source.attributes] == ["label", "age"]
    # Numbers are in order as numbers, not as words.
    assert source.attributes[1].values == ("2", "3", "10")
    ranked = sorted(NAMES)
    assert decoded(source, table) == {
        ranked.index(name): {"label": label, "age": age}
        for name, label, age in zip(NAMES, "xyxyxy", ("3", "10", "2", "3", "2", "10"), strict=True)
    }
    for place, image in enumerate(source.images(np.arange(6))):
        assert np.abs(image.astype(int) - 10 * (NAMES.index(ranked[place]) + 1)).max() <= 2


def test_the_order_of_rows_does_not_matter(folder):
    before = Folder(folder).examples()
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    write(folder, "\n".join([lines[0], *reversed(lines[1:])]))
    assert Folder(folder).examples().equals(before)


def test_parquet_zip_and_a_table_elsewhere_give_the_same(folder, tmp_path, raw):
    expected = told(Folder(folder))
    table = pa.csv.read_csv(folder / "labels.csv")
    elsewhere = tmp_path / "labels.parquet"
    pq.write_table(table, elsewhere)
    assert told(Folder(folder, elsewhere)).equals(expected)
    assert told(Folder(raw.zipped(folder, tmp_path / "f.zip"))).equals(expected)
    assert told(Folder(raw.zipped(folder, tmp_path / "deep.zip", prefix="in/here/"))).equals(expected)
    (folder / "labels.csv").rename(tmp_path / "moved.csv")
    assert told(Folder(folder, tmp_path / "moved.csv")).equals(expected)
    pq.write_table(table, folder / "only.parquet")
    assert told(Folder(folder)).equals(expected)


def test_paths_are_relative_to_the_folder_of_the_table(tmp_path, raw):
    (tmp_path / "in" / "photos").mkdir(parents=True)
    for number in range(10):
        (tmp_path / "in" / "photos" / f"{number}.jpg").write_bytes(raw.jpeg(number, 8, 8))
    write(tmp_path / "in", "path,label\n" + "".join(f"photos/{number}.jpg,{number % 2}\n" for number in range(10)))
    expected = told(Folder(tmp_path))
    assert told(Folder(tmp_path, tmp_path / "in" / "labels.csv")).equals(expected)
    assert told(Folder(tmp_path / "in")).equals(expected)


def test_names_are_the_same_in_both_unicode_forms(folder):
    expected = Folder(folder).examples()
    path = folder / "zebra" / "ä.png"
    path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    assert Folder(folder).examples().equals(expected)
    assert np.array_equal(
        next(Folder(folder).images(np.array([sorted(NAMES).index("zebra/ä.png")]))), np.full((64, 64, 3), 10)
    )


def test_split_and_user_columns_are_taken(images):
    splits = ["Train", "val", "test", "validation", "training", "testing"]
    rows = "".join(
        f"{name},{label},{split},{user}\n"
        for name, label, split, user in zip(NAMES, "xyxyxy", splits, "cabbac", strict=True)
    )
    source = Folder(write(images, "path,label,split,user\n" + rows))
    table = source.examples()
    expected = dict(zip(NAMES, ["train", "validation", "test", "validation", "train", "test"], strict=True))
    assert [attribute.name for attribute in source.attributes] == ["label"]
    assert table.column("split").to_pylist() == [expected[name] for name in sorted(NAMES)]
    users = dict(zip(NAMES, "cabbac", strict=True))
    assert table.column("user").to_pylist() == ["abc".index(users[name]) for name in sorted(NAMES)]


def test_numbers_of_users_are_kept(images):
    rows = "".join(f"{name},{label},{user}\n" for name, label, user in zip(NAMES, "xyxyxy", range(70, 76), strict=True))
    table = Folder(write(images, "path,label,user\n" + rows)).examples()
    assert table.column("user").to_pylist() == [70 + NAMES.index(name) for name in sorted(NAMES)]


def test_without_a_split_column_it_is_stratified_and_keyed(tmp_path, raw):
    for number in range(80):
        (tmp_path / f"{number:03d}.jpg").write_bytes(raw.jpeg(number, 8, 8))
    rows = "".join(f"{number:03d}.jpg,{number % 2},{number // 2 % 2}\n" for number in range(80))
    write(tmp_path, "path,group,label\n" + rows)
    table = Folder(tmp_path, hold_out=HoldOut(0.2, 0.2)).examples()
    splits = np.array(table.column("split").to_pylist())
    cells = table.column("label").to_numpy() * 2 + table.column("group").to_numpy()
    assert np.abs(np.bincount(cells[splits == "test"], minlength=4) - 4).max() <= 1
    assert (splits == "test").sum() == (splits == "validation").sum() == 16
    assert not Folder(tmp_path, hold_out=HoldOut(0.2, 0.2, key=1)).examples().equals(table)


def test_columns_and_the_column_of_paths_can_be_chosen(images):
    rows = "".join(f"{number},./{name},{number % 2},note {number}\n" for number, name in enumerate(NAMES))
    write(images, "id,file,label,note\n" + rows)
    source = Folder(images, path_column="file", columns=("label",))
    assert [attribute.name for attribute in source.attributes] == ["label"]
    assert source.examples().num_rows == 6
    with pytest.raises(ValueError, match="cannot be called 'id'"):
        Folder(images, path_column="file").examples()
    with pytest.raises(ValueError, match="did you mean 'label'"):
        Folder(images, path_column="file", columns=("lable",)).examples()


def test_images_without_a_row_are_no_examples(folder):
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    assert Folder(folder).examples().num_rows == 6


def test_a_changed_table_is_read_again(folder):
    Folder(folder).examples()
    text = (folder / "labels.csv").read_text(encoding="utf-8")
    write(folder, text.replace("ape/1.jpg,y,10\n", ""))
    assert Folder(folder).examples().num_rows == 5


class TestBadInput:
    def test_no_table_or_two(self, images):
        with pytest.raises(ValueError, match="must hold a table"):
            Folder(images).examples()
        write(images, "path,label\n", "a.csv")
        write(images, "path,label\n", "b.csv")
        with pytest.raises(ValueError, match=r"must be one table.*has 2: a\.csv, b\.csv"):
            Folder(images).examples()
        with pytest.raises(ValueError, match="is not one: check the path"):
            Folder(images, images / "c.csv").examples()

    def test_a_missing_column(self, folder):
        with pytest.raises(ValueError, match=r"must have a column of image paths, but has none called 'image'"):
            Folder(folder, path_column="image").examples()

    def test_no_attributes(self, images):
        write(images, "path,split\n" + "".join(f"{name},train\n" for name in NAMES))
        with pytest.raises(ValueError, match="at least one column of attributes"):
            Folder(images).examples()

    def test_rows_without_an_image_are_counted_and_five_named(self, images):
        write(images, "path,label\n" + "".join(f"no{number}.jpg,{number % 2}\n" for number in range(7)))
        with pytest.raises(ValueError, match=r"none of 7 does: no0\.jpg, .*no4\.jpg, …; paths are relative"):
            Folder(images).examples()

    def test_a_path_that_climbs_out_is_no_image(self, images):
        write(images.parent, "secret", "secret.jpg")
        write(images, "path,label\n../secret.jpg,1\n")
        with pytest.raises(ValueError, match=r"none of 1 does: \.\./secret\.jpg"):
            Folder(images).examples()

    @pytest.mark.parametrize("again", ["ape/1.jpg", "./ape/1.jpg", "ape\\1.jpg"])
    def test_two_rows_for_one_image(self, folder, again):
        with (folder / "labels.csv").open("a", encoding="utf-8") as file:
            file.write(f"{again},x,3\n")
        with pytest.raises(ValueError, match=r"1 images have several: ape/1\.jpg"):
            Folder(folder).examples()

    def test_a_label_with_one_value(self, images):
        rows = "".join(f"{name},x,{number}\n" for number, name in enumerate(NAMES))
        write(images, "path,label,group\n" + rows)
        with pytest.raises(ValueError, match=r"at least two values, but 'label' in labels\.csv has only 'x'"):
            Folder(images).examples()
        write(images, "path,smile,group\n" + rows)
        assert Folder(images).examples().num_rows == 6
        with pytest.raises(ValueError, match="at least two values, but 'smile'"):
            Folder(images, columns=("smile",)).examples()

    def test_a_missing_value(self, images):
        rows = "".join(f"{name},{'x' if number % 2 else ''}\n" for number, name in enumerate(NAMES))
        write(images, "path,label\n" + rows)
        with pytest.raises(ValueError, match="'label' has no value in 3 of 6: "):
            Folder(images).examples()

    def test_no_rows(self, images):
        write(images, "path,label\n")
        with pytest.raises(ValueError, match="at least one row"):
            Folder(images).examples()

    @pytest.mark.parametrize(("split", "shown"), [("tset", "it has tset"), ("", "'split' has no value in 5 of 6")])
    def test_a_split_that_is_none(self, images, split, shown):
        rows = "".join(f"{name},{number % 2},{split if number else 'train'}\n" for number, name in enumerate(NAMES))
        write(images, "path,label,split\n" + rows)
        with pytest.raises(ValueError, match=shown):
            Folder(images).examples()

    def test_too_many_values(self):
        words = pa.chunked_array([[f"w{number}" for number in range(33_000)]])
        with pytest.raises(ValueError, match="33,000 different values"):
            attribute(words, "label", "t.csv", order=None, bins=None)
