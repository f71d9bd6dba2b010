"""Keys, generators and priorities: functions of their arguments alone, and independent where they differ."""

import hashlib
import itertools

import numpy as np
import pytest
from scipy import stats

from fairsweep.datasets.selection.randomness import derive, first_by_priority, generator, priorities, seed_key
from fairsweep.datasets.selection.sampling import Poisson, Shuffled

KEY = seed_key(1, "data")


def test_a_derived_key_is_keyed_blake2b_over_length_purpose_and_positions():
    message = (5).to_bytes(8, "little") + b"noise" + (3).to_bytes(8, "little") + (17).to_bytes(8, "little")
    assert derive(KEY, "noise", 3, 17) == hashlib.blake2b(message, key=KEY, digest_size=32).digest()


def test_every_part_of_the_arguments_changes_the_key():
    derived = [
        derive(KEY, "noise"),
        derive(KEY, "noise", 0),
        derive(KEY, "noise", 0, 0),
        derive(KEY, "noise", 1),
        derive(KEY, "noise", 1, 0),
        derive(KEY, "noise", 0, 1),
        derive(KEY, "nois"),
        derive(KEY, "Noise"),
        derive(seed_key(2, "data"), "noise"),
        derive(seed_key(1, "train"), "noise"),
    ]
    assert len(set(derived)) == len(derived)


def test_a_purpose_cannot_run_into_the_positions_behind_it():
    # Without the length in front, "a" at position 98 and "ab" would hash the same bytes.
    assert derive(KEY, "a", ord("b")) != derive(KEY, "ab\0\0\0\0\0\0\0")


@pytest.mark.parametrize("key", [b"", b"short", bytes(15), bytes(65)])
def test_a_key_of_the_wrong_length_is_refused(key):
    with pytest.raises(ValueError, match=f"16 to 64 bytes, but got {len(key)}"):
        derive(key, "noise")


@pytest.mark.parametrize("position", [-1, 2**63])
def test_a_position_out_of_range_is_refused(position):
    with pytest.raises(ValueError, match="position must be in"):
        derive(KEY, "noise", position)


def test_seeds_of_different_numbers_or_kinds_give_different_keys():
    keys = [seed_key(seed, kind) for seed in (0, 1, 11, 2**70) for kind in ("data", "train", "1")]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        seed_key(-1, "data")


def test_a_generator_gives_the_same_stream_every_time_and_ignores_numpys_global_state():
    np.random.seed(0)  # noqa: NPY002 - the global state is what must not matter
    first = generator(KEY, "order", 4).standard_normal(100)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    np.testing.assert_array_equal(first, generator(KEY, "order", 4).standard_normal(100))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_the_stream_is_that_of_philox_with_the_first_half_of_the_derived_key():
    expected = np.random.Philox(key=int.from_bytes(derive(KEY, "order", 4)[:16], "little")).random_raw(8)
    np.testing.assert_array_equal(generator(KEY, "order", 4).bit_generator.random_raw(8), expected)


def test_streams_of_different_positions_purposes_and_keys_are_uncorrelated():
    n = 20_000
    streams = [
        generator(key, purpose, position).standard_normal(n)
        for key, purpose, position in itertools.product((KEY, seed_key(2, "data")), ("noise", "order"), (0, 1, 2))
    ]
    correlations = np.corrcoef(streams)[np.triu_indices(len(streams), 1)]
    # 66 correlations of independent streams: each is normal with deviation 1/√n.
    assert stats.kstest(correlations * np.sqrt(n), "norm").pvalue > 1e-4
    assert np.abs(correlations).max() < 5 / np.sqrt(n)


def test_the_priority_of_an_id_depends_on_no_other_id():
    ids = np.arange(-50, 1000, 7)
    whole = dict(zip(ids.tolist(), priorities(KEY, "imbalance", ids).tolist(), strict=True))
    shuffled = generator(KEY, "shuffle").permutation(ids)[:40]
    assert priorities(KEY, "imbalance", shuffled).tolist() == [whole[i] for i in shuffled.tolist()]


def test_priorities_are_uniform_and_independent_between_keys_and_purposes():
    ids = np.arange(20_000)
    scale = 2.0**-64
    columns = [
        priorities(key, purpose, ids).astype(np.float64) * scale
        for key, purpose in ((KEY, "imbalance"), (KEY, "evaluation"), (seed_key(2, "data"), "imbalance"))
    ]
    for column in columns:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
        # Neighbouring ids are independent as well.
        assert abs(np.corrcoef(column[:-1], column[1:])[0, 1]) < 5 / np.sqrt(len(ids))
    assert np.abs(np.corrcoef(columns)[np.triu_indices(3, 1)]).max() < 5 / np.sqrt(len(ids))


def test_the_first_by_priority_are_nested_and_do_not_depend_on_the_order_of_the_ids():
    ids = np.arange(500) * 3
    order = first_by_priority(KEY, "imbalance", ids)
    assert sorted(order.tolist()) == list(range(500))
    for count in (0, 1, 250, 500):
        np.testing.assert_array_equal(first_by_priority(KEY, "imbalance", ids, count), order[:count])
    mixed = generator(KEY, "shuffle").permutation(ids)
    np.testing.assert_array_equal(mixed[first_by_priority(KEY, "imbalance", mixed)], ids[order])


def test_known_answers_stay_the_same_from_release_to_release():
    """Draws written down once: a NumPy or a rewrite that changes one would change every sweep that was ever run."""
    assert KEY.hex() == "8faef8341ec16e3624e2d7546779821b3172c6b2756f47976920a97042b37139"
    assert priorities(KEY, "imbalance", np.array([0, 1, -1, 2**40])).tolist() == [
        11353072464969810821,
        16463543435961795589,
        16088206212255063054,
        607338154709115752,
    ]
    drawn = generator(KEY, "x", 3)
    assert drawn.random(2).tolist() == [0.14909367780962435, 0.7325037289155665]
    assert drawn.permutation(6).tolist() == [5, 0, 3, 2, 1, 4]
    np.testing.assert_allclose(drawn.standard_normal(2), [-1.3902944821565713, -1.0283418577476222], rtol=1e-12)
    assert drawn.integers(0, 100, 3).tolist() == [90, 98, 43]
    assert Poisson(50, 0.1, 9, KEY).positions(4).tolist() == [18, 32, 34, 35]
    assert Shuffled(12, 5, 3, KEY).positions(7).tolist() == [3, 0, 4, 6, 2]
