"""Trends: slopes by seed against ordinary regression, and a mixed model where there are many seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fairsweep.analysis as analysis
from fairsweep.analysis.inference.trends import LOG_MINORITY, mixed_trend, trend

SHARES = np.array([0.5, 0.9, 0.99, 0.999])


def simulated(rng, seeds=5, slope=0.0, nested=0.03, turned=0.0, own=0.005, n=10**6):
    """Values along a share: each seed moves its whole line up or down, and may turn it."""
    x = np.log10(10_000 * (1 - SHARES))
    level = 0.8 + rng.normal(0, nested, seeds)
    lines = level[:, None] + (slope + rng.normal(0, turned, seeds))[:, None] * (x - x.mean())
    values = np.clip(lines + rng.normal(0, own, lines.shape), 0, 1)
    seed, place = (code.ravel() for code in np.indices(values.shape))
    columns = {"replicate": seed, "share": SHARES[place], "minority_count": 10_000 * (1 - SHARES[place])}
    return pd.DataFrame({**columns, "value": values.ravel(), "n": n, "metric": "accuracy", "group": "dark"})


def test_slopes_are_those_of_each_seeds_line():
    frame = simulated(np.random.default_rng(0), slope=0.05)
    found = trend(frame)
    assert found.x_name == LOG_MINORITY
    for seed, part in frame.groupby("replicate"):
        expected = stats.linregress(np.log10(part["minority_count"]), part["value"]).slope
        assert found.slopes[seed] == pytest.approx(expected)
    assert found.slope == pytest.approx(0.05, abs=0.01)
    low, high = stats.t.interval(0.95, 4, loc=found.slopes.mean(), scale=stats.sem(found.slopes))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p_value == pytest.approx(stats.ttest_1samp(found.slopes, 0).pvalue)
    assert trend(frame, x="level").x_name == "share"


@pytest.mark.parametrize("sweeps", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_true_null_is_rejected_in_one_of_twenty_and_by_regression_far_more_often(sweeps):
    """Each seed turns its line: over seeds there is no trend; regression over all trials finds one."""
    rng = np.random.default_rng(1)
    ours, regression = [], []
    for _ in range(sweeps):
        frame = simulated(rng, turned=0.01, nested=0.0)
        found = trend(frame)
        ours.append(found.p_value < 0.05)
        regression.append(stats.linregress(np.log10(frame["minority_count"]), frame["value"]).pvalue < 0.05)
    slack = 0.03 if sweeps < 1000 else 0.0
    assert 0.03 - slack <= np.mean(ours) <= 0.07 + slack
    assert np.mean(regression) > 0.15


def test_the_mixed_model_agrees_where_seeds_are_many():
    frame = simulated(np.random.default_rng(2), seeds=40, slope=0.03, turned=0.01)
    found = trend(frame)
    model = mixed_trend(found)
    assert model.slope == pytest.approx(found.slope, abs=1e-4)
    assert (model.low, model.high) == pytest.approx((found.low, found.high), abs=0.001)
    assert model.slope_std == pytest.approx(0.01, abs=0.004)
    assert model.residual_std == pytest.approx(0.005, abs=0.001)
    assert model.converged or model.note


def test_rounding_errors_are_no_trend():
    """A learner that always predicts one class has .5 everywhere; its slopes differ in the last bit alone."""
    rng = np.random.default_rng(4)
    frame = simulated(rng, seeds=5, nested=0.0, own=0.0)
    frame["value"] = 0.5 + rng.normal(2e-16, 1e-17, len(frame))
    frame.loc[frame["replicate"] == 0, "value"] = np.nextafter(0.5, 1)
    found = trend(frame)
    assert found.slope == 0
    assert found.p_value == 1
    assert np.isnan([found.low, found.high]).all()
    with pytest.raises(ValueError, match="values that differ, but all are"):
        mixed_trend(found)


def test_slopes_that_agree_on_a_trend_have_no_test():
    """Two values of seeds that agree by luck, up to rounding, do not show how much seeds vary."""
    frame = simulated(np.random.default_rng(4), seeds=3, nested=0.0, own=0.0, slope=0.05)
    found = trend(frame)
    assert found.slope == pytest.approx(0.05)
    assert np.isnan([found.low, found.high, found.p_value]).all()
    counts = trend(frame.assign(minority_count=1e9 * frame["minority_count"]), over="minority_count", x="level")
    assert counts.slope > 0


def test_too_little_is_refused():
    frame = simulated(np.random.default_rng(3), seeds=2)
    with pytest.raises(ValueError, match="at least 3 seeds"):
        mixed_trend(trend(frame))
    with pytest.raises(ValueError, match="at least two levels"):
        trend(frame[frame["share"] == 0.5])
    with pytest.raises(ValueError, match='"level" or None'):
        trend(frame, x="rank")
    one = trend(frame[frame["replicate"] == 0])
    assert np.isnan([one.low, one.high, one.p_value]).all()


def test_a_trend_of_a_sweep(faces):
    results = analysis.load(faces.folder)
    found = trend(results, by="tone", group="dark", learner="private")
    truth = np.polyfit(np.log10([2000, 400, 40]), [0.82, 0.74, 0.60], 1)[0]
    assert found.slope == pytest.approx(truth, abs=0.05)
    np.testing.assert_allclose(10**found.x, [2000, 400, 40])
    assert len(found.slopes) == 2
