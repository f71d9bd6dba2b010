"""P(A > B) equals a plain loop; its interval is honest about few pairs."""

import doctest

import numpy as np
import pytest

import fairsweep.analysis.statistics.multiplicity as multiplicity
import fairsweep.analysis.statistics.superiority as superiority_module
from fairsweep.analysis.statistics.superiority import superiority
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds


@pytest.mark.parametrize("module", [multiplicity, superiority_module])
def test_doctest(module):
    assert doctest.testmod(module).failed == 0


def test_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    for _ in range(50):
        first, second = rng.integers(0, 6, 9) / 10, rng.integers(0, 6, 9) / 10
        wins = 0.0
        for a, b in zip(first, second, strict=True):
            wins += 1.0 if a > b else 0.5 if a == b else 0.0
        assert superiority(first - second).probability == pytest.approx(wins / 9)
        back = superiority(second - first).reversed()
        assert (back.low, back.high) == pytest.approx(
            (superiority(first - second).low, superiority(first - second).high)
        )


def test_three_wins_of_three_are_no_certainty():
    found = superiority([0.1, 0.2, 0.1])
    assert (found.probability, found.pairs) == (1.0, 3)
    assert found.low < 0.5
    assert not found.is_meaningful
    assert superiority(np.full(30, 0.1)).is_meaningful


def test_pairs_that_share_seeds_count_as_the_seeds():
    data, training = np.repeat([0, 1, 2], 10), np.tile(np.arange(10), 3)
    found = superiority(np.ones(30), ReplicateSeeds.of(data, training))
    assert found.low == pytest.approx(superiority([1, 1, 1]).low)


def test_nothing_to_compare_is_nan():
    assert np.isnan(superiority([np.nan]).probability)
