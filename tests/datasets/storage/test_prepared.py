"""Prepared datasets: what is written is what is read, and whatever is not whole is refused with a remedy."""

import json
import random
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from fairsweep.datasets.preparation.erasure import write_without
from fairsweep.datasets.storage.layout import Skipped, hash_examples, images_of, nearest, value_reference
from fairsweep.datasets.storage.prepared import Attribute, DatasetError, PreparedDataset, write_prepared

TONE = Attribute(name="tone", values=("light", "dark"), display=("light skin", "dark skin"))
DIGIT = Attribute(name="digit", values=tuple("0123456789"))


def make_arrays(n=100, *, users=False, seed=0):
    rng = np.random.default_rng(seed)
    columns = {
        "id": rng.permutation(10 * n)[:n],
        "tone": rng.integers(0, 2, n).astype(np.int16),
        "digit": rng.integers(0, 10, n).astype(np.int16),
        "split": rng.choice(["train", "validation", "test"], n),
    }
    if users:
        columns["user"] = rng.integers(0, 2**40, n)
    return pa.table(columns), rng.integers(0, 256, (n, 5, 4, 3), dtype=np.uint8)


def write(folder, examples, images, **fields):
    fields = {"name": "pairs", "attributes": [TONE, DIGIT], "rows_per_shard": 32} | fields
    return write_prepared(folder, examples=examples, images=images, **fields)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "set", *make_arrays())


def edit_info(folder, **changes):
    path = folder / "dataset.json"
    info = json.loads(path.read_text()) | changes
    del info["info_checksum"]
    path.write_text(json.dumps(info))


# --- round trip ---


@pytest.mark.parametrize("users", [False, True])
def test_every_column_and_pixel_comes_back_sorted_by_id(tmp_path, users):
    examples, images = make_arrays(users=users)
    dataset = PreparedDataset.open(write(tmp_path / "set", examples, images))
    order = np.argsort(examples["id"].to_numpy())
    np.testing.assert_array_equal(dataset.ids, examples["id"].to_numpy()[order])
    for name in ("tone", "digit"):
        assert dataset.codes(name).dtype == np.int16
        np.testing.assert_array_equal(dataset.codes(name), examples[name].to_numpy()[order])
    split = examples["split"].to_numpy()[order]
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(dataset.split(name), np.flatnonzero(split == name))
        assert dataset.info.counts[name] == (split == name).sum()
    if users:
        np.testing.assert_array_equal(dataset.users, examples["user"].to_numpy()[order])
    else:
        assert dataset.users is None
    stored = np.concatenate([dataset.shard_images(number) for number in range(len(dataset.info.shards))])
    np.testing.assert_array_equal(stored, images[order])
    assert [shard.rows for shard in dataset.info.shards] == [32, 32, 32, 4]


def with_paths(examples):
    return examples.append_column("source_path", pa.array([f"faces/{i:04d}.jpg" for i in examples["id"].to_pylist()]))


def test_source_paths_are_kept_beside_the_examples_and_change_no_content_hash(tmp_path):
    examples, images = make_arrays()
    bare = PreparedDataset.open(write(tmp_path / "bare", examples, images))
    named = PreparedDataset.open(write(tmp_path / "named", with_paths(examples), images))
    assert bare.source_paths is None
    assert named.source_paths.to_pylist() == [f"faces/{i:04d}.jpg" for i in named.ids.tolist()]
    assert named.info.content_hash == bare.info.content_hash
    assert named.examples().equals(bare.examples())
    assert named.shard_images(0).shape == bare.shard_images(0).shape


def test_a_dataset_of_an_earlier_version_has_no_source_paths(folder):
    path = folder / "dataset.json"
    told = json.loads(path.read_text())
    del told["source_paths_hash"], told["info_checksum"]
    path.write_text(json.dumps(told))
    assert PreparedDataset.open(folder).source_paths is None


def test_changed_source_paths_are_noticed(tmp_path):
    examples, images = make_arrays()
    folder = write(tmp_path / "set", with_paths(examples), images)
    edit_info(folder, source_paths_hash="0" * 40)
    with pytest.raises(DatasetError, match="source paths do not match"):
        _ = PreparedDataset.open(folder).source_paths


def test_source_paths_survive_an_erasure(tmp_path):
    examples, images = make_arrays()
    dataset = PreparedDataset.open(write(tmp_path / "set", with_paths(examples), images))
    write_without(dataset, dataset.ids[[3, 50]], tmp_path / "less")
    left = PreparedDataset.open(tmp_path / "less")
    assert left.source_paths.to_pylist() == [f"faces/{i:04d}.jpg" for i in left.ids.tolist()]
    assert len(left) == 98


def test_a_shard_is_plain_parquet_that_any_reader_understands(folder):
    dataset = PreparedDataset.open(folder)
    table = pq.read_table(folder / "shards" / "00001.parquet")
    assert table.column_names == ["id", "image", "tone", "digit", "split"]
    assert table.schema.field("tone").type == pa.int16()
    assert json.loads(table.schema.field("image").metadata[b"shape"]) == [5, 4, 3]
    np.testing.assert_array_equal(table["id"].to_numpy(), dataset.ids[32:64])
    pixels = np.frombuffer(b"".join(table["image"].to_pylist()), np.uint8).reshape(-1, 5, 4, 3)
    np.testing.assert_array_equal(pixels, dataset.shard_images(1))
    np.testing.assert_array_equal(images_of(table["image"], (5, 4, 3)), pixels)


def test_the_content_hash_depends_on_content_alone(tmp_path):
    examples, images = make_arrays(users=True)

    def hash_of(folder, examples=examples, images=images, **fields):
        return PreparedDataset.open(write(tmp_path / folder, examples, images, **fields)).info.content_hash

    original = hash_of("a")
    shuffled = np.random.default_rng(1).permutation(len(examples))
    assert hash_of("b", examples.take(shuffled), images[shuffled]) == original
    assert hash_of("c", name="other", version="2") == original
    plain = Attribute(name="tone", values=TONE.values)
    assert hash_of("d", attributes=[plain, DIGIT]) == original

    other_pixel = images.copy()
    other_pixel[3, 0, 0, 0] ^= 1
    renamed = Attribute(name="tone", values=("pale", "dark"))
    moved = examples.set_column(examples.column_names.index("split"), "split", [["train"] * len(examples)])
    different = [
        hash_of("e", images=other_pixel),
        hash_of("f", attributes=[renamed, DIGIT]),
        hash_of("g", examples=moved),
        hash_of("h", examples=examples.drop_columns(["user"])),
        hash_of("i", examples.slice(1), images[1:]),
    ]
    assert len({original, *different}) == 6


def test_rows_of_ids_come_in_the_order_asked(folder):
    dataset = PreparedDataset.open(folder)
    rows = np.array([7, 3, 99, 3])
    np.testing.assert_array_equal(dataset.rows_of(dataset.ids[rows]), rows)
    assert dataset.rows_of(np.array([], dtype=np.int64)).tolist() == []
    with pytest.raises(ValueError, match="2 ids are not in dataset 'pairs', for example -1"):
        dataset.rows_of(np.array([dataset.ids[0], -1, 10**9]))


def test_what_is_handed_out_cannot_be_written_to(folder):
    dataset = PreparedDataset.open(folder)
    for array in (dataset.ids, dataset.codes("tone")):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_unknown_names_are_answered_with_the_nearest_one(folder):
    dataset = PreparedDataset.open(folder)
    with pytest.raises(ValueError, match="dataset 'pairs' has no attribute 'tonne': did you mean 'tone'"):
        dataset.codes("tonne")
    with pytest.raises(ValueError, match="no split 'tests': did you mean 'test'"):
        dataset.split("tests")


def test_an_empty_dataset_and_empty_splits_are_read(tmp_path):
    examples, images = make_arrays()
    dataset = PreparedDataset.open(write(tmp_path / "set", examples.slice(0, 0), images[:0]))
    assert len(dataset) == 0
    assert dataset.split("train").tolist() == []
    assert dataset.info.counts == {"train": 0, "validation": 0, "test": 0}


# --- attributes ---


@pytest.mark.parametrize("value", ["8", 8, {"code": 8}, "{code: 8}", "{ code : 8 }", np.str_("8")])
def test_a_value_is_found_by_name_number_or_code(value):
    assert DIGIT.code(value) == 8


def test_display_names_are_shown_where_there_are_some():
    assert [TONE.shown(code) for code in (0, 1)] == ["light skin", "dark skin"]
    assert DIGIT.shown(3) == "3"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("drak", "no value 'drak': did you mean 'dark'"),
        (7, r"no value '7': known: light, dark"),
        ({"code": 2}, "are 0 to 1, but got code=2"),
        ({"code": -1}, "are 0 to 1, but got code=-1"),
        (True, "by its name or as"),
        (None, "by its name or as"),
        (0.5, "by its name or as"),
        ({"value": 0}, "by its name or as"),
    ],
)
def test_a_value_that_is_none_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        TONE.code(value)


def test_a_value_reference_has_one_canonical_form():
    assert value_reference({"code": 3}) == value_reference("{code:3}") == "{code: 3}"
    assert value_reference(3) == value_reference("3") == "3"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "image", "values": ("a",)},
        {"name": "", "values": ("a",)},
        {"name": "tone", "values": ()},
        {"name": "tone", "values": ("a", "a")},
        {"name": "tone", "values": ("a", "b"), "display": ("A",)},
    ],
)
def test_senseless_attributes_are_refused(fields):
    with pytest.raises(ValidationError):
        Attribute(**fields)


def test_nearest_says_the_known_names_and_stops_at_twenty():
    assert nearest("smilling", ["smiling", "tone"]) == "did you mean 'smiling'? (known: smiling, tone)"
    assert nearest("zzz", ["smiling", "tone"]) == "known: smiling, tone"
    assert nearest("zzz", [str(number) for number in range(30)]).endswith("… 30 in all")
    assert "did you mean 'Male'" in nearest("male", ["Male", "Smiling"])


# --- writing ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["digit"]), r"\['digit'\] are missing"),
        (lambda t: t.set_column(0, "id", [[5] * len(t)]), "each id must occur once, but 5 is repeated"),
        (lambda t: t.set_column(2, "digit", [[10] * len(t)]), "codes of 'digit' must be in 0 to 9"),
        (lambda t: t.set_column(2, "digit", [[-1] * len(t)]), "codes of 'digit' must be in 0 to 9"),
        (lambda t: t.set_column(3, "split", [["dev"] * len(t)]), r"splits must be among .* but got \['dev'\]"),
    ],
)
def test_malformed_examples_are_refused_and_leave_nothing(tmp_path, change, message):
    examples, images = make_arrays()
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "set", change(examples), images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("images", [np.zeros((100, 4, 4, 3), np.float32), np.zeros((100, 4, 4), np.uint8)])
def test_images_of_another_type_are_refused_and_leave_nothing(tmp_path, images):
    examples, _ = make_arrays()
    with pytest.raises(ValueError, match="images must be uint8"):
        write(tmp_path / "set", examples, images)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(folder, tmp_path):
    before = (folder / "dataset.json").read_bytes()
    with pytest.raises(DatasetError, match="exists already: nothing is overwritten"):
        write(folder, *make_arrays(seed=1))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DatasetError, match="exists already"):
        write(tmp_path / "file", *make_arrays())
    assert (folder / "dataset.json").read_bytes() == before
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "set"]


def test_an_empty_folder_may_be_the_target(tmp_path):
    (tmp_path / "set").mkdir()
    assert len(PreparedDataset.open(write(tmp_path / "set", *make_arrays()))) == 100


def test_what_was_skipped_is_told(tmp_path):
    skipped = [Skipped(id=5, reason="truncated")]
    dataset = PreparedDataset.open(write(tmp_path / "set", *make_arrays(), skipped=skipped))
    assert dataset.info.skipped == tuple(skipped)


# --- what is not whole ---


def test_a_missing_folder_a_file_and_a_foreign_folder_are_told_apart(tmp_path):
    with pytest.raises(DatasetError, match=r"there is no dataset at .* make one with `fairsweep.*; a relative path"):
        PreparedDataset.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="is not a folder"):
        PreparedDataset.open(tmp_path / "file")
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetError, match=r"is not a prepared dataset: there is no dataset\.json in it"):
        PreparedDataset.open(tmp_path / "photos")


def test_a_half_written_dataset_is_refused(folder):
    (folder / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"there is no dataset\.json in it; make one with `fairsweep prepare"):
        PreparedDataset.open(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"name": "pairs"}'])
def test_a_garbled_dataset_json_is_refused(folder, content):
    (folder / "dataset.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"dataset\.json is invalid .* `fairsweep prepare`"):
        PreparedDataset.open(folder)


def test_every_cut_of_dataset_json_is_refused(folder):
    whole = (folder / "dataset.json").read_bytes()
    for size in range(0, len(whole) - 2, 101):
        (folder / "dataset.json").write_bytes(whole[:size])
        with pytest.raises(DatasetError):
            PreparedDataset.open(folder)


def test_a_newer_format_version_is_said_whatever_it_holds(folder):
    edit_info(folder, format_version=99, colour_space="sRGB")
    with pytest.raises(DatasetError, match=r"has format version 99, but this fairsweep reads up to 1: update") as said:
        PreparedDataset.open(folder)
    assert not {"damaged", "delete", "prepare"} & set(str(said.value).split())


def test_edited_vocabularies_and_hashes_are_noticed(folder, tmp_path):
    info = json.loads((folder / "dataset.json").read_text())
    swapped = [info["attributes"][0] | {"values": ["dark", "light"]}, info["attributes"][1]]
    for name, changes in {
        "swapped": {"attributes": swapped},
        "content": {"content_hash": "0" * 40},
        "examples": {"examples_hash": "0" * 40},
        "image": {"image_shape": [4, 5, 3]},
        "order": {"shards": info["shards"][::-1]},
    }.items():
        copy = shutil.copytree(folder, tmp_path / name)
        edit_info(copy, **changes)
        with pytest.raises(DatasetError, match="is damaged"):
            PreparedDataset.open(copy)


def test_a_missing_a_shortened_and_a_replaced_shard_are_noticed(folder, tmp_path):
    missing = shutil.copytree(folder, tmp_path / "missing")
    (missing / "shards" / "00002.parquet").unlink()
    with pytest.raises(DatasetError, match=r"00002\.parquet is missing"):
        PreparedDataset.open(missing)
    short = shutil.copytree(folder, tmp_path / "short")
    path = short / "shards" / "00002.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DatasetError, match=r"00002\.parquet has \d+ bytes instead of \d+"):
        PreparedDataset.open(short)
    garbled = shutil.copytree(folder, tmp_path / "garbled")
    path = garbled / "shards" / "00002.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DatasetError, match=r"00002\.parquet cannot be read"):
        PreparedDataset.open(garbled)


def test_changed_codes_and_changed_pixels_are_noticed(folder):
    path = folder / "shards" / "00001.parquet"
    original = pq.read_table(path)

    def replace(name, column):
        place = original.column_names.index(name)
        pq.write_table(original.set_column(place, original.schema.field(name), column), path)
        info = json.loads((folder / "dataset.json").read_text())
        info["shards"][1]["bytes"] = path.stat().st_size
        info.pop("info_checksum", None)
        (folder / "dataset.json").write_text(json.dumps(info))

    tones = 1 - original["tone"].to_numpy()
    replace("tone", pa.array(tones, pa.int16()))
    with pytest.raises(DatasetError, match="its columns do not match the hash"):
        PreparedDataset.open(folder)
    pixels = [bytes(reversed(image)) for image in original["image"].to_pylist()]
    replace("image", pa.array(pixels, original.schema.field("image").type))
    dataset = PreparedDataset.open(folder)
    dataset.shard_images(0)
    with pytest.raises(DatasetError, match=r"images in shards/00001\.parquet do not match their hash; copy it again"):
        dataset.shard_images(1)


def test_the_hash_of_examples_does_not_depend_on_chunks(folder):
    table = PreparedDataset.open(folder).examples()
    pieces = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    assert hash_examples(pieces) == hash_examples(table)


def test_no_flipped_byte_of_a_prepared_dataset_is_silent(folder):
    rng = random.Random(21)
    dataset = PreparedDataset.open(folder)
    expected = dataset.info, [dataset.shard_images(number) for number in range(len(dataset.info.shards))]
    for path in (folder / "dataset.json", folder / dataset.info.shards[1].file):
        whole = path.read_bytes()
        for _ in range(80):
            content = bytearray(whole)
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
            try:
                opened = PreparedDataset.open(folder)
                found = opened.info, [opened.shard_images(number) for number in range(len(opened.info.shards))]
            except DatasetError as error:
                said = str(error)
                found = None
            if found is None:
                assert str(folder) in said
            else:
                assert found[0] == expected[0]
                for one, other in zip(found[1], expected[1], strict=True):
                    np.testing.assert_array_equal(one, other)
        path.write_bytes(whole)
