import numpy as np
import pytest

from fairsweep.datasets.raw.raw_images import Framing
from fairsweep.datasets.sources.splits import BalancedTest, HoldOut
from fairsweep.datasets.sources.utkface import UTKFace

# Names as they are in the real set: without a race, without a gender, without the dot of "jpg", with ".pg".
WITHOUT_RACE = "61_1_20170109142408075.jpg.chip.jpg"
WITHOUT_GENDER = "53__0_20170116184028385.jpg"
ODD = "44_1_4_20170116235150272.pg.chip.jpg"
DOTLESS = "55_0_0_20170116232725357jpg.chip.jpg"


@pytest.fixture
def folder(tmp_path, raw):
    return raw.utkface(tmp_path / "UTKFace", per_cell=4)


def values(source, table, name):
    attribute = next(attribute for attribute in source.attributes if attribute.name == name)
    return [attribute.values[code] for code in table.column(name).to_pylist()]


def test_names_say_age_gender_and_race(tmp_path, raw):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("100_1_2_20170112213001988.jpg.chip.jpg", "1_0_0_20161219140623097.jpg", ODD, DOTLESS):
        (folder / name).write_bytes(raw.jpeg(1, 20, 20))
    source = UTKFace(folder)
    table = source.examples()
    # Ids are places among the sorted names: "100…", "1_…", "44…", "55…".
    assert table.column("id").to_pylist() == [0, 1, 2, 3]
    assert values(source, table, "age") == ["100", "1", "44", "55"]
    assert values(source, table, "age_bin") == ["66-120", "0-2", "28-45", "46-65"]
    assert values(source, table, "gender") == ["female", "male", "female", "male"]
    assert values(source, table, "race") == ["asian", "white", "others", "white"]
    assert source.left_out() == ()


@pytest.mark.parametrize(
    ("age", "expected"), [(0, "0-2"), (2, "0-2"), (3, "3-9"), (9, "3-9"), (10, "10-20"), (45, "28-45"), (120, "66-120")]
)
def test_upper_edges_belong_to_their_bin(tmp_path, raw, age, expected):
    (tmp_path / f"{age}_0_0_1.jpg").write_bytes(raw.jpeg(1, 20, 20))
    source = UTKFace(tmp_path)
    assert values(source, source.examples(), "age_bin") == [expected]


def test_bins_can_be_chosen(folder):
    source = UTKFace(folder, age_edges=(0, 17, 116))
    assert source.attributes[0].values == ("0", "1-17", "18-116")
    ages = np.array([int(age) for age in values(source, source.examples(), "age")])
    assert np.array_equal(source.examples().column("age_bin").to_numpy(), np.where(ages > 17, 2, 1))


@pytest.mark.parametrize("edges", [(), (9, 2), (5, 5), (-1, 7)])
def test_edges_must_ascend(folder, edges):
    with pytest.raises(ValueError, match="ascending ages"):
        UTKFace(folder, age_edges=edges)


def test_edges_that_end_too_early_are_refused(folder):
    with pytest.raises(ValueError, match="20 faces are older than 65: end the edges with 90"):
        UTKFace(folder, age_edges=(20, 65)).examples()


def test_malformed_names_are_listed_and_keep_their_places(folder, raw):
    before = UTKFace(folder).examples().num_rows
    for name in (WITHOUT_RACE, WITHOUT_GENDER, "26_2_0_20170104.jpg", "26_0_5_20170104.jpg"):
        (folder / name).write_bytes(raw.jpeg(1, 20, 20))
    source = UTKFace(folder)
    table = source.examples()
    names = sorted(path.name for path in folder.iterdir())
    assert table.num_rows == before
    assert {skipped.reason.split(": ")[0] for skipped in source.left_out()} == {
        WITHOUT_RACE,
        WITHOUT_GENDER,
        "26_2_0_20170104.jpg",
        "26_0_5_20170104.jpg",
    }
    assert all(names[skipped.id] == skipped.reason.split(": ")[0] for skipped in source.left_out())
    assert sorted([*table.column("id").to_pylist(), *(s.id for s in source.left_out())]) == list(range(len(names)))


def test_images_are_those_of_the_sorted_names(folder):
    source = UTKFace(folder, image_size=24)
    names = sorted(path.name for path in folder.iterdir())
    for place, image in zip((5, 0, 17), source.images(np.array([5, 0, 17])), strict=True):
        assert np.array_equal(image, Framing(24).decode((folder / names[place]).read_bytes()))


def told(source):
    """All that a source says about its examples, but where their files lie."""
    return source.examples().drop_columns("source_path")


def test_zips_and_nested_folders_give_the_same(folder, tmp_path, raw):
    expected = told(UTKFace(folder))
    assert told(UTKFace(raw.zipped(folder, tmp_path / "flat.zip"))).equals(expected)
    assert told(UTKFace(raw.zipped(folder, tmp_path / "deep.zip", prefix="data/UTKFace/"))).equals(expected)
    assert told(UTKFace(folder.parent)).equals(expected)


def test_the_parts_in_the_wild_are_read_as_one(folder, tmp_path):
    expected = told(UTKFace(folder))
    for number, path in enumerate(sorted(folder.iterdir())):
        part = tmp_path / "wild" / f"part{number % 3 + 1}"
        part.mkdir(parents=True, exist_ok=True)
        path.rename(part / path.name)
    assert told(UTKFace(tmp_path / "wild")).equals(expected)


def test_copies_of_a_face_are_left_aside_or_refused(folder, tmp_path, raw):
    expected = told(UTKFace(folder))
    everything = tmp_path / "kaggle"
    for prefix in ("UTKFace", "crop_part1", "utkface_aligned_cropped/UTKFace", "utkface_aligned_cropped/crop_part1"):
        (everything / prefix).mkdir(parents=True)
        for path in folder.iterdir():
            (everything / prefix / path.name).write_bytes(path.read_bytes())
    assert told(UTKFace(everything)).equals(expected)
    with pytest.raises(ValueError, match="140 names occur in several folders"):
        UTKFace(raw.zipped(everything / "utkface_aligned_cropped", tmp_path / "z.zip", prefix="UTKFace/")).examples()


def test_the_reference_test_split_has_nine_of_each_race_and_bin(tmp_path, raw):
    source = UTKFace(
        raw.utkface(tmp_path / "raw", per_cell=13), hold_out=HoldOut(validation=0.25), balanced_test=BalancedTest(9, 63)
    )
    table = source.examples()
    splits = np.array(table.column("split").to_pylist())
    cells = table.column("race").to_numpy() * 7 + table.column("age_bin").to_numpy()
    assert (splits == "test").sum() == 315 + 63
    assert np.bincount(cells[splits == "test"], minlength=35).min() >= 9
    rest = 35 * 13 - 378
    assert abs((splits == "validation").sum() - rest / 4) < 1
    other = UTKFace(source.raw, balanced_test=BalancedTest(9, 63, key=1), hold_out=HoldOut(validation=0.25))
    assert not other.examples().equals(table)
    with pytest.raises(ValueError, match="race = white, age_bin = 0-2: the largest per_cell is 13"):
        UTKFace(source.raw, balanced_test=BalancedTest(14)).examples()


def test_the_natural_split_is_stratified(folder):
    table = UTKFace(folder, hold_out=HoldOut(0.25, 0.25)).examples()
    splits = np.array(table.column("split").to_pylist())
    cells = table.column("race").to_numpy() * 7 + table.column("age_bin").to_numpy()
    # Four faces of each cell: a quarter is one, and each cell is within one of it.
    assert np.isin(np.bincount(cells[splits == "test"], minlength=35), (0, 1, 2)).all()
    assert (splits == "test").sum() == 35


def test_a_folder_without_faces_is_refused(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="holds none: check the path"):
        UTKFace(tmp_path).examples()
    with pytest.raises(ValueError, match="nothing at"):
        UTKFace(tmp_path / "nowhere").examples()
