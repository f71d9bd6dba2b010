"""Effects with two sources of error: t intervals over seeds, images shared by all of them, and both."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from fairsweep.analysis.statistics.effects import effect_of_contributions, effect_of_values
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds


def tied(count):
    return ReplicateSeeds.of(np.arange(count), np.arange(count))


def runs(rng, sweeps, seeds, images, difference, spread, shared):
    """Contributions of images to the difference of two learners of 90% accuracy, one lower by ``difference``."""
    luck = rng.random((sweeps, 1, images))

    def correct(accuracy):
        own = rng.random((sweeps, seeds, images))
        mine = np.where(rng.random((sweeps, seeds, images)) < shared, luck, own)
        return mine < np.clip(accuracy + rng.normal(0, spread, (sweeps, seeds, 1)), 0, 1)

    return (correct(0.9).astype(float) - correct(0.9 - difference)) / images


@pytest.mark.parametrize("count", [3, 5, 10])
def test_where_only_seeds_vary_tests_and_intervals_are_those_of_statsmodels(count):
    rng = np.random.default_rng(count)
    first, second = rng.normal(0.8, 0.02, count), rng.normal(0.79, 0.02, count)
    effect = effect_of_values(first - second, tied(count))
    for margin in (0.005, 0.02, 0.05):
        theirs = ttost_paired(first, second, -margin, margin)[0]
        assert float(effect.equivalence_p(margin)) == pytest.approx(theirs, rel=1e-9)
    assert float(effect.p_value()) == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-9)
    theirs = DescrStatsW(first - second).tconfint_mean(0.1)
    np.testing.assert_allclose(effect.interval(0.9), theirs, rtol=1e-9)


def test_interval_and_tests_never_contradict_each_other():
    rng = np.random.default_rng(0)
    effect = effect_of_contributions(
        runs(rng, 300, 4, 60, 0.05, 0.02, 0.8), np.zeros(60, int), tied(4), weight=1 / 60, images=60
    )
    low, high = effect.interval(0.95)
    np.testing.assert_array_equal((low > 0) | (high < 0), effect.p_value() < 0.05)
    low, high = effect.interval(0.90)
    np.testing.assert_array_equal((low > -0.15) & (high < 0.15), effect.equivalence_p(0.15) < 0.05)


@pytest.mark.parametrize(("seeds", "images", "margin"), [(3, 20, 0.2), (5, 200, 0.06), (10, 200, 0.06)])
@pytest.mark.parametrize("shared", [0.5, 1.0])
def test_false_verdicts_are_rare(seeds, images, margin, shared):
    rng = np.random.default_rng(seeds)

    def simulated(difference):
        values = runs(rng, 300, seeds, images, difference, 0.01, shared)
        return effect_of_contributions(values, np.zeros(images, int), tied(seeds), weight=1 / images, images=images)

    bound = stats.binom.ppf(0.999, 300, 0.05) / 300
    assert (simulated(0).p_value() < 0.05).mean() <= bound
    assert (simulated(margin).equivalence_p(margin) < 0.05).mean() <= bound


def test_images_of_one_user_are_not_independent():
    rng = np.random.default_rng(1)
    alike = np.repeat(runs(rng, 200, 3, 20, 0, 0, 1.0) + rng.choice([-0.1, 0, 0.1], (200, 1, 20)), 10, axis=-1) / 10
    users = np.repeat(np.arange(20), 10)
    effect = {
        name: effect_of_contributions(alike, np.zeros(200, int), tied(3), clusters=clusters, weight=1 / 200)
        for name, clusters in (("known", users), ("unknown", None))
    }
    truth = alike.mean(1).sum(-1).var()
    assert effect["known"].between_images.mean() == pytest.approx(truth, rel=0.3)
    assert effect["unknown"].between_images.mean() < truth / 5


def test_one_seed_has_an_interval_of_its_images_and_no_test():
    rng = np.random.default_rng(2)
    effect = effect_of_contributions(runs(rng, 1, 1, 500, 0.1, 0, 0.5)[0], np.zeros(500, int), tied(1), weight=1 / 500)
    assert np.isfinite(effect.interval()).all()
    assert np.isnan(effect.p_value())
    assert np.isnan(effect.equivalence_p(0.02))
    assert np.isnan(effect.seeds_needed(0.1))


def test_runs_that_all_agree_do_not_show_how_much_runs_vary():
    effect = effect_of_values(np.full(4, 0.1), tied(4))
    assert np.isnan(effect.p_value())
    assert np.isnan(effect.interval()).all()


def test_what_is_needed_is_enough():
    """With the number of seeds said to be needed the target is detectable, and with one fewer it is not."""
    rng = np.random.default_rng(3)
    values = rng.normal(0.01, 0.02, 5)
    effect = effect_of_values(values, tied(5))
    needed = effect.seeds_needed(0.01)
    power = stats.nct.sf(stats.t.ppf(0.975, needed - 1), needed - 1, 0.01 / values.std(ddof=1) * np.sqrt(needed))
    assert power == pytest.approx(0.8, abs=0.03)
    assert effect.seeds_needed(effect.detectable()) == 5


def test_no_number_of_seeds_replaces_test_images():
    rng = np.random.default_rng(4)
    luck = rng.choice([-1, 0, 1], (1, 100)) / 100 + rng.normal(0, 1e-5, (5, 100))
    effect = effect_of_contributions(luck, np.zeros(100, int), tied(5), weight=1 / 100, images=100)
    assert effect.seeds_needed(0.05) == np.inf
    assert 100 < effect.images_needed(0.05) < 10_000
