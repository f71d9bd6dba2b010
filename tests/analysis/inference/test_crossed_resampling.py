"""Crossed resampling: one set of image weights for all trials, replicates drawn anew."""

import numpy as np
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.inference.crossed_resampling import crossed_frame, id_weights


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


def test_weights_keep_the_strata_or_draw_users_whole():
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1, 2], [5, 10, 1])
    weights = id_weights(strata, 50, rng)
    for code, size in ((0, 5), (1, 10), (2, 1)):
        assert (weights[:, strata == code].sum(1) == size).all()
    users = np.repeat(np.arange(8), 2)
    whole = id_weights(strata, 50, rng, users)
    assert (whole[:, ::2] == whole[:, 1::2]).all()
    assert (whole.sum(1) == 16).all()


def test_means_are_the_averages_and_widths_join_both_sources(results):
    names = ["accuracy", "balanced_accuracy", "accuracy_difference", "log_loss"]
    crossed = crossed_frame(results, names, by="tone", draws=400)
    means = analysis.average(results.frame(names, by="tone"))
    keys = ["setting", "group", "metric"]
    both = crossed.merge(means, on=keys, suffixes=("", "_average"))
    assert len(both) == len(crossed) == 9 * 7
    np.testing.assert_allclose(both["value"], both["value_average"])
    np.testing.assert_allclose(both["std"], both["std_average"])
    assert ((both["low"] <= both["value"]) & (both["value"] <= both["high"])).all()
    rates = both[both["metric"] == "accuracy"]
    # Two test images alike for two replicates err less together than one alone, and never less than for many.
    alone = np.sqrt(rates["value"] * (1 - rates["value"]) / rates["n"])
    assert ((rates["images_std"] / alone) < 1.1).all()
    assert ((rates["images_std"] / alone) > 0.6).all()


def test_differences_from_twins_use_the_same_images(results):
    paired = crossed_frame(results, ["accuracy", "accuracy_difference"], by="tone", baseline="twin", draws=400)
    assert set(paired["learner"]) == {"private"}
    plain = crossed_frame(results, ["accuracy"], by="tone", draws=400).set_index(["learner", "level", "group"])
    accuracy = paired[paired["metric"] == "accuracy"]
    for row in accuracy.itertuples():
        one, two = (plain.loc[(name, row.level, row.group)] for name in ("private", "matched"))
        assert row.value == pytest.approx(one["value"] - two["value"])
        independent = np.hypot(one["images_std"], two["images_std"])
        assert row.images_std < 0.9 * independent


def test_users_whose_images_err_together_widen_the_interval(results, monkeypatch):
    """Images of one user that err together count less than as many independent ones."""
    plain = crossed_frame(results, ["accuracy"], draws=600)
    outcomes_users = "fairsweep.analysis.inference.crossed_resampling.users"

    def by_outcome(results, outcomes):
        order = np.argsort(outcomes.prediction.mean(0) == outcomes.label, kind="stable")
        users = np.empty(len(order), np.int64)
        users[order] = np.arange(len(order)) // 5
        return users

    monkeypatch.setattr(outcomes_users, by_outcome)
    clustered = crossed_frame(results, ["accuracy"], draws=600)
    np.testing.assert_allclose(plain["value"], clustered["value"])
    assert (clustered["images_std"] / plain["images_std"]).mean() > 1.15
    assert (clustered["images_std"] > plain["images_std"]).all()


def test_predictions_of_all_trials_are_needed(unfinished):
    with pytest.raises(ValueError, match="predictions of all trials"):
        crossed_frame(analysis.load(unfinished.folder), ["accuracy"], by="tone", states=("running",), draws=20)


@pytest.mark.parametrize("replicates", [1, 3, 12])
def test_trainings_that_predict_alike_are_no_certainty(simulate, monkeypatch, tmp_path, replicates):
    """Every trial predicts the same of every image, so every resample of the images gives a difference of 0."""
    monkeypatch.setitem(simulate["truth"], "private", simulate["truth"]["matched"])
    options = {"per_cell": 20, "shared": 1, "training_spread": 0}
    simulate["faces"](tmp_path / "alike", replicates=replicates, shares=(0.9,), **options)
    names = ["accuracy", "balanced_accuracy", "accuracy_difference", "log_loss"]
    frame = crossed_frame(analysis.load(tmp_path / "alike"), names, by="tone", baseline="twin", draws=100)
    assert len(frame) == 7
    assert (frame["value"] == 0).all()
    if replicates == 1:
        assert frame[["low", "high"]].isna().all(axis=None)
    else:
        assert ((frame["low"] < 0) & (frame["high"] > 0)).all()


def test_nine_right_of_nine_do_not_make_a_gap_certain():
    """No resample of them has a mistake; bounds stay within what the metrics can be."""
    size = np.array([9, 200, 200])
    group = np.repeat(["a", "b", "c"], size)
    right = np.concatenate([np.arange(n) >= round(0.1 * n) for n in size[1:]])
    truth = np.arange(409) % 2
    predicted = np.where(np.append(np.ones(9, bool), right), truth, 1 - truth)
    columns = {"trial": np.repeat(["one", "two"], 409), "learner": "a", "seed": np.repeat([0, 1], 409)}
    results = analysis.from_predictions(
        np.tile(truth, 2),
        np.concatenate([predicted, predicted]),
        {"shape": np.tile(group, 2)},
        **columns,
        min_group_size=1,  # the nine are compared too
    )
    frame = crossed_frame(results, ["accuracy", "accuracy_difference"], by="shape", draws=200).set_index("metric")
    gap = frame.loc["accuracy_difference"]
    assert gap["value"] == pytest.approx(0.1)
    assert gap["low"] == 0
    # Nine images of one group allow anything from 66% upwards.
    assert 0.15 < gap["high"] <= 1
    single = crossed_frame(results, ["accuracy"], by="shape", draws=200)
    assert single["low"].between(0, 1).all()
    assert single["high"].between(0, 1).all()
