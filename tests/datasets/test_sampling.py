"""Who joins which step: the promised distributions, from a key and the step alone."""

import numpy as np
import pytest
from scipy import stats

from fairsweep.datasets.randomness import derive, seed_key
from fairsweep.datasets.sampling import Poisson, Shuffled

KEY = derive(seed_key(3, "train"), "order")
OTHER = derive(seed_key(4, "train"), "order")


def samplers():
    return [
        pytest.param(lambda key: Shuffled(n=23, batch_size=5, epochs=3, key=key), id="shuffled"),
        pytest.param(lambda key: Poisson(n=23, sampling_rate=0.2, steps=15, key=key), id="poisson"),
    ]


@pytest.fixture(params=samplers())
def make(request):
    return request.param


def test_positions_are_distinct_indices_of_the_training_set(make):
    sampler = make(KEY)
    for step in range(sampler.steps):
        positions = sampler.positions(step)
        assert positions.dtype == np.int64
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


@pytest.fixture(scope="module")
def inclusions():
    """Who joined, bool [steps, n]."""
    n, rate, steps = 400, 0.05, 2000
    sampler = Poisson(n=n, sampling_rate=rate, steps=steps, key=KEY)
    joined = np.zeros((steps, n), dtype=bool)
    for step in range(steps):
        joined[step, sampler.positions(step)] = True
    return joined


def test_poisson_counts_of_examples_and_of_batches_are_binomial(inclusions):
    steps, n = inclusions.shape
    for counts, trials in ((inclusions.sum(0), steps), (inclusions.sum(1), n)):
        # Ten cells of about equal probability, so that chi-square's approximation is good.
        edges = stats.binom.ppf(np.linspace(0, 1, 11)[1:-1], trials, 0.05)
        cells = np.bincount(np.searchsorted(edges, counts), minlength=10)
        probability = np.diff(np.r_[0, stats.binom.cdf(edges, trials, 0.05), 1])
        assert stats.chisquare(cells, probability * len(counts)).pvalue > 1e-4


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
    ],
)
def test_senseless_settings_are_refused_with_what_was_given(kind, arguments):
    with pytest.raises(ValueError, match=r"must be >= (0|1).*but got n="):
        kind(**arguments, key=KEY)
