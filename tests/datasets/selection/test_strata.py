"""Parts by label: exact sums, equal or proportional, and never shrinking when the size grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairsweep.datasets.selection.strata import Side, equal_parts, natural_parts
from fairsweep.datasets.storage.layout import Attribute

LABEL = Attribute(name="digit", values=("0", "1", "2", "3"))


def side(counts, *, balanced=True):
    """A side whose stratum l holds the rows 1000·l, 1000·l + 1, …"""
    strata = tuple(1000 * label + np.arange(count) for label, count in enumerate(counts))
    return Side("tone = light", LABEL, tuple(range(len(counts))), strata, balanced)


@given(size=st.integers(0, 10_000), labels=st.integers(1, 40))
def test_equal_parts_sum_up_differ_by_one_at_most_and_give_the_remainder_to_the_first(size, labels):
    parts = equal_parts(size, labels)
    assert parts.sum() == size
    assert parts.max() - parts.min() <= 1
    assert (np.diff(parts) <= 0).all()
    assert (equal_parts(size + 1, labels) >= parts).all()


@given(counts=st.lists(st.integers(0, 60), min_size=1, max_size=6), data=st.data())
def test_natural_parts_sum_up_fit_and_grow_with_the_size(counts, data):
    counts = np.array(counts)
    size = data.draw(st.integers(0, int(counts.sum())))
    parts = natural_parts(size, counts)
    assert parts.sum() == size
    assert (parts <= counts).all()
    if size < counts.sum():
        assert (natural_parts(size + 1, counts) >= parts).all()


def test_natural_parts_are_exact_wherever_proportions_are_whole():
    counts = np.array([3000, 1500, 0, 450])
    for size in (33, 330, 3300, 4950):
        np.testing.assert_array_equal(natural_parts(size, counts), counts * size // 4950)


def test_natural_parts_avoid_the_alabama_paradox():
    # Largest remainders would give the third party 2 of 10 seats but only 1 of 11.
    counts = np.array([6, 6, 2])
    assert natural_parts(10, counts)[2] <= natural_parts(11, counts)[2]


def test_ties_go_in_the_order_of_the_vocabulary():
    assert natural_parts(1, np.array([5, 5, 5])).tolist() == [1, 0, 0]
    assert natural_parts(2, np.array([5, 5, 5])).tolist() == [1, 1, 0]


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=4), balanced=st.booleans())
def test_the_capacity_is_the_largest_set_that_exists(counts, balanced):
    tested = side(counts, balanced=balanced)

    def exists(size):
        if size > sum(counts):
            return False
        return (tested.parts(size) <= np.array(counts)).all()

    assert exists(tested.capacity)
    assert not exists(tested.capacity + 1)
    assert tested.shortage(tested.capacity) is None
    assert f"at most {tested.capacity:,} exist" in tested.shortage(tested.capacity + 1)


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=4), balanced=st.booleans())
def test_growing_sets_are_nested_and_take_the_first_of_each_stratum(counts, balanced):
    tested = side(counts, balanced=balanced)
    previous = set()
    for size in range(tested.capacity + 1):
        rows = tested.first(size).tolist()
        assert len(rows) == size
        assert len(previous ^ set(rows)) == min(size, 1)
        previous = set(rows)
        for label in range(len(counts)):
            chosen = sorted(row for row in rows if row // 1000 == label)
            assert chosen == list(range(1000 * label, 1000 * label + len(chosen)))


@pytest.mark.parametrize("balanced", [True, False])
def test_a_side_without_any_label_gives_nothing(balanced):
    empty = Side("digit ≠ 0", LABEL, (), (), balanced)
    assert empty.capacity == 0
    assert len(empty.first(0)) == 0
    assert empty.shortage(1) == "1 examples with digit ≠ 0, but at most 0 exist with digit in {} parts (none)".format(
        "equal" if balanced else "natural"
    )
