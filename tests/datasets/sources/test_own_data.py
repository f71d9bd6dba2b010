"""Own tables as people have them: written by pandas, Excel and Kaggle, with gaps, numbers and several files."""

import numpy as np
import pytest
from PIL import Image

from fairsweep.datasets.sources.folder import Folder


@pytest.fixture
def photos(tmp_path):
    """Sixty images in a folder called `photos`, among them 00.JPG, and what file managers leave there."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(60):
        path = folder / f"{number:02d}.{'JPG' if number % 3 == 0 else 'jpg'}"
        Image.new("RGB", (8, 8), (4 * number,) * 3).save(path, "JPEG")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._01.jpg").write_bytes(b"x")
    return folder


def table(folder, rows, header="path,label", name="t.csv", **how):
    (folder / name).write_text("\n".join([header, *rows, ""]), newline="", **how)
    return folder


def rows_of(column, count=60, path="{0:02d}.jpg"):
    return [f"{path.format(number)},{column[number % len(column)]}" for number in range(count)]


def values(folder, **fields):
    return {attribute.name: attribute.values for attribute in Folder(folder, image_size=8, **fields).attributes}


def test_a_frame_that_pandas_wrote_with_its_index(photos):
    table(photos, [f"{number},{row}" for number, row in enumerate(rows_of("xy"))], ",path,label")
    assert values(photos) == {"label": ("x", "y")}
    # Written once more, the index has a name that nobody gave it.
    table(photos, [f"{number},{row}" for number, row in enumerate(rows_of("xy"))], "Unnamed: 0,path,label")
    assert values(photos) == {"label": ("x", "y")}


@pytest.mark.parametrize(
    ("delimiter", "encoding", "newline"), [(";", "utf-8-sig", "\r\n"), ("\t", "utf-16", "\r\n"), (";", "utf-8", "\r")]
)
def test_what_excel_saves(photos, delimiter, encoding, newline):
    rows = ['"path","label, in short"', *(f"{number:02d}.jpg;{'xü'[number % 2]}" for number in range(60)), ";", ""]
    text = newline.join(rows).replace(",", ";", 1).replace(";", delimiter)
    text = text.replace(f'"label{delimiter} in short"', '"label, in short"')
    (photos / "t.csv").write_bytes(text.encode(encoding))
    assert values(photos) == {"label, in short": ("x", "ü")}
    assert Folder(photos).examples().num_rows == 60


def test_a_table_in_another_encoding_is_refused_with_the_remedy(photos):
    (photos / "t.csv").write_bytes("path,label\n00.jpg,ja\n01.jpg,nö\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"UTF-8 text, but line 3 is not: .*CSV UTF-8"):
        Folder(photos).examples()


@pytest.mark.parametrize(
    "path",
    [
        "{0:02d}.jpg",
        "{0:02d}",
        "./{0:02d}.JPG",
        "/home/ana/faces/{0:02d}.jpg",
        "C:\\faces\\{0:02d}.jpg",
        "photos\\{0:02d}.jpg",
    ],
)
def test_paths_in_any_form_find_their_images(photos, path):
    raw = photos.parent if path.startswith("photos") else photos
    table(raw, rows_of("xy", path=path))
    source = Folder(raw, image_size=8)
    paths = source.examples().column("source_path").to_pylist()
    assert sorted(name.rpartition("/")[2].lower() for name in paths) == [f"{number:02d}.jpg" for number in range(60)]
    assert next(source.images(np.array([7]))).mean() == pytest.approx(28, abs=2)


def test_absolute_paths_of_two_folders_are_not_mixed_up(photos):
    table(
        photos, ["/a/train/00.jpg,x", "/a/val/01.jpg,y", *(f"/a/train/{number:02d}.jpg,x" for number in range(2, 60))]
    )
    with pytest.raises(ValueError, match="none of 60 does: /a/train"):
        Folder(photos).examples()


def test_a_listed_image_that_is_missing_is_left_out_and_listed(photos):
    (photos / "07.jpg").unlink()
    source = Folder(table(photos, rows_of("xy")), image_size=8)
    assert source.examples().num_rows == 59
    assert [(entry.id, entry.reason) for entry in source.left_out()] == [
        (7, "07.jpg is listed in t.csv, but does not exist")
    ]


def test_two_rows_that_come_to_one_image_are_refused(photos):
    table(photos, [*rows_of("xy"), "05,x"])
    with pytest.raises(ValueError, match=r"one row for each image, but several rows name 05\.jpg"):
        Folder(photos).examples()


def test_the_error_names_the_column_of_paths(photos):
    table(photos, rows_of("xy"), "file,label")
    with pytest.raises(ValueError, match=r"none called 'path': say which it is with --path-column file"):
        Folder(photos).examples()


class TestMissingValues:
    @pytest.fixture
    def gaps(self, photos):
        return table(
            photos,
            [f"{row},{'' if number % 20 == 3 else 'pq'[number % 2]}" for number, row in enumerate(rows_of("xy"))],
            "path,label,race",
        )

    def test_they_are_counted_and_the_options_named(self, gaps):
        with pytest.raises(ValueError, match=r"'race' has no value in 3 of 60: .*--missing drop.*--missing group"):
            Folder(gaps).examples()

    def test_rows_without_one_can_be_left_out(self, gaps):
        source = Folder(gaps, missing="drop")
        assert source.examples().num_rows == 57
        assert 3 not in source.examples().column("id").to_pylist()
        assert source.notes() == ("3 rows left out where a value was missing (race 3)",)

    def test_they_can_be_a_group(self, gaps):
        source = Folder(gaps, missing="group")
        assert values(gaps, missing="group")["race"] == ("p", "q", "missing")
        assert source.examples().column("race").to_pylist()[3] == 2

    def test_other_words_can_mean_that_a_value_is_missing(self, photos):
        table(
            photos,
            [f"{row},{'NA' if number == 3 else 1.0}" for number, row in enumerate(rows_of("xy"))],
            "path,label,a",
        )
        assert values(photos, missing="group", missing_words=("NA",))["a"] == ("1", "missing")


class TestNumbers:
    @pytest.fixture
    def ages(self, photos):
        return table(photos, [f"{row},{number + 1}" for number, row in enumerate(rows_of("xy"))], "path,label,age")

    def test_many_are_asked_about(self, ages):
        with pytest.raises(
            ValueError, match=r"'age' .* 60 different numbers.*regression.*--bins age=1,.*--bins age=each"
        ):
            Folder(ages).examples()

    def test_bins_are_named_by_their_ages(self, ages):
        source = Folder(ages, bins={"age": ("0", "18", "40", "41")})
        age = {attribute.name: attribute.values for attribute in source.attributes}["age"]
        assert age == ("0-17", "18-39", "40", "41+")
        assert np.bincount(source.examples().column("age").to_numpy()).tolist() == [17, 22, 1, 20]

    def test_each_can_be_a_value(self, ages):
        assert len(values(ages, bins={"age": ("each",)})["age"]) == 60

    def test_bins_of_something_else_are_refused(self, ages):
        with pytest.raises(ValueError, match=r"--bins names the column 'ages'.*did you mean 'age'"):
            Folder(ages, bins={"ages": ("0",)}).examples()
        with pytest.raises(ValueError, match=r"must be ascending numbers"):
            Folder(ages, bins={"age": ("18", "0")}).examples()
        with pytest.raises(ValueError, match=r"must hold numbers, but 'label' of t.csv has x, y"):
            Folder(ages, bins={"age": ("0",), "label": ("0",)}).examples()


def test_ranges_are_in_their_natural_order_or_the_one_given(photos):
    ranges = ["more than 70", "10-19", "3-9", "0-2", "20-29"]
    table(photos, rows_of(ranges))
    assert values(photos)["label"] == ("0-2", "3-9", "10-19", "20-29", "more than 70")
    assert values(photos, order={"label": tuple(ranges)})["label"] == tuple(ranges)
    with pytest.raises(ValueError, match=r"must name every value of 'label'.*but more than 70 is missing"):
        Folder(photos, order={"label": tuple(ranges[1:])}).examples()


@pytest.mark.parametrize(("date", "was"), [("9-Mar", "3-9"), ("Oct-19", "10-19")])
def test_a_range_that_a_spreadsheet_made_a_date_is_named(photos, date, was):
    table(photos, rows_of(["0-2", date, "20-29"]))
    with pytest.raises(ValueError, match=rf"turned some into dates: '{date}' \(was {was}\)"):
        Folder(photos).examples()


class TestSeveralTables:
    """FairFace's layout: two tables beside the folders of images."""

    @pytest.fixture
    def fairface(self, photos):
        for part, numbers in (("train", range(48)), ("val", range(48, 60))):
            (photos / part).mkdir()
            rows = []
            for number in numbers:
                suffix = "JPG" if number % 3 == 0 else "jpg"
                (photos / f"{number:02d}.{suffix}").rename(photos / part / f"{number}.jpg")
                rows.append(f"{part}/{number}.jpg,{['0-2', '3-9', 'more than 70'][number % 3]},{'MF'[number % 2]}")
            table(photos, rows, "file,age,gender", f"fairface_label_{part}.csv")
        return photos

    def splits(self, source):
        table = source.examples()
        return {split: table.column("split").to_pylist().count(split) for split in ("train", "validation", "test")}

    def test_the_split_follows_from_the_files(self, fairface):
        tables = tuple(fairface / f"fairface_label_{part}.csv" for part in ("train", "val"))
        source = Folder(fairface, tables, path_column="file")
        assert values(fairface, table=tables, path_column="file")["age"] == ("0-2", "3-9", "more than 70")
        assert self.splits(source) == {"train": 38, "validation": 12, "test": 10}
        assert source.notes() == ("no table gives the split test: drawn from the training examples",)

    def test_or_is_said(self, fairface):
        source = Folder(fairface, ("train=fairface_label_train.csv", "test=fairface_label_val.csv"), path_column="file")
        assert self.splits(source) == {"train": 43, "validation": 5, "test": 12}

    def test_files_that_say_none_are_refused(self, fairface):
        (fairface / "fairface_label_val.csv").rename(fairface / "more.csv")
        with pytest.raises(ValueError, match=r"more.csv does not: .*--table train=FILE"):
            Folder(fairface, ("fairface_label_train.csv", "more.csv"), path_column="file").examples()


def test_images_of_one_user_stay_together(photos):
    table(photos, [f"{row},{number // 4}" for number, row in enumerate(rows_of("xy"))], "path,label,user")
    source = Folder(photos)
    pairs = {(row["user"], row["split"]) for row in source.examples().to_pylist()}
    assert len(pairs) == 15
    assert source.notes() == ("images of one user stay together in the splits that were drawn",)
