"""The drawn faces: balanced by construction, keyed by id, and saying with pixels what their attributes say."""

import itertools

import numpy as np
import pytest

from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.datasets.sources.camera import Shot
from fairsweep.datasets.sources.faces import AGE_EDGES, Faces
from fairsweep.datasets.sources.portrait import SKIN, Person, draw

NAMES = [attribute.name for attribute in Faces.attributes]
# Neither group of tones comes with other values of anything else.
BINARY = ("smiling", "tone", "shape", "glasses")


def columns(source):
    table = source.examples()
    return {name: table[name].to_numpy() for name in (*NAMES, "split", "id")}


def faces(source, ids):
    return np.stack(list(source.images(np.asarray(ids)))).astype(np.float64)


# --- attributes ---


def test_the_default_has_the_stated_sizes_and_a_test_split_in_which_every_combination_is_equal():
    columns_of = columns(Faces())
    sizes = {split: int((columns_of["split"] == split).sum()) for split in ("train", "validation", "test")}
    assert sizes == {"train": 8640, "validation": 1120, "test": 2240}
    for split, each in (("validation", 2), ("test", 4)):
        chosen = columns_of["split"] == split
        cells = np.stack([columns_of[name][chosen] for name in NAMES if name != "tone"], axis=1)
        _, counts = np.unique(cells, axis=0, return_counts=True)
        # Two labels, ten tones, two shapes, seven ages, glasses or not.
        assert len(counts) == 560
        assert set(counts.tolist()) == {each}


@pytest.mark.parametrize("count", [48, 400, 1000, 5000, 12_000])
def test_attributes_are_balanced_in_every_split_as_far_as_its_size_divides(count):
    source = Faces(count=count)
    columns_of = columns(source)
    assert sorted(columns_of["id"].tolist()) == list(range(count))
    assert sum(source.split_counts().values()) == count
    for split, size in source.split_counts().items():
        chosen = columns_of["split"] == split
        assert chosen.sum() == size > 0
        cells = sum(columns_of[name][chosen].astype(int) << place for place, name in enumerate(BINARY))
        counts = np.bincount(cells, minlength=16)
        assert counts.max() - counts.min() <= 1
        for name, most in (("tone_level", 16), ("age", 16)):
            counts = np.bincount(columns_of[name][chosen], minlength=len(SKIN) if name == "tone_level" else 7)
            assert counts.max() - counts.min() <= most


def test_tone_is_the_half_of_the_tone_level():
    columns_of = columns(Faces(count=1000))
    np.testing.assert_array_equal(columns_of["tone"], columns_of["tone_level"] >= 5)


def test_ids_say_nothing_about_attributes_or_split():
    columns_of = columns(Faces())
    n = len(columns_of["id"])
    for name in NAMES:
        assert abs(np.corrcoef(np.arange(n), columns_of[name])[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(np.arange(n), columns_of["split"] == "test")[0, 1]) < 5 / np.sqrt(n)


def test_the_training_split_feeds_the_most_and_the_least_balanced_example():
    columns_of = columns(Faces())
    train = columns_of["split"] == "train"
    for tone, smiling in itertools.product((0, 1), (0, 1)):
        # 4,000 at a share of .99 need 1,980 of each label in light; at .5 they need 1,000 of each cell.
        assert (train & (columns_of["tone"] == tone) & (columns_of["smiling"] == smiling)).sum() >= 1980


@pytest.mark.parametrize("fields", [{"count": 47}, {"size": 15}, {"count": 0}])
def test_too_few_or_too_small_faces_are_refused(fields):
    with pytest.raises(ValueError, match="count >= 48 and size >= 16"):
        Faces(**fields)


def test_age_bins_are_those_of_utkface_users():
    age = next(attribute for attribute in Faces.attributes if attribute.name == "age")
    assert age.values == ("0-2", "3-9", "10-20", "21-27", "28-45", "46-65", "66-90")
    assert AGE_EDGES[:-1] == (2, 9, 20, 27, 45, 65)


# --- pictures ---


def test_a_face_depends_on_seed_id_and_attributes_and_on_nothing_else():
    source = Faces(count=64, size=16)
    codes = dict.fromkeys(NAMES, 0)
    face = source.face(3, codes)
    np.testing.assert_array_equal(face, Faces(count=5000, size=16).face(3, codes))
    assert not np.array_equal(face, Faces(count=64, size=16, seed=1).face(3, codes))
    assert not np.array_equal(face, source.face(4, codes))


@pytest.mark.parametrize(
    ("name", "value"), [("smiling", 1), ("shape", 1), ("glasses", 1), ("tone_level", 9), ("age", 6)]
)
def test_every_attribute_shows_in_the_picture(name, value):
    """Of one and the same person, in one light, the two values differ by more than a pixel's worth."""
    source = Faces(count=64, size=32)
    base = {"smiling": 0, "tone": 0, "tone_level": 2, "shape": 0, "age": 3, "glasses": 0}
    changed = [
        (np.abs(source.face(i, base).astype(int) - source.face(i, base | {name: value})) > 12).mean() for i in range(12)
    ]
    assert np.mean(changed) > 0.02


def average(source, **wanted):
    """The mean scene of 150 people with these codes, before any camera: float [H, W, 3]."""
    base = {"tone_level": 2, "long": False, "years": 30.0, "glasses": False, "smiling": False} | wanted
    random = [generator(seed_key(0, "test"), "portrait", i) for i in range(150)]
    return np.mean([draw(Person(**base), 32, one) for one in random], axis=0)


def test_light_falls_from_tone_to_tone():
    centre = [float(average(Faces(), tone_level=level)[14:18, 10:22].mean()) for level in range(0, 10, 3)]
    assert all(brighter > 1.2 * darker for brighter, darker in itertools.pairwise(centre))
    assert [sum(colour) for colour in SKIN] == sorted((sum(colour) for colour in SKIN), reverse=True)


def test_a_smile_lifts_the_corners_of_the_mouth():
    change = average(Faces(), smiling=True).mean(axis=2) - average(Faces(), smiling=False).mean(axis=2)
    rows, across = np.unravel_index(np.argsort(change, axis=None)[:12], change.shape)
    # What darkens most lies in the lower half, left and right of the middle alike.
    assert (rows >= 16).all()
    assert (across < 15).any()
    assert (across > 16).any()


def test_a_long_face_is_narrower_and_shows_more_background_at_its_sides():
    pixels = [average(Faces(), long=long, tone_level=9)[16].mean(axis=1) for long in (False, True)]
    # Skin of the darkest tone is darker than any background is on average.
    widths = [int((row < row.min() + 0.5 * (row.max() - row.min())).sum()) for row in pixels]
    assert widths[1] < widths[0]


def test_glasses_darken_the_region_of_the_eyes_only():
    change = average(Faces(), glasses=True).mean(axis=2) - average(Faces()).mean(axis=2)
    rows = np.abs(change).sum(axis=1)
    assert rows[8:18].sum() > 0.8 * rows.sum()


def test_hair_greys_with_age():
    young, old = (average(Faces(), years=years)[0:5, 10:22] for years in (25.0, 85.0))

    def colourfulness(hair):
        return float((hair.max(axis=2) - hair.min(axis=2)).mean())

    assert colourfulness(old) < colourfulness(young)
    assert old.mean() > young.mean()


def test_nothing_but_the_skin_follows_from_the_tone():
    """Background, hair and clothes of one person are the same whatever the tone: no cue gives it away."""
    light, dark = (
        [
            draw(Person(level, long=False, years=30.0, glasses=False, smiling=False), 32, random)
            for random in (generator(seed_key(0, "test"), "portrait", i) for i in range(20))
        ]
        for level in (0, 9)
    )
    difference = np.abs(np.array(light) - np.array(dark)).max(axis=3)
    # The corners above the head never show skin.
    assert difference[:, :4, :4].max() == 0
    assert difference[:, :4, -4:].max() == 0
    assert difference[:, 14:18, 14:18].min() > 0.05


# --- the camera ---


def photographs(reflectance, exposure, compensation=0.5, count=60):
    scene = np.full((16, 16, 3), reflectance, np.float32)
    shot = Shot(exposure=exposure, compensation=compensation, warmth=0.0, blur=0.0)
    return np.stack([shot.take(scene, generator(seed_key(0, "test"), "shot", i)) for i in range(count)]).astype(float)


def contrast_to_noise(reflectance, exposure):
    """How far a mouth that reflects a third less stands out from its surroundings, in deviations of the noise."""
    skin, mouth = (photographs(part, exposure) for part in (reflectance, reflectance * 2 / 3))
    return (skin.mean() - mouth.mean()) / skin.std()


def test_low_light_costs_contrast_and_dark_surfaces_more_of_it():
    bright, dim = ((contrast_to_noise(0.7, e), contrast_to_noise(0.08, e)) for e in (1.0, 0.25))
    assert bright[0] > dim[0]
    assert bright[1] > dim[1]
    # Dark surfaces stand out less in any light, and lose a larger part of it in the dim.
    assert bright[0] > bright[1]
    assert dim[1] / bright[1] < dim[0] / bright[0]


def test_a_photograph_is_bytes_and_brighter_where_more_light_comes_from():
    pictures = [photographs(reflectance, 1.0, count=4).mean() for reflectance in (0.0, 0.1, 0.5, 1.0)]
    assert pictures == sorted(pictures)
    assert pictures[0] < 20
    assert pictures[3] > 240


def test_the_faces_are_neither_flat_nor_burnt_out():
    source = Faces(count=400)
    pictures = faces(source, np.arange(0, 400, 5))
    assert (pictures.std(axis=(1, 2, 3)) > 10).all()
    assert ((pictures == 0) | (pictures == 255)).mean() < 0.05


@pytest.mark.slow
def test_a_small_network_learns_the_smile_well_but_not_perfectly_and_dark_tones_less_well():
    import torch

    torch.manual_seed(0)
    source = Faces(count=6400)
    columns_of = columns(source)
    images = torch.from_numpy(faces(source, columns_of["id"])).float().permute(0, 3, 1, 2) / 127.5 - 1
    labels = torch.from_numpy(columns_of["smiling"].astype(np.int64))
    train = np.flatnonzero(columns_of["split"] == "train")[:4000]
    test = np.flatnonzero(columns_of["split"] == "test")
    layers = []
    for inward, outward in ((3, 16), (16, 32), (32, 64)):
        layers += [torch.nn.Conv2d(inward, outward, 3, stride=2, padding=1), torch.nn.GroupNorm(4, outward)]
        layers += [torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(1024, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(8):
        order = generator(seed_key(0, "test"), "order", epoch).permutation(train)
        for start in range(0, len(order), 128):
            batch = order[start : start + 128]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        right = (model(images[test]).argmax(1) == labels[test]).numpy()
    tone = columns_of["tone"][test]
    light, dark = right[tone == 0].mean(), right[tone == 1].mean()
    assert 0.82 < right.mean() < 0.97
    assert 0 < light - dark < 0.2
