"""Scores and disparities in tidy tables: from cells, from predictions, over strata, against twins; thresholds."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from sklearn.calibration import calibration_curve

import fairsweep.analysis as analysis
from fairsweep.analysis.inference.calibration import reliability, reliability_frame
from fairsweep.analysis.inference.permutation_frames import permutation_frame
from fairsweep.analysis.inference.thresholds import choose_thresholds, thresholded_counts
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.results.frames import disparity_rows, rate_rows
from fairsweep.analysis.statistics.intervals import stratified_wilson
from fairsweep.analysis.statistics.permutation import permuted_cells


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


@pytest.fixture(scope="module")
def predictions(results):
    trial = results.trials["trial"].iloc[0]
    table = results.predictions([trial]).to_pandas()
    table = table[table["split"] == "test"]
    examples = results.examples.to_pandas()[["id", "tone"]]
    return trial, table.merge(examples, on="id")


def test_scores_of_cells_and_of_predictions_stand_in_one_table(results, predictions):
    trial, table = predictions
    names = ["accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "top_2_accuracy"]
    frame = results.rates(names, by="tone")
    mine = frame[frame["trial"] == trial].set_index(["metric", "group"])["value"]
    p = np.exp(np.stack(table["log_probabilities"]))
    for code, group in ((0, "light"), (1, "dark")):
        inside = (table["tone"] == code).to_numpy()
        y, guess, q = table["label"][inside], table["prediction"][inside], p[inside]
        assert mine["balanced_accuracy", group] == pytest.approx(sk.balanced_accuracy_score(y, guess))
        assert mine["f1", group] == pytest.approx(sk.f1_score(y, guess))
        assert mine["auc", group] == pytest.approx(sk.roc_auc_score(y, q[:, 1]))
        assert mine["log_loss", group] == pytest.approx(sk.log_loss(y, q / q.sum(1, keepdims=True)), abs=1e-6)
        assert mine["top_2_accuracy", group] == 1
    assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all()
    assert not frame["n"].isna().any()
    means = analysis.average(frame)
    assert (means.loc[means["metric"] == "log_loss", "low"] >= 0).all()


def test_disparities_of_scores_have_intervals_and_null_gaps(results):
    frame = results.disparities(["f1_difference", "calibration_difference", "worst_group_auc"], by="tone")
    assert len(frame) == 3 * 18
    gaps = frame[frame["metric"] != "worst_group_auc"]
    assert (gaps["expected_if_equal"] > 0).all()
    assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all()
    wide = gaps[(gaps["metric"] == "f1_difference") & gaps["trial"].str.startswith("private_share0.99")]
    scores = results.rates(["f1"], by="tone").pivot(index="trial", columns="group", values="value")
    expected = (scores["light"] - scores["dark"]).abs()
    np.testing.assert_allclose(wide["value"], expected[wide["trial"]])


def test_new_metrics_have_differences_from_the_twin(results):
    names = ["balanced_accuracy", "auc", "equalized_odds_ratio", "accuracy_variance", "calibration_difference"]
    frame = results.frame(names, by="tone", baseline="twin")
    plain = results.frame(names, by="tone").set_index(["trial", "group", "metric"])["value"]
    pairs = results.pairs("twin").pairs.set_index("trial")["baseline_trial"]
    assert set(frame["metric"]) == set(names)
    for row in frame.itertuples():
        expected = plain[row.trial, row.group, row.metric] - plain[pairs[row.trial], row.group, row.metric]
        assert row.value == pytest.approx(expected)
    assert np.isfinite(analysis.average(frame, results=results)["value"]).all()


def test_a_mean_over_strata_counts_each_the_same(results):
    frame = results.rates(["accuracy"], by="tone", mean_over="shape")
    parts = results.rates(["accuracy"], by=("tone", "shape"))
    parts[["tone", "shape"]] = parts["group"].str.split(" & ", expand=True).to_numpy()
    expected = parts.groupby(["trial", "tone"])["value"].mean()
    for row in frame.itertuples():
        assert row.value == pytest.approx(expected[row.trial, row.group])
    assert set(frame["attribute"]) == {"tone, mean over shape"}
    assert (frame["n"] == 300).all()
    assert (frame["n_min"] == 150).all()
    plain = results.rates(["accuracy"], by="tone")
    width, plain_width = (f["high"] - f["low"] for f in (frame, plain))
    assert (width / plain_width).median() == pytest.approx(1, abs=0.05)
    with pytest.raises(TypeError, match="mean over strata"):
        results.rates(["auc"], by="tone", mean_over="shape")


def test_means_over_strata_of_nine_hold_the_truth():
    """The second predecessor's groups: seven age bins of nine images each."""
    rng = np.random.default_rng(0)
    truth = np.linspace(0.5, 0.95, 7)
    above = rng.binomial(9, truth, (20_000, 7))
    low, high = stratified_wilson(above, np.full_like(above, 9), 0.95)
    held = (low <= truth.mean()) & (truth.mean() <= high)
    assert held.mean() == pytest.approx(0.95, abs=0.01)
    width = (high - low).mean()
    normal = 2 * 1.96 * np.sqrt((truth * (1 - truth) / 9).sum()) / 7
    assert width == pytest.approx(normal, rel=0.1)


def test_small_intersections_can_be_left_out(results):
    names = ["accuracy_ratio", "accuracy_difference"]
    every = results.disparities(names, by=("tone", "shape", "smiling"))
    assert (every["n_min"] == 75).all()
    none = results.disparities(names, by=("tone", "shape", "smiling"), min_group_size=76)
    assert none["value"].isna().all()
    kept = results.disparities(names, by=("tone", "shape", "smiling"), min_group_size=75)
    pd.testing.assert_frame_equal(every, kept)


def test_reliability_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    p = rng.random(2000)
    y = rng.random(2000) < p**2
    ours = reliability(p, y, bins=10)
    theirs = calibration_curve(y, p, n_bins=10)
    np.testing.assert_allclose(ours["accuracy"], theirs[0])
    np.testing.assert_allclose(ours["confidence"], theirs[1])
    assert ours["n"].sum() == 2000


def test_reliability_of_groups_gives_their_calibration_error(results):
    frame = reliability_frame(results, "tone")
    error = (frame["accuracy"] - frame["confidence"]).abs() * frame["n"]
    keys = [frame["trial"], frame["group"]]
    expected = error.groupby(keys).sum() / frame["n"].groupby(keys).sum()
    found = results.rates(["expected_calibration_error"], by="tone").set_index(["trial", "group"])["value"]
    np.testing.assert_allclose(found.sort_index(), expected.sort_index(), atol=1e-6)


def test_permutations_keep_what_is_given():
    cells = np.array([[[30, 10], [5, 15]], [[10, 20], [2, 40]], [[0, 0], [0, 0]]])
    rng = np.random.default_rng(0)
    for given, axes in (("label", (3,)), ("prediction", (2,)), ("nothing", (2, 3))):
        drawn = permuted_cells(cells, given, 400, rng)
        whole = tuple(axis - 1 for axis in axes)
        assert (drawn.sum(axes) == cells.sum(whole)).all()
        assert (drawn.sum(1) == cells.sum(0)).all()
        expected = cells.sum(0) * cells.sum((1, 2), keepdims=True) / cells.sum()
        if given == "nothing":
            np.testing.assert_allclose(drawn.mean(0), expected, atol=1)


def test_permutation_p_values_are_uniform_without_a_difference_and_small_with_one(results):
    frame = permutation_frame(results, ["equal_opportunity_difference", "accuracy_ratio"], by="tone", draws=499)
    assert set(frame["permuted"]) == {"within labels", "among all examples"}
    rare = frame[frame["trial"].str.startswith("private_0.99")]
    assert (rare["p_value"] <= 0.002).all()
    equal = permutation_frame(results, ["equalized_odds_difference"], by="shape", draws=499)
    assert equal["p_value"].mean() == pytest.approx(0.5, abs=0.25)
    nulls = results.disparities(["accuracy_difference"], by="tone").set_index("trial")["expected_if_equal"]
    permuted = permutation_frame(results, ["accuracy_difference"], by="tone", draws=499).set_index("trial")[
        "expected_if_equal"
    ]
    np.testing.assert_allclose(permuted, nulls[permuted.index], atol=0.006)


def test_thresholds_equalise_what_they_are_asked_to():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 4000)
    label = (rng.random(4000) < np.where(group == 0, 0.5, 0.3)).astype(np.int64)
    score = 1 / (1 + np.exp(-(rng.normal(0, 1, 4000) + 2 * label - np.where(group == 0, 0.6, 1.6))))
    for constraint in ("demographic_parity", "equal_opportunity", "equal_false_positive_rate"):
        chosen = choose_thresholds(score, label, group, 2, constraint)
        assert np.ptp(chosen.reached) < 0.01
        predicted = chosen.predict(score, group)
        kept = {
            "demographic_parity": np.ones(4000, bool),
            "equal_opportunity": label == 1,
            "equal_false_positive_rate": label == 0,
        }[constraint]
        rates = [predicted[(group == g) & kept].mean() for g in (0, 1)]
        np.testing.assert_allclose(rates, chosen.reached)
        assert chosen.cells(score, label, group).sum() == 4000
    free = choose_thresholds(score, label, group, 2, "none")
    best = [
        max((s >= t) @ y + (s < t) @ (1 - y) for t in s)
        for s, y in ((score[group == g], label[group == g]) for g in (0, 1))
    ]
    right = np.trace(free.cells(score, label, group).sum(0))
    assert right == sum(best)
    with pytest.raises(ValueError, match="none on the split"):
        choose_thresholds(score, np.where(group == 0, 0, label), group, 2, "equal_opportunity")


def test_thresholds_are_chosen_on_validation_and_reported_on_test(results):
    counts, thresholds = thresholded_counts(results, "tone", "demographic_parity")
    assert len(counts.evaluations) == 18
    assert set(thresholds.columns) == {"trial", "group", "threshold", "validation_rate"}
    np.testing.assert_array_equal(counts.values.sum((-1, -2)), 300)
    rates = rate_rows(counts, [resolve("selection_rate", counts.classes)], 0.95)
    assert ((rates["value"] >= 0) & (rates["value"] <= 1)).all()
    gaps = disparity_rows(
        counts, [resolve("demographic_parity_difference", counts.classes)], 0.95, expected_if_equal=True, seed=0
    )
    assert len(gaps) == 18
