"""Coverage over simulated sweeps with known truths: intervals of means over replicates on one common test set."""

import logging

import numpy as np
import pandas as pd
import pytest

from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.statistics.crossed_bounds import mean_disparity, mean_rate, shared_rate
from fairsweep.analysis.statistics.effective_sample_size import units_of
from fairsweep.analysis.statistics.intervals import wilson

say = logging.getLogger(__name__).info
MANY = pytest.param(1000, marks=pytest.mark.slow)
TRUTH = 0.8


def correct(rng, sweeps, replicates, n, spread, shared=0.7):
    """Whether each replicate of each sweep is right on each image, bool [sweeps, replicates, n].

    Replicates differ in their true accuracy by `spread`; `shared` of the images' luck is common to them.
    """
    truth = np.clip(TRUTH + rng.normal(0, spread, (sweeps, replicates, 1)), 0, 1)
    common = rng.random((sweeps, 1, n))
    own = rng.random((sweeps, replicates, n))
    return np.where(rng.random((sweeps, 1, n)) < shared, common, own) < truth


def tidy(right):
    """A frame with one setting a sweep, as `SweepResults.frame` would give it."""
    n = right.shape[-1]
    count = right.sum(-1)
    low, high = wilson(count, n)
    sweep, replicate = (code.ravel() for code in np.indices(count.shape))
    names = [f"{s}-{r}" for s, r in zip(sweep, replicate, strict=True)]
    columns = {"setting": sweep.astype(str), "trial": names, "value": (count / n).ravel()}
    columns |= {
        "low": low.ravel(),
        "high": high.ravel(),
        "n": n,
        "n_min": n,
        "expected_if_equal": np.nan,
        "epsilon": np.inf,
    }
    fixed = {"learner": "a", "series": "a", "share": 0.9, "level": "l", "level_value": 0.9, "split": "test"}
    fixed |= {"attribute": "tone", "group": "dark", "metric": "accuracy", "baseline": "", "iteration": 1}
    return pd.DataFrame(columns).assign(**fixed)


@pytest.mark.parametrize("sweeps", [300, MANY])
@pytest.mark.parametrize("n", [9, 63, 2000])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.05])
def test_means_over_five_replicates_hold_the_truth(sweeps, n, spread):
    """Conservative by construction: the t interval holds the part of the images' error that trials do not share."""
    right = correct(np.random.default_rng(n), sweeps, 5, n, spread)
    means = average(tidy(right))
    held = ((means["low"] <= TRUTH) & (means["high"] >= TRUTH)).mean()
    width = (means["high"] - means["low"]).mean()
    exact = 2 * 1.96 * right.mean((1, 2)).std()
    say(f"mean of 5, n {n}, spread {spread}: held {held:.3f}, width {width:.3f}, {width / exact:.2f} of the exact one")
    assert held >= 0.94 - (0.03 if sweeps < 1000 else 0.007)


@pytest.mark.parametrize("sweeps", [300, MANY])
def test_t_intervals_alone_are_exact_for_a_test_set_without_error(sweeps):
    rng = np.random.default_rng(0)
    values = TRUTH + rng.normal(0, 0.02, (sweeps, 5))
    frame = tidy(np.ones((sweeps, 5, 1), bool)).assign(value=values.ravel())
    means = average(frame)
    held = ((means["training_low"] <= TRUTH) & (means["training_high"] >= TRUTH)).mean()
    say(f"t over 5 replicates: held {held:.3f}")
    slack = 0.02 if sweeps < 1000 else 0.0
    assert 0.93 - slack <= held <= 0.97 + slack


@pytest.mark.parametrize("sweeps", [300, MANY])
@pytest.mark.parametrize("n", [9, 63])
@pytest.mark.parametrize("replicates", [4, 12])
def test_crossed_resampling_holds_the_truth(sweeps, n, replicates):
    """Four groups of n images: rates of the groups, and the gap between them, which is 0."""
    rng = np.random.default_rng(replicates)
    groups, label = np.repeat(np.arange(4), n), np.ones(4 * n, np.int64)
    (unit,) = units_of(resolve("accuracy", ("no", "yes")), groups, 4, label, 2)
    gap, exists = resolve("accuracy_difference", ("no", "yes")).row, np.ones(4, bool)
    held, held_gap, widths, estimates = [], [], [], []
    for _ in range(sweeps):
        right = correct(rng, 1, replicates, 4 * n, 0.02)[0]
        rate = shared_rate(right, np.ones_like(right), groups, label, unit)
        rates, gaps = mean_rate(rate, 0.95), mean_disparity([rate], exists, gap, 0.95)
        held += ((rates["low"] <= TRUTH) & (rates["high"] >= TRUTH)).tolist()
        widths += (rates["high"] - rates["low"]).tolist()
        estimates += rates["value"].tolist()
        held_gap.append(gaps["low"][0] <= 0)
    rates_held, gaps_held, width = np.mean(held), np.mean(held_gap), np.mean(widths)
    exact = 2 * 1.96 * np.std(estimates)
    say(f"crossed, {replicates} replicates, n {n}: rates {rates_held:.3f}, gap {gaps_held:.3f}")
    say(f"  width {width:.3f}, {width / exact:.2f} of the exact one")
    assert rates_held >= 0.94 - (0.04 if sweeps < 1000 else 0.0)
    assert gaps_held >= 0.93 - (0.03 if sweeps < 1000 else 0.0)
