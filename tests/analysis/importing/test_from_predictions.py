"""Predictions of any other program become results."""

import doctest

import fairlearn.metrics as fl
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

import fairsweep.analysis as analysis
import fairsweep.analysis.importing.predictions as importing
from fairsweep.analysis import from_predictions
from fairsweep.analysis.checking.sweep_check import check_sweep


@pytest.fixture(scope="module")
def table():
    """Two learners, three runs each, 240 examples of 60 people: what other frameworks leave."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(60), 4)
    tone = np.where(person % 3 == 0, "dark", "light")
    truth = rng.integers(0, 2, 240)
    parts = []
    for learner, gap in (("plain", 0.05), ("private", 0.3)):
        for seed in range(3):
            signal = 2 * (2 * truth - 1) * np.where(tone == "dark", 1 - gap, 1)
            p = 1 / (1 + np.exp(-(rng.normal(0, 1, 240) + signal)))
            part = pd.DataFrame({"y": truth, "p": p, "tone": tone, "age": person % 5, "person": person})
            parts.append(part.assign(learner=learner, seed=seed, trial=f"{learner}/{seed}"))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def results(table, tmp_path_factory):
    return from_predictions(
        table["y"],
        groups=table[["tone", "age"]],
        probabilities=table["p"],
        user=table["person"],
        trial=table["trial"],
        learner=table["learner"],
        seed=table["seed"],
        label="smiling",
        to=tmp_path_factory.mktemp("other") / "sweep",
    )


def test_doctest():
    assert doctest.testmod(importing).failed == 0


def test_every_number_is_that_of_the_table(results, table):
    rates = results.rates(["accuracy", "auc"], by="tone").set_index(["learner", "group", "metric"])["value"]
    for (learner, tone), part in table.groupby(["learner", "tone"]):
        each = [one for _, one in part.groupby("seed")]
        accuracy = [sk.accuracy_score(one["y"], one["p"] > 0.5) for one in each]
        auc = [sk.roc_auc_score(one["y"], one["p"]) for one in each]
        np.testing.assert_allclose(rates[learner, tone, "accuracy"], accuracy)
        np.testing.assert_allclose(rates[learner, tone, "auc"], auc, atol=1e-6)
    gaps = results.disparities(["demographic_parity_difference"], by="tone").set_index("trial")["value"]
    one = table[table["trial"] == "private/1"]
    expected = fl.demographic_parity_difference(one["y"], one["p"] > 0.5, sensitive_features=one["tone"])
    assert gaps[next(name for name in gaps.index if name.startswith("private_1"))] == pytest.approx(expected)


def test_what_a_sweep_can_do_these_results_can(results, tmp_path):
    assert len(results.trials) == 6
    assert results.problems.empty
    assert check_sweep(results.location.local) == []
    pairs = analysis.compare_learners(results, by="tone")
    assert (pairs["replicates"] == 3).all()
    frame = analysis.crossed_frame(results, ["accuracy"], by="tone", draws=50)
    assert len(frame) == 4
    assert results.examples.column("user").to_numpy().max() == 59
    analysis.write_report(results, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 100_000


def test_hard_labels_of_two_or_more_classes_are_results_too():
    truth, guess = [0, 1, 1, 0, 1], [0, 1, 0, 0, 1]
    results = from_predictions(truth, guess, {"tone": list("aabba")})
    assert results.rates(["auc"], by=())["value"].item() == pytest.approx(sk.roc_auc_score(truth, guess))
    words = from_predictions(list("cabcab"), list("cabbab"), {"tone": [1, 1, 2, 2, 1, 2]}, classes=("a", "b", "c"))
    assert words.classes == ("a", "b", "c")
    assert words.rates(["accuracy"], by=())["value"].item() == pytest.approx(5 / 6)
    folder = words.location.local
    assert folder.exists()
    del words
    assert not folder.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_pred": [0, 1, 0]}, "y_pred must have one entry for each of 4"),
        ({"probabilities": [0.1, 0.2, 0.3, 0.4]}, "give y_pred or probabilities, and not both"),
        ({"y_pred": None}, "give y_pred or probabilities"),
        ({"y_pred": None, "probabilities": [0.1, 0.2, 0.3, 1.4]}, r"in \[0, 1\], .* row 3 is 1.4"),
        ({"y_pred": None, "probabilities": np.full((4, 3), 1 / 3)}, "a column for each of the classes"),
        (
            {"y_pred": None, "probabilities": [0.5, 0.5, 0.5]},
            r"the shape \[4, 2\], .*, or \[4\], those of 1, but have the shape \[3\]",
        ),
        (
            {"y_pred": None, "probabilities": [0.5] * 4, "classes": (0, 1, 2)},
            r"the shape \[4, 3\], a row .* classes \[0, 1, 2\], but have the shape \[4\]",
        ),
        ({"groups": {"tone": ["a", None, "b", "b"]}}, "tone must be known for every row, but is missing in 1"),
        ({"groups": {"label": list("aabb")}}, "a name of its own"),
        ({"example": [1, 1, 2, 3]}, "each example must stand once in a trial"),
        ({"trial": list("aabb"), "y_true": [0, 1, 1, 1]}, "one label, group and user in all trials, but number 0"),
        ({"trial": list("aaaa"), "learner": list("aabb")}, "a trial must be of one learner"),
        ({"classes": (0, 2)}, "y_true must be among"),
    ],
)
def test_what_contradicts_itself_is_refused(change, message):
    given = {"y_true": [0, 1, 0, 1], "y_pred": [0, 1, 1, 1], "groups": {"tone": list("abab")}} | change
    with pytest.raises(ValueError, match=message):
        from_predictions(**given)
