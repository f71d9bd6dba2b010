"""Variance components of simulated sweeps with known parts, and the first predecessor's own design."""

import doctest
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
import fairsweep.analysis.inference.fluctuation_text as words
from fairsweep.analysis.inference.fluctuations import explain_fluctuations, explain_table
from fairsweep.analysis.inference.level_tables import LevelTable
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds, mean_over_seeds, mean_squares

SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def simulated(rng, *, data, training, rest, drop=0.0, n=2000, levels=6, sizes=(5, 1), nested=0.0, rate=0.8, tied=False):
    """A tidy table: seeds' effects, of which a part `nested` is common to all levels, and own test images."""
    a, b = sizes
    effects = {}
    for name, count, spread in (("data", a, data), ("training", b, training)):
        common, own = rng.normal(0, spread, (count, 1)), rng.normal(0, spread, (count, levels))
        effects[name] = np.sqrt(nested) * common + np.sqrt(1 - nested) * own
    truth = rate - drop * np.arange(levels) + effects["data"][:, None] + effects["training"][None]
    truth = truth + rng.normal(0, rest, truth.shape)
    value = rng.binomial(n, np.clip(truth, 0, 1)) / n
    d, t, i = (code.ravel() for code in np.indices(value.shape))
    columns = {"data_seed": d, "train_seed": d if tied else t, "share": np.array(SHARES)[i], "value": value.ravel()}
    return pd.DataFrame({**columns, "n": n, "metric": "accuracy", "group": "dark"})


def part(found, name):
    return found.parts.set_index("component").loc[name]


def test_doctest():
    assert doctest.testmod(words).failed == 0


@pytest.mark.parametrize(
    ("nested", "count"),
    [(0.0, 25), pytest.param(0.0, 200, marks=pytest.mark.slow), pytest.param(0.8, 200, marks=pytest.mark.slow)],
)
def test_known_parts_of_crossed_sweeps_are_recovered(nested, count):
    """Data 1.5, training 1.0, rest 0.5 points; levels one point apart; 2,000 own test images."""
    rng = np.random.default_rng(0)
    truth = {"data seed": 0.015, "training seed": 0.01, "interaction": 0.005}
    found = [
        explain_fluctuations(
            simulated(rng, data=0.015, training=0.01, rest=0.005, drop=0.01, sizes=(5, 4), nested=nested), draws=50
        )
        for _ in range(count)
    ]
    for name, deviation in truth.items():
        variance = np.array([part(f, name)["variance"] for f in found])
        assert variance.mean() == pytest.approx(deviation**2, abs=4 * variance.std() / np.sqrt(count)), name
        held = [part(f, name)["low"] <= deviation**2 <= part(f, name)["high"] for f in found]
        assert np.mean(held) >= (0.93 if count > 100 else 0.8), name
    setting = np.array([part(f, "setting")["variance"] for f in found])
    expected = np.var(0.01 * np.arange(6), ddof=1)
    # Seeds that differ from level to level move the levels' means too, by what common draws would not.
    assert setting.mean() == pytest.approx(expected, rel=0.35)
    assert np.mean([f.test_p_value < 0.05 for f in found]) > 0.99
    test = np.mean([part(f, "test sampling")["variance"] for f in found])
    assert test == pytest.approx(0.775 * 0.225 / 2000, rel=0.05)


def test_five_seeds_know_a_deviation_within_a_factor_of_three():
    found = explain_fluctuations(
        simulated(np.random.default_rng(1), data=0.02, training=0, rest=0, nested=1.0, n=10**6)
    )
    row = part(found, "data seed")
    assert row["reason"].startswith("5 data seeds")
    assert np.sqrt(row["high"] / row["variance"]) <= 2.9
    assert np.sqrt(row["low"] / row["variance"]) >= 0.59
    assert np.isnan(part(found, "training seed")["variance"])
    assert "one training seed only" in part(found, "training seed")["reason"]
    assert not part(found, "setting")["variance"] > 1e-4


def test_tied_seeds_are_one_component():
    found = explain_fluctuations(simulated(np.random.default_rng(2), data=0.01, training=0.0, rest=0.0, tied=True))
    assert part(found, "data seed")["reason"] == part(found, "training seed")["reason"]
    assert "changed together" in part(found, "data seed")["reason"]
    assert part(found, "replicate")["variance"] > 0
    assert "Not identified: data seed and training seed" in found.text


def predecessor(
    rng, accuracy=0.84, total=6000, shares=(0.5, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.98, 0.99, 0.999)
):
    """One run a level; the test set is a fifth of an imbalanced set, so the minority's part shrinks with the share."""
    n = np.round(total * (1 - np.array(shares))).astype(int)
    value = rng.binomial(n, accuracy) / n
    columns = {"share": shares, "value": value, "n": n, "metric": "accuracy", "group": "male", "replicate": 0}
    return pd.DataFrame(columns)


def test_of_the_predecessors_design_test_sampling_alone_suffices():
    """Its minority test set goes from 3,000 images down to 6: nothing real, and yet jumps of many points."""
    verdicts, jumps = [], []
    for seed in range(40):
        frame = predecessor(np.random.default_rng(seed))
        found = explain_fluctuations(frame, draws=20)
        verdicts.append(found.test_p_value >= 0.05)
        jumps.append(found.neighbours["difference"].abs().max())
    assert np.mean(verdicts) == pytest.approx(0.95, abs=0.1)
    assert np.median(jumps) > 0.08
    found = explain_fluctuations(predecessor(np.random.default_rng(0)))
    assert "Test sampling alone suffices to explain these differences" in found.text
    assert np.isnan(part(found, "setting")["variance"])
    assert "one seed at each level" in found.text
    assert "several seeds are needed first" in found.text
    assert not found.neighbours["differ"].any()


PUBLISHED = {
    1.15: (63.7, 66.0, 63.9, 67.3),
    4.98: (78.6, 77.5, 78.6, 70.9),
    16.2: (80.5, 80.2, 81.5, 72.7),
    np.inf: (87.7, 89.8, 86.1, 83.6),
}


@pytest.mark.parametrize("epsilon", list(PUBLISHED))
def test_so_it_does_for_the_numbers_that_were_published(epsilon):
    """Farrand et al. 2020, males at 70, 80, 90 and 99% females: 1,800, 1,200, 600 and 60 of 6,000 test images."""
    shares, n = (0.7, 0.8, 0.9, 0.99), (1800, 1200, 600, 60)
    columns = {"share": shares, "value": np.array(PUBLISHED[epsilon]) / 100, "n": n}
    frame = pd.DataFrame({**columns, "metric": "accuracy", "group": "male", "replicate": 0})
    assert "Test sampling alone suffices" in explain_fluctuations(frame).text


def test_a_real_step_is_found_and_a_drop_within_noise_is_not():
    rng = np.random.default_rng(3)
    frame = simulated(rng, data=0.005, training=0.0, rest=0.0, n=5000, tied=True)
    real = frame.assign(value=frame["value"] - 0.1 * (frame["share"] == 0.99))
    found = explain_fluctuations(real)
    assert found.neighbours["differ"].tolist() == [False] * 4 + [True]
    assert "0.95 and 0.99 (-1" in found.text
    assert found.detectable < 0.1
    few = real[real["data_seed"].isin(real["data_seed"].unique()[:2])]
    two = explain_fluctuations(few.assign(value=rng.random(len(few))))
    assert np.isinf(two.detectable)
    assert "No change between neighbouring levels, however large, is detectable" in two.text
    assert not explain_fluctuations(frame).neighbours["differ"].any()


@pytest.mark.slow
def test_neighbours_that_are_equal_are_rarely_told_apart_and_the_detectable_change_is_detected():
    rng = np.random.default_rng(4)
    false, found, detectable = [], [], []
    for _ in range(250):
        frame = simulated(rng, data=0.012, training=0.0, rest=0.0, levels=2, n=1000, tied=True)
        result = explain_fluctuations(frame, draws=20)
        false.append(result.neighbours["p_value"].iloc[0] < 0.05)
        detectable.append(result.detectable)
    step = float(np.sqrt(np.mean(np.square(detectable))))
    for _ in range(250):
        frame = simulated(rng, data=0.012, training=0.0, rest=0.0, levels=2, n=1000, tied=True)
        moved = frame.assign(value=frame["value"] - step * (frame["share"] == SHARES[1]))
        found.append(explain_fluctuations(moved, draws=20).neighbours["p_value"].iloc[0] < 0.05)
    assert 0.0 <= np.mean(false) <= 0.085
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)


def test_one_seed_gives_no_verdict_whatever_the_images_say():
    """A million images tell 2 points between two runs for certain, and not whether two more runs would differ too."""
    frame = simulated(np.random.default_rng(7), data=0.02, training=0.0, rest=0.0, n=10**6, sizes=(1, 1), tied=True)
    found = explain_fluctuations(frame, draws=50)
    assert not found.neighbours["differ"].any()
    assert found.neighbours["p_value"].isna().all()
    assert found.trend.word == "undecided"
    assert "one seed does not show how much training runs vary" in found.verdicts


def test_two_seeds_that_agree_by_luck_show_little():
    """Their variance of nearly 0 must not leave a test with the images' error and its many degrees of freedom."""
    noise = np.zeros((200, 2, 2))
    noise[..., 0] = np.random.default_rng(0).normal(0, 0.01, (200, 1))
    values = np.array([[0.80, 0.76], [0.80, 0.764]])
    counts, seeds = np.full((2, 2), 1000), ReplicateSeeds.of([0, 1], [0, 1])
    table = LevelTable(
        "accuracy", "all", "share", (0.5, 0.9), np.full(2, np.nan), values, counts, seeds, noise - noise.mean(0), True
    )
    found = explain_table(table)
    assert found.neighbours["p_value"].iloc[0] > 0.02


def test_a_steady_loss_is_a_trend_though_no_step_is_significant():
    rng = np.random.default_rng(11)
    shares = np.linspace(0.5, 0.98, 13)
    values = 0.85 - 0.005 * np.arange(13) + rng.normal(0, 0.006, (5, 13))
    seed, place = (code.ravel() for code in np.indices(values.shape))
    columns = {"replicate": seed, "share": shares[place], "value": values.ravel(), "n": 2000}
    found = explain_fluctuations(pd.DataFrame({**columns, "metric": "accuracy", "group": "all"}), draws=50)
    assert not found.neighbours["differ"].any()
    assert found.trend.word == "different"
    assert found.trend.estimate == pytest.approx(-0.06, abs=0.01)
    assert re.search("Along a line, the estimated change from .* is \N{MINUS SIGN}", found.text)
    assert re.search(r"from 0.5 to 0.98 is .* The difference is statistically significant", found.text)
    assert found.trend.family == 13
    assert found.neighbours["p_holm"].min() >= found.neighbours["p_value"].min()


def test_more_seeds_or_images_are_told_where_they_would_do():
    few = simulated(np.random.default_rng(5), data=0.02, training=0.0, rest=0.0, n=10**5, sizes=(3, 1), tied=True)
    found = explain_fluctuations(few, change=0.02)
    assert found.seeds_needed > 3
    assert np.isnan(found.images_needed)
    assert "with the same number of test images each" in found.text
    assert np.isnan(found.seeds_needed) or f"{found.seeds_needed:.0f} replicates" in found.text


def test_a_sweep_with_predictions_tells_the_common_images_from_the_trials_own(faces):
    results = analysis.load(faces.folder)
    found = explain_fluctuations(results, by="tone", group="dark", learner="private", draws=400)
    total, seen = part(found, "test sampling"), part(found, "test sampling, observed")
    # Four fifths of the simulated images' luck are the same for all trials.
    assert 0.15 < seen["variance"] / total["variance"] < 0.75
    assert found.neighbours["difference"].iloc[-1] < 0
    assert found.test_p_value < 0.01
    assert found.table.same_images
    assert str(found) == found.text
    gap = explain_fluctuations(results, "accuracy_difference", by="tone", learner="private", draws=200)
    assert np.isfinite(part(gap, "test sampling")["variance"])
    with pytest.raises(ValueError, match="learner must name one"):
        explain_fluctuations(results, by="tone", group="dark")
    with pytest.raises(ValueError, match="group must be one of"):
        explain_fluctuations(results, by="tone", learner="private")
    with pytest.raises(ValueError, match="over must be a column"):
        explain_fluctuations(results, over="colour", learner="private")


def test_mean_squares_are_unbiased_and_crossed_means_do_not_err_too_little():
    rng = np.random.default_rng(6)
    seeds = ReplicateSeeds.of(np.repeat(range(4), 3), np.tile(range(3), 4))
    assert seeds.design == "crossed"
    squares, held, plain = [], [], []
    for _ in range(1500):
        values = (rng.normal(0, 2, 4)[:, None] + rng.normal(0, 1, 3)[None] + rng.normal(0, 0.5, (4, 3))).ravel()
        found = mean_squares(values[:, None], seeds)
        squares.append((found.data, found.training, found.rest))
        low, high = mean_over_seeds(values, seeds).interval()
        held.append(low <= 0 <= high)
        half = 2.201 * values.std(ddof=1) / np.sqrt(12)
        plain.append(abs(values.mean()) <= half)
    np.testing.assert_allclose(np.mean(squares, axis=0), (3 * 4 + 0.25, 4 * 1 + 0.25, 0.25), rtol=0.1)
    assert np.mean(held) >= 0.93
    assert np.mean(plain) < 0.8


def test_designs_are_recognised():
    assert ReplicateSeeds.of([1, 2, 3], [1, 2, 3]).design == "tied"
    assert ReplicateSeeds.of([1, 2, 3], [5, 5, 5]).design == "data"
    assert ReplicateSeeds.of([1, 1], [5, 6]).design == "training"
    assert ReplicateSeeds.of([1], [5]).design == "one"
    assert ReplicateSeeds.of([1, 1, 2], [5, 6, 5]).design == "tied"
    assert ReplicateSeeds.of([np.nan, np.nan], [np.nan, np.nan]).design == "tied"


def test_unknown_noise_is_said():
    table = LevelTable(
        "worst_group_accuracy",
        "",
        "share",
        (0.5, 0.9),
        np.full(2, np.nan),
        np.array([[0.7, 0.6], [0.72, 0.63]]),
        np.full((2, 2), 100),
        ReplicateSeeds.of([0, 1], [0, 1]),
        np.full((1, 2, 2), np.nan),
        False,
    )
    found = explain_table(table)
    assert np.isnan(found.test_p_value)
    assert "The contribution of test sampling is unknown" in found.text


@pytest.mark.parametrize(
    ("seeds", "images", "said"),
    [
        (9, 800, "9 replicates would be enough with these images or 800 test images behind a value would be enough"),
        (np.inf, 800, "800 test images behind a value would be enough with these replicates, but no number of replic"),
        (9, np.inf, "9 replicates would be enough with these images, but no number of images with these replicates"),
        (np.inf, np.inf, "no number of replicates with these images and no number of images with these replicates"),
    ],
)
def test_what_would_be_enough_is_said_of_what_would(seeds, images, said):
    table = explain_fluctuations(simulated(np.random.default_rng(1), data=0.01, training=0, rest=0, tied=True)).table
    shared = replace(table, same_images=True)
    assert said in words.describe_verdicts(shared, pd.DataFrame(), None, (np.nan, seeds, images), change=0.02)


def test_one_level_or_two_seeds_are_told_without_numbers_that_are_none():
    """They read "over 1 levels … is unknown … test sampling 1.2", and "setting 0.0 [nan, nan]"."""
    frame = simulated(np.random.default_rng(3), data=0.01, training=0.0, rest=0.0, sizes=(2, 1), tied=True)
    one = explain_fluctuations(frame[frame["share"] == frame["share"].min()])
    assert "over 1 level of share" in one.text
    assert "unknown" not in one.text
    for found in (one, explain_fluctuations(frame.assign(value=0.5))):
        assert not re.search(r"\bnan\b|\binf\b", found.text)


def test_rounding_errors_fluctuate_no_more_than_one_value():
    """A collapsed learner has .5 at every level and seed, up to the last bit."""
    rng = np.random.default_rng(0)
    frame = simulated(rng, data=0.01, training=0.01, rest=0.0, tied=True)
    found = explain_fluctuations(frame.assign(value=0.5 + rng.normal(0, 1e-16, len(frame))), draws=50)
    assert not found.neighbours["differ"].any()
    assert (found.neighbours["difference"] == 0).all()
    assert np.isnan(part(found, "setting")[["low", "high"]].astype(float)).all()
    assert part(found, "setting")["variance"] == 0
