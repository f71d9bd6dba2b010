import numpy as np
import pytest
from scipy import stats

from fairsweep.analysis.auditing.repetitions import audit_repetitions, gaussian_epsilon
from fairsweep.analysis.auditing.trade_offs import gaussian


def made_up(runs, mu, seed=0):
    draws = np.random.default_rng(seed)
    coins = draws.random(runs) < 0.5
    return draws.standard_normal(runs) + mu * coins, coins


def test_what_a_gaussian_costs_is_what_is_known_of_it():
    # Balle and Wang 2018, arXiv 1805.06530: with sensitivity 1 and sigma = 1, delta(1) = 0.12693674.
    assert gaussian_epsilon(1.0, 0.12693674) == pytest.approx(1.0, abs=1e-6)
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
    assert gaussian_epsilon(1.0, 0.0) == np.inf


@pytest.mark.parametrize("mu", [0.0, 1.0, 4.0])
def test_bounds_stay_below_the_truth_and_come_near_it(mu):
    for seed in range(30):
        found = audit_repetitions(*made_up(2000, mu, seed), delta=1e-5, significance=1e-4, claim=gaussian(mu))
        assert found.epsilon <= gaussian_epsilon(mu, 1e-5)
        assert found.mu <= mu
        assert found.refuted is False
    if mu == 1.0:
        assert found.mu > 0.4


def test_too_little_noise_refutes_the_claim():
    found = audit_repetitions(*made_up(2000, 2.0), delta=1e-5, significance=1e-4, claim=gaussian(1.0))
    assert found.refuted
    assert found.mu > 1.0
    assert found.gaussian > gaussian_epsilon(1.0, 1e-5)


def test_runs_that_never_err_are_bounded_by_their_number():
    coins = np.arange(400) % 4 < 2
    found = audit_repetitions(np.where(coins, 1.0, 0.0), coins, delta=0.0, significance=0.02)
    # 100 runs of each kind try the test, none errs: the rule of Clopper and Pearson at 1% a side.
    least = 1 - 0.01 ** (1 / 100)
    assert found.epsilon == pytest.approx(np.log((1 - least) / least))
    assert found.mu == pytest.approx(-2 * stats.norm.ppf(least))


def test_runs_of_one_kind_only_are_refused():
    with pytest.raises(ValueError, match="some with and some without"):
        audit_repetitions(np.zeros(10), np.ones(10, dtype=bool), delta=0.0)
