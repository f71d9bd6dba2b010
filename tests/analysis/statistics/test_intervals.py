"""Intervals hold the truth as often as they say, for groups of 9, 63 and 2,000 images."""

import doctest

import numpy as np
import pytest
from scipy import stats
from sklearn.utils.extmath import cartesian

import fairsweep.analysis.statistics.intervals as intervals
from fairsweep.analysis.metrics.disparities import DISPARITIES, disparity, disparity_of
from fairsweep.analysis.metrics.rates import RATES, divide, quotients
from fairsweep.analysis.statistics.intervals import (
    bootstrap_cells,
    exact,
    normal_quantile,
    replicate_mean,
    subtract,
    widen,
    wilson,
)
from fairsweep.analysis.statistics.simultaneous_intervals import null_disparity, simultaneous

SIZES = (9, 63, 2000)


def estimate(above, below):
    return divide(above, below), *wilson(above, below)


def test_doctest():
    assert doctest.testmod(intervals).failed == 0


@pytest.mark.parametrize("n", SIZES)
def test_wilson_equals_scipy(n):
    above = np.arange(0, n + 1, max(1, n // 50))
    low, high = wilson(above, n)
    for i, count in enumerate(above):
        expected = stats.binomtest(int(count), n).proportion_ci(method="wilson")
        assert low[i] == pytest.approx(expected.low, abs=1e-12)
        assert high[i] == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_the_exact_interval_equals_scipy_and_never_misses_too_often(n):
    outcomes = np.arange(n + 1)
    low, high = exact(outcomes, n)
    for count in outcomes[:: max(1, n // 20)]:
        expected = stats.binomtest(int(count), n).proportion_ci(method="exact")
        np.testing.assert_allclose((low[count], high[count]), expected, atol=1e-10)
    rates = np.linspace(0.005, 0.995, 100)[:, None]
    held = ((low <= rates) & (rates <= high)) * stats.binom.pmf(outcomes, n, rates)
    assert held.sum(1).min() >= 0.95
    assert np.isnan(exact(0, 0)).all()


@pytest.mark.parametrize(("n", "least"), [(9, 0.83), (63, 0.93), (2000, 0.94)])
def test_wilson_holds_the_truth_in_at_least_94_of_100_on_average(n, least):
    """Exact, by summing over all outcomes: on average over the true rates; `least` is what a docstring admits."""
    rates = np.linspace(0.01, 0.99, 393)[:, None]
    outcomes = np.arange(n + 1)
    low, high = wilson(outcomes, n)
    held = ((low <= rates) & (rates <= high)) * stats.binom.pmf(outcomes, n, rates)
    coverage = held.sum(1)
    assert coverage.mean() >= 0.945
    assert coverage.min() >= least
    middle = coverage[(rates[:, 0] > 0.5) & (rates[:, 0] < 0.95)]
    assert middle.mean() >= 0.945


def test_undefined_is_nan_and_never_a_number():
    assert np.isnan(wilson(0, 0)).all()
    assert np.isnan(subtract(estimate(0, 0), estimate(3, 9))).all()
    with pytest.raises(ValueError, match="confidence"):
        normal_quantile(1.0)


@pytest.mark.parametrize("n", SIZES)
def test_difference_of_two_groups_holds_the_truth(n):
    """Exact over all pairs of outcomes for 9 and 63; for 2,000 over the outcomes within 8 standard deviations."""
    worst = 1.0
    for p in (0.5, 0.72, 0.9, 0.98):
        for q in (p, p - 0.1, p - 0.4):
            x, y = (np.flatnonzero(stats.binom.pmf(np.arange(n + 1), n, rate) > 1e-9) for rate in (p, q))
            low, high = subtract(estimate(x[:, None], n), estimate(y[None], n))
            weight = stats.binom.pmf(x, n, p)[:, None] * stats.binom.pmf(y, n, q)[None]
            worst = min(worst, float((weight * ((low <= p - q) & (p - q <= high))).sum()))
    assert worst >= (0.92 if n == 9 else 0.935)


def gap_coverage(name, rates, sizes, draws, seed):
    """How often the simultaneous interval holds the true disparity; the mean gap; the mean null gap."""
    row = DISPARITIES[name]
    rng = np.random.default_rng(seed)
    rates, sizes = (np.broadcast_to(v, (len(row.rates), len(sizes))) for v in (np.array(rates), np.array(sizes)))
    above = rng.binomial(sizes, rates, size=(draws, *sizes.shape))
    below = np.broadcast_to(sizes, above.shape)
    exists = np.ones((draws, sizes.shape[1]), bool)
    scale = 10**9
    truth = disparity_of(np.round(rates * sizes * scale)[None], (sizes * scale)[None], exists[:1], row)[0]
    low, high = simultaneous(above, below, exists, row)
    undefined = np.isnan(disparity_of(above, below, exists, row))
    assert (np.isnan(low) == undefined).all()
    assert ((low <= high) | undefined).all()
    held = (low <= truth + 1e-9) & (truth - 1e-9 <= high) | undefined
    return (
        held.mean(),
        disparity_of(above, below, exists, row).mean(),
        null_disparity(above[:20], below[:20], exists[:20], row),
    )


RATES_OF_GROUPS = {
    "equal": lambda p, groups: np.full(groups, p),
    "one behind": lambda p, groups: np.append(np.full(groups - 1, p), p - 0.2),
    "spread": lambda p, groups: np.linspace(p - 0.3, p, groups),
}
# One of each kind: what the rates are rates of makes no difference here.
SIMULATED = (
    "accuracy_difference",
    "equalized_odds_difference",
    "equalized_odds_difference_mean",
    "worst_group_accuracy",
    "accuracy_below_overall",
)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("groups", [2, 5])
@pytest.mark.parametrize("name", SIMULATED)
def test_simultaneous_intervals_hold_the_truth(n, groups, name):
    for p in (0.72, 0.9):
        for shape in RATES_OF_GROUPS.values():
            coverage, _, _ = gap_coverage(name, shape(p, groups), [n] * groups, draws=4000, seed=1)
            # 4,000 draws have a standard error of .0037 at .94.
            assert coverage >= 0.94 - 0.007


def test_the_upper_bound_of_a_gap_is_that_of_one_pair():
    """Twelve groups of 40 that differ by nothing: bounds of all 66 pairs on both sides would end at half the scale."""
    rng, row, groups = np.random.default_rng(0), DISPARITIES["accuracy_difference"], 12
    above = rng.binomial(40, 0.8, (500, 1, groups))
    below, exists = np.full_like(above, 40), np.ones((500, groups), bool)
    low, high = simultaneous(above, below, exists, row)
    gap = disparity_of(above, below, exists, row)
    assert (low == 0).mean() >= 0.94
    assert (high - gap).mean() < 0.23
    one_pair, least = np.array([[[40, 10]]]), np.array([[[40, 40]]])
    alone = simultaneous(one_pair, least, np.ones((1, 2), bool), row)
    among = simultaneous(np.array([[[40, 10, 25]]]), np.array([[[40, 40, 40]]]), np.ones((1, 3), bool), row)
    assert among[1] == pytest.approx(alone[1])
    assert among[0] < alone[0]


@pytest.mark.parametrize("n", [9, 63])
@pytest.mark.parametrize(
    "name", ["worst_group_false_positive_rate", "false_positive_rate_above_overall", "accuracy_from_overall"]
)
def test_the_other_forms_hold_the_truth_too(n, name):
    for shape in RATES_OF_GROUPS.values():
        coverage, _, _ = gap_coverage(name, shape(0.8, 4), [n] * 4, draws=3000, seed=5)
        assert coverage >= 0.94 - 0.009


@pytest.mark.parametrize("n", [9, 63])
def test_the_variance_between_groups_is_unbiased_and_its_interval_holds(n):
    row, rng = DISPARITIES["accuracy_variance"], np.random.default_rng(6)
    for rates in ([0.8] * 4, [0.9, 0.8, 0.7, 0.6]):
        truth = np.var(rates, ddof=1)
        above = rng.binomial(n, rates, (20_000, 1, 4))
        below, exists = np.full_like(above, n), np.ones((20_000, 4), bool)
        values = disparity_of(above, below, exists, row)
        assert values.mean() == pytest.approx(truth, abs=4 * values.std() / np.sqrt(len(values)))
        low, high = simultaneous(above[:3000], below[:3000], exists[:3000], row)
        assert ((low <= truth + 1e-9) & (truth <= high)).mean() >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("groups", [2, 3, 5, 10])
@pytest.mark.parametrize("name", [*SIMULATED, "demographic_parity_ratio"])
def test_simultaneous_intervals_hold_the_truth_everywhere(n, groups, name):
    for p in (0.5, 0.72, 0.85, 0.9, 0.95, 0.99):
        for shape in RATES_OF_GROUPS.values():
            coverage, _, _ = gap_coverage(name, shape(p, groups), [n] * groups, draws=20_000, seed=2)
            # 20,000 draws have a standard error of .0017 at .94.
            assert coverage >= 0.94 - 0.0035, (p, shape)


def test_unequal_group_sizes_hold_the_truth():
    for rates in ([0.9, 0.9, 0.9], [0.9, 0.7, 0.8]):
        coverage, _, _ = gap_coverage("accuracy_difference", rates, [9, 63, 2000], draws=20_000, seed=3)
        assert coverage >= 0.94


def test_a_percentile_bootstrap_would_never_hold_a_gap_of_zero():
    """Why the gap has an interval of its own: five equal groups of 63 at 72%."""
    row = DISPARITIES["accuracy_difference"]
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(50):
        correct = rng.binomial(63, 0.72, 5)
        cells = np.zeros((5, 2, 2), np.int64)
        cells[:, 1, 1], cells[:, 1, 0] = correct, 63 - correct
        result = bootstrap_cells(
            cells,
            lambda c: disparity(c, row, None),
            strata="group",
            generator=np.random.default_rng(seed),
            draws=300,
        )
        held += result.low <= 0
    assert held == 0
    coverage, mean_gap, null = gap_coverage("accuracy_difference", [0.72] * 5, [63] * 5, draws=4000, seed=0)
    assert coverage >= 0.94
    assert mean_gap == pytest.approx(0.13, abs=0.005)
    np.testing.assert_allclose(null, mean_gap, atol=0.01)


# One of each form, and of each way to join two rates.
ONE_OF_EACH = [
    name
    for name, row in DISPARITIES.items()
    if row.rates[0] == "accuracy" or name.startswith("worst_group_false_pos") or "equalized_odds" in name
] + ["false_positive_rate_above_overall"]


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("sizes", [[9, 9], [63, 63, 63, 9], [2000, 40]])
def test_the_null_gap_is_the_mean_over_equal_groups(name, sizes):
    row = DISPARITIES[name]
    below = np.broadcast_to(np.array(sizes), (30_000, len(row.rates), len(sizes)))
    seen = np.round(0.8 * below[:1]).astype(np.int64)
    above = np.random.default_rng(4).binomial(below, seen.sum(-1, keepdims=True) / sum(sizes))
    exists = np.ones((30_000, len(sizes)), bool)
    expected = disparity_of(above, below, exists, row).mean()
    # A ratio, a distance and the larger of two gaps are simulated with 2,000 draws, the others exact.
    simulated = row.statistic in ("ratio", "from_overall") or row.combination == "largest"
    tolerance = 0.01 if simulated else 0.003
    assert null_disparity(seen, below[:1], exists[:1], row)[0] == pytest.approx(expected, abs=tolerance)


def test_the_null_gap_of_a_trial_does_not_depend_on_its_neighbours():
    row = DISPARITIES["equalized_odds_difference"]
    above = np.array([[[50, 40], [9, 12]], [[30, 20], [5, 50]]])
    below = np.full_like(above, 63)
    exists = np.ones((2, 2), bool)
    together = null_disparity(above, below, exists, row, draws=200)
    alone = [null_disparity(above[i : i + 1], below[i : i + 1], exists[i : i + 1], row, draws=200)[0] for i in (0, 1)]
    np.testing.assert_array_equal(together, alone)
    assert null_disparity(above[:0], below[:0], exists[:0], row).shape == (0,)


def test_undefined_disparities_have_no_interval_and_no_null():
    row = DISPARITIES["equal_opportunity_difference"]
    above, below = np.array([[[3, 0]], [[3, 1]]]), np.array([[[5, 0]], [[5, 2]]])
    exists = np.ones((2, 2), bool)
    low, high = simultaneous(above, below, exists, row)
    null = null_disparity(above, below, exists, row)
    for bound in (low, high, null):
        assert np.isnan(bound[0])
        assert np.isfinite(bound[1])


def test_groups_without_examples_take_no_part():
    row = DISPARITIES["accuracy_difference"]
    above, below = np.array([[[40, 50, 0]]]), np.array([[[63, 63, 0]]])
    low, high = simultaneous(above, below, np.array([[True, True, False]]), row)
    low2, high2 = simultaneous(above[..., :2], below[..., :2], np.array([[True, True]]), row)
    np.testing.assert_array_equal((low, high), (low2, high2))


def test_t_interval_equals_scipy_and_one_replicate_knows_nothing():
    values = np.random.default_rng(0).normal(size=(4, 5))
    result = replicate_mean(values)
    for row, mean, half in zip(values, result.mean, result.half_width, strict=True):
        low, high = stats.t.interval(0.95, 4, loc=row.mean(), scale=stats.sem(row))
        assert mean - half == pytest.approx(low)
        assert mean + half == pytest.approx(high)
    one = replicate_mean(np.array([0.7, np.nan]))
    assert one.mean == 0.7
    assert one.replicates == 1
    assert np.isnan(one.half_width)
    assert np.isnan(one.standard_deviation)
    assert np.isnan(replicate_mean(np.array([np.nan])).mean)


def test_t_intervals_hold_the_truth_for_few_replicates():
    for replicates in (2, 3, 5):
        values = np.random.default_rng(1).normal(0.3, 1, size=(20_000, replicates))
        result = replicate_mean(values)
        held = np.abs(result.mean - 0.3) <= result.half_width
        assert held.mean() == pytest.approx(0.95, abs=0.006)


def test_joined_intervals_hold_the_truth_when_both_sources_err():
    """A rate over 5 replicates on one test set: training moves the rate, the shared test set errs on top."""
    rng = np.random.default_rng(2)
    draws, n, truth = 20_000, 63, 0.8
    for spread in (0.0, 0.01, 0.05):
        shared = rng.binomial(n, truth, draws) / n
        rates = shared[:, None] + rng.normal(0, spread, (draws, 5))
        mean = replicate_mean(rates)
        low, high = wilson(mean.mean * n, n)
        low, high = widen(mean.mean, low, high, mean.half_width)
        held = (low <= truth) & (truth <= high)
        assert held.mean() >= 0.94


def test_bootstrap_standard_error_is_the_binomial_one():
    cells = np.array([[[40, 10], [15, 35]], [[20, 5], [3, 22]]], np.int64)
    result = bootstrap_cells(
        cells,
        lambda c: divide(*quotients(c.sum(-3), RATES["accuracy"], None)),
        strata="none",
        generator=np.random.default_rng(0),
        draws=20_000,
    )
    p = (40 + 35 + 20 + 22) / 150
    assert result.value == pytest.approx(p)
    assert result.standard_error == pytest.approx(np.sqrt(p * (1 - p) / 150), rel=0.03)
    strata = bootstrap_cells(
        cells,
        lambda c: divide(*quotients(c[:, 0], RATES["true_positive_rate"], 1)),
        strata="group and label",
        generator=np.random.default_rng(0),
        draws=20_000,
    )
    assert strata.standard_error == pytest.approx(np.sqrt(0.7 * 0.3 / 50), rel=0.03)


def test_bootstrap_keeps_the_strata_and_counts_undefined_draws():
    cells = np.array([[[2, 1], [0, 3]], [[1, 1], [0, 0]]], np.int64)
    seen = []

    def statistic(c):
        seen.append(c)
        return disparity(c, DISPARITIES["predictive_parity_difference"], 1)

    result = bootstrap_cells(cells, statistic, strata="group and label", generator=np.random.default_rng(0), draws=500)
    assert (seen[0].sum(-1) == cells.sum(-1)).all()
    assert 0 < result.undefined < 500
    assert result.low <= result.value <= result.high
    again = bootstrap_cells(cells, statistic, strata="group and label", generator=np.random.default_rng(0), draws=500)
    assert again == result
    whole = bootstrap_cells(cells, statistic, strata="none", generator=np.random.default_rng(0), draws=500)
    assert (seen[-2].sum((1, 2, 3)) == cells.sum()).all()
    assert whole != result


def test_bootstrap_of_the_undefined_is_undefined():
    cells = np.array([[[2, 1], [0, 0]], [[4, 4], [0, 3]]], np.int64)
    result = bootstrap_cells(
        cells,
        lambda c: disparity(c, DISPARITIES["equal_opportunity_difference"], 1),
        strata="group and label",
        generator=np.random.default_rng(0),
        draws=50,
    )
    assert np.isnan([result.value, result.low, result.high, result.standard_error]).all()
    assert result.undefined == 50


def test_cells_of_all_outcomes_agree_with_enumeration():
    """The exact expectation of the largest of three binomial rates, by summing over all outcomes."""
    sizes = np.array([4, 6, 3])
    outcomes = cartesian([np.arange(size + 1) for size in sizes])
    weight = np.prod([stats.binom.pmf(outcomes[:, i], size, 0.7) for i, size in enumerate(sizes)], axis=0)
    rates = outcomes / sizes
    expected = (weight * (rates.max(1) - rates.min(1))).sum()
    above = np.array([[[3, 4, 2]]])
    pooled = 9 / 13
    weight = np.prod([stats.binom.pmf(outcomes[:, i], size, round(pooled, 3)) for i, size in enumerate(sizes)], axis=0)
    expected = (weight * (rates.max(1) - rates.min(1))).sum()
    value = null_disparity(above, sizes[None, None], np.ones((1, 3), bool), DISPARITIES["accuracy_difference"])
    assert value[0] == pytest.approx(expected, abs=0.002)
