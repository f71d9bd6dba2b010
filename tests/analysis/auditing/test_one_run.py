import math

import numpy as np
import pytest

from fairsweep.analysis.auditing.one_run import (
    Guesses,
    audit_groups,
    audit_scores,
    epsilon_bound,
    gaussian_bound,
    guess,
    guess_rules,
    p_value,
    refutes,
)
from fairsweep.analysis.auditing.repetitions import gaussian_epsilon
from fairsweep.analysis.auditing.trade_offs import from_profile, gaussian, gaussian_delta, gaussian_mu


def made_up(canaries, mu, seed=0):
    """Scores of canaries that a Gaussian mechanism of distance mu has seen, or not."""
    draws = np.random.default_rng(seed)
    coins = draws.random(canaries) < 0.5
    return draws.standard_normal(canaries) + mu * coins, coins


def test_the_bounds_of_the_paper_are_reproduced():
    # arXiv 2305.08846, appendix D: 75 of 100 guesses are right, of 1,000 canaries, delta = 1e-4, 95% confidence.
    assert epsilon_bound(Guesses(1000, 100, 75), 0.05, 1e-4) == pytest.approx(0.673, abs=1e-3)
    # Without delta it is the test of a biased coin: so many right guesses have probability exactly 5%.
    bound = epsilon_bound(Guesses(50, 50, 50), 0.05, 0.0)
    assert (1 + math.exp(-bound)) ** -50 == pytest.approx(0.05, rel=1e-4)


@pytest.mark.slow  # importing jax takes seconds
def test_bounds_on_equal_scores_are_those_of_jax_privacy():
    auditing = pytest.importorskip("jax_privacy.auditing", exc_type=ImportError)
    for seed, mu in enumerate((0.5, 2.0, 6.0)):
        scores, coins = made_up(400, mu, seed)
        theirs = auditing.CanaryScoreAuditor(scores[coins], scores[~coins])
        for share in (0.05, 0.2, 0.5):
            threshold = np.sort(scores)[-int(share * len(scores))]
            seen = guess(scores, coins, int((scores >= threshold).sum()), 0)
            for delta in (1e-5, 1e-3):
                explicit = {"delta": delta, "threshold_strategy": auditing.Explicit(float(threshold))}
                assert epsilon_bound(seen, 1e-2, delta) == pytest.approx(
                    theirs.epsilon_one_run(significance=1e-2, **explicit), abs=1e-5
                )
                assert gaussian_bound(seen, 1e-2, delta) == pytest.approx(
                    theirs.epsilon_one_run_fdp(significance=1e-2, **explicit), abs=1e-4
                )


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 3.0])
def test_no_bound_exceeds_what_the_gaussian_mechanism_costs(mu):
    delta = 1e-5
    for seed in range(8):
        scores, coins = made_up(1000, mu, seed)
        found = audit_scores(scores, coins, delta=delta, significance=1e-4, claim=gaussian(mu))
        assert found.epsilon <= gaussian_epsilon(mu, delta)
        assert found.gaussian <= gaussian_epsilon(mu, delta)
        assert found.refuted is False


def test_a_mechanism_with_less_noise_than_claimed_is_refuted():
    scores, coins = made_up(50_000, 3.0)
    found = audit_scores(scores, coins, delta=1e-5, significance=1e-4, claim=gaussian(1.0))
    assert found.refuted
    assert found.gaussian > gaussian_epsilon(1.0, 1e-5)


def test_a_profile_of_a_gaussian_gives_its_trade_off():
    epsilons = np.linspace(0, 12, 400)
    inverse = from_profile(epsilons, [gaussian_delta(e, 1.5) for e in epsilons])
    for x in (0.01, 0.3, 0.5, 0.9, 0.999):
        assert inverse(x) == pytest.approx(gaussian(1.5)(x), abs=2e-4)
        assert inverse(x) <= gaussian(1.5)(x) + 1e-9  # a part of the profile promises less, never more
    assert gaussian_delta(2.0, gaussian_mu(2.0, 1e-5)) == pytest.approx(1e-5)


def test_groups_divide_the_significance():
    scores, coins = made_up(600, 1.0)
    groups = np.arange(600) % 3
    bounds = audit_groups(scores, coins, groups, delta=1e-5, significance=0.03)
    assert set(bounds) == {0, 1, 2}
    assert all(bound.significance == pytest.approx(0.01) and bound.canaries == 200 for bound in bounds.values())
    alone = audit_scores(scores[groups == 0], coins[groups == 0], delta=1e-5, significance=0.01)
    assert bounds[0] == alone


def test_guess_rules_are_fixed_before_scores_are_seen_and_pay_for_their_number():
    rules = list(guess_rules(100))
    assert rules[0] == (50, 50)
    assert all(8 <= high + low <= 100 for high, low in rules)
    coins = np.arange(100) % 2 == 0
    scores = coins.astype(float)
    seen = guess(scores, coins, 50, 50)
    assert audit_scores(scores, coins, delta=0.0, significance=0.05).epsilon < epsilon_bound(seen, 0.05, 0.0)


def test_more_right_guesses_are_less_likely_and_a_perfect_claim_is_refuted_by_any_leak():
    values = [p_value(Guesses(100, 50, correct), 1.0, 1e-3) for correct in (30, 40, 50)]
    assert values == sorted(values, reverse=True)
    assert p_value(Guesses(10, 0, 0), 1.0, 1e-3) == 1.0
    assert refutes(Guesses(100, 50, 50), gaussian(0.0), 1e-4)
    assert not refutes(Guesses(100, 50, 50), gaussian(math.inf), 1e-4)


@pytest.mark.parametrize(
    ("scores", "coins", "said"),
    [
        ([], [], "score and a coin"),
        ([1.0], [True, False], "score and a coin"),
        ([math.nan, 1.0], [True, False], "1 of 2 are NaN"),
    ],
)
def test_what_cannot_be_audited_is_refused(scores, coins, said):
    with pytest.raises(ValueError, match=said):
        audit_scores(np.array(scores), np.array(coins, dtype=bool), delta=1e-5)
    with pytest.raises(ValueError, match="correct <= guesses"):
        Guesses(10, 5, 6)
