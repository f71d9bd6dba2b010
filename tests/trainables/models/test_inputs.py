"""Batches that are read ahead."""

import numpy as np
import pytest
import torch

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.sampling import Poisson
from fairsweep.trainables.models.inputs import ahead, one_ahead


def test_batches_that_are_read_ahead_are_the_same_in_the_same_order():
    feed = ResidentFeed(np.arange(40) * 3, np.random.default_rng(0).integers(0, 255, (40, 2, 2, 1)).astype(np.uint8))
    sampler = Poisson(40, 0.2, 12, bytes(32))
    plain, early = (list(take(feed.batches(np.arange(40), sampler))) for take in (iter, one_ahead))
    assert [batch.step for batch in early] == list(range(12))
    for one, other in zip(plain, early, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.images, other.images)
    alone = feed.batches(np.arange(40), sampler)
    assert ahead(alone, torch.device("cpu")) is alone


def test_one_batch_is_ahead_and_errors_come_where_they_belong():
    read = []

    def reading():
        for number in range(4):
            read.append(number)
            yield number
        raise OSError("the disk is gone")

    given = one_ahead(reading())
    assert next(given) == 0
    assert next(given) == 1
    assert len(read) <= 3
    given.close()
    assert read == [0, 1, 2]
    again = one_ahead(reading())
    assert [next(again) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(OSError, match="the disk is gone"):
        next(again)
