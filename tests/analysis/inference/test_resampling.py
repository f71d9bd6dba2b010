"""The bootstrap of cells: the same values, intervals of the right width, nothing that depends on the neighbours."""

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.inference.resampling import bootstrap_frame


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


@pytest.fixture(scope="module")
def frames(results):
    plain = results.frame(by=None)
    return plain, bootstrap_frame(results, draws=1000)


def test_values_are_the_same_and_lie_inside(frames):
    plain, resampled = frames
    columns = [name for name in plain if name not in ("low", "high", "interval")]
    pd.testing.assert_frame_equal(plain[columns], resampled[columns])
    assert set(resampled["interval"]) == {"bootstrap of cells"}
    rates = resampled[resampled["attribute"] == ""]
    assert ((rates["low"] <= rates["value"]) & (rates["value"] <= rates["high"])).all()


def test_widths_are_those_of_wilson_where_the_set_fixes_the_denominator(frames):
    plain, resampled = frames
    chosen = plain["metric"].isin(["true_positive_rate", "false_positive_rate", "accuracy"])
    wilson = (plain["high"] - plain["low"])[chosen]
    ours = (resampled["high"] - resampled["low"])[chosen]
    assert (ours / wilson).median() == pytest.approx(1, abs=0.06)


def test_what_a_balanced_set_fixes_does_not_vary(frames):
    _, resampled = frames
    fixed = resampled[resampled["metric"].isin(["base_rate", "base_rate_difference"])]
    assert (fixed["low"] == fixed["value"]).all()
    assert (fixed["high"] == fixed["value"]).all()


def test_largest_differences_reach_zero_where_groups_are_equal(frames):
    """A percentile interval of max - min never would."""
    _, resampled = frames
    gaps = resampled[(resampled["metric"] == "accuracy_difference") & (resampled["attribute"] == "shape")]
    assert (gaps["low"] == 0).mean() >= 0.8
    dark = resampled[(resampled["metric"] == "accuracy_difference") & (resampled["attribute"] == "tone")]
    assert (dark.loc[(dark["learner"] == "private") & (dark["share"] == 0.99), "low"] > 0.1).all()


def test_draws_of_a_trial_do_not_depend_on_what_else_is_asked(results, frames):
    _, resampled = frames
    alone = bootstrap_frame(results, ["accuracy"], by="tone", draws=1000)
    same = resampled[(resampled["metric"] == "accuracy") & (resampled["attribute"] == "tone")].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, same)
    other = bootstrap_frame(results, ["accuracy"], by="tone", draws=1000, seed=1)
    assert (other["low"] != alone["low"]).any()


def test_intersections_keep_the_order_of_their_names(results):
    forth = bootstrap_frame(results, ["accuracy"], by=("tone", "shape"), draws=300)
    back = bootstrap_frame(results, ["accuracy"], by=("shape", "tone"), draws=300)
    back["group"] = [" & ".join(reversed(name.split(" & "))) for name in back["group"]]
    keys = ["trial", "group"]
    one, two = (frame.sort_values(keys).reset_index(drop=True) for frame in (forth, back))
    np.testing.assert_array_equal(one[["value", "low", "high"]], two[["value", "low", "high"]])


def test_the_label_and_many_classes_can_be_groups(results, digits):
    by_label = bootstrap_frame(results, ["accuracy"], by="smiling", draws=300)
    recall = bootstrap_frame(results, ["true_positive_rate"], by=(), draws=300)
    yes = by_label[by_label["group"] == "yes"]
    np.testing.assert_array_equal(yes[["low", "high"]].to_numpy(), recall[["low", "high"]].to_numpy())
    classes = bootstrap_frame(analysis.load(digits.folder), draws=200)
    assert classes["low"].notna().all()
    assert (classes["low"] <= classes["high"]).all()


def test_coverage_of_a_difference_from_cells(tmp_path, simulate):
    """Known truths and no training noise: 95% intervals of rates and of the gap between two groups."""
    held_rates, held_gaps = [], []
    for seed in range(6):
        simulation = simulate["faces"](
            tmp_path / str(seed),
            replicates=1,
            per_cell=50,
            shares=(0.5, 0.9),
            seed=seed,
            training_spread=0.0,
            shared=0.0,
        )
        frame = bootstrap_frame(
            analysis.load(simulation.folder), ["accuracy", "accuracy_difference"], by="tone", draws=500
        )
        for row in frame.itertuples():
            light, dark = simulate["truth"][row.learner][row.share]
            if row.metric == "accuracy":
                held_rates.append(row.low <= (light if row.group == "light" else dark) <= row.high)
            else:
                held_gaps.append(row.low <= light - dark <= row.high)
    assert len(held_rates) == 72
    assert np.mean(held_rates) >= 0.88
    assert np.mean(held_gaps) >= 0.88
