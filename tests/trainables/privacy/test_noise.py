"""Noise: normal with the stated variance, and independent between trials, runs and steps."""

import numpy as np
import torch
from scipy import stats

from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.trainables.privacy.noise import GaussianNoise

SIZE = 50_000
SWEEP = seed_key(0, "sweep")


def draw(trial=0, run=0, step=0, std=3.0):
    total = torch.zeros(SIZE)
    GaussianNoise(std, derive(SWEEP, "trial", trial), run).add_to(total, step)
    return total.double().numpy()


def test_the_noise_is_normal_with_the_stated_standard_deviation():
    for step in range(20):
        noise = draw(step=step)
        assert stats.kstest(noise / 3.0, "norm").pvalue > 1e-4
        # (n - 1) s^2 / sigma^2 is chi-squared: bounds at p = 1e-6 on either side.
        statistic = (SIZE - 1) * noise.var(ddof=1) / 9.0
        assert stats.chi2.ppf(1e-6, SIZE - 1) < statistic < stats.chi2.isf(1e-6, SIZE - 1)


def test_noise_is_uncorrelated_between_any_two_trials_runs_and_steps():
    draws = [draw(trial, run, step) for trial in range(6) for run in range(2) for step in range(4)]
    correlation = np.corrcoef(draws)
    np.fill_diagonal(correlation, 0)
    pairs = len(draws) * (len(draws) - 1) / 2
    assert np.abs(correlation).max() < stats.norm.isf(1e-6 / pairs) / np.sqrt(SIZE)


def test_noise_repeats_for_the_same_secret_run_and_step_and_adds_to_what_is_there():
    total = torch.ones(SIZE)
    noise = GaussianNoise(3.0, derive(SWEEP, "trial", 0))
    noise.add_to(total, 0)
    np.testing.assert_allclose(total.double().numpy() - 1, draw(), atol=1e-6)


def test_no_noise_changes_nothing():
    total = torch.ones(5)
    GaussianNoise(0.0, SWEEP).add_to(total, 0)
    assert torch.equal(total, torch.ones(5))


def test_the_secret_is_not_shown():
    assert SWEEP.hex()[:8] not in repr(GaussianNoise(1.0, SWEEP))
    assert "secret" not in repr(GaussianNoise(1.0, SWEEP))
