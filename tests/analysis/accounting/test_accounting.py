"""Accounting: values known from elsewhere, bounds that must order, and infinity said in words."""

import itertools
import json
import logging
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from scipy import stats

from fairsweep.analysis.accounting.epsilons import AccountingError, Epsilon, epsilon_of, zero_out
from fairsweep.analysis.accounting.events import describe, rebuilt, sampled_gaussian, truncated_gaussian
from fairsweep.analysis.accounting.noise_calibration import calibrate, calibrate_truncated


def epsilon(z=1.0, q=0.01, steps=1000, delta=1e-5):
    return epsilon_of(sampled_gaussian(z, q, steps), delta)


def test_epsilon_has_the_known_values_to_three_digits():
    found = epsilon()
    assert f"{found.pld:.3f}" == "1.828"
    assert f"{found.rdp:.3f}" == "2.101"
    celeba = epsilon(q=1024 / 162_770, steps=round(20 * 162_770 / 1024), delta=1e-6)
    assert f"{celeba.pld:.2f}" == "2.25"


@pytest.mark.parametrize(("factor", "known"), [(2, "4.81"), (5, "13.7"), (10, "32.0")])
def test_a_larger_sampling_rate_has_the_known_price(factor, known):
    found = epsilon(q=factor * 1024 / 162_770, steps=round(20 * 162_770 / 1024), delta=1e-6)
    assert f"{found.pld:#.3g}" == known


@pytest.mark.parametrize(("z", "known"), [(1.5, 0.895), (0.7, 3.78), (0.5, 13.43)])
def test_epsilon_of_the_published_private_face_models(z, known):
    steps = round(60 * 24_000 / 32)
    assert epsilon(z, 32 / 24_000, steps, 1e-6).pld == pytest.approx(known, rel=2e-3)


def test_epsilon_agrees_with_opacus_prv_within_a_percent():
    from opacus.accountants import PRVAccountant

    for z, q, steps, delta in [(1.0, 0.01, 1000, 1e-5), (0.8, 0.064, 125, 1e-4), (1.3, 0.05, 200, 1e-5)]:
        accountant = PRVAccountant()
        accountant.history = [(z, q, steps)]
        assert epsilon(z, q, steps, delta).pld == pytest.approx(accountant.get_epsilon(delta), rel=0.01)


def test_integer_and_float_multipliers_cost_the_same():
    assert epsilon(z=1) == epsilon(z=1.0)
    assert epsilon(z=2, q=1, steps=5) == epsilon(z=2.0, q=1.0, steps=5)
    assert epsilon(z=2, q=1, steps=5).pld > 1


def test_without_sampling_the_gaussian_mechanism_s_exact_value_is_met():
    exact = dp_accounting.get_epsilon_gaussian(2.0 / math.sqrt(4), 1e-5)
    assert epsilon(2.0, 1.0, 4, 1e-5).pld == pytest.approx(exact, rel=1e-3)


def test_more_noise_fewer_steps_and_rarer_sampling_cost_less_and_pld_never_exceeds_rdp():
    costs = [epsilon(z=z).pld for z in (0.6, 0.8, 1.0, 2.0)]
    assert costs == sorted(costs, reverse=True)
    assert epsilon(steps=10).pld < epsilon(steps=100).pld < epsilon().pld
    assert epsilon(q=0.005).pld < epsilon().pld
    for z, q, steps in [(0.6, 0.01, 100), (1.0, 0.2, 50), (5.0, 0.01, 2000), (0.3, 0.064, 20)]:
        found = epsilon(z, q, steps)
        assert 0 < found.pld <= found.rdp * 1.01 + 0.01


def test_no_step_costs_nothing_and_no_noise_costs_everything():
    assert epsilon(steps=0) == Epsilon(pld=0.0, rdp=0.0)
    assert epsilon(z=0) == Epsilon(pld=math.inf, rdp=math.inf)


def test_a_huge_epsilon_is_bounded_in_seconds():
    found = epsilon(0.05, 0.064, 125, 1e-4)
    assert 3000 < found.pld < 6000


def test_infinity_is_explicit_in_json_and_comes_back():
    written = epsilon(z=0).model_dump_json()
    assert written == '{"pld":"inf","rdp":"inf"}'
    assert Epsilon.model_validate_json(written) == epsilon(z=0)
    assert Epsilon(pld=1.5, rdp=None).model_dump(mode="json") == {"pld": 1.5, "rdp": None}


def test_orders_that_dp_accounting_leaves_out_are_not_remarked_on(caplog):
    with caplog.at_level(logging.WARNING, logger="absl"):
        epsilon(0.83, 0.064, 125, 1e-4)  # the series of two orders do not end here
    assert caplog.records == []


def test_contradicting_accountants_are_an_error(monkeypatch):
    from fairsweep.analysis.accounting import epsilons

    monkeypatch.setattr(epsilons, "by_rdp", lambda event, delta: 0.5)
    with pytest.raises(AccountingError, match="one of the two"):
        epsilon(z=1.01)


@pytest.mark.parametrize(
    ("budget", "delta", "q", "steps"),
    # The last: so much noise that RDP gives exactly 0 is within the search.
    [(3.0, 1e-4, 0.064, 125), (0.5, 1e-5, 0.01, 1000), (8.0, 1e-5, 0.5, 20), (3.0, 1e-3, 0.2, 2)],
)
def test_calibrated_noise_is_the_least_that_affords_the_budget(budget, delta, q, steps):
    z = calibrate(budget, delta, q, steps)
    assert isinstance(z, float)
    assert epsilon(z, q, steps, delta).pld <= budget
    assert epsilon(z / 1.0011, q, steps, delta).pld > budget


@pytest.mark.parametrize("budget", [1e-7, 1e9])
def test_an_unaffordable_budget_is_refused(budget):
    with pytest.raises(ValueError, match="give noise_multiplier instead"):
        calibrate(budget, 1e-5, 0.01, 100)


def test_an_event_is_described_as_nested_json():
    assert describe(sampled_gaussian(1, 0.5, 7)) == {
        "type": "SelfComposedDpEvent",
        "event": {
            "type": "PoissonSampledDpEvent",
            "sampling_probability": 0.5,
            "event": {"type": "GaussianDpEvent", "noise_multiplier": 1.0},
        },
        "count": 7,
    }
    assert describe(sampled_gaussian(0, 0.5, 7)) == {"type": "NonPrivateDpEvent"}


@pytest.mark.parametrize(("cut", "known"), [(1200, "1.83"), (1100, "3.20"), (1024, "8.54")])
def test_a_smaller_cut_of_poisson_batches_has_the_known_price(cut, known):
    found = epsilon_of(truncated_gaussian(1, 0.01, 1000, 100_000, cut), 1e-5)
    assert f"{found.pld:.2f}" == known
    assert found.rdp is None


def cut_law(population, rate, cut):
    """Probability of each batch: those drawn by Poisson, of more than ``cut`` a uniform subset."""
    law = {}
    for drawn in itertools.product((0, 1), repeat=population):
        members = [i for i in range(population) if drawn[i]]
        probability = math.prod(rate if joins else 1 - rate for joins in drawn)
        kept = list(itertools.combinations(members, min(cut, len(members))))
        for batch in kept:
            law[batch] = law.get(batch, 0.0) + probability / len(kept)
    return law


@pytest.mark.parametrize(("population", "rate", "cut", "z"), [(4, 0.5, 2, 1.0), (4, 0.3, 1, 0.7), (5, 0.4, 4, 1.5)])
def test_the_price_of_a_cut_bounds_the_exact_divergence_of_neighbouring_training_sets(population, rate, cut, z):
    """One step on scalars: example 0 contributes 1, or nothing while it still takes its place in the batch."""
    accountant = PLDAccountant(neighboring_relation=zero_out())
    accountant.compose(truncated_gaussian(z, rate, 1, population, cut))
    law = cut_law(population, rate, cut)
    grid = np.linspace(-population - 9 * z, population + 9 * z, 4_001)
    worst = dict.fromkeys((0.1, 0.5, 1.0, 2.0), 0.0)
    for others in itertools.product((-1, 1), repeat=population - 1):
        present, absent = (
            sum(p * stats.norm.pdf(grid, sum((first, *others)[i] for i in batch), z) for batch, p in law.items())
            for first in (1, 0)
        )
        for epsilon in worst:
            for one, other in ((present, absent), (absent, present)):
                exact = float(np.maximum(one - math.exp(epsilon) * other, 0).sum() * (grid[1] - grid[0]))
                worst[epsilon] = max(worst[epsilon], exact)
    for epsilon, exact in worst.items():
        assert 0 < exact <= accountant.get_delta(epsilon)


def test_a_cut_that_is_never_reached_costs_nothing_and_ends_are_explicit():
    uncut = epsilon(steps=50).pld
    assert epsilon_of(truncated_gaussian(1, 0.01, 50, 1000, 1000), 1e-5).pld == pytest.approx(uncut, rel=1e-6)
    assert epsilon_of(truncated_gaussian(0, 0.01, 50, 1000, 20), 1e-5).pld == math.inf
    assert epsilon_of(truncated_gaussian(1, 0.01, 0, 1000, 20), 1e-5).pld == 0
    assert 1000 < epsilon_of(truncated_gaussian(0.05, 0.064, 125, 4000, 352), 1e-4).pld < 6000


@pytest.mark.parametrize(("budget", "cut"), [(1.0, 280), pytest.param(0.5, 352, marks=pytest.mark.slow)])
def test_noise_calibrated_for_a_cut_is_the_least_that_affords_the_budget(budget, cut):
    numbers = (0.064, 60, 4000, cut)
    z = calibrate_truncated(budget, 1e-4, *numbers)
    assert epsilon_of(truncated_gaussian(z, *numbers), 1e-4).pld <= budget
    assert epsilon_of(truncated_gaussian(z / 1.0021, *numbers), 1e-4).pld > budget
    assert z >= calibrate(budget, 1e-4, 0.064, 60) / 1.0011


@pytest.mark.parametrize("budget", [1e-7, 1e9])
def test_a_budget_that_no_noise_affords_under_a_cut_is_refused(budget):
    with pytest.raises(ValueError, match="give noise_multiplier instead"):
        calibrate_truncated(budget, 1e-5, 0.01, 100, 4000, 80)


def test_the_event_of_a_cut_is_described_with_all_its_numbers():
    assert describe(truncated_gaussian(1, 0.5, 7, 10, 6))["event"] == {
        "type": "TruncatedSubsampledGaussianDpEvent",
        "dataset_size": 10,
        "sampling_probability": 0.5,
        "truncated_batch_size": 6,
        "noise_multiplier": 1.0,
    }


@pytest.mark.parametrize(
    "event",
    [
        sampled_gaussian(1.0, 0.01, 10),
        sampled_gaussian(0.0, 0.01, 10),
        sampled_gaussian(1.0, 0.01, 0),
        truncated_gaussian(1.0, 0.01, 10, 1000, 20),
        dp_accounting.ComposedDpEvent((sampled_gaussian(1.0, 0.01, 10), sampled_gaussian(2.0, 0.02, 5))),
    ],
)
def test_an_event_comes_back_from_json_as_it_was(event):
    written = json.loads(json.dumps(describe(event)))
    assert rebuilt(written) == event
    assert hash(rebuilt(written)) == hash(event)


def test_an_event_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"must be one of ComposedDpEvent.*but is 'OtherDpEvent'"):
        rebuilt({"type": "OtherDpEvent"})


@pytest.mark.parametrize("delta", [1e-14, 1e-15, 1e-18])
def test_a_delta_in_which_pld_rounds_off_as_much_is_bounded_by_rdp(delta):
    cost = epsilon(delta=delta)
    assert epsilon(delta=1e-12).pld < cost.pld <= cost.rdp < math.inf
