"""Augmentation: every example's changes follow from its own id, and are exactly those asked for."""

import numpy as np
import pytest
import torch

from fairsweep.datasets.randomness import seed_key
from fairsweep.trainables.augmentation import AugmentationConfig, augment

KEY = seed_key(1, "train")
IDS = np.arange(400) * 7


def images(count=400, size=6):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9


def test_nothing_asked_for_changes_nothing():
    batch = images()
    assert augment(batch, AugmentationConfig(), KEY, 0, IDS) is batch


@pytest.mark.parametrize("fields", [{"flip": True}, {"crop": 2}, {"contrast": 0.3}, {"brightness": 0.2}])
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
