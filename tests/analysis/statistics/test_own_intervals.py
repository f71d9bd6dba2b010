"""Calibration errors: biased upwards in samples, with intervals that hold the true error, also where it is 0."""

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.metrics.calibration_errors import (
    calibration_bounds,
    calibration_error,
    expected_calibration_bounds,
)
from fairsweep.analysis.metrics.probabilities import PROBABILITY_SCORES

NORMAL = 1.96


def predictions(rng, n, off=0.0):
    """Log-probabilities of which the confidence exceeds the accuracy by a constant, and labels."""
    sure = rng.uniform(0.5 + off, 1, n)
    return np.log(np.stack([sure, 1 - sure], -1)), (rng.random(n) > sure - off).astype(np.int64)


KINDS = {"calibration_error": calibration_bounds, "expected_calibration_error": expected_calibration_bounds}


@pytest.mark.parametrize("n", [30, 200, 2000])
@pytest.mark.parametrize("off", [0.0, 0.1])
def test_the_true_error_is_held(n, off):
    """The debiased value lies in its interval, which covers 93% to 99%; that of the plain one is conservative."""
    drawn = [predictions(np.random.default_rng(i), n, off) for i in range(150)]
    for name, bounds in KINDS.items():
        found = np.array([bounds(*one, NORMAL) for one in drawn])
        value = np.array([PROBABILITY_SCORES[name].compute(*one, np.ones((1, n)))[0] for one in drawn])
        low, high = found[:, 0], found[:, 1]
        assert ((low <= value + 1e-12) & (value <= high + 1e-12)).all()
        assert ((low <= off + 1e-9) & (off <= high)).mean() >= 0.94
        if name == "calibration_error":
            assert (high > low).all()
            assert np.mean(value) == pytest.approx(off, abs=0.9 * n**-0.5 * (0.5 if off == 0 else 0.2))
        if n == 2000:
            assert ((low > 0).mean() < 0.05) == (off == 0)
            assert (high - low).mean() < 0.08


def test_the_squared_error_is_unbiased_as_that_of_known_confidences():
    """Kumar et al.'s estimator, where all confidences of a bin are equal: the same number, by a plain loop."""
    rng = np.random.default_rng(0)
    sure = rng.choice([0.55, 0.75, 0.95], 400)
    log_p, label = np.log(np.stack([sure, 1 - sure], -1)), (rng.random(400) > sure - 0.1).astype(np.int64)
    theirs = 0.0
    for one in np.unique(sure):
        right = (label == 0)[sure == one]
        theirs += (sure == one).mean() * (
            (right.mean() - one) ** 2 - right.mean() * (1 - right.mean()) / (len(right) - 1)
        )
    assert calibration_error(log_p, label, np.ones((1, 400)))[0] == pytest.approx(np.sqrt(theirs))


@pytest.mark.parametrize("name", KINDS)
def test_the_null_value_is_what_a_calibrated_model_shows(name):
    drawn = [predictions(np.random.default_rng(i), 300) for i in range(300)]
    values = [PROBABILITY_SCORES[name].compute(*one, np.ones((1, 300)))[0] for one in drawn]
    nulls = [KINDS[name](*one, NORMAL)[2] for one in drawn]
    assert np.mean(nulls) == pytest.approx(np.mean(values), rel=0.12)


@pytest.mark.parametrize("name", KINDS)
def test_alike_images_of_one_person_show_less(name):
    log_p, label = predictions(np.random.default_rng(0), 100, 0.1)
    many, user = (np.repeat(log_p, 9, axis=0), np.repeat(label, 9)), np.repeat(np.arange(100), 9)
    one, alone, people = (
        KINDS[name](log_p, label, NORMAL),
        *(KINDS[name](*many, NORMAL, of_whom) for of_whom in (None, user)),
    )
    assert alone[1] - alone[0] < 0.6 * (one[1] - one[0])
    assert people[1] - people[0] > 0.8 * (one[1] - one[0])


def test_images_of_one_person_make_no_pair():
    log_p, label = predictions(np.random.default_rng(0), 100, 0.1)
    one = calibration_error(log_p, label, np.ones((1, 100)))
    many, user = (np.repeat(log_p, 9, axis=0), np.repeat(label, 9)), np.repeat(np.arange(100), 9)
    np.testing.assert_allclose(calibration_error(*many, np.ones((1, 900)), user), one)
    assert calibration_error(*many, np.ones((1, 900)))[0] > one[0] + 0.01
    assert np.isnan(calibration_error(log_p[:1], label[:1], np.ones((1, 1)))).all()
    assert np.isnan(calibration_bounds(log_p[:1], label[:1], NORMAL)).all()


def test_calibrated_groups_have_no_calibration_error_and_no_difference():
    """Resamples of both never reach 0: the groups' sizes, not the model, make the difference."""
    rng = np.random.default_rng(1)
    size = np.array([40, 1000])
    log_p, label = predictions(rng, size.sum())
    tone = np.repeat(["dark", "light"], size)
    results = analysis.from_predictions(label, groups={"tone": tone}, probabilities=np.exp(log_p), classes=(0, 1))
    names = ["calibration_error", "expected_calibration_error"]
    both = results.rates(names, by="tone").set_index("metric")
    assert (both["low"] == 0).all()
    rates = both.loc["calibration_error"]
    plugged_in = both.loc["expected_calibration_error", "value"].to_numpy()
    assert (rates["value"] < plugged_in).all()
    assert rates["value"].iloc[0] < 0.01 < 0.1 < plugged_in[0]
    assert (rates["expected_if_equal"] > 0).all()
    gap = results.disparities(["calibration_difference"], by="tone").iloc[0]
    plain = results.disparities(["expected_calibration_error_difference"], by="tone").iloc[0]
    assert gap["value"] < 0.5 * plain["value"]
    assert gap["low"] == plain["low"] == 0
    assert gap["value"] < gap["high"] < 0.3
    ratio = results.disparities(["calibration_ratio"], by="tone").iloc[0]
    assert (ratio["low"], ratio["high"]) == (0, 1)
    crossed = analysis.crossed_frame(results, ["calibration_error", "calibration_difference"], by="tone", draws=50)
    assert (crossed["low"] == 0).all()
    np.testing.assert_allclose(crossed["high"].iloc[:2], rates["high"])
    ones = pd.Series(1.0, results.examples["id"].to_numpy())
    weighted = analysis.weighted_frame(
        results, ["calibration_error", "calibration_difference"], ones, by="tone", draws=20
    )
    np.testing.assert_allclose(weighted["value"].iloc[:2], rates["value"])
    assert weighted[["low", "high"]].isna().all(axis=None)
