"""Crossed resampling: one set of image weights for all trials, replicates drawn anew."""

import numpy as np
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis import crossed_frame
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.results.crossed_resampling import id_weights
from fairsweep.analysis.statistics.crossed_bounds import mean_rate, shared_rate
from fairsweep.analysis.statistics.effective_sample_size import units_of
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds


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


def test_means_have_one_interval_that_knows_what_trainings_share(results):
    """Whoever asks, by a frame, a table or an average: narrower than what tables alone can tell."""
    names = ["accuracy", "balanced_accuracy", "accuracy_difference", "log_loss"]
    crossed = crossed_frame(results, names, by="tone", draws=50)
    frame = results.frame(names, by="tone")
    assert len(crossed) == 9 * 7
    known = analysis.average(frame, results=results, draws=50)
    bounds = ["value", "low", "high", "images_low", "images_high", "interval"]
    keys = ["setting", "group", "metric"]
    np.testing.assert_array_equal(
        crossed.set_index(keys).sort_index()[bounds], known.set_index(keys).sort_index()[bounds]
    )
    table = results.table("series", "level", metrics=["accuracy"], by="tone", where={"group": "dark"}).numbers
    both = table.merge(crossed, on=keys, suffixes=("", "_crossed"))
    np.testing.assert_array_equal(both[["low", "high"]], both[["low_crossed", "high_crossed"]])
    plain = analysis.average(frame).merge(crossed, on=keys, suffixes=("", "_crossed"))
    np.testing.assert_allclose(plain["value"], plain["value_crossed"])
    assert ((crossed["low"] <= crossed["value"]) & (crossed["value"] <= crossed["high"])).all()
    quotients = plain[plain["metric"].isin(["accuracy", "accuracy_difference"])]
    widths = (quotients["high_crossed"] - quotients["low_crossed"]) / (quotients["high"] - quotients["low"])
    assert widths.max() < 1.05
    assert widths.mean() < 0.99
    assert not set(plain["interval"]) & set(plain["interval_crossed"])
    of_gaps = plain["metric"] == "accuracy_difference"
    assert (plain["expected_if_equal_crossed"] == plain["expected_if_equal"])[of_gaps].all()


def test_the_variance_of_shared_images_is_that_of_resamples_without_end(results):
    """By resamples of the images (and of people), nearly."""
    rng = np.random.default_rng(0)
    label, groups, people = np.arange(120) % 2, np.repeat([0, 1], [80, 40]), np.arange(120) // 4
    predicted = np.where(rng.random((3, 120)) < 0.8, label, 1 - label)
    for name, whom in (("accuracy", None), ("positive_predictive_value", None), ("accuracy", people)):
        metric = resolve(name, ("no", "yes"))
        (unit,) = units_of(metric, groups, 2, label, 2, whom)
        below = np.asarray(metric.row.denominator(2, 1))[label, predicted] > 0
        above = np.asarray(metric.row.numerator(2, 1))[label, predicted] > 0
        found = shared_rate(above, below, groups, label, unit, whom)
        weights = id_weights(groups * 2 + label, 5000, rng, whom)
        sums = [[weights @ (part * (groups == g)).T for g in (0, 1)] for part in (above, below)]
        drawn = (np.array(sums[0]) / np.array(sums[1])).mean(-1)
        np.testing.assert_allclose(found.variance, drawn.var(1), rtol=0.12)


def test_trainings_that_share_a_seed_are_fewer_than_they_seem():
    """Two data seeds by three training seeds: six trainings, but two draws of the data, which differ by 20 points."""
    right = np.arange(1000) < np.repeat([900, 700], 3)[:, None] + np.tile([0, 1, 2], 2)[:, None]
    (unit,) = units_of(resolve("accuracy", ("no", "yes")), np.zeros(1000, int), 1, np.ones(1000, int), 2)
    rate = shared_rate(right, np.ones_like(right), np.zeros(1000, int), np.ones(1000, int), unit)
    widths = []
    for data in ([0, 0, 0, 1, 1, 1], range(6)):
        found = mean_rate(rate, 0.95, ReplicateSeeds.of(data, [0, 1, 2] * 2))
        widths.append(float(found["high"][0] - found["low"][0]))
    assert widths[0] > 3 * widths[1]


def test_differences_from_twins_use_the_same_images(results):
    paired = crossed_frame(results, ["accuracy", "accuracy_difference"], by="tone", baseline="twin")
    assert set(paired["learner"]) == {"private"}
    plain = crossed_frame(results, ["accuracy"], by="tone").set_index(["learner", "level", "group"])
    for row in paired[paired["metric"] == "accuracy"].itertuples():
        one, two = (plain.loc[(name, row.level, row.group)] for name in ("private", "matched"))
        assert row.value == pytest.approx(one["value"] - two["value"])
        independent = np.hypot(*(side["images_high"] - side["images_low"] for side in (one, two)))
        assert row.images_high - row.images_low < 0.95 * independent


def test_users_whose_images_err_together_widen_the_interval(results, monkeypatch):
    """Images of one user that err together count less than as many independent ones."""
    plain = crossed_frame(results, ["accuracy"], draws=600)
    outcomes_users = "fairsweep.analysis.results.crossed_resampling.users"

    def by_outcome(results, outcomes):
        order = np.argsort(outcomes.prediction.mean(0) == outcomes.label, kind="stable")
        users = np.empty(len(order), np.int64)
        users[order] = np.arange(len(order)) // 5
        return users

    monkeypatch.setattr(outcomes_users, by_outcome)
    clustered = crossed_frame(results, ["accuracy"], draws=600)
    np.testing.assert_allclose(plain["value"], clustered["value"])
    widths = [frame["images_high"] - frame["images_low"] for frame in (clustered, plain)]
    assert (widths[0] / widths[1]).mean() > 1.15
    assert (widths[0] > widths[1]).all()
    assert clustered["interval"].str.endswith("people").all()


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
