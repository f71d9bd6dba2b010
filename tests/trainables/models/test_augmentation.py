"""Augmentation: every example's changes follow from its own id, and are exactly those asked for."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as v2
from pydantic import ValidationError
from scipy import stats
from torchvision.transforms import InterpolationMode

from fairsweep.datasets.selection.randomness import derive, priorities, seed_key
from fairsweep.trainables.models.augmentation import AugmentationConfig, augment

KEY = seed_key(1, "train")
IDS = np.arange(400) * 7


def images(count=400, size=6):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9


def test_nothing_asked_for_changes_nothing():
    batch = images()
    assert augment(batch, AugmentationConfig(), KEY, 0, IDS) is batch


@pytest.mark.parametrize(
    "fields",
    [
        {"flip": True},
        {"crop": 2},
        {"contrast": 0.3},
        {"brightness": 0.2},
        {"rotation": 20, "scale": [0.8, 1.2], "shear": 10},
        {"saturation": 0.4},
        {"hue": 0.2},
        {"blur": 1.0},
        {"noise": 0.1},
    ],
)
def test_an_example_s_change_does_not_depend_on_who_else_is_in_the_batch(fields):
    config, batch = AugmentationConfig(**fields), images()
    whole = augment(batch, config, KEY, 3, IDS)
    chosen = np.array([5, 17, 399, 0])
    part = augment(batch[torch.from_numpy(chosen)], config, KEY, 3, IDS[chosen])
    assert torch.equal(part, whole[torch.from_numpy(chosen)])
    assert not torch.equal(whole, batch)
    assert not torch.equal(augment(batch, config, KEY, 4, IDS), whole)
    assert not torch.equal(augment(batch, config, seed_key(2, "train"), 3, IDS), whole)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    batch = images()
    changed = augment(batch, AugmentationConfig(flip=True), KEY, 0, IDS)
    mirrored = (changed == batch.flip(3)).flatten(1).all(1)
    kept = (changed == batch).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert abs(float(mirrored.double().mean()) - 0.5) < 5 * 0.5 / 20  # five standard errors of 400 coins


def test_crop_cuts_windows_at_every_offset_from_the_reflected_image():
    batch = images()
    changed = augment(batch, AugmentationConfig(crop=1), KEY, 0, IDS)
    padded = torch.nn.functional.pad(batch, (1, 1, 1, 1), mode="reflect")
    offsets = []
    for example in range(len(batch)):
        found = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if torch.equal(changed[example], padded[example, :, top : top + 6, left : left + 6])
        ]
        assert len(found) == 1
        offsets += found
    counts = np.array([offsets.count((top, left)) for top in range(3) for left in range(3)])
    assert ((counts - 400 / 9) ** 2 / (400 / 9)).sum() < 26.1  # chi-squared, 8 degrees of freedom, p = 0.001


def test_brightness_and_contrast_stay_within_their_bounds_and_the_range():
    batch = images()
    brighter = augment(batch, AugmentationConfig(brightness=0.1), KEY, 0, IDS) - batch
    shift = brighter.flatten(1).mean(1)
    assert float((brighter.flatten(1) - shift[:, None]).abs().max()) < 1e-6
    assert 0.09 < float(shift.abs().max()) <= 0.1
    assert abs(float(shift.mean())) < 5 * 0.1 / 3**0.5 / 20
    stretched = augment(batch, AugmentationConfig(contrast=0.05), KEY, 0, IDS)
    ratio = stretched.flatten(1).std(1) / batch.flatten(1).std(1)
    assert 0.95 <= float(ratio.min()) < 0.96
    assert 1.04 < float(ratio.max()) <= 1.05001
    extreme = augment(batch, AugmentationConfig(brightness=1, contrast=0.9), KEY, 0, IDS)
    assert float(extreme.abs().max()) == 1


def test_an_empty_batch_stays_empty():
    assert augment(images(0), AugmentationConfig(flip=True, crop=1), KEY, 0, IDS[:0]).shape == (0, 3, 6, 6)


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="smaller than the images"):
        augment(images(2), AugmentationConfig(crop=6), KEY, 0, IDS[:2])


def drawn(fields, size=16, count=60):
    """A batch, its change, and what each example drew, as -1 to 1 (or 0 to 1): read off the words themselves."""
    batch = images(count, size)
    return batch, augment(batch, AugmentationConfig(**fields), KEY, 2, IDS[:count])


def fractions(purpose, count=60):
    words = priorities(derive(KEY, "augmentation", 2), purpose, IDS[:count])
    return [((words >> np.uint64(15 * field)) & np.uint64(2**15 - 1)).astype(float) / 2**15 for field in range(4)]


def test_affine_maps_are_torchvision_s():
    """Compared where torchvision reads from within the image; we reflect at the border, it fills with zeros."""
    batch, changed = drawn({"rotation": 20, "scale": [0.8, 1.3], "shear": 12})
    angle, scale, shear_x, shear_y = fractions("affine")
    compared = 0
    for example in range(len(batch)):
        maps = {
            "angle": 20 * (2 * angle[example] - 1),
            "translate": [0, 0],
            "scale": 0.8 + 0.5 * scale[example],
            "shear": [12 * (2 * shear_x[example] - 1), 12 * (2 * shear_y[example] - 1)],
            "interpolation": InterpolationMode.BILINEAR,
        }
        expected = v2.affine(batch[example], **maps)
        inside = v2.affine(torch.ones(1, 16, 16), **maps)[0] > 0.9999
        torch.testing.assert_close(changed[example][:, inside], expected[:, inside], atol=2e-4, rtol=0)
        compared += int(inside.sum())
    assert compared > 0.7 * 60 * 16 * 16


def test_colours_are_torchvision_s():
    batch, changed = drawn({"saturation": 0.6, "hue": 0.3})
    saturation, hue, *_ = fractions("colour")
    for example in range(len(batch)):
        expected = v2.adjust_saturation((batch[example] + 1) / 2, 1 + 0.6 * (2 * saturation[example] - 1))
        expected = v2.adjust_hue(expected, 0.3 * (2 * hue[example] - 1))
        torch.testing.assert_close((changed[example] + 1) / 2, expected, atol=2e-3, rtol=0)
    grey = images(4)[:, :1]
    assert torch.equal(augment(grey, AugmentationConfig(saturation=0.6, hue=0.3), KEY, 0, IDS[:4]), grey)


def test_blurs_are_torchvision_s():
    batch, changed = drawn({"blur": 1.5})
    for example, sigma in enumerate(1.5 * fractions("blur")[0]):
        expected = v2.gaussian_blur(batch[example], [7, 7], [max(sigma, 1e-3)] * 2)
        torch.testing.assert_close(changed[example], expected, atol=1e-5, rtol=0)


def test_noise_is_normal_independent_and_different_for_each_example_and_step():
    batch = torch.zeros(100, 3, 12, 12)
    noise = [augment(batch, AugmentationConfig(noise=0.1), KEY, step, IDS[:100]) / 0.1 for step in (0, 1)]
    values = noise[0].flatten().numpy()
    assert stats.kstest(values[::3], "norm").pvalue > 1e-3
    error = 1 / len(values) ** 0.5
    assert abs(values.mean()) < 5 * error
    assert abs(values.var() - 1) < 5 * 2**0.5 * error
    one = noise[0].flatten(1)
    for other in (one.roll(1, 0), one.roll(1, 1), one.roll(216, 1), noise[1].flatten(1)):
        assert abs(float((one * other).mean())) < 5 * error
    assert float(augment(batch + 0.9, AugmentationConfig(noise=0.5), KEY, 0, IDS[:100]).max()) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scale": [1.2, 0.8]}, "0 < low <= high"),
        ({"shear": 45}, "less than 45"),
        ({"hue": 0.6}, "less than or equal to 0.5"),
        ({"jitter": 0.1}, "Extra inputs"),
    ],
)
def test_a_wrong_change_is_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        AugmentationConfig(**fields)


def test_a_blur_that_reaches_beyond_the_image_is_refused():
    with pytest.raises(ValueError, match="the reach of blur must be smaller than the images, but got 6"):
        AugmentationConfig(blur=3.0).check_shape((6, 6, 3))
