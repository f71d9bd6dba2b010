"""What a release costs: composed by event, apart by unit, at the fold that is trained on most."""

import itertools
import json
import math
import time

import dp_accounting
import numpy as np
import pytest

from fairsweep.analysis.accounting.composition import composed
from fairsweep.analysis.accounting.epsilons import by_pld, epsilon_of
from fairsweep.analysis.accounting.events import describe, rebuilt, sampled_gaussian, truncated_gaussian
from fairsweep.analysis.accounting.places import bound_of_places
from fairsweep.analysis.accounting.release_prices import Charge, Fold, release_prices
from fairsweep.analysis.accounting.statement_charges import stated_charge
from fairsweep.analysis.accounting.winner import DRAWS, dominating, winner_epsilon, winner_event

FACES = sampled_gaussian(1.0, 1024 / 162_770, round(20 * 162_770 / 1024))
SMALL = sampled_gaussian(1.0, 0.05, 100)
OTHER = sampled_gaussian(1.5, 0.1, 40)
NONE = dp_accounting.NonPrivateDpEvent()


def charges(*events, unit="example", pool="faces", delta=1e-6):
    return [Charge(unit, pool, event, delta) for event in events]


@pytest.mark.parametrize(
    ("trials", "everything", "added", "logarithmic", "geometric"),
    [(10, "7.77", "22.5", "3.97", "4.6"), (50, "20.5", "113", "4.51", "5.46"), (200, "52", "451", "4.93", "6.1")],
)
def test_trials_of_the_size_of_celeba_have_the_known_prices(trials, everything, added, logarithmic, geometric):
    start = time.monotonic()
    (found,) = release_prices(charges(*[FACES] * trials))
    assert f"{found.everything.pld:.3g}" == everything
    assert found.everything.pld < found.everything.rdp < 1.08 * found.everything.pld
    assert f"{found.added:.3g}" == added
    assert f"{found.winner['logarithmic']:.3g}" == logarithmic
    assert f"{found.winner['geometric']:.3g}" == geometric
    assert (found.trials, found.unprotected, found.delta) == (trials, 0, 1e-6)
    assert time.monotonic() - start < 60  # equal events are counted, not convolved one by one


@pytest.mark.parametrize(("draws", "known"), [("logarithmic", "3.52"), ("geometric", "4.10"), ("poisson", "4.33")])
def test_the_best_of_ten_runs_has_the_known_price(draws, known):
    event = sampled_gaussian(1.0, 0.01, 1000)
    assert f"{winner_epsilon(event, draws, 10, 1e-5):.2f}" == known
    stated = json.loads(json.dumps(describe(winner_event(event, draws, 10)), allow_nan=False))
    assert f"{epsilon_of(rebuilt(stated), 1e-5).pld:.2f}" == known


@pytest.mark.parametrize(("draws", "known"), [("logarithmic", "4.93"), ("geometric", "6.1")])
def test_the_winner_of_draws_is_one_trial_whose_price_is_that_of_the_selection(draws, known):
    (found,) = release_prices(charges(winner_event(FACES, draws, 200)))
    assert f"{found.one.pld:.3g}" == f"{found.everything.pld:.3g}" == known
    assert found.selection == (draws, 200.0)
    # Two winners are composed, by RDP: never less than one, never more than both added.
    (both,) = release_prices(charges(*[winner_event(FACES, draws, 200)] * 2))
    assert found.one.pld < both.everything.pld < 2 * found.one.pld
    assert both.selection is None


def generating(draws, mean):
    """The probability generating function of the number of runs."""
    if draws == "poisson":
        return lambda x: np.exp(mean * (x - 1))
    if draws == "geometric":
        return lambda x: x / mean / (1 - (1 - 1 / mean) * x)
    gamma = min(np.linspace(1e-6, 1, 1_000_001)[:-1], key=lambda g: abs((1 / g - 1) / math.log(1 / g) - mean))
    return lambda x: np.log1p(-(1 - gamma) * x) / math.log(gamma)


@pytest.mark.parametrize(("draws", "mean"), list(itertools.product(DRAWS, (2.0, 20.0))))
def test_the_price_of_the_winner_holds_for_a_mechanism_that_is_computed_exactly(draws, mean):
    """A noisy count on a fine grid, of which the largest is taken: its distribution follows from that of one run."""
    z, delta = 1.5, 1e-3
    grid = np.arange(-12, 14, 0.01)
    ends = np.concatenate([[-np.inf], (grid[1:] + grid[:-1]) / 2, [np.inf]])
    runs = generating(draws, mean)

    def largest(shift):
        below = np.array([0.5 * (1 + math.erf((end - shift) / z / math.sqrt(2))) for end in ends])
        chosen = np.diff(runs(below))
        return np.append(chosen, runs(0.0))  # no run at all

    claimed = winner_epsilon(dp_accounting.GaussianDpEvent(z), draws, mean, delta)
    with_it, without = largest(1.0), largest(0.0)
    for one, other in ((with_it, without), (without, with_it)):
        assert np.maximum(one - math.exp(claimed) * other, 0).sum() <= delta
    alone = epsilon_of(dp_accounting.GaussianDpEvent(z), delta).pld
    beyond = np.maximum(with_it - math.exp(alone / 2) * without, 0).sum()
    assert beyond > delta  # the check can fail


def test_different_events_are_composed_as_dp_accounting_composes_them():
    from dp_accounting.pld import PLDAccountant

    (found,) = release_prices(charges(SMALL, OTHER, SMALL))
    accountant = PLDAccountant(dp_accounting.NeighboringRelation.REPLACE_SPECIAL)
    for event in (SMALL, SMALL, OTHER):
        accountant.compose(event)
    exact = accountant.get_epsilon(1e-6)
    assert exact <= found.everything.pld <= 1.005 * exact
    assert found.one.pld == max(epsilon_of(event, 1e-6).pld for event in (SMALL, OTHER))


def test_equal_events_are_counted_wherever_they_stand():
    once = SMALL.event
    nested = dp_accounting.ComposedDpEvent((SMALL, dp_accounting.SelfComposedDpEvent(OTHER, 2)))
    expected = {once: 200, OTHER.event: 80}
    found = composed([nested, SMALL, dp_accounting.NoOpDpEvent()])
    assert {part.event: part.count for part in found.events} == expected
    assert composed([SMALL, nested]) == found
    assert composed([]) == dp_accounting.NoOpDpEvent()
    assert composed([SMALL, NONE]) == NONE


def test_units_and_pools_stay_apart():
    found = release_prices([*charges(SMALL, SMALL), *charges(OTHER, unit="client"), *charges(SMALL, pool="digits")])
    assert [(one.unit, one.pool, one.trials) for one in found] == [
        ("example", "faces", 2),
        ("client", "faces", 1),
        ("example", "digits", 1),
    ]
    assert found[2].everything == found[2].one == epsilon_of(SMALL, 1e-6)


def test_trials_without_a_guarantee_are_counted_and_not_priced():
    (found,) = release_prices(charges(SMALL, NONE, NONE))
    assert (found.trials, found.unprotected) == (1, 2)
    assert found.everything == epsilon_of(SMALL, 1e-6)
    assert release_prices(charges(NONE)) == ()


def test_the_delta_is_the_smallest_of_the_trials_or_the_one_that_is_given():
    mixed = [*charges(SMALL, delta=1e-5), *charges(SMALL, delta=1e-6)]
    assert release_prices(mixed)[0].delta == 1e-6
    (given,) = release_prices(mixed, delta=1e-7)
    assert given.delta == 1e-7
    assert given.everything.pld > release_prices(mixed)[0].everything.pld


def in_folds(folds, held_out, division="5 0"):
    return [Charge("example", "faces", SMALL, 1e-6, Fold(division, folds, number)) for number in held_out]


def test_two_folds_train_on_different_examples():
    (found,) = release_prices(in_folds(2, [0, 1]))
    assert found.everything == found.one
    assert found.in_folds == 1


def test_of_five_folds_an_example_trains_four():
    (found,) = release_prices(in_folds(5, range(5)))
    assert found.everything == epsilon_of(composed([SMALL] * 4), 1e-6)
    assert found.in_folds == 4
    (more,) = release_prices([*in_folds(5, range(5)), *charges(SMALL)])
    assert more.everything == epsilon_of(composed([SMALL] * 5), 1e-6)


def test_folds_of_different_divisions_may_have_examples_in_common():
    (found,) = release_prices([*in_folds(2, [0]), *in_folds(2, [1], division="2 7")])
    assert found.everything == epsilon_of(composed([SMALL] * 2), 1e-6)
    assert found.in_folds is None


def test_the_winner_of_different_settings_costs_what_the_worst_of_them_could():
    assert dominating([SMALL, OTHER]) == sampled_gaussian(1.0, 0.1, 100)
    assert dominating([SMALL]) == SMALL
    (found,) = release_prices(charges(SMALL, OTHER))
    assert found.winner["geometric"] == winner_epsilon(sampled_gaussian(1.0, 0.1, 100), "geometric", 2, 1e-6)
    cut = truncated_gaussian(1.0, 0.05, 20, 400, 40)
    assert dominating([SMALL, cut]) is None
    (cut_alone,) = release_prices(charges(cut, cut))
    assert cut_alone.winner == dict.fromkeys(DRAWS)


FEW = sampled_gaussian(0.3, 0.05, 10)  # little noise: prices are large, so that coarse ones are exact enough
SHARDS = (
    composed([sampled_gaussian(0.3, 0.5, 2), sampled_gaussian(0.3, 0.25, 4)]),
    composed([sampled_gaussian(0.3, 0.125, 8), sampled_gaussian(0.3, 0.0625, 16)]),
)


def in_shards(names):
    return [Charge("example", "faces", SHARDS[0], 1e-4, places=SHARDS, map=name) for name in names]


def plain(*events, delta=1e-4):
    return by_pld(composed(events), delta, 1e-2)


def test_an_example_stays_in_its_shard_where_trials_share_the_map():
    (found,) = release_prices([*in_shards(["a", "a"]), *charges(FEW, delta=1e-4)])
    own = [plain(shard, shard, FEW) for shard in SHARDS]
    assert found.everything.pld == pytest.approx(max(own), rel=5e-3)
    assert found.one.pld == pytest.approx(max(map(plain, SHARDS)), rel=5e-3)


def test_an_example_may_be_in_any_shard_where_maps_differ():
    (found,) = release_prices(in_shards(["a", "b"]))
    largest = max(plain(*path) for path in itertools.product(SHARDS, repeat=2))
    assert largest * (1 - 1e-3) < found.everything.pld < 1.7 * largest


def test_the_bound_of_all_places_is_never_below_one_of_them():
    bound = bound_of_places(SHARDS)
    for shard, delta in itertools.product(SHARDS, [1e-2, 1e-5, 1e-8]):
        assert plain(shard, delta=delta) <= plain(bound, delta=delta)
        assert plain(shard, FEW, delta=delta) <= plain(bound, FEW, delta=delta)
    alike = (sampled_gaussian(0.3, 10 / 101, 10), sampled_gaussian(0.3, 10 / 100, 10))
    assert plain(bound_of_places(alike)) == pytest.approx(max(map(plain, alike)))
    cut = truncated_gaussian(1.0, 0.1, 10, 100, 30)
    assert bound_of_places([SMALL, cut]) == composed([SMALL, cut])
    assert bound_of_places([SMALL, NONE]) == NONE


def test_a_statement_names_its_shards_and_the_config_their_map():
    stated = {"unit": "example", "delta": 1e-4, "events": [describe(SHARDS[0])]}
    by_shard = stated | {"events_by_shard": [describe(shard) for shard in SHARDS]}
    learner = {"name": "forgetting", "shards": 2, "slices": 2, "strategy": "random-balanced"}
    first, again, other = (
        stated_charge({"learner": learner, "seeds": {"data": data, "train": train}}, by_shard)
        for data, train in ((0, 0), (0, 1), (1, 1))
    )
    assert first.places == SHARDS
    assert first.map == again.map != other.map
    assert stated_charge({"learner": learner}, stated).alternatives == SHARDS[:1]
