"""Group privacy: what a user with several examples pays, against a sum over who joins and against known bounds."""

import math

import dp_accounting
import numpy as np
import pytest
from scipy import stats

from fairsweep.analysis.accounting.epsilons import epsilon_of
from fairsweep.analysis.accounting.events import describe, rebuilt, sampled_gaussian, truncated_gaussian
from fairsweep.analysis.accounting.user_events import event_of_user

DELTA = 1e-5
ONE_STEP = sampled_gaussian(1.0, 0.3, 1)


def delta_of_one_step(epsilon, z, q, examples):
    """The hockey-stick divergence of one step, by a sum over how many examples join, in both directions."""
    x = np.linspace(-12, 12 + examples, 400_001)
    joined = np.arange(examples + 1)
    with_user = stats.binom.pmf(joined, examples, q) @ stats.norm.pdf(x[None], joined[:, None], z)
    without = stats.norm.pdf(x, 0, z)
    step = x[1] - x[0]
    pairs = ((with_user, without), (without, with_user))
    return max(np.maximum(a - math.exp(epsilon) * b, 0).sum() * step for a, b in pairs)


@pytest.mark.parametrize("examples", [2, 5])
def test_one_step_costs_what_the_densities_say(examples):
    found = epsilon_of(event_of_user(ONE_STEP, examples), DELTA)
    assert found.rdp is None
    assert delta_of_one_step(found.pld, 1.0, 0.3, examples) <= DELTA
    assert delta_of_one_step(0.97 * found.pld, 1.0, 0.3, examples) > DELTA


def test_a_user_pays_more_than_an_example_and_less_than_by_the_general_rule():
    event = sampled_gaussian(1.0, 0.01, 200)
    costs = [epsilon_of(event_of_user(event, examples), DELTA).pld for examples in (1, 2, 4)]
    assert costs[0] == epsilon_of(event, DELTA).pld
    assert costs == sorted(costs)
    # Any mechanism that is (e, d)-private for one is (2e, d + d exp(e))-private for two.
    half = epsilon_of(event, DELTA / 10).pld
    assert DELTA / 10 * (1 + math.exp(half)) < DELTA
    assert costs[1] <= 1.01 * 2 * half
    assert costs[1] > 1.5 * costs[0]


def test_all_examples_in_every_step_are_one_larger_example():
    full = event_of_user(sampled_gaussian(4.0, 1.0, 3), 4)
    assert epsilon_of(full, DELTA).pld == pytest.approx(
        dp_accounting.get_epsilon_gaussian(1 / math.sqrt(3), DELTA), rel=0.01
    )


def test_a_rare_crowd_is_counted_as_the_whole_crowd():
    event = event_of_user(sampled_gaussian(1.0, 0.001, 10), 300)
    assert len(event.event.sensitivities) < 30
    assert event.event.sensitivities[-1] == 300
    assert sum(event.event.sampling_probs) == pytest.approx(1, abs=1e-12)
    assert rebuilt(describe(event)) == event


def test_what_has_no_theorem_has_no_number():
    assert event_of_user(truncated_gaussian(1.0, 0.1, 5, 100, 20), 2) is None
    assert event_of_user(dp_accounting.NonPrivateDpEvent(), 2) == dp_accounting.NonPrivateDpEvent()
    assert event_of_user(dp_accounting.NoOpDpEvent(), 2) == dp_accounting.NoOpDpEvent()
