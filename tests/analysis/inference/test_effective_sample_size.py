"""Rates of several trainings on the same images: their units, and Wilson's interval at an effective sample size."""

import numpy as np
import pytest
from scipy import stats

from fairsweep.analysis.inference.effective_sample_size import SamplingUnits, rate_bounds, units_of
from fairsweep.analysis.metrics.catalogue import resolve
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


def test_one_training_on_free_images_has_wilsons_interval_of_one_image_less():
    n, rate = 20, np.array([0.7])
    found = rate_bounds(rate, rate * (1 - rate) / n, None, units(n), 1)
    np.testing.assert_allclose(found, wilson(rate * (n - 1), n - 1))


def test_trainings_that_agree_on_every_image_tell_no_more_than_one():
    """Korn & Graubard by hand: the variance of n images, and Student's quantiles of 12 n - 1 and n - 1."""
    n, rate, replicates = 9, np.array([2 / 3]), 12
    variance = rate * (1 - rate) / n
    found = rate_bounds(rate, variance, variance, units(n), replicates)
    effective = (n - 1) * (stats.t.ppf(0.975, n * replicates - 1) / stats.t.ppf(0.975, n - 1)) ** 2
    np.testing.assert_allclose(found, wilson(rate * effective, effective))
    assert np.ptp(found) > np.ptp(wilson(6, n))


def test_freedom_is_satterthwaites_where_replicates_tell_less_than_images():
    rate, n, replicates = np.array([0.8]), 10_000, 12
    low, high = rate_bounds(rate, np.array([1e-9]), np.array([1e-9 + 4e-4]), units(n), replicates)
    half = stats.t.ppf(0.975, replicates - 1) * np.sqrt(4e-4 * 12 / 11)
    assert (high - low) / 2 == pytest.approx(half, rel=0.02)


def test_what_no_variance_is_known_of_counts_as_so_many_images():
    certain = rate_bounds(np.array([1.0]), np.array([0.0]), np.array([0.0]), units(9), 12)
    np.testing.assert_allclose(certain, np.array(wilson([9], [9])))
    lonely = rate_bounds(np.array([0.5]), np.array([0.0]), None, units(2, 0), 3)
    np.testing.assert_allclose(lonely, np.array(wilson([1], [2])))
    undefined = rate_bounds(np.array([np.nan]), np.array([0.0]), None, units(0, 0), 3)
    assert np.isnan(undefined).all()


def test_no_more_is_known_than_was_observed():
    """Images whose errors happen to cancel do not make an interval narrower than independent outcomes would."""
    low, high = rate_bounds(np.array([0.5]), np.array([1e-12]), np.array([1e-12]), units(50), 12)
    least = np.ptp(wilson(300, 600))
    assert high - low > least
