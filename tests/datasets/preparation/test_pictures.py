"""Pictures of a dataset: the right images in the right rows, bars as long as the counts, and errors that say why."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fairsweep.datasets.preparation.pictures import contact_sheet, counts_chart
from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared

TONE = Attribute(name="tone", values=("light", "dark"))
GLASSES = Attribute(name="glasses", values=("no", "yes"), display=("no glasses", "glasses"))
LEVEL = Attribute(name="level", values=tuple(str(n) for n in range(40)))
# Blue, orange, green: train, validation, test.
TRAIN, VALIDATION, TEST = (0, 0x72, 0xB2), (0xE6, 0x9F, 0), (0, 0x9E, 0x73)


def make_dataset(folder, shape=(8, 8, 3), n=120, splits=("train", "validation", "test")):
    """Every image has one colour that tells its group: red where light, green where dark, dimmer with glasses."""
    rng = np.random.default_rng(0)
    tone = (np.arange(n) % 4 == 3).astype(np.int16)
    glasses = rng.integers(0, 2, n).astype(np.int16)
    images = np.zeros((n, *shape), np.uint8)
    images[np.arange(n), ..., :] = (200 - 100 * glasses)[:, None, None, None]
    if shape[2] == 3:
        images[tone == 0, ..., 1:] = 0
        images[tone == 1, ..., ::2] = 0
    examples = pa.table(
        {
            "id": np.arange(n),
            "tone": tone,
            "glasses": glasses,
            "level": (np.arange(n) % 40).astype(np.int16),
            "split": np.array(splits)[np.minimum(np.arange(n) * 2 * len(splits) // n // 2, len(splits) - 1)],
        }
    )
    write_prepared(
        folder, name="s", attributes=[TONE, GLASSES, LEVEL], examples=examples, images=images, rows_per_shard=16
    )
    return PreparedDataset.open(folder)


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "set")


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def count(picture, colour):
    return int((np.abs(picture - np.array(colour)).max(axis=2) == 0).sum())


def test_the_contact_sheet_shows_the_first_images_of_each_group_pixel_for_pixel(dataset, tmp_path):
    path = contact_sheet(dataset, ["tone", "glasses"], tmp_path / "pictures")
    assert path == tmp_path / "pictures" / "contact-sheet.png"
    picture = pixels(path)
    tones, glasses = dataset.codes("tone"), dataset.codes("glasses")
    tile = 72 * 72  # nine times 8 pixels
    previous = -1
    for tone, colour in ((0, (1, 0, 0)), (1, (0, 1, 0))):
        for wears in (0, 1):
            shown = min(12, int(((tones == tone) & (glasses == wears)).sum()))
            colour_shown = tuple(part * (200 - 100 * wears) for part in colour)
            assert count(picture, colour_shown) == shown * tile
            rows = np.flatnonzero((picture == colour_shown).all(axis=2).any(axis=1))
            # Groups stand below one another in vocabulary order.
            assert rows.min() > previous
            previous = rows.max()
            assert len(rows) == 72


def test_bars_are_as_long_as_the_counts_and_coloured_by_split(dataset, tmp_path):
    picture = pixels(counts_chart(dataset, ["tone"], tmp_path))
    bars = {}
    for split, colour in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        mask = (np.abs(picture - np.array(colour)).max(axis=2) == 0)[115:]  # below the legend
        widths = mask.sum(axis=1)
        bars[split] = [int(w) for w in widths[np.flatnonzero(np.diff(np.r_[0, widths]) > 0)]]
    for value in (0, 1):
        for split in ("train", "validation", "test"):
            n = int((dataset.codes("tone")[dataset.split(split)] == value).sum())
            # The longest bar, 90 light ones, is 520 pixels long.
            assert abs(bars[split][value] - 520 * n / 90) <= 2


def test_without_attributes_the_first_two_with_few_values_are_taken(dataset, tmp_path):
    for draw in (contact_sheet, counts_chart):
        chosen, default = draw(dataset, ["tone", "glasses"], tmp_path / "a"), draw(dataset, [], tmp_path / "b")
        assert chosen.read_bytes() == default.read_bytes()


def test_a_picture_does_not_change_from_one_drawing_to_the_next(dataset, tmp_path):
    assert (
        contact_sheet(dataset, ["tone"], tmp_path / "a").read_bytes()
        == contact_sheet(dataset, ["tone"], tmp_path / "b").read_bytes()
    )


@pytest.mark.parametrize("shape", [(28, 28, 1), (200, 160, 3), (5, 9, 3)])
def test_any_size_and_grey_images_are_shown(tmp_path, shape):
    dataset = make_dataset(tmp_path / "set", shape)
    picture = pixels(contact_sheet(dataset, ["tone"], tmp_path))
    coloured = (picture.max(axis=2) > 90) & (picture.max(axis=2) < 210)
    assert coloured.sum() > 20 * 50 * 50 * min(1, shape[1] / shape[0])


def test_groups_and_splits_without_examples_are_drawn(tmp_path):
    dataset = make_dataset(tmp_path / "set", n=2, splits=("train",))
    assert (dataset.codes("tone") == 0).all()
    for draw in (contact_sheet, counts_chart):
        assert pixels(draw(dataset, ["tone", "glasses"], tmp_path)).std() > 0


def test_an_empty_dataset_is_drawn(tmp_path):
    dataset = make_dataset(tmp_path / "set", n=0)
    for draw in (contact_sheet, counts_chart):
        assert pixels(draw(dataset, ["tone"], tmp_path)).std() > 0


@pytest.mark.parametrize("draw", [contact_sheet, counts_chart])
def test_unknown_repeated_and_too_many_attributes_are_refused(dataset, tmp_path, draw):
    with pytest.raises(ValueError, match="no attribute 'tones': did you mean 'tone'"):
        draw(dataset, ["tones"], tmp_path / "no")
    with pytest.raises(ValueError, match="each attribute must be named once"):
        draw(dataset, ["tone", "tone"], tmp_path / "no")
    with pytest.raises(ValueError, match="at most 64 groups, but 2 of tone times 40 of level are 80"):
        draw(dataset, ["tone", "level"], tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_an_older_picture_is_replaced_whole_and_nothing_else_is_left(dataset, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "counts.png").write_bytes(b"old")
    counts_chart(dataset, ["tone"], folder)
    assert [path.name for path in folder.iterdir()] == ["counts.png"]
    assert pixels(folder / "counts.png").shape[2] == 3
