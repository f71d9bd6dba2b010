import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsweep.datasets.sources.splits import TEST, TRAIN, VALIDATION, BalancedTest, HoldOut, split_column
from fairsweep.datasets.storage.layout import SPLITS, Attribute

CODES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=200)


def columns(codes):
    return list(np.array(codes, dtype=np.int16).T)


@settings(max_examples=60, deadline=None)
@given(CODES, st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 5))
def test_every_stratum_gives_its_share(codes, validation, test, key):
    ids = np.arange(len(codes), dtype=np.int64) * 7
    strata = columns(codes)
    splits = HoldOut(validation, test, key).split(ids, strata)
    cells = strata[0] * 10 + strata[1]
    for subset in (np.ones(len(ids), bool), *(cells == cell for cell in np.unique(cells)), strata[0] == 0):
        # The test split is within one example; the validation split is drawn from what it leaves.
        size, found = subset.sum(), splits[subset]
        assert abs((found == TEST).sum() - test * size) < 1 + 1e-9
        assert abs((found == VALIDATION).sum() - validation * size) < 1 + validation / (1 - test) + 1e-9


def test_the_split_depends_on_key_and_ids_but_not_on_their_order():
    rng = np.random.default_rng(0)
    ids = rng.permutation(1000).astype(np.int64)
    strata = [rng.integers(0, 3, 1000).astype(np.int16)]
    first = HoldOut(key=1).split(ids, strata)
    order = rng.permutation(1000)
    assert np.array_equal(HoldOut(key=1).split(ids[order], [strata[0][order]]), first[order])
    assert not np.array_equal(HoldOut(key=2).split(ids, strata), first)


def test_every_example_has_the_same_chance():
    ids = np.arange(30, dtype=np.int64)
    # Strata of 1, 2 and 27 examples: a rule that rounds each by itself would favour or forget the small ones.
    strata = [np.repeat([0, 1, 2], [1, 2, 27]).astype(np.int16)]
    counts = sum(HoldOut(validation=0, test=0.3, key=key).split(ids, strata) == TEST for key in range(2000))
    # Standard error of a share of .3 over 2,000 draws: .0102; five of them cover 30 comparisons.
    assert np.abs(counts / 2000 - 0.3).max() < 5 * 0.0102


def test_validation_is_a_share_of_all_examples_and_a_given_test_split_is_kept():
    ids = np.arange(1000, dtype=np.int64)
    strata = [np.zeros(1000, np.int16)]
    drawn = HoldOut(validation=0.1, test=0.2).split(ids, strata)
    assert np.bincount(drawn).tolist() == [700, 100, 200]
    given_test = ids < 100
    kept = HoldOut(validation=0.1, test=0.2).split(ids, strata, given_test)
    assert np.array_equal(kept == TEST, given_test)
    assert (kept == VALIDATION).sum() == 90
    assert (kept == TRAIN).sum() == 810


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.5, 0.5), (0.1, float("nan"))])
def test_shares_must_leave_something_to_train_on(shares):
    with pytest.raises(ValueError, match="together below 1"):
        HoldOut(*shares)


RACE = Attribute(name="race", values=("a", "b", "c"))
AGE = Attribute(name="age", values=("young", "old"))


def test_a_balanced_test_has_equal_cells_and_random_others():
    rng = np.random.default_rng(1)
    ids = rng.permutation(600).astype(np.int64)
    race, age = rng.integers(0, 3, 600).astype(np.int16), rng.integers(0, 2, 600).astype(np.int16)
    plain = BalancedTest(9).choose(ids, [RACE, AGE], [race, age])
    cells, counts = np.unique(race[plain] * 2 + age[plain], return_counts=True)
    assert cells.tolist() == list(range(6))
    assert counts.tolist() == [9] * 6
    more = BalancedTest(9, extra_random=63).choose(ids, [RACE, AGE], [race, age])
    assert more.sum() == 9 * 6 + 63
    assert more[plain].all()
    other = BalancedTest(9, key=1).choose(ids, [RACE, AGE], [race, age])
    assert not np.array_equal(other, plain)


def test_a_balanced_test_that_asks_too_much_says_what_is_possible():
    ids = np.arange(8, dtype=np.int64)
    race, age = np.array([0, 0, 1, 1, 1, 2, 2, 2], np.int16), np.array([0, 1, 0, 1, 1, 0, 1, 0], np.int16)
    with pytest.raises(ValueError, match="1 with race = a, age = young: the largest per_cell is 1"):
        BalancedTest(2).choose(ids, [RACE, AGE], [race, age])
    with pytest.raises(ValueError, match="more than the 2 examples left"):
        BalancedTest(1, extra_random=3).choose(ids, [RACE, AGE], [race, age])
    with pytest.raises(ValueError, match="per_cell >= 1"):
        BalancedTest(0)


def test_splits_are_written_by_name():
    assert split_column(np.array([0, 2, 1, 0], np.int8)).to_pylist() == [SPLITS[i] for i in (0, 2, 1, 0)]
