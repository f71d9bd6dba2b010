"""Rates of several trainings on the same images: their units, and Wilson's interval at an effective sample size."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.statistics.effective_sample_size import (
    SamplingUnits,
    effective_counts,
    rate_bounds,
    units_of,
)
from fairsweep.analysis.statistics.intervals import wilson

CLASSES = ("no", "yes")
GROUPS = np.repeat([0, 1, 2], [6, 3, 2])
LABEL = np.array([0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1])


def units(n, df=None):
    return SamplingUnits(*(np.array([value]) for value in (n, n, n - 1 if df is None else df)))


def test_units_are_images_less_the_strata_that_fix_them():
    (accuracy,) = units_of(resolve("accuracy", CLASSES), GROUPS, 4, LABEL, 2)
    assert accuracy.images.tolist() == accuracy.sampled.tolist() == [6, 3, 2, 0]
    assert accuracy.df.tolist() == [4, 1, 1, 0]
    (positives,) = units_of(resolve("true_positive_rate", CLASSES), GROUPS, 4, LABEL, 2)
    assert positives.images.tolist() == [3, 2, 2, 0]
    assert positives.df.tolist() == [2, 1, 1, 0]
    (predicted,) = units_of(resolve("positive_predictive_value", CLASSES), GROUPS, 4, LABEL, 2)
    assert predicted.images.tolist() == [6, 3, 2, 0]
    assert len(units_of(resolve("equalized_odds_difference", CLASSES), GROUPS, 4, LABEL, 2)) == 2
    assert units_of(resolve("f1", CLASSES), GROUPS, 4, LABEL, 2) == ()


def test_users_who_are_drawn_whole_are_the_units():
    users = np.array([0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3])
    (found,) = units_of(resolve("accuracy", CLASSES), GROUPS, 4, LABEL, 2, users)
    assert found.images.tolist() == [6, 3, 2, 0]
    assert found.sampled.tolist() == [3, 2, 1, 0]
    assert found.df.tolist() == [2, 1, 0, -1]


def test_labels_alone_say_which_images_count():
    for metric, alone in (("accuracy", True), ("true_positive_rate", True), ("positive_predictive_value", False)):
        (found,) = units_of(resolve(metric, CLASSES), GROUPS, 4, LABEL, 2)
        assert found.are_counted == alone


def test_one_training_on_free_images_has_wilsons_interval():
    n, rate = 20, np.array([0.7])
    counted = replace(units(n), are_counted=True)
    np.testing.assert_allclose(rate_bounds(rate, rate * (1 - rate) * (n - 1) / n**2, counted, 1), wilson(rate * n, n))
    found = rate_bounds(rate, rate * (1 - rate) / n, units(n), 1)
    np.testing.assert_allclose(found, wilson(rate * (n - 1), n - 1))


@pytest.mark.parametrize("replicates", [1, 3, 12])
def test_trainings_are_worth_as_many_images_as_they_differ(replicates):
    """Between one training's images and those of all, with one error more that all make alike."""
    n, rate = 1000, np.array([0.8])
    counted, most = replace(units(n), are_counted=True), rate * (1 - rate) / n * (n - 1) / n
    for alike in (1 / replicates, 0.5, 1.0):
        worth = effective_counts(rate, alike * most, counted, replicates)
        assert worth == pytest.approx(n / max(alike, 1 / replicates), rel=0.08)
        assert n <= worth <= n * replicates
    certain = effective_counts(np.array([1.0]), np.zeros(1), counted, replicates)
    assert certain == pytest.approx(n)


@pytest.mark.parametrize(("n", "accuracy"), [(9, 0.8), (20, 0.9), (63, 0.98)])
def test_many_trainings_with_few_errors_hold_the_truth(n, accuracy):
    """The variance of the resamples alone held it in 85%, 82% and 70%."""
    rng = np.random.default_rng(n)
    sweeps, replicates = 600, 10
    alike = rng.random((sweeps, replicates, n)) < 0.7**0.5
    right = np.where(alike, rng.random((sweeps, 1, n)), rng.random((sweeps, replicates, n))) < accuracy
    rate, of_images = right.mean((1, 2)), right.mean(1).var(-1) / n
    every = np.full(sweeps, n)
    low, high = rate_bounds(rate, of_images, SamplingUnits(every, every, every - 1, are_counted=True), replicates)
    assert 0.93 <= ((low <= accuracy) & (accuracy <= high)).mean() <= 0.99
    assert (high - low).mean() < np.ptp(wilson(accuracy * n, n))


def test_trainings_that_agree_on_every_image_tell_no_more_than_one():
    """Korn & Graubard by hand: the variance of n images, and Student's quantiles of 12 n - 1 and n - 1."""
    n, rate, replicates = 9, np.array([2 / 3]), 12
    variance = rate * (1 - rate) / n
    found = rate_bounds(rate, variance, units(n), replicates)
    effective = (n - 1) * (stats.t.ppf(0.975, n * replicates - 1) / stats.t.ppf(0.975, n - 1)) ** 2
    np.testing.assert_allclose(found, wilson(rate * effective, effective))
    assert np.ptp(found) > np.ptp(wilson(6, n))


def test_what_no_variance_is_known_of_counts_as_so_many_images():
    certain = rate_bounds(np.array([1.0]), np.array([0.0]), units(9), 12)
    np.testing.assert_allclose(certain, np.array(wilson([9], [9])))
    lonely = rate_bounds(np.array([0.5]), np.array([0.0]), units(2, 0), 3)
    np.testing.assert_allclose(lonely, np.array(wilson([1], [2])))
    undefined = rate_bounds(np.array([np.nan]), np.array([0.0]), units(0, 0), 3)
    assert np.isnan(undefined).all()


def test_no_more_is_known_than_was_observed():
    """Images whose errors happen to cancel do not make an interval narrower than independent outcomes would."""
    low, high = rate_bounds(np.array([0.5]), np.array([1e-12]), units(50), 12)
    least = np.ptp(wilson(300, 600))
    assert high - low > least
