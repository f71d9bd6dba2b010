"""Agreement of gaps: planted ranks are found, luck that metrics of one run share is not taken for agreement."""

import numpy as np
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.gaps.gap_agreement import FEWEST_SETTINGS

METRICS = ["accuracy_difference", "worst_group_accuracy", "demographic_parity_difference"]


def predicted(rates, seeds, images=400):
    """Results of learners with given true positive and true negative rates of (light, dark), [L, 2, 2].

    The baseline, ``plain``, is right nine times of ten.
    """
    rng = np.random.default_rng(0)
    group, label = np.arange(images) % 2, np.arange(images) // 2 % 2
    all_rates = {"plain": np.full((2, 2), 0.9)} | {f"setting {i}": rate for i, rate in enumerate(rates)}
    columns = {"learner": [], "seed": [], "trial": [], "prediction": []}
    for seed in range(seeds):
        for name, rate in all_rates.items():
            right = rng.random(images) < rate[1 - label, group]
            columns["prediction"].append(np.where(right, label, 1 - label))
            for key, value in (("learner", name), ("seed", seed), ("trial", f"{name} {seed}")):
                columns[key] += [value] * images
    runs = len(columns["prediction"])
    return analysis.from_predictions(
        np.tile(label, runs),
        np.concatenate(columns["prediction"]),
        {"tone": np.tile(np.array(["light", "dark"])[group], runs)},
        learner=columns["learner"],
        seed=columns["seed"],
        trial=columns["trial"],
    )


def agreement(results, **options):
    table = analysis.gap_agreement(results, METRICS, by="tone", baseline="plain", **options)
    return table.set_index(["metric", "other"])


def test_planted_ranks_are_found():
    # The dark group loses the same of both labels: its accuracy falls, its share of positive predictions does not.
    losses = np.linspace(0, 0.5, 8)
    rates = np.stack([np.stack([np.full(2, 0.9), np.full(2, 0.9 - loss)], -1) for loss in losses])
    table = agreement(predicted(rates, seeds=5), margin=0.3)
    assert len(table) == 6
    assert (table["settings"] == 8).all()
    assert (table["seeds"] == 5).all()
    together = table.loc["accuracy_difference", "worst_group_accuracy"]
    assert together["correlation"] > 0.9
    assert together["low"] > 0.7
    assert together["verdict"] == "predicts"
    assert table.loc[("accuracy_difference", "accuracy_difference"), "verdict"] == "repeats"
    assert table.loc[("accuracy_difference", "demographic_parity_difference"), "verdict"] != "predicts"


def test_luck_that_metrics_of_one_run_share_is_no_agreement():
    # All settings are alike: within a run the gap and the worst group's accuracy move together all the same.
    results = predicted(np.full((8, 2, 2), 0.8), seeds=6)
    frame = results.frame(METRICS, by="tone", baseline="plain")
    wide = frame.pivot_table(index=["trial"], columns="metric", values="value", observed=True)
    assert wide["accuracy_difference"].corr(wide["worst_group_accuracy"], method="spearman") < -0.3
    table = agreement(results)
    assert abs(table.loc[("accuracy_difference", "worst_group_accuracy"), "correlation"]) < 0.3
    assert (table["low"] < 0).all()
    assert (table["high"] > 0).all()
    assert (table["verdict"] == "undecided").all()


@pytest.mark.parametrize(("settings", "seeds"), [(FEWEST_SETTINGS - 1, 4), (6, 2)])
def test_too_few_settings_or_seeds_are_refused(settings, seeds):
    results = predicted(np.full((settings, 2, 2), 0.8), seeds=seeds, images=40)
    with pytest.raises(ValueError, match=f"but got {settings} and {seeds}; add seeds or settings"):
        agreement(results)
