"""Differences between paired trials, means over replicates, and the excess loss of one group."""

import doctest

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fairsweep.analysis as analysis
from fairsweep.analysis.inference.difference_in_differences import excess_between_levels
from fairsweep.analysis.metrics.rates import divide
from fairsweep.analysis.records.file_names import PREDICTIONS
from fairsweep.analysis.results.differences import phi
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.statistics.intervals import subtract, wilson


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


def test_twins_are_paired_by_imbalance_and_seeds(results):
    pairing = results.pairs("twin")
    assert len(pairing.pairs) == 6
    assert pairing.unmatched.empty
    trials = results.trials.set_index("trial")
    for row in pairing.pairs.itertuples():
        one, two = trials.loc[row.trial], trials.loc[row.baseline_trial]
        assert (one["learner"], two["learner"]) == ("private", "matched")
        assert (one["share"], one["data_seed"], one["train_seed"]) == (
            two["share"],
            two["data_seed"],
            two["train_seed"],
        )


def test_any_learner_can_be_the_baseline(results):
    pairing = results.pairs("tuned")
    assert len(pairing.pairs) == 12
    assert set(pairing.pairs["baseline"]) == {"tuned"}
    with pytest.raises(ValueError, match="'twin' or one of"):
        results.pairs("best")


def test_trials_without_a_baseline_are_listed(unfinished, simulate):
    simulate["face_trial"](unfinished, {"name": "private", "kind": "dpsgd", "epochs": 9, "twin_of": None}, 0.5, 0)
    pairing = analysis.load(unfinished.folder).pairs("twin")
    reasons = pairing.unmatched.set_index("trial")["reason"]
    assert len(pairing.pairs) == 2
    assert len(reasons) == 2
    assert reasons.str.contains("no trial of the same imbalance").all()


def test_twins_of_swept_fields_go_with_their_own(tmp_path, simulate):
    """A grid over lr: the twin has the same lr; a grid over epsilon: one twin for both."""
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    twin = {"name": "matched", "kind": "dpsgd", "twin_of": "private", "noise_multiplier": 0.0, "epsilon": None}
    for lr in (0.1, 0.5):
        simulate["face_trial"](simulation, twin | {"optimizer": {"lr": lr}}, 0.5, 0)
        for epsilon in (1.0, 8.0):
            learner = {"name": "private", "kind": "dpsgd", "epsilon": epsilon, "optimizer": {"lr": lr}}
            simulate["face_trial"](simulation, learner, 0.5, 0)
    results = analysis.load(simulation.folder)
    pairs = results.pairs("twin").pairs
    assert len(pairs) == 4
    configs = {folder.name: folder.config for folder in results.folders}
    for row in pairs.itertuples():
        assert configs[row.trial]["learner"]["optimizer"] == configs[row.baseline_trial]["learner"]["optimizer"]
    ambiguous = results.pairs("private")
    assert ambiguous.pairs.empty
    assert set(ambiguous.unmatched["reason"]) == {"2 trials fit"}


def test_a_difference_is_trial_minus_baseline(results):
    plain = results.rates(["accuracy", "selection_rate"]).set_index(["trial", "attribute", "group", "metric"])["value"]
    pairs = results.pairs("twin").pairs.set_index("trial")["baseline_trial"]
    found = results.frame(["accuracy", "selection_rate"], baseline="twin")
    for row in found.itertuples():
        key = (row.attribute, row.group, row.metric)
        expected = plain[(row.trial, *key)] - plain[(pairs[row.trial], *key)]
        assert row.value == pytest.approx(expected)
        assert row.low <= row.value <= row.high
    assert (found["baseline"] == "matched").all()
    assert (found["interval"] == "paired").all()


def test_disparities_differ_too_as_if_independent(results):
    found = results.frame(["accuracy_difference"], by="tone", baseline="twin")
    plain = results.disparities(["accuracy_difference"], by="tone").set_index("trial")["value"]
    pairs = results.pairs("twin").pairs.set_index("trial")["baseline_trial"]
    for row in found.itertuples():
        assert row.value == pytest.approx(plain[row.trial] - plain[pairs[row.trial]])
    assert (found["interval"] == "as if independent").all()


def test_pairing_by_image_narrows_the_interval(results, faces, tmp_path, simulate):
    paired = results.frame(["accuracy"], by="tone", baseline="twin")
    simulation = simulate["faces"](tmp_path / "s")
    for folder in (simulation.folder / "trials").iterdir():
        (folder / PREDICTIONS).unlink()
    without = analysis.load(simulation.folder)
    independent = without.frame(["accuracy"], by="tone", baseline="twin")
    assert (independent["interval"] == "as if independent").all()
    np.testing.assert_allclose(paired["value"], independent["value"])
    assert ((paired["high"] - paired["low"]) < (independent["high"] - independent["low"])).all()
    # Only the twelve trials that make a pair were read, and all of them lack the file.
    assert len(without.problems) == 12


def test_phi_is_the_correlation_and_zero_where_one_never_varies():
    rng = np.random.default_rng(0)
    one = rng.random(4000) < 0.7
    two = np.where(rng.random(4000) < 0.5, one, rng.random(4000) < 0.6)
    counts = [np.float64(v.sum()) for v in (one & two, one & ~two, ~one & two, ~one & ~two)]
    assert phi(*counts) == pytest.approx(np.corrcoef(one, two)[0, 1], abs=0.002)
    assert phi(np.float64(5), np.float64(3), np.float64(0), np.float64(0)) == 0


@pytest.mark.parametrize("n", [9, 63, 2000])
def test_paired_intervals_hold_the_truth(n):
    """Correlated pairs: the interval with the correlation covers, and without it is wider."""
    rng = np.random.default_rng(1)
    draws = 20_000
    for p, q in ((0.9, 0.9), (0.9, 0.8), (0.72, 0.6)):
        # Both succeed with q * agreement; the remaining mass keeps the two rates.
        both = q * 0.97
        cells = np.array([both, p - both, q - both, 1 - p - q + both])
        a, b, c, d = rng.multinomial(n, cells, size=draws).astype(np.float64).T
        first, second = a + b, a + c
        one = (divide(first, n), *wilson(first, n))
        two = (divide(second, n), *wilson(second, n))
        low, high = subtract(one, two, phi(a, b, c, d))
        covered = (low <= p - q + 1e-12) & (p - q - 1e-12 <= high)
        assert covered.mean() >= 0.94
        wide_low, wide_high = subtract(one, two)
        assert (wide_high - wide_low).mean() > (high - low).mean()


def test_average_is_the_mean_with_scipys_t_interval(results):
    frame = results.rates(["accuracy"], by="tone")
    means = analysis.average(frame)
    assert len(means) == 18
    for row in means.itertuples():
        values = frame[(frame["setting"] == row.setting) & (frame["group"] == row.group)]["value"].to_numpy()
        assert row.value == pytest.approx(values.mean())
        low, high = stats.t.interval(0.95, 1, loc=values.mean(), scale=stats.sem(values))
        assert row.training_low == pytest.approx(max(low, 0), nan_ok=True)
        assert row.training_high == pytest.approx(min(high, 1), nan_ok=True)
        assert row.std == pytest.approx(values.std(ddof=1))
        assert row.low <= row.training_low + 1e-12
        assert row.high >= row.training_high - 1e-12
        assert row.low <= row.images_low
        assert row.high >= row.images_high
        assert 0 <= row.low <= row.high <= 1
        assert row.n == 300


def test_one_replicate_knows_nothing_of_training(unfinished):
    results = analysis.load(unfinished.folder)
    frame = results.rates(["accuracy"], by="tone")
    means = analysis.average(frame)
    assert (means["replicates"] == 1).all()
    for column in ("std", "training_low", "training_high"):
        assert means[column].isna().all()
    np.testing.assert_allclose(means["low"], means["images_low"])
    assert set(means["interval"]) == {"test images only"}


def test_undefined_replicates_are_left_out_and_counted(results):
    frame = results.rates(["accuracy"], by="tone")
    broken = frame.copy()
    first = broken["trial"].iloc[0]
    broken.loc[broken["trial"] == first, ["value", "low", "high"]] = np.nan
    means = analysis.average(broken)
    hit = means[means["setting"] == frame["setting"].iloc[0]]
    assert (hit["replicates"] == 1).all()
    assert (hit["undefined"] == 1).all()
    assert np.isfinite(hit["value"]).all()
    broken.loc[broken["setting"] == frame["setting"].iloc[0], ["value", "low", "high"]] = np.nan
    lost = analysis.average(broken)
    lost = lost[lost["setting"] == frame["setting"].iloc[0]]
    assert lost["value"].isna().all()
    assert (lost["undefined"] == 2).all()


def test_iterations_are_averaged_one_by_one(results):
    frame = results.rates(["accuracy"], by=(), at="all")
    means = analysis.average(frame)
    assert len(means) == 27
    last = means[means["iteration"] == 3].set_index("setting")["value"].sort_index()
    expected = analysis.average(results.rates(["accuracy"], by=())).set_index("setting")["value"].sort_index()
    np.testing.assert_allclose(last, expected)
    twins = analysis.average(results.frame(["accuracy"], by=(), at="all", baseline="twin"))
    assert len(twins) == 9


def test_differences_of_simulated_trials_hold_the_truth(tmp_path, simulate):
    """Eight sweeps with known truths: intervals of the twin's difference miss about one in twenty."""
    held = []
    for seed in range(8):
        simulation = simulate["faces"](
            tmp_path / str(seed), replicates=3, per_cell=40, shares=(0.5, 0.99), seed=seed, training_spread=0.02
        )
        means = analysis.mean_differences(analysis.load(simulation.folder), ["accuracy"], by="tone", baseline="twin")
        for row in means.itertuples():
            truth = simulate["truth"]
            place = 0 if row.group == "light" else 1
            expected = truth["private"][row.share][place] - truth["matched"][row.share][place]
            held.append(row.low <= expected <= row.high)
    assert len(held) == 32
    assert np.mean(held) >= 0.9


def test_excess_loss_is_the_loss_of_one_minus_the_mean_of_the_rest(digits):
    results = analysis.load(digits.folder)
    table = results.rates(["accuracy"], by="digit").merge(results.trials[["trial", "data_seed"]], on="trial")
    wide = table.pivot(index=["data_seed", "group"], columns="learner", values="value")
    loss = (wide["sgd"] - wide["dpsgd"]).unstack("group")
    expected = loss["8"] - loss.drop(columns="8").mean(axis=1)
    by_trial = analysis.excess_loss_by_trial(results, "digit", "8", learner="dpsgd", baseline="sgd")
    assert len(by_trial) == 5
    np.testing.assert_allclose(np.sort(by_trial["value"]), np.sort(expected))
    row = analysis.excess_loss(results, "digit", "8", learner="dpsgd", baseline="sgd").iloc[0]
    assert row["value"] == pytest.approx(expected.mean())
    low, high = stats.t.interval(0.95, 4, loc=expected.mean(), scale=stats.sem(expected))
    # Five seeds may differ by less than their images alone must make them: the part of the seeds is at least that.
    assert row["low"] < row["training_low"] <= low
    assert high <= row["training_high"] < row["high"]
    assert row["low"] <= 0.27 <= row["high"]
    assert row["low"] > 0
    assert row["replicates"] == 5
    assert row["metric"] == "excess_loss(accuracy)"
    assert row["n_min"] == 100


def test_an_average_of_differences_has_one_interval_and_its_parts(results):
    """Beside the paired interval stood the parts of another one, and `average` gave that one itself."""
    frame = results.frame(["accuracy", "balanced_accuracy", "accuracy_difference"], by="tone", baseline="twin")
    means = analysis.average(frame, results=results)
    known = analysis.mean_differences(
        results, ["accuracy", "balanced_accuracy", "accuracy_difference"], by="tone", baseline="twin"
    )
    pd.testing.assert_frame_equal(means, known)
    halves = [(means[f"{part}high"] - means[f"{part}low"]) / 2 for part in ("training_", "images_", "")]
    inside = (means[["low", "training_low"]].abs() < 1).all(axis=1) & (means[["high", "training_high"]] < 1).all(axis=1)
    assert inside.sum() > 5
    # The farther bound of an effect is that of a score test: a little wider.
    ratio = halves[2][inside] / np.hypot(*(half[inside] for half in halves[:2]))
    assert ratio.between(0.9, 1.15).all()
    with pytest.raises(ValueError, match="needs the pairs of trials: give results="):
        analysis.average(frame)
    excess = analysis.excess_loss_by_trial(results, "tone", "dark")
    with pytest.raises(ValueError, match="take excess_loss"):
        analysis.average(excess, results=results)


def test_excess_loss_of_equal_groups_cannot_be_told_from_noise(results):
    row = analysis.excess_loss(results, "shape", "long").set_index("share")
    assert ((row["low"] <= 0) & (row["high"] >= 0)).all()


def test_excess_loss_refuses_unknown_groups(results):
    with pytest.raises(ValueError, match=r"\['light', 'dark'\]"):
        analysis.excess_loss(results, "tone", "medium")


def test_excess_between_levels_is_paired_by_seed(results):
    frame = excess_between_levels(results, design_of(results), "dark")
    assert len(frame) == 6
    assert set(frame["baseline"]) == {"share 0.5"}
    rates = results.rates(["accuracy"], by="tone")
    wide = rates.pivot(index=["series", "replicate", "share"], columns="group", values="value")
    gap = (wide["light"] - wide["dark"]).unstack("share")
    for row in frame.itertuples():
        expected = gap.loc[(row.series, row.replicate), 0.99] - gap.loc[(row.series, row.replicate), 0.5]
        assert row.value == pytest.approx(expected)


def test_doctests():
    import fairsweep.analysis.drawing.palette as palette
    import fairsweep.analysis.report.statements as statements

    assert doctest.testmod(statements).failed == 0
    assert doctest.testmod(palette).failed == 0
