"""Metrics agree with fairlearn and scikit-learn where those define them, and are NaN with a count where not."""

import doctest

import fairlearn.metrics as fl
import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

import fairsweep.analysis.disparities as disparities
import fairsweep.analysis.metrics as metrics
from fairsweep.analysis.disparities import DISPARITIES, disparity
from fairsweep.analysis.metrics import METRICS, resolve
from fairsweep.analysis.rates import RATES, divide, quotients


def table(seed, groups=3, classes=2, n=200):
    """A random table of examples: group, label, prediction; its cell array."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    label = rng.integers(0, classes, n)
    wrong = rng.random(n) < 0.1 + 0.1 * group
    prediction = np.where(wrong, rng.integers(0, classes, n), label)
    cells = np.zeros((groups, classes, classes), np.int64)
    np.add.at(cells, (group, label, prediction), 1)
    return group, label, prediction, cells


SKLEARN = {
    "accuracy": lambda y, p: sk.accuracy_score(y, p),
    "base_rate": lambda y, p: y.mean(),
    "selection_rate": lambda y, p: fl.selection_rate(y, p),
    "true_positive_rate": lambda y, p: sk.recall_score(y, p),
    "false_negative_rate": lambda y, p: fl.false_negative_rate(y, p),
    "false_positive_rate": lambda y, p: fl.false_positive_rate(y, p),
    "true_negative_rate": lambda y, p: sk.recall_score(y, p, pos_label=0),
    "positive_predictive_value": lambda y, p: sk.precision_score(y, p),
    "negative_predictive_value": lambda y, p: sk.precision_score(y, p, pos_label=0),
}

FAIRLEARN = {
    "demographic_parity_difference": lambda y, p, g: fl.demographic_parity_difference(y, p, sensitive_features=g),
    "demographic_parity_ratio": lambda y, p, g: fl.demographic_parity_ratio(y, p, sensitive_features=g),
    "equal_opportunity_difference": lambda y, p, g: fl.equal_opportunity_difference(y, p, sensitive_features=g),
    "false_positive_rate_difference": lambda y, p, g: fl.false_positive_rate_difference(y, p, sensitive_features=g),
    "equalized_odds_difference": lambda y, p, g: fl.equalized_odds_difference(y, p, sensitive_features=g),
    "equalized_odds_difference_mean": lambda y, p, g: fl.equalized_odds_difference(
        y, p, sensitive_features=g, agg="mean"
    ),
    "accuracy_difference": lambda y, p, g: frame(sk.accuracy_score, y, p, g).difference(method="between_groups"),
    "worst_group_accuracy": lambda y, p, g: frame(sk.accuracy_score, y, p, g).group_min(),
    "predictive_parity_difference": lambda y, p, g: frame(sk.precision_score, y, p, g).difference(),
    "base_rate_difference": lambda y, p, g: frame(lambda t, _: t.mean(), y, p, g).difference(),
    "accuracy_below_overall": lambda y, p, g: (
        frame(sk.accuracy_score, y, p, g).overall - frame(sk.accuracy_score, y, p, g).group_min()
    ),
}


def frame(function, y, p, g):
    return fl.MetricFrame(metrics=function, y_true=y, y_pred=p, sensitive_features=g)


def test_doctest():
    assert doctest.testmod(metrics).failed == 0


@pytest.mark.parametrize("seed", range(5))
def test_rates_agree_with_scikit_learn_and_fairlearn(seed):
    group, label, prediction, cells = table(seed)
    assert set(SKLEARN) == set(RATES)
    for name, reference in SKLEARN.items():
        ours = divide(*quotients(cells, RATES[name], 1))
        theirs = [reference(label[group == g], prediction[group == g]) for g in range(3)]
        np.testing.assert_allclose(ours, theirs, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [2, 5])
def test_disparities_agree_with_fairlearn(seed, groups):
    group, label, prediction, cells = table(seed, groups=groups, n=400)
    assert set(FAIRLEARN) == set(DISPARITIES)
    for name, reference in FAIRLEARN.items():
        ours = disparity(cells, DISPARITIES[name], 1)
        np.testing.assert_allclose(ours, reference(label, prediction, group), atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_one_class_against_the_rest_agrees_with_scikit_learn(seed):
    group, label, prediction, cells = table(seed, groups=2, classes=4, n=600)
    names = tuple("abcd")
    for code, name in enumerate(names):
        metric = resolve(f"true_positive_rate[{name}]", names)
        assert metric.positive == code
        ours = divide(*quotients(cells, RATES["true_positive_rate"], code))
        precision = divide(*quotients(cells, RATES["positive_predictive_value"], code))
        for g in range(2):
            y, p = label[group == g], prediction[group == g]
            assert ours[g] == pytest.approx(sk.recall_score(y, p, labels=[code], average=None)[0])
            assert precision[g] == pytest.approx(sk.precision_score(y, p, labels=[code], average=None)[0])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=12, max_size=12))
def test_every_rate_is_a_share_and_complements_add_up(counts):
    cells = np.array(counts, np.int64).reshape(3, 2, 2)
    values = {}
    for name, rate in RATES.items():
        above, below = quotients(cells, rate, 1)
        assert (above <= below).all()
        values[name] = divide(above, below)
        assert np.isnan(values[name][below == 0]).all()
        assert ((values[name] >= 0) & (values[name] <= 1))[below > 0].all()
    for one, other in (
        ("true_positive_rate", "false_negative_rate"),
        ("true_negative_rate", "false_positive_rate"),
    ):
        total = values[one] + values[other]
        np.testing.assert_allclose(total[~np.isnan(total)], 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=12, max_size=12), st.permutations(range(3)))
def test_disparities_do_not_depend_on_the_order_of_the_groups(counts, order):
    cells = np.array(counts, np.int64).reshape(3, 2, 2)
    for row in DISPARITIES.values():
        np.testing.assert_array_equal(disparity(cells, row, 1), disparity(cells[list(order)], row, 1))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=6, max_size=6))
def test_a_perfect_classifier_has_no_error_based_disparity(counts):
    """Also where a group lacks one label, and there a library may say 1.0."""
    cells = np.zeros((3, 2, 2), np.int64)
    cells[:, [0, 1], [0, 1]] = np.array(counts).reshape(3, 2)
    for name, row in DISPARITIES.items():
        value = disparity(cells, row, 1)
        if row.zero_if_perfect:
            assert np.isnan(value) or value == 0, name
    parity = disparity(cells, DISPARITIES["demographic_parity_difference"], 1)
    np.testing.assert_array_equal(parity, disparity(cells, DISPARITIES["base_rate_difference"], 1))


def test_the_case_in_which_a_library_says_one():
    """One group without positives, perfect predictions: fairlearn's TPR difference is 1, the truth is unknown."""
    label = np.array([1, 1, 0, 0, 0, 0])
    group = np.array([0, 0, 0, 1, 1, 1])
    assert fl.true_positive_rate_difference(label, label, sensitive_features=group) == 1.0
    cells = np.zeros((2, 2, 2), np.int64)
    np.add.at(cells, (group, label, label), 1)
    assert np.isnan(disparity(cells, DISPARITIES["equal_opportunity_difference"], 1))
    assert disparity(cells, DISPARITIES["false_positive_rate_difference"], 1) == 0
    assert disparity(cells, DISPARITIES["accuracy_difference"], 1) == 0


def test_a_group_without_examples_is_no_group_and_one_group_has_no_gap():
    _, _, _, cells = table(0, groups=2)
    padded = np.concatenate([cells, np.zeros((1, 2, 2), np.int64)])
    alone = np.concatenate([cells[:1], np.zeros((2, 2, 2), np.int64)])
    for name, row in DISPARITIES.items():
        assert disparity(padded, row, 1) == disparity(cells, row, 1), name
        assert np.isnan(disparity(alone, row, 1)), name
        assert np.isnan(disparity(np.zeros_like(cells), row, 1)), name


def test_leading_axes_are_independent():
    cells = np.stack([table(seed)[3] for seed in range(6)]).reshape(2, 3, 3, 2, 2)
    for row in DISPARITIES.values():
        stacked = disparity(cells, row, 1)
        assert stacked.shape == (2, 3)
        assert stacked[1, 2] == disparity(cells[1, 2], row, 1)


def test_names_resolve_and_mistakes_are_named():
    binary, digits = ("no", "yes"), tuple("0123456789")
    assert resolve("accuracy", digits).name == "accuracy"
    assert resolve("selection_rate", binary).name == "selection_rate"
    assert resolve("selection_rate", binary, positive="no").name == "selection_rate[no]"
    assert resolve("selection_rate[yes]", binary).name == "selection_rate"
    assert resolve("equalized_odds_difference[3]", digits).title == "Equalised odds difference[3]"
    with pytest.raises(ValueError, match=r"selection_rate\[9\]"):
        resolve("selection_rate", digits)
    with pytest.raises(ValueError, match="must be one of"):
        resolve("fairness", binary)
    with pytest.raises(ValueError, match="'maybe'"):
        resolve("selection_rate", binary, positive="maybe")


def test_the_table_says_what_a_metric_is():
    described = metrics.describe()
    assert list(described["metric"]) == list(METRICS)
    assert (described[["formula", "more than two classes", "reference"]] != "").all().all()
    fixed = {name for name, rate in RATES.items() if not rate.given_label}
    assert fixed == {"positive_predictive_value", "negative_predictive_value"}
    assert disparities.DISPARITIES["accuracy_below_overall"].overall == "contains the group"
