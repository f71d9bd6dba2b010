"""Verdicts on any metric: those of the engine on accuracy, and what they say where the truth is known."""

import numpy as np
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.results.outcome_table import OutcomeTable

PAIR = ("private", "matched")


@pytest.fixture(scope="module")
def results(simulate, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "faces"
    simulate["faces"](folder, replicates=5, per_cell=150, shares=(0.9,))
    return analysis.load(folder)


def test_accuracy_of_a_group_is_judged_as_in_the_report(results):
    table = analysis.metric_verdicts(results, ["accuracy"], [PAIR], by="tone", margin=0.02)
    assert table["group"].tolist() == ["light", "dark"]
    outcomes = OutcomeTable.of(results, "tone")
    parts = [outcomes.rows(name, "share 0.9") for name in PAIR]
    for row in table.itertuples():
        exact, _ = outcomes.effect(parts, (1.0, -1.0), outcomes.weights(row.group))
        low, high = exact.interval()
        assert row.difference == pytest.approx(float(exact.estimate))
        assert (row.low, row.high) == pytest.approx((float(low), float(high)))


def test_a_gap_is_the_mean_difference_of_paired_runs(results):
    metrics = ["accuracy_difference", "equalized_odds_difference", "calibration_difference"]
    table = analysis.metric_verdicts(results, metrics, [PAIR, ("tuned", "matched")], by="tone", margin=0.02, draws=300)
    frame = results.frame(metrics, by="tone")
    means = frame.groupby([frame["series"].astype(str), "metric"], observed=True)["value"].mean()
    for row in table.itertuples():
        assert row.difference == pytest.approx(means[row.first, row.metric] - means[row.second, row.metric])
        assert row.low < row.difference < row.high
        assert row.seeds == 5
    # The truth: private loses 12 points of the dark and 7 of the light group, tuned 2 points less of the dark.
    found = table.set_index(["first", "metric"])["verdict"]
    assert found["private", "accuracy_difference"] == "different"
    assert found["tuned", "accuracy_difference"] == "undecided"
    assert (table["p_value"] >= analysis.metric_verdicts(results, metrics[:1], [PAIR], by="tone")["p_value"][0]).all()


@pytest.mark.parametrize("metric", ["accuracy_difference", "balanced_accuracy"])
def test_one_question_has_one_estimate_interval_and_p(results, metric):
    """Gaps had two: from resamples of shared images here, from the trials' own intervals in the other tables."""
    by = "tone" if "difference" in metric else ()
    (row,) = analysis.metric_verdicts(results, [metric], [PAIR], by=by).itertuples()
    (pair,) = analysis.compare_learners(results, metric, by=by, learners=list(PAIR)).itertuples()
    mean = analysis.mean_differences(results, [metric], by=by, baseline="twin").iloc[0]
    numbers = [row.difference, row.low, row.high]
    assert [pair.difference, pair.low, pair.high, pair.p_value] == pytest.approx([*numbers, row.p_value])
    assert [mean["value"], mean["low"], mean["high"]] == pytest.approx(numbers)
    assert mean["interval"] == "paired by seed and by test example"  # and not that of `average`


def test_what_cannot_be_asked(results):
    with pytest.raises(ValueError, match=r"must name series that have finished trials, .*'nobody'"):
        analysis.metric_verdicts(results, ["accuracy_difference"], [("private", "nobody")], by="tone")
    apart = results.filter(trial=[name for name in results.trials["trial"] if ("private" in name) == ("_s0" in name)])
    with pytest.raises(ValueError, match="one trial each of some level and seeds"):
        analysis.metric_verdicts(apart, ["accuracy_difference"], [PAIR], by="tone")


def test_an_undefined_metric_is_undefined(results):
    one_class = analysis.from_predictions(
        np.ones(40, int),
        np.arange(40) % 2,
        {"tone": ["light", "dark"] * 20},
        classes=(0, 1),
        trial=["a"] * 20 + ["b"] * 20,
    )
    table = analysis.metric_verdicts(one_class, ["equalized_odds_difference"], [("a", "b")], by="tone")
    assert table["verdict"].tolist() == ["undefined"]
