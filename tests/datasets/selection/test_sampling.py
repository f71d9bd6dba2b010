"""Who joins which step: the promised distributions, from a key and the step alone."""

import numpy as np
import pytest
from scipy import stats

from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.datasets.selection.sampling import GroupBalanced, Poisson, Shuffled, TruncatedPoisson, WeightedPoisson

KEY = derive(seed_key(3, "train"), "order")
OTHER = derive(seed_key(4, "train"), "order")
RATES = np.where(np.arange(23) % 3 == 0, 0.4, 0.15)
GROUPS = np.where(np.arange(23) < 4, 0, 1 + np.arange(23) % 2)  # 4, 10 and 9 members


def samplers():
    return [
        pytest.param(lambda key: Shuffled(n=23, batch_size=5, epochs=3, key=key), id="shuffled"),
        pytest.param(lambda key: Poisson(n=23, sampling_rate=0.2, steps=15, key=key), id="poisson"),
        pytest.param(
            lambda key: TruncatedPoisson(n=23, sampling_rate=0.2, steps=15, max_batch_size=5, key=key), id="truncated"
        ),
        pytest.param(lambda key: WeightedPoisson(rates=RATES, steps=15, key=key), id="weighted"),
        pytest.param(lambda key: GroupBalanced(groups=GROUPS, batch_size=5, epochs=3, key=key), id="balanced"),
    ]


@pytest.fixture(params=samplers())
def make(request):
    return request.param


def test_positions_are_distinct_indices_of_the_training_set(make):
    sampler = make(KEY)
    for step in range(sampler.steps):
        positions = sampler.positions(step)
        assert positions.dtype == np.int64
        if not isinstance(sampler, GroupBalanced):
            assert len(set(positions.tolist())) == len(positions)
        assert ((positions >= 0) & (positions < 23)).all()


def test_a_step_is_the_same_in_whatever_order_steps_are_asked_for(make):
    forward = [make(KEY).positions(step).tolist() for step in range(make(KEY).steps)]
    sampler = make(KEY)
    for step in reversed(range(sampler.steps)):
        assert sampler.positions(step).tolist() == forward[step]
    for start in (0, 4, 14):
        fresh = make(KEY)
        assert [fresh.positions(step).tolist() for step in range(start, fresh.steps)] == forward[start:]


def test_what_a_caller_does_with_positions_does_not_change_the_next_answer(make):
    sampler = make(KEY)
    step = next(step for step in range(sampler.steps) if len(sampler.positions(step)))
    before = sampler.positions(step).tolist()
    sampler.positions(step)[:] = -1
    assert sampler.positions(step).tolist() == before


def test_another_key_gives_another_order(make):
    assert [make(KEY).positions(s).tolist() for s in range(15)] != [
        make(OTHER).positions(s).tolist() for s in range(15)
    ]


@pytest.mark.parametrize("step", [-1, 15, 100])
def test_a_step_outside_the_run_is_refused(make, step):
    with pytest.raises(IndexError, match=r"step must be in \[0, 15\)"):
        make(KEY).positions(step)


def test_the_key_does_not_show_in_the_text_of_a_sampler(make):
    assert KEY.hex()[:8] not in repr(make(KEY))
    assert repr(KEY)[2:10] not in repr(make(KEY))


def test_shuffled_takes_every_example_once_an_epoch_in_a_new_order_each_epoch():
    sampler = Shuffled(n=23, batch_size=5, epochs=3, key=KEY)
    assert sampler.steps_per_epoch == 5
    epochs = []
    for epoch in range(3):
        batches = [sampler.positions(epoch * 5 + batch).tolist() for batch in range(5)]
        assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
        epochs.append([position for batch in batches for position in batch])
        assert sorted(epochs[-1]) == list(range(23))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_batch_larger_than_the_training_set_holds_all_of_it():
    sampler = Shuffled(n=3, batch_size=10, epochs=2, key=KEY)
    assert sampler.steps == 2
    assert sorted(sampler.positions(1).tolist()) == [0, 1, 2]


N, RATE, STEPS = 400, 0.05, 2000


def joined_steps(sampler, start=0):
    """Who joined, bool [steps, n]."""
    joined = np.zeros((sampler.steps, sampler.n), dtype=bool)
    for step in range(start, sampler.steps):
        joined[step, sampler.positions(step)] = True
    return joined


@pytest.fixture(scope="module")
def inclusions():
    return joined_steps(Poisson(n=N, sampling_rate=RATE, steps=STEPS, key=KEY))


def assert_binomial(counts, trials, rate, law=None):
    """Goodness of fit to Binomial(trials, rate), or to another law with its ``ppf`` and ``cdf``."""
    law = law or stats.binom(trials, rate)
    # Ten cells of about equal probability, so that chi-square's approximation is good.
    edges = np.unique(law.ppf(np.linspace(0, 1, 11)[1:-1]))
    cells = np.bincount(np.searchsorted(edges, counts), minlength=len(edges) + 1)
    probability = np.diff(np.r_[0, law.cdf(edges), 1])
    assert stats.chisquare(cells, probability * len(counts)).pvalue > 1e-4


def test_poisson_counts_of_examples_and_of_batches_are_binomial(inclusions):
    assert_binomial(inclusions.sum(0), STEPS, RATE)
    assert_binomial(inclusions.sum(1), N, RATE)


def test_weighted_counts_are_binomial_at_each_group_s_rate_and_independent():
    rates = np.where(np.arange(N) < 200, RATE, 0.15)
    joined = joined_steps(WeightedPoisson(rates=rates, steps=STEPS, key=KEY))
    for group, rate in ((joined[:, :200], RATE), (joined[:, 200:], 0.15)):
        assert_binomial(group.sum(0), STEPS, rate)
        assert_binomial(group.sum(1), 200, rate)
    centred = (joined - rates) / np.sqrt(rates * (1 - rates))
    for scores, trials in ((centred[:, 100:300], STEPS), (centred[:400].T, N)):
        pairs = (scores.T @ scores)[np.triu_indices(scores.shape[1], 1)] / np.sqrt(trials)
        assert abs(pairs.mean()) < 5 / np.sqrt(len(pairs))
        assert abs(pairs.std() - 1) < 0.03


def test_a_larger_rate_only_adds_steps(inclusions):
    doubled = joined_steps(WeightedPoisson(np.where(np.arange(N) < 30, 2 * RATE, RATE), STEPS, KEY))
    assert (doubled[:, 30:] == inclusions[:, 30:]).all()
    assert (doubled[:, :30] >= inclusions[:, :30]).all()


def test_truncated_batches_are_uniform_subsets_of_poisson_ones(inclusions):
    cut = 22
    joined = joined_steps(TruncatedPoisson(N, RATE, STEPS, cut, KEY))
    sizes, drawn = joined.sum(1), inclusions.sum(1)
    assert (sizes == np.minimum(drawn, cut)).all()
    assert (joined <= inclusions).all()
    assert (joined[drawn <= cut] == inclusions[drawn <= cut]).all()
    # Each example stays in with the same probability: its count is binomial at the mean rate.
    rate = stats.binom.sf(np.arange(cut), N, RATE).sum() / N
    assert rate < 0.97 * RATE
    assert_binomial(joined.sum(0), STEPS, rate)
    # And none of those drawn is preferred by where it stands: places of those that were cut are uniform.
    places = [
        np.searchsorted(np.flatnonzero(before), np.flatnonzero(before & ~after)) / before.sum()
        for before, after in zip(inclusions, joined, strict=True)
    ]
    thirds = np.histogram(np.concatenate(places), bins=5, range=(0, 1))[0]
    expected = [np.histogram(np.arange(k) / k, bins=5, range=(0, 1))[0] * (k - cut) / k for k in drawn if k > cut]
    assert stats.chisquare(thirds, np.sum(expected, axis=0)).pvalue > 1e-4


def test_all_poisson_samplers_go_on_alike_after_a_restart():
    for make in (
        lambda: Poisson(N, RATE, 60, KEY),
        lambda: TruncatedPoisson(N, RATE, 60, 20, KEY),
        lambda: WeightedPoisson(np.linspace(0, 0.2, N), 60, KEY),
    ):
        assert (joined_steps(make(), start=23)[23:] == joined_steps(make())[23:]).all()


def test_balanced_takes_every_group_equally_often_and_its_members_in_rounds():
    sampler = GroupBalanced(groups=GROUPS, batch_size=5, epochs=30, key=KEY)
    assert (sampler.n, sampler.steps_per_epoch, sampler.steps) == (23, 5, 150)
    batches = [sampler.positions(step) for step in range(150)]
    by_group = [np.bincount(GROUPS[batch], minlength=3) for batch in batches]
    assert {len(batch) for batch in batches} == {5}
    assert all(set(counts.tolist()) == {1, 2} for counts in by_group)
    assert np.sum(by_group, axis=0).tolist() == [250, 250, 250]
    taken = np.bincount(np.concatenate(batches), minlength=23)
    for group, size in enumerate((4, 10, 9)):
        assert np.ptp(taken[group == GROUPS]) <= 1
        orders = np.concatenate([batch[GROUPS[batch] == group] for batch in batches])[: 250 // size * size]
        rounds = orders.reshape(-1, size)
        assert (np.sort(rounds) == np.flatnonzero(group == GROUPS)).all()
        assert len({tuple(order) for order in rounds.tolist()}) > 10


def test_a_group_smaller_than_its_part_of_a_batch_is_repeated_in_it():
    groups = np.array([0] * 3 + [1] * 97)
    sampler = GroupBalanced(groups=groups, batch_size=20, epochs=1, key=KEY)
    for step in range(sampler.steps):
        counts = np.bincount(sampler.positions(step), minlength=100)
        assert counts[:3].sum() == 10
        assert np.ptp(counts[:3]) <= 2  # a batch holds whole rounds and parts of two
        assert counts[3:].max() == 1


def test_poisson_inclusions_are_independent_between_examples_and_between_steps(inclusions):
    for joined in (inclusions[:, :200], inclusions[:400].T):
        trials, members = joined.shape
        pairs = np.triu_indices(members, 1)
        centred = (joined - 0.05) / np.sqrt(0.05 * 0.95)
        scores = (centred.T @ centred)[pairs] / np.sqrt(trials)
        assert abs(scores.mean()) < 5 / np.sqrt(len(scores))
        assert abs(scores.std() - 1) < 0.03
        # How often two meet is Binomial(trials, q²): not even the most frequent pair is out of the ordinary.
        meetings = (joined.T.astype(np.int64) @ joined.astype(np.int64))[pairs]
        assert stats.binom.sf(meetings.max() - 1, trials, 0.05**2) * len(meetings) > 1e-4


def test_poisson_masks_of_two_keys_are_independent(inclusions):
    steps, n = inclusions.shape
    other = Poisson(n=n, sampling_rate=0.05, steps=steps, key=OTHER)
    both = sum(int(inclusions[step, other.positions(step)].sum()) for step in range(steps))
    assert stats.binomtest(both, steps * n, 0.05**2).pvalue > 1e-4


def test_poisson_positions_are_ascending_and_batches_may_be_empty():
    sampler = Poisson(n=10, sampling_rate=0.05, steps=200, key=KEY)
    sizes = []
    for step in range(200):
        positions = sampler.positions(step)
        sizes.append(len(positions))
        assert (np.diff(positions) > 0).all()
    # The chance of an empty batch is .95^10 = .6.
    assert stats.binomtest(sizes.count(0), 200, 0.95**10).pvalue > 1e-4


def test_poisson_at_the_ends_of_the_range_takes_nobody_or_everybody():
    assert all(len(Poisson(9, 0.0, 5, KEY).positions(step)) == 0 for step in range(5))
    assert all(Poisson(9, 1.0, 5, KEY).positions(step).tolist() == list(range(9)) for step in range(5))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Shuffled, {"n": 0, "batch_size": 1, "epochs": 1}),
        (Shuffled, {"n": 1, "batch_size": 0, "epochs": 1}),
        (Shuffled, {"n": 1, "batch_size": 1, "epochs": -1}),
        (Poisson, {"n": 0, "sampling_rate": 0.1, "steps": 1}),
        (Poisson, {"n": 1, "sampling_rate": 1.1, "steps": 1}),
        (Poisson, {"n": 1, "sampling_rate": float("nan"), "steps": 1}),
        (Poisson, {"n": 1, "sampling_rate": 0.1, "steps": -1}),
        (TruncatedPoisson, {"n": 1, "sampling_rate": 0.1, "steps": 1, "max_batch_size": 0}),
        (TruncatedPoisson, {"n": 1, "sampling_rate": -0.1, "steps": 1, "max_batch_size": 1}),
        (WeightedPoisson, {"rates": np.array([]), "steps": 1}),
        (WeightedPoisson, {"rates": np.array([0.5, 1.5]), "steps": 1}),
        (WeightedPoisson, {"rates": np.array([0.5, np.nan]), "steps": 1}),
        (GroupBalanced, {"groups": np.array([], np.int64), "batch_size": 1, "epochs": 1}),
        (GroupBalanced, {"groups": np.array([0]), "batch_size": 0, "epochs": 1}),
    ],
)
def test_senseless_settings_are_refused_with_what_was_given(kind, arguments):
    with pytest.raises(ValueError, match=r"must be >= (0|1).*but got n="):
        kind(**arguments, key=KEY)


@pytest.mark.parametrize("groups", [[0, 2, 2], [-1, 0, 0], [1, 1]])
def test_groups_with_gaps_are_refused(groups):
    with pytest.raises(ValueError, match="number those that occur"):
        GroupBalanced(np.array(groups), 2, 1, KEY)
