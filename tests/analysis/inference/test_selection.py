"""Selection among settings: by validation, reported on test; fronts, distances, the winner's curse, criteria."""

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.inference.criteria import MEDFAIR, SUBPOPBENCH, by_group
from fairsweep.analysis.inference.selection import (
    best_setting,
    corrected_winner,
    direction_of,
    distance_to_ideal,
    pareto_front,
    settings_table,
)

METRICS = ["accuracy", "accuracy_difference"]


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


@pytest.fixture(scope="module")
def table(results):
    return settings_table(results, METRICS, by="tone")


def test_a_row_is_a_setting_with_means_on_both_splits(results, table):
    assert len(table) == 9
    for split in ("validation", "test"):
        rates = results.rates(["accuracy"], by=(), split=split)
        expected = rates.groupby(rates["setting"].astype(str))["value"].mean()
        np.testing.assert_allclose(table[f"{split} accuracy"], expected[table["setting"]])
    assert (table["replicates"] == 2).all()
    assert (table["test accuracy low"] <= table["test accuracy"]).all()
    assert (table["seconds"] == 12.5).all()


def test_the_best_is_chosen_on_validation_under_constraints(table):
    best = best_setting(table, "validation accuracy")
    assert best["validation accuracy"] == table["validation accuracy"].max()
    private = best_setting(table, "validation accuracy", subject_to={"epsilon": ("<=", 3.0)})
    assert private["learner"] == "private"
    fair = best_setting(table, "validation accuracy_difference")
    assert fair["validation accuracy_difference"] == table["validation accuracy_difference"].min()
    with pytest.raises(ValueError, match="must not see the test split"):
        best_setting(table, "test accuracy")
    with pytest.raises(ValueError, match="no setting meets"):
        best_setting(table, "validation accuracy", subject_to={"epsilon": ("<=", 0.1)})


def test_the_front_is_what_nothing_beats():
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.random((60, 3)), columns=["validation accuracy", "epsilon", "seconds"])
    front = pareto_front(values, list(values.columns))
    costs = values.to_numpy() * [-1, 1, 1]
    for i, row in enumerate(costs):
        beaten = any((other <= row).all() and (other < row).any() for other in costs)
        assert front[i] == (not beaten)
    values.loc[0, "epsilon"] = np.nan
    assert not pareto_front(values, list(values.columns))[0]
    assert direction_of("test demographic_parity_ratio") == "higher"
    with pytest.raises(ValueError, match="no better direction"):
        direction_of("validation selection_rate")


def test_the_ideal_is_at_distance_zero():
    values = pd.DataFrame({"validation accuracy": [0.9, 0.8, 0.7], "epsilon": [8.0, np.inf, 1.0]})
    np.testing.assert_allclose(distance_to_ideal(values, list(values.columns)), [1.0, np.hypot(0.5, 1), 1.0])
    one_private = values.assign(epsilon=[np.inf, 3.0, np.inf])
    np.testing.assert_allclose(distance_to_ideal(one_private, list(values.columns)), [1.0, 0.5, np.sqrt(2)])
    best = values.assign(epsilon=[1.0, 2.0, 3.0])
    assert distance_to_ideal(best, list(best.columns))[0] == 0


def test_the_winners_curse_is_corrected():
    """Twenty equal settings: the best looks better than .7, by luck of images and of training."""
    rng = np.random.default_rng(1)
    naive, corrected, held = [], [], []
    for seed in range(40):
        truth = 0.7 + rng.normal(0, 0.04, (20, 3, 1))
        found = corrected_winner(rng.random((20, 3, 200)) < truth, draws=200, seed=seed)
        naive.append(found.naive)
        corrected.append(found.corrected)
        held.append(found.low <= 0.7 <= found.high)
    assert np.mean(naive) > 0.74
    assert np.mean(corrected) == pytest.approx(0.7, abs=0.015)
    assert np.mean(held) >= 0.9
    alone = corrected_winner((rng.random((1, 2, 500)) < 0.7), users=np.arange(500) // 5, draws=400)
    assert alone.corrected == pytest.approx(alone.naive, abs=0.01)


def test_one_run_does_not_show_how_lucky_the_winner_was():
    with pytest.raises(ValueError, match="at least two replicates"):
        corrected_winner(np.ones((40, 1, 100)))
    with pytest.raises(ValueError, match="at least two replicates"):
        corrected_winner(np.ones((40, 100)))


def test_criteria_of_the_benchmarks_are_validation_means(results):
    worst = SUBPOPBENCH["max_worst_group_accuracy"](results, by="tone")
    frame = results.disparities(["worst_group_accuracy"], by="tone", split="validation", expected_if_equal=False)
    expected = frame.groupby(frame["setting"].astype(str))["value"].mean()
    np.testing.assert_allclose(worst.sort_index(), expected.sort_index())
    for name, criterion in SUBPOPBENCH.items():
        values = criterion(results, by="tone")
        assert len(values) == 9, name
        assert np.isfinite(values).all(), name
    spread = SUBPOPBENCH["min_class_difference"](results)
    assert (spread <= 0).all()


def test_medfairs_criteria_look_at_the_groups(results):
    groups = by_group(results, "auc", "tone")
    minimax = MEDFAIR["minimax_pareto"](results, by="tone")
    chosen = minimax.idxmax()
    assert groups.loc[chosen].min() == pytest.approx(groups.min(axis=1).max())
    assert minimax.isna().any()
    distance = MEDFAIR["distance_to_optimal"](results, by="tone")
    assert (distance <= 0).all()
    assert MEDFAIR["overall"](results, by="tone").idxmax() in set(groups.index)
