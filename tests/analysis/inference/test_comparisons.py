"""Comparisons of learners: by seeds, Holm, folds, and ranks over datasets."""

import doctest

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

import fairsweep.analysis as analysis
import fairsweep.analysis.inference.comparisons as comparisons
from fairsweep.analysis.inference.comparisons import (
    compare_learners,
    compare_over_datasets,
    corrected_fold_test,
    paired_effect,
)
from fairsweep.analysis.statistics.multiplicity import holm


def test_doctest():
    assert doctest.testmod(comparisons).failed == 0


def test_holm_equals_statsmodels_and_leaves_gaps():
    p = np.array([0.01, 0.2, 0.03, 0.03, 0.8])
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    assert np.isnan(holm([np.nan, 0.04])).tolist() == [True, False]
    assert holm([np.nan, 0.04])[1] == 0.04


def test_learners_are_compared_by_seeds(digits, faces):
    results = analysis.load(digits.folder)
    table = compare_learners(results, by="digit")
    assert len(table) == 10
    assert (table["replicates"] == 5).all()
    np.testing.assert_allclose(table["p_holm"], holm(table["p_value"]))
    rare = table.set_index("group").loc["8"]
    rates = results.rates(["accuracy"], by="digit")
    wide = rates[rates["group"].astype(str) == "8"].pivot(index="replicate", columns="learner", values="value")
    difference = (wide[rare["first"]] - wide[rare["second"]]).to_numpy()
    low, high = stats.t.interval(0.95, 4, loc=difference.mean(), scale=stats.sem(difference))
    assert rare["difference"] == pytest.approx(difference.mean())
    assert rare["low"] < low < high < rare["high"]  # the test images vary too
    assert rare["effect"] == pytest.approx(paired_effect(difference))
    faced = compare_learners(analysis.load(faces.folder), learners=["private", "matched"])
    assert set(faced["level"]) == {"share 0.5", "share 0.9", "share 0.99"}
    assert (faced["first"] != faced["second"]).all()


def test_the_effect_is_hedgess():
    values = np.array([1.0, 2.0, 4.0])
    assert paired_effect(values) == pytest.approx((1 - 3 / 7) * values.mean() / values.std(ddof=1))
    assert np.isnan(paired_effect([1.0]))
    assert np.isnan(paired_effect([1.0, 2.0]))


def test_overlapping_folds_are_corrected():
    """Ten folds: the variance is that of a mean of independent ones times (1/k + n_test/n_train) k."""
    values = np.random.default_rng(1).normal(0.02, 0.01, 10)
    mean, low, high, p = corrected_fold_test(values, train_size=900, test_size=100)
    plain = stats.ttest_1samp(values, 0)
    factor = np.sqrt(1 + 10 / 9)
    assert mean == values.mean()
    assert high - low == pytest.approx(factor * np.ptp(plain.confidence_interval()))
    assert p == pytest.approx(2 * stats.t.sf(abs(plain.statistic) / factor, 9))
    with pytest.raises(ValueError, match="at least two"):
        corrected_fold_test([0.1], train_size=9, test_size=1)


def test_ranks_over_datasets_give_a_critical_difference_plot():
    rng = np.random.default_rng(2)
    base = rng.normal(0.8, 0.05, (12, 1))
    values = pd.DataFrame(base + rng.normal(0, 0.004, (12, 4)) + [0.03, 0.03, 0.01, 0.0], columns=list("abcd"))
    found = compare_over_datasets(values)
    assert found.ranks.is_monotonic_increasing
    assert found.p_value < 0.001
    # Demsar 2006, table 5: q of .05 for four learners is 2.569.
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / 72), abs=0.001)
    for one in "abcd":
        for other in "abcd":
            apart = abs(found.ranks[one] - found.ranks[other])
            if one != other:
                assert (found.pairs.loc[one, other] < 0.05) == (apart > found.critical_difference)
    assert any({"a", "b"} <= set(clique) for clique in found.cliques)
    assert not any({"a", "d"} <= set(clique) for clique in found.cliques)
    with pytest.raises(ValueError, match="at least 3 datasets"):
        compare_over_datasets(values.iloc[:2])


def test_differences_that_are_rounding_errors_are_none():
    """Five folds or seeds that agree to the last bit but one: neither a difference nor its deviation is known."""
    noise = np.array([1e-17, 2e-17, 1e-17, 1.5e-17, 3e-17, 2e-17])
    assert corrected_fold_test(noise, train_size=800, test_size=200)[3] == 1
    assert np.isnan(corrected_fold_test(0.1 + noise, train_size=800, test_size=200)[1:]).all()
    assert np.isnan(paired_effect(noise))
    same = pd.DataFrame({"a": 0.5 + noise, "b": 0.5 - noise, "c": np.full(6, 0.5)})
    assert compare_over_datasets(same).p_value == 1
