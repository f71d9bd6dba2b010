"""Calibration errors: biased upwards in samples, with intervals that hold the true error, also where it is 0."""

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.metrics.probabilities import calibration_bounds, calibration_error

NORMAL = 1.96


def predictions(rng, n, off=0.0):
    """Log-probabilities of which the confidence exceeds the accuracy by a constant, and labels."""
    sure = rng.uniform(0.5 + off, 1, n)
    return np.log(np.stack([sure, 1 - sure], -1)), (rng.random(n) > sure - off).astype(np.int64)


@pytest.mark.parametrize("n", [30, 200, 2000])
@pytest.mark.parametrize("off", [0.0, 0.1])
def test_the_true_error_is_held(n, off):
    found = [calibration_bounds(*predictions(np.random.default_rng(i), n, off), NORMAL) for i in range(150)]
    held = [low <= off + 1e-9 and off <= high for low, high, _ in found]
    assert np.mean(held) >= 0.94
    if n == 2000:
        assert np.mean([low > 0 for low, _, _ in found]) == (off > 0)
        assert np.mean([high - low for low, high, _ in found]) < 0.08


def test_the_null_value_is_what_a_calibrated_model_shows():
    drawn = [predictions(np.random.default_rng(i), 300) for i in range(100)]
    values = [calibration_error(*one, np.ones((1, 300)))[0] for one in drawn]
    nulls = [calibration_bounds(*one, NORMAL)[2] for one in drawn]
    assert np.mean(nulls) == pytest.approx(np.mean(values), rel=0.05)


def test_alike_images_of_one_person_show_less():
    log_p, label = predictions(np.random.default_rng(0), 100, 0.1)
    many, user = (np.repeat(log_p, 9, axis=0), np.repeat(label, 9)), np.repeat(np.arange(100), 9)
    one, alone, people = (
        calibration_bounds(log_p, label, NORMAL),
        *(calibration_bounds(*many, NORMAL, of_whom) for of_whom in (None, user)),
    )
    assert alone[1] - alone[0] < 0.5 * (one[1] - one[0])
    assert people[1] - people[0] > 0.8 * (one[1] - one[0])


def test_calibrated_groups_have_no_calibration_error_and_no_difference():
    """Resamples of both never reach 0: the groups' sizes, not the model, make the difference."""
    rng = np.random.default_rng(1)
    size = np.array([40, 1000])
    log_p, label = predictions(rng, size.sum())
    tone = np.repeat(["dark", "light"], size)
    results = analysis.from_predictions(label, groups={"tone": tone}, probabilities=np.exp(log_p), classes=(0, 1))
    rates = results.rates(["expected_calibration_error"], by="tone")
    assert (rates["low"] == 0).all()
    assert (rates["expected_if_equal"] > 0).all()
    gap = results.disparities(["calibration_difference"], by="tone").iloc[0]
    assert gap["value"] > 0.02
    assert gap["low"] == 0
    assert gap["value"] < gap["high"] < 1
    ratio = results.disparities(["calibration_ratio"], by="tone").iloc[0]
    assert (ratio["low"], ratio["high"]) == (0, 1)
    crossed = analysis.crossed_frame(
        results, ["expected_calibration_error", "calibration_difference"], by="tone", draws=50
    )
    assert (crossed["low"] == 0).all()
    np.testing.assert_allclose(crossed["high"].iloc[:2], rates["high"])
    ones = pd.Series(1.0, results.examples["id"].to_numpy())
    weighted = analysis.weighted_frame(
        results, ["expected_calibration_error", "calibration_difference"], ones, by="tone", draws=20
    )
    np.testing.assert_allclose(weighted["value"].iloc[:2], rates["value"])
    assert weighted[["low", "high"]].isna().all(axis=None)
