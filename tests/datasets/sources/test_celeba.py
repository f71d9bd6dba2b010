import shutil

import numpy as np
import pytest

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.raw.raw_images import Framing
from fairsweep.datasets.sources.celeba import CelebA
from fairsweep.datasets.sources.celeba_names import DISPLAY
from fairsweep.datasets.sources.splits import HoldOut
from fairsweep.datasets.storage.layout import SPLITS

COUNT = 24


@pytest.fixture
def folder(tmp_path, raw):
    return raw.celeba(tmp_path / "CelebA größer", COUNT)


def told(source):
    """All that a source says about its examples, but where their files lie."""
    return source.examples().drop_columns("source_path")


def same_examples(source, other):
    return told(source).equals(told(other))


def test_the_official_files_give_forty_attributes_splits_and_people(folder, raw):
    source = CelebA(folder)
    table = source.examples()
    assert table.column("id").to_pylist() == list(range(1, COUNT + 1))
    signs = raw.signs(COUNT)
    for index, name in enumerate(raw.names):
        assert np.array_equal(table.column(name.lower()).to_numpy(), signs[:, index] > 0)
    assert table.column("split").to_pylist() == [SPLITS[code] for code in raw.partition(COUNT)]
    assert table.column("user").to_pylist() == raw.identities(COUNT).tolist()


def test_all_forty_attributes_have_names_for_plots(folder, raw):
    attributes = {attribute.name: attribute for attribute in CelebA(folder).attributes}
    assert set(attributes) == set(DISPLAY) == {name.lower() for name in raw.names}
    assert all(attribute.values == ("no", "yes") for attribute in attributes.values())
    assert attributes["male"].display == ("female", "male")
    assert len({shown for attribute in attributes.values() for shown in attribute.display}) == 80


def test_images_are_cropped_and_resized_by_the_number_of_their_file(folder, raw):
    source = CelebA(folder, image_size=32)
    assert source.image_shape == (32, 32, 3)
    seven, three = source.images(np.array([7, 3]))
    assert np.array_equal(seven, Framing(32, 178).decode(raw.jpeg(7)))
    assert np.array_equal(three, Framing(32, 178).decode(raw.jpeg(3)))


def test_csv_tables_say_the_same_as_text(folder, tmp_path, raw):
    other = tmp_path / "csv"
    shutil.copytree(folder / "img_align_celeba", other / "img_align_celeba")
    (other / "list_attr_celeba.csv").write_text(raw.attribute_csv(raw.signs(COUNT)))
    (other / "list_eval_partition.csv").write_text(raw.pairs_csv("image_id,partition", raw.partition(COUNT)))
    (other / "identity_CelebA.csv").write_text(raw.pairs_csv("image_id,identity", raw.identities(COUNT)))
    assert same_examples(CelebA(folder), CelebA(other))


def test_lines_may_end_as_on_windows(folder, raw):
    before = CelebA(folder).examples()
    (folder / "list_attr_celeba.txt").write_text(raw.attribute_txt(raw.signs(COUNT), newline="\r\n"), newline="")
    assert CelebA(folder).examples().equals(before)


@pytest.mark.parametrize(
    "form", ["kaggle folders", "zip", "zip in a folder", "publisher's folders", "zip of the folder", "images alone"]
)
def test_every_form_in_which_it_travels_gives_the_same(folder, tmp_path, raw, form):
    expected = CelebA(folder).examples()
    pixels = list(CelebA(folder).images(np.array([2, 24])))
    source = CelebA(folder)
    if form == "kaggle folders":
        (folder / "img_align_celeba").rename(folder / "inner")
        (folder / "img_align_celeba").mkdir()
        (folder / "inner").rename(folder / "img_align_celeba" / "img_align_celeba")
    elif form == "zip":
        source = CelebA(raw.zipped(folder, tmp_path / "archive.zip"))
    elif form == "zip of the folder":
        source = CelebA(raw.zipped(folder, tmp_path / "archive.zip", prefix="celeba/"))
    elif form == "zip in a folder":
        raw.zipped(folder / "img_align_celeba", folder / "img_align_celeba.zip", prefix="img_align_celeba/")
        shutil.rmtree(folder / "img_align_celeba")
    elif form == "publisher's folders":
        for part, names in (
            ("Anno", ["list_attr_celeba.txt", "identity_CelebA.txt"]),
            ("Eval", ["list_eval_partition.txt"]),
            ("Img", ["img_align_celeba"]),
        ):
            (folder / part).mkdir()
            for name in names:
                (folder / name).rename(folder / part / name)
        # The photographs before alignment lie beside the aligned ones.
        shutil.copytree(folder / "Img" / "img_align_celeba", folder / "Img" / "img_celeba")
    else:
        source = CelebA(
            folder / "img_align_celeba",
            attribute_file=folder / "list_attr_celeba.txt",
            partition=folder / "list_eval_partition.txt",
            identities=folder / "identity_CelebA.txt",
        )
    assert told(source).equals(expected.drop_columns("source_path"))
    assert all(np.array_equal(one, other) for one, other in zip(source.images(np.array([2, 24])), pixels, strict=True))


def test_without_a_partition_the_split_is_stratified_and_keyed(folder):
    (folder / "list_eval_partition.txt").rename(folder / "elsewhere.txt")
    table = CelebA(folder, hold_out=HoldOut(0.25, 0.25)).examples()
    cells = table.column("male").to_numpy() * 2 + table.column("smiling").to_numpy()
    splits = np.array(table.column("split").to_pylist())
    for split in ("validation", "test"):
        # Six images of each cell: a quarter of them is one or two.
        assert (splits == split).sum() == COUNT / 4
        assert np.isin(np.bincount(cells[splits == split], minlength=4), (1, 2)).all()
    assert same_examples(CelebA(folder), CelebA(folder))
    assert not same_examples(CelebA(folder), CelebA(folder, hold_out=HoldOut(key=1)))
    (folder / "elsewhere.txt").rename(folder / "list_eval_partition.txt")
    ignoring = CelebA(folder, partition="none", hold_out=HoldOut(0.25, 0.25))
    assert ignoring.examples().equals(table)
    with pytest.raises(ValueError, match="did you mean 'smiling'"):
        CelebA(folder, partition="none", stratify=("smilling",)).examples()


def test_tables_of_the_whole_set_serve_for_some_of_its_images(folder, raw):
    # Someone keeps a part: attributes are cut to it, the other two tables stay as published.
    expected = CelebA(folder).examples().slice(0, 20)
    for name in raw.file_names(COUNT)[20:]:
        (folder / "img_align_celeba" / name).unlink()
    (folder / "list_attr_celeba.txt").write_text(raw.attribute_txt(raw.signs(COUNT)[:20]))
    signs = raw.signs(COUNT)[:20]
    table = CelebA(folder).examples()
    assert np.array_equal(table.column("smiling").to_numpy(), signs[:, raw.names.index("Smiling")] > 0)
    assert table.column("user").equals(expected.column("user"))
    assert table.column("split").equals(expected.column("split"))


def test_a_damaged_image_is_reported_by_its_name(tmp_path, raw):
    source = CelebA(raw.celeba(tmp_path / "raw", 4, damaged=(2,)))
    images = list(source.images(np.array([1, 2, 3])))
    assert isinstance(images[1], Damaged)
    assert images[1].reason.startswith("img_align_celeba/000002.jpg: damaged image")
    assert images[0].shape == images[2].shape == (64, 64, 3)


def test_other_sizes_of_image_need_another_crop(tmp_path, raw):
    folder = raw.celeba(tmp_path / "raw", 4)
    (folder / "img_align_celeba" / "000001.jpg").write_bytes(raw.jpeg(1, 64, 64))
    (refused,) = CelebA(folder).images(np.array([1]))
    assert "64x64 pixels is smaller than the crop of 178" in refused.reason
    (taken,) = CelebA(folder, crop=None).images(np.array([1]))
    assert np.array_equal(taken, Framing(64).decode(raw.jpeg(1, 64, 64)))


def test_other_files_are_another_version(folder, raw):
    before = CelebA(folder).version
    assert CelebA(folder).version == before
    (folder / "img_align_celeba" / "000001.jpg").write_bytes(raw.jpeg(99))
    assert CelebA(folder).version != before


def test_no_such_image_is_an_error(folder):
    with pytest.raises(ValueError, match=r"has no image 000099\.jpg"):
        CelebA(folder).images(np.array([99]))


class TestBadInput:
    def test_a_path_that_is_not_there(self, tmp_path):
        with pytest.raises(ValueError, match=r"nothing at .*nowhere"):
            CelebA(tmp_path / "nowhere").examples()

    def test_no_attribute_file_or_two(self, folder, raw):
        attributes = folder / "list_attr_celeba.txt"
        (folder / "list_attr_celeba.csv").write_text(raw.attribute_csv(raw.signs(COUNT)))
        with pytest.raises(ValueError, match=r"must be one list_attr_celeba file.*has 2"):
            CelebA(folder).examples()
        assert CelebA(folder, attribute_file=attributes).examples().num_rows == COUNT
        attributes.unlink()
        (folder / "list_attr_celeba.csv").unlink()
        with pytest.raises(ValueError, match=r"must hold list_attr_celeba\.txt"):
            CelebA(folder).examples()
        with pytest.raises(ValueError, match="there is no file"):
            CelebA(folder, attribute_file=attributes).examples()

    def test_no_images_or_several_folders_of_them(self, folder):
        images = folder / "img_align_celeba"
        shutil.copytree(images, folder / "one")
        images.rename(folder / "two")
        with pytest.raises(ValueError, match=r"must be one folder of images.*: one, two"):
            CelebA(folder).examples()
        shutil.rmtree(folder / "one")
        shutil.rmtree(folder / "two")
        with pytest.raises(ValueError, match="holds none"):
            CelebA(folder).examples()

    def test_rows_without_an_image_are_left_out_and_listed(self, folder, raw):
        for name in raw.file_names(COUNT)[10:17]:
            (folder / "img_align_celeba" / name).unlink()
        source = CelebA(folder)
        assert source.examples().num_rows == COUNT - 7
        assert [entry.id for entry in source.left_out()] == list(range(11, 18))
        assert source.left_out()[0].reason == "000011.jpg is listed in list_attr_celeba.txt, but does not exist"

    def test_images_without_a_row_are_counted(self, folder, raw):
        for number in (25, 26):
            (folder / "img_align_celeba" / f"{number:06d}.jpg").write_bytes(raw.jpeg(number))
        with pytest.raises(ValueError, match=r"2 are not in list_attr_celeba\.txt: 000025\.jpg, 000026\.jpg;"):
            CelebA(folder).examples()

    @pytest.mark.parametrize("table", ["list_eval_partition.txt", "identity_CelebA.txt"])
    def test_another_table_without_an_image(self, folder, table):
        path = folder / table
        path.write_text("".join(path.read_text().splitlines(keepends=True)[2:]))
        with pytest.raises(ValueError, match=f"2 are not in {table}: 000001.jpg"):
            CelebA(folder).examples()

    def test_images_with_other_names_or_one_number(self, folder, raw):
        (folder / "img_align_celeba" / "face.jpg").write_bytes(raw.jpeg(1))
        with pytest.raises(ValueError, match=r"1 are not: img_align_celeba/face\.jpg"):
            CelebA(folder).examples()
        (folder / "img_align_celeba" / "face.jpg").rename(folder / "img_align_celeba" / "000001.png")
        with pytest.raises(ValueError, match="some share one"):
            CelebA(folder).examples()

    def test_two_rows_for_one_image(self, folder, raw):
        text = raw.attribute_txt(raw.signs(COUNT)).replace("000002.jpg", "000001.jpg")
        (folder / "list_attr_celeba.txt").write_text(text)
        with pytest.raises(ValueError, match=r"1 images have several: 000001\.jpg"):
            CelebA(folder).examples()

    def test_rows_that_are_missing(self, folder, raw):
        whole = raw.attribute_txt(raw.signs(COUNT)).splitlines(keepends=True)
        (folder / "list_attr_celeba.txt").write_text("".join(whole[:-3]))
        with pytest.raises(ValueError, match="states 24 rows, but there are 21"):
            CelebA(folder).examples()

    @pytest.mark.parametrize("form", ["txt", "csv"])
    def test_a_column_that_is_missing(self, folder, raw, form):
        if form == "csv":
            (folder / "list_attr_celeba.txt").unlink()
            text = raw.attribute_csv(raw.signs(COUNT)).replace("image_id", "name")
            (folder / "list_attr_celeba.csv").write_text(text)
            message = "must have a column 'image_id'"
        else:
            lines = raw.attribute_txt(raw.signs(COUNT)).splitlines()
            lines[5] = lines[5].rsplit(" ", 1)[0].rstrip()
            (folder / "list_attr_celeba.txt").write_text("\n".join(lines))
            message = "table of 41 columns.*Expected 41 columns, got 40"
        with pytest.raises(ValueError, match=message):
            CelebA(folder).examples()

    def test_a_partition_without_its_column(self, folder, raw):
        (folder / "list_eval_partition.txt").unlink()
        (folder / "list_eval_partition.csv").write_text(raw.pairs_csv("image_id,part", raw.partition(COUNT)))
        with pytest.raises(ValueError, match="column 'partition', but has none: did you mean 'part'"):
            CelebA(folder).examples()

    def test_values_that_are_none_of_the_two(self, folder, raw):
        signs = raw.signs(COUNT)
        signs[3, raw.names.index("Bald")] = 7
        (folder / "list_attr_celeba.txt").write_text(raw.attribute_txt(signs))
        with pytest.raises(ValueError, match="but Bald has 7"):
            CelebA(folder).examples()
        (folder / "list_attr_celeba.txt").write_text(raw.attribute_txt(raw.signs(COUNT)))
        (folder / "list_eval_partition.txt").write_text(raw.pairs_txt(np.full(COUNT, 3)))
        with pytest.raises(ValueError, match=r"0 \(train\), 1 \(validation\) or 2 \(test\), but it has \[3\]"):
            CelebA(folder).examples()

    def test_another_file_in_place_of_the_attributes(self, folder):
        (folder / "list_attr_celeba.txt").write_bytes((folder / "identity_CelebA.txt").read_bytes())
        with pytest.raises(ValueError, match="must begin with a line that counts its rows"):
            CelebA(folder).examples()


@pytest.mark.parametrize("change", ["bom", "carriage returns", "decimals", "a quoted header", "an index"])
def test_tables_that_other_programs_have_saved_say_the_same(folder, raw, change):
    """A byte-order mark, the line ends of old Macs, and what pandas makes of the CSV."""
    expected = told(CelebA(folder))
    path = folder / "list_attr_celeba.txt"
    if change in ("bom", "carriage returns"):
        data = path.read_bytes()
        path.write_bytes(b"\xef\xbb\xbf" + data if change == "bom" else data.replace(b"\n", b"\r"))
    else:
        path.unlink()
        lines = raw.attribute_csv(raw.signs(COUNT)).splitlines()
        if change == "decimals":
            lines = [lines[0], *(line.replace(",1", ",1.0").replace(",-1", ",-1.0") for line in lines[1:])]
        elif change == "a quoted header":
            lines[0] = ",".join(f'"{name}"' for name in lines[0].split(","))
        else:
            lines = [("" if not number else str(number - 1)) + "," + line for number, line in enumerate(lines)]
        (folder / "list_attr_celeba.csv").write_text("\n".join(lines))
    assert told(CelebA(folder)).equals(expected)


def test_a_split_that_is_drawn_keeps_people_together(folder):
    (folder / "list_eval_partition.txt").unlink()
    source = CelebA(folder)
    pairs = {(row["user"], row["split"]) for row in source.examples().to_pylist()}
    assert len(pairs) == len({user for user, _ in pairs})
    assert source.notes() == (
        "no official partition is used: the splits were drawn; images of one person stay together",
    )
