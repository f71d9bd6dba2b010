"""Groups against a reference, within strata, and with weights: as fairlearn and Aequitas compute them."""

import fairlearn.metrics as fl
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

from fairsweep.analysis import controlled_frame, from_predictions, reference_frame, weighted_frame


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    columns = {"tone": rng.choice(["light", "mid", "dark"], 600), "age": rng.choice(["old", "young"], 600)}
    frame = pd.DataFrame({**columns, "y": rng.integers(0, 2, 600), "weight": rng.integers(0, 4, 600)})
    shift = frame["tone"].map({"light": 2.5, "mid": 1.5, "dark": 0.7})
    return frame.assign(p=1 / (1 + np.exp(-(rng.normal(0, 1.5, 600) + (2 * frame["y"] - 1) * shift))))


@pytest.fixture(scope="module")
def results(table):
    return from_predictions(table["y"], groups=table[["tone", "age"]], probabilities=table["p"])


def metric_frame(table, function, **more):
    return fl.MetricFrame(
        metrics=function, y_true=table["y"], y_pred=table["p"] > 0.5, sensitive_features=table["tone"], **more
    )


def test_gaps_and_quotients_against_a_reference_group_have_a_sign(results, table):
    ours = reference_frame(results, ["true_positive_rate", "f1"], by="tone", reference="light")
    over = reference_frame(results, ["true_positive_rate"], by="tone", reference="light", form="ratio")
    theirs = metric_frame(table, sk.recall_score).by_group
    mine = ours[ours["metric"] == "true_positive_rate_minus_light"].set_index("group")
    quotient = over.set_index("group")
    assert set(mine.index) == {"mid", "dark"}
    for group in ("mid", "dark"):
        assert mine.loc[group, "value"] == pytest.approx(theirs[group] - theirs["light"])
        assert quotient.loc[group, "value"] == pytest.approx(theirs[group] / theirs["light"])
    assert (mine["value"] < 0).all()
    for frame in (ours, over):
        assert (frame["low"] < frame["value"]).all()
        assert (frame["value"] < frame["high"]).all()
    back = reference_frame(results, ["true_positive_rate"], by="tone", reference="dark").set_index("group")
    assert back.loc["light", "low"] == pytest.approx(-mine.loc["dark", "high"])
    with pytest.raises(ValueError, match="one of the groups of tone"):
        reference_frame(results, ["accuracy"], by="tone", reference="pale")
    with pytest.raises(ValueError, match="'difference' or 'ratio'"):
        reference_frame(results, ["accuracy"], by="tone", reference="dark", form="odds")


def test_intervals_of_quotients_cover():
    """Two groups of 60 images: rates of .9 and .6, whose quotient is 1.5."""
    rng = np.random.default_rng(2)
    held = []
    truth = np.ones(120, int)
    for _ in range(60):
        guess = np.concatenate([rng.random(60) < 0.9, rng.random(60) < 0.6]).astype(int)
        results = from_predictions(truth, guess, {"g": np.repeat(["a", "b"], 60)}, classes=(0, 1))
        row = reference_frame(results, ["accuracy"], by="g", reference="b", form="ratio").iloc[0]
        held.append(row["low"] <= 1.5 <= row["high"])
    assert np.mean(held) >= 0.88


def test_disparities_within_strata_are_fairlearns_with_control_features(results, table):
    names = ["accuracy_difference", "demographic_parity_ratio", "f1_difference", "accuracy_ratio_to_overall"]
    ours = controlled_frame(results, names, by="tone", within="age").set_index(["group", "metric"])["value"]
    accuracy = metric_frame(table, sk.accuracy_score, control_features=table["age"])
    selected = metric_frame(table, fl.selection_rate, control_features=table["age"])
    for age in ("old", "young"):
        assert ours[age, "accuracy_difference"] == pytest.approx(accuracy.difference()[age])
        assert ours[age, "demographic_parity_ratio"] == pytest.approx(selected.ratio()[age])
        assert ours[age, "accuracy_ratio_to_overall"] == pytest.approx(accuracy.ratio(method="to_overall")[age])
    with pytest.raises(ValueError, match="disparities from cells"):
        controlled_frame(results, ["accuracy"], by="tone", within="age")


def test_weights_are_those_of_scikit_learn_and_fairlearn(results, table):
    names = ["accuracy", "true_positive_rate", "matthews_correlation", "f2", "auc", "average_precision", "brier_score"]
    weights = table["weight"].astype(float)
    frame = weighted_frame(results, [*names, "accuracy_difference", "auc_difference"], weights, by="tone", draws=200)
    ours = frame.set_index(["group", "metric"])["value"]
    for tone, part in table.groupby("tone"):
        y, p, w = part["y"], part["p"], part["weight"]
        expected = {
            "accuracy": sk.accuracy_score(y, p > 0.5, sample_weight=w),
            "true_positive_rate": sk.recall_score(y, p > 0.5, sample_weight=w),
            "matthews_correlation": sk.matthews_corrcoef(y, p > 0.5, sample_weight=w),
            "f2": sk.fbeta_score(y, p > 0.5, beta=2, sample_weight=w),
            "auc": sk.roc_auc_score(y, p, sample_weight=w),
            "average_precision": sk.average_precision_score(y, p, sample_weight=w),
            "brier_score": 2 * sk.brier_score_loss(y, p, sample_weight=w),
        }
        for name, value in expected.items():
            assert ours[tone, name] == pytest.approx(value, abs=1e-6), name
    weighted = metric_frame(table, sk.accuracy_score, sample_params={"sample_weight": weights})
    assert ours["tone", "accuracy_difference"] == pytest.approx(weighted.difference())
    assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all()
    light = table.loc[table["tone"] == "light", "weight"]
    effective = frame[(frame["group"] == "light") & (frame["metric"] == "accuracy")]["n"].item()
    assert effective == int(light.sum() ** 2 / (light**2).sum())
    alike = weighted_frame(results, ["accuracy"], pd.Series(1.0, index=range(600)), by="tone")
    plain = results.rates(["accuracy"], by="tone")
    np.testing.assert_allclose(alike["value"], plain["value"])
    with pytest.raises(ValueError, match="that of id 599 is missing"):
        weighted_frame(results, ["accuracy"], weights[:-1])
    with pytest.raises(ValueError, match="have none"):
        weighted_frame(results, ["accuracy_variance"], weights)
