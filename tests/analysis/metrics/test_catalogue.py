"""Metrics agree with fairlearn and scikit-learn where those define them, and are NaN with a count where not."""

import doctest
import itertools
import warnings
from functools import partial

import fairlearn.metrics as fl
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

import fairsweep.analysis.metrics.catalogue as metrics
import fairsweep.analysis.metrics.disparities as disparities
from fairsweep.analysis.metrics.calibration_errors import BINS
from fairsweep.analysis.metrics.catalogue import METRICS, resolve
from fairsweep.analysis.metrics.disparities import DISPARITIES, disparity
from fairsweep.analysis.metrics.probabilities import PROBABILITY_SCORES
from fairsweep.analysis.metrics.rates import RATES, divide, quotients
from fairsweep.analysis.metrics.scores import SCORES


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
    "false_discovery_rate": lambda y, p: 1 - sk.precision_score(y, p),
    "false_omission_rate": lambda y, p: 1 - sk.precision_score(y, p, pos_label=0),
    "false_negative_share": lambda y, p: ((y == 1) & (p == 0)).sum() / (y != p).sum(),
}
OF_CELLS = {name: row for name, row in DISPARITIES.items() if row.of_cells}

SKLEARN_SCORES = {
    "balanced_accuracy": sk.balanced_accuracy_score,
    "worst_class_accuracy": lambda y, p: sk.recall_score(y, p, average=None, zero_division=np.nan).min(),
    "class_accuracy_differences": lambda y, p: pairs_apart(sk.recall_score(y, p, average=None)),
    "f1": lambda y, p: sk.f1_score(y, p, labels=[1], average=None)[0],
    "f2": lambda y, p: sk.fbeta_score(y, p, beta=2, labels=[1], average=None)[0],
    "f_half": lambda y, p: sk.fbeta_score(y, p, beta=0.5, labels=[1], average=None)[0],
    "matthews_correlation": sk.matthews_corrcoef,
    "hard_label_auc": lambda y, p: sk.roc_auc_score(np.eye(max(y) + 1)[y], np.eye(max(y) + 1)[p]),
    "generalized_entropy_index": lambda y, p: entropy(y, p, lambda b: (b**2 - 1) / 2),
    "theil_index": lambda y, p: entropy(y, p, lambda b: b * np.log(np.maximum(b, 1e-300))),
    "macro_f1": lambda y, p: sk.f1_score(y, p, average="macro"),
    "macro_precision": lambda y, p: sk.precision_score(y, p, average="macro"),
}

# How fairlearn's MetricFrame gives each form.
FORMS = {
    "difference": lambda f: f.difference(method="between_groups"),
    "ratio": lambda f: f.ratio(method="between_groups"),
    "lowest": lambda f: f.group_min(),
    "highest": lambda f: f.group_max(),
    "below_overall": lambda f: f.overall - f.group_min(),
    "above_overall": lambda f: f.group_max() - f.overall,
    "from_overall": lambda f: f.difference(method="to_overall"),
    "overall_ratio": lambda f: f.ratio(method="to_overall"),
}

FAIRLEARN = {
    "demographic_parity_difference": fl.demographic_parity_difference,
    "demographic_parity_ratio": fl.demographic_parity_ratio,
    "equal_opportunity_difference": fl.equal_opportunity_difference,
    "equal_opportunity_ratio": fl.equal_opportunity_ratio,
    "false_positive_rate_difference": fl.false_positive_rate_difference,
    "equalized_odds_difference": fl.equalized_odds_difference,
    "equalized_odds_difference_mean": partial(fl.equalized_odds_difference, agg="mean"),
    "equalized_odds_ratio": fl.equalized_odds_ratio,
    "equalized_odds_ratio_mean": partial(fl.equalized_odds_ratio, agg="mean"),
}


def pairs_apart(values):
    return sum(abs(one - other) for one, other in itertools.combinations(values, 2))


def entropy(label, prediction, term):
    """Speicher et al.'s mean over examples of a function of the benefit over its mean."""
    benefit = (prediction == 1).astype(float) - (label == 1) + 1
    return np.mean(term(benefit / benefit.mean()))


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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 4])
def test_scores_agree_with_scikit_learn(seed, classes):
    group, label, prediction, cells = table(seed, classes=classes, n=300)
    assert set(SKLEARN_SCORES) == set(SCORES)
    for name, reference in SKLEARN_SCORES.items():
        ours = SCORES[name].compute(cells, 1)
        theirs = [reference(label[group == g], prediction[group == g]) for g in range(3)]
        np.testing.assert_allclose(ours, theirs, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("groups", [2, 5])
def test_every_combination_of_a_notion_and_a_form_agrees_with_fairlearn(groups):
    """Fairlearn's MetricFrame of each rate and score, in each form."""
    group, label, prediction, cells = table(groups, groups=groups, n=400)
    frames = {name: frame(function, label, prediction, group) for name, function in (SKLEARN | SKLEARN_SCORES).items()}
    seen = set()
    for name, row in DISPARITIES.items():
        if not row.of_cells or row.statistic == "variance" or "false_negative_share" in row.rates:
            continue
        parts = [FORMS[row.statistic](frames[rate]) for rate in row.rates]
        worse = min if row.is_ratio else max
        expected = np.mean(parts) if row.combination == "mean" else worse(parts)
        assert disparity(cells, row, 1) == pytest.approx(expected, abs=1e-12), name
        seen.add(row.statistic)
    assert seen == set(FORMS)
    for name, reference in FAIRLEARN.items():
        ours = disparity(cells, DISPARITIES[name], 1)
        np.testing.assert_allclose(ours, reference(label, prediction, sensitive_features=group), err_msg=name)


def test_differences_agree_with_aif360():
    """AIF360's are signed and of two groups: unprivileged minus privileged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("aif360.sklearn.metrics")
        from aif360.sklearn import metrics as aif
    for seed in range(3):
        group, label, prediction, cells = table(seed, groups=2, n=400)
        index = pd.Index(group, name="g")
        y, p = pd.Series(label, index), pd.Series(prediction, index)
        kwargs = {"prot_attr": "g", "priv_group": 1}
        theirs = {
            "demographic_parity_difference": aif.statistical_parity_difference(y, p, **kwargs),
            "equal_opportunity_difference": aif.equal_opportunity_difference(y, p, **kwargs),
            "equalized_odds_difference_mean": aif.average_odds_error(y, p, **kwargs),
            "predictive_parity_difference": aif.difference(sk.precision_score, y, p, **kwargs),
        }
        for name, reference in (("generalized_entropy_index", 2), ("theil_index", 1)):
            value = SCORES[name].compute(cells.sum(0), 1)
            assert value == pytest.approx(aif.generalized_entropy_error(y, p, alpha=reference)), name
        ratio = aif.disparate_impact_ratio(y, p, **kwargs)
        for name, value in theirs.items():
            assert disparity(cells, DISPARITIES[name], 1) == pytest.approx(abs(value)), name
        assert disparity(cells, DISPARITIES["demographic_parity_ratio"], 1) == pytest.approx(min(ratio, 1 / ratio))


def test_treatment_equality_is_bergs_ratio_on_a_bounded_scale():
    """Shares of false negatives among errors are equal where FN / FP is, and s / (1 - s) is that ratio."""
    _, _, _, cells = table(3, groups=2, n=500)
    share = divide(*quotients(cells, RATES["false_negative_share"], 1))
    np.testing.assert_allclose(share / (1 - share), cells[:, 1, 0] / cells[:, 0, 1])
    assert disparity(cells, DISPARITIES["treatment_equality_difference"], 1) == pytest.approx(abs(share[0] - share[1]))


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_of_predictions_agree_with_scikit_learn(classes):
    rng = np.random.default_rng(classes)
    label = rng.integers(0, classes, 300)
    logits = rng.normal(0, 1, (300, classes)) + 1.2 * np.eye(classes)[label]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    p = np.exp(log_p)
    weights = np.stack([np.ones(300), rng.integers(0, 3, 300)]).astype(float)
    ours = {name: score.compute(log_p, label, weights) for name, score in PROBABILITY_SCORES.items()}
    for i, weight in enumerate(weights):
        repeated = np.repeat(np.arange(300), weight.astype(int))
        y, q = label[repeated], p[repeated]
        assert ours["log_loss"][i] == pytest.approx(sk.log_loss(y, q))
        assert ours["brier_score"][i] == pytest.approx(np.square(q - np.eye(classes)[y]).sum(1).mean())
        positive = q[:, 1] if classes == 2 else q
        assert ours["auc"][i] == pytest.approx(sk.roc_auc_score(y, positive, multi_class="ovr", average="macro"))
        codes = [1] if classes == 2 else range(classes)
        precision = [sk.average_precision_score(y == code, q[:, code]) for code in codes]
        assert ours["average_precision"][i] == pytest.approx(np.mean(precision))
        curves = [sk.roc_curve(y == code, q[:, code], drop_intermediate=False) for code in codes]
        negative = [1 - false[true >= 0.95].min() for false, true, _ in curves]
        assert ours["true_negative_rate_at_95"][i] == pytest.approx(np.mean(negative))
        if classes > 2:
            assert ours["top_2_accuracy"][i] == pytest.approx(sk.top_k_accuracy_score(y, q, k=2))
        by_hand, squares, paired = 0.0, 0.0, 0.0
        weight_of = weights[i]
        edges = np.linspace(0, 1, BINS + 1)
        for low, high in itertools.pairwise(edges):
            inside = (q.max(1) > low) & (q.max(1) <= high)
            if inside.any():
                right = (q.argmax(1) == y)[inside].mean()
                by_hand += inside.mean() * abs(right - q.max(1)[inside].mean())
        assert ours["expected_calibration_error"][i] == pytest.approx(by_hand)
        # The debiased one pairs different examples: copies of one make no pair.
        for low, high in itertools.pairwise(edges):
            mine = np.flatnonzero((p.max(1) > low) & (p.max(1) <= high) & (weight_of > 0))
            error = (p.argmax(1) == label).astype(float) - p.max(1)
            pairs = [(j, k) for j in mine for k in mine if j != k]
            if pairs:
                products = [error[j] * error[k] for j, k in pairs]
                chances = [weight_of[j] * weight_of[k] for j, k in pairs]
                squares += weight_of[mine].sum() * np.average(products, weights=chances)
                paired += weight_of[mine].sum()
        assert ours["calibration_error"][i] == pytest.approx(np.sqrt(max(squares / paired, 0)))


def test_probabilities_of_exactly_zero_or_one_tie():
    """Two positives and two negatives, each certain of both kinds: half of the pairs tie or are told apart by luck."""
    auc = PROBABILITY_SCORES["auc"].compute
    certain = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    rng = np.random.default_rng(0)
    with np.errstate(divide="ignore"):
        log_p = np.log(np.stack([1 - certain, certain], 1))
    for order in (rng.permutation(8) for _ in range(5)):
        ours = auc(log_p[order], label[order], np.ones((1, 8)))[0]
        assert ours == pytest.approx(sk.roc_auc_score(label, certain))
    three = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    with np.errstate(divide="ignore"):
        ours = auc(np.log(three), np.array([0, 1, 1, 2, 2, 0]), np.ones((1, 6)))[0]
    assert ours == pytest.approx(sk.roc_auc_score([0, 1, 1, 2, 2, 0], three, multi_class="ovr"))


def test_certain_examples_of_two_classes_are_ranked_by_their_odds():
    """Logits of 18 and 20 have the same log-probability in float32, 0, and very different odds."""
    logit = np.array([20.0, 19.0, 18.0, -18.0])
    log_p = -np.logaddexp(0, np.stack([logit, -logit], 1)).astype(np.float32)
    log_p[:3, 1] = 0
    label = np.array([1, 1, 0, 0])
    assert PROBABILITY_SCORES["auc"].compute(log_p, label, np.ones((1, 4)))[0] == 1


def test_classes_that_tie_share_the_two_likeliest_places():
    """A label among nine classes of probability 0, behind a certain one, is in second place once in nine times."""
    with np.errstate(divide="ignore"):
        log_p = np.log(np.eye(10)[[0, 0]])
    found = PROBABILITY_SCORES["top_2_accuracy"].compute(log_p, np.array([0, 7]), np.ones((1, 2)))
    assert found == pytest.approx((1 + 1 / 9) / 2)


def test_scores_of_predictions_without_examples_are_nan():
    empty = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros((2, 0))
    one_class = np.log(np.full((4, 2), 0.5)), np.ones(4, np.int64), np.ones((1, 4))
    for score in PROBABILITY_SCORES.values():
        assert np.isnan(score.compute(*empty)).all(), score.name
    assert np.isnan(PROBABILITY_SCORES["auc"].compute(*one_class)).all()
    assert PROBABILITY_SCORES["log_loss"].compute(*one_class)[0] == pytest.approx(np.log(2))


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
    for row in OF_CELLS.values():
        # Variances are sums over groups, whose last bit depends on the order.
        np.testing.assert_allclose(disparity(cells, row, 1), disparity(cells[list(order)], row, 1), atol=1e-15)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=6, max_size=6))
def test_a_perfect_classifier_has_no_error_based_disparity(counts):
    """Also where a group lacks one label, and there a library may say 1.0."""
    cells = np.zeros((3, 2, 2), np.int64)
    cells[:, [0, 1], [0, 1]] = np.array(counts).reshape(3, 2)
    for name, row in OF_CELLS.items():
        value = disparity(cells, row, 1)
        if row.none_if_perfect:
            assert np.isnan(value) or value == row.fair, name
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
    for name, row in OF_CELLS.items():
        assert disparity(padded, row, 1) == pytest.approx(float(disparity(cells, row, 1))), name
        assert np.isnan(disparity(alone, row, 1)), name
        assert np.isnan(disparity(np.zeros_like(cells), row, 1)), name


def test_leading_axes_are_independent():
    cells = np.stack([table(seed)[3] for seed in range(6)]).reshape(2, 3, 3, 2, 2)
    for row in OF_CELLS.values():
        stacked = disparity(cells, row, 1)
        assert stacked.shape == (2, 3)
        assert stacked[1, 2] == pytest.approx(float(disparity(cells[1, 2], row, 1)))


def test_names_resolve_and_mistakes_are_named():
    binary, digits = ("no", "yes"), tuple("0123456789")
    assert resolve("accuracy", digits).name == "accuracy"
    assert resolve("selection_rate", binary).name == "selection_rate"
    assert resolve("selection_rate", binary, positive="no").name == "selection_rate[no]"
    assert resolve("selection_rate[yes]", binary).name == "selection_rate"
    assert resolve("equalized_odds_difference[3]", digits).title == "Equalised odds difference[3]"
    with pytest.raises(ValueError, match=r"selection_rate\[9\]"):
        resolve("selection_rate", digits)
    with pytest.raises(ValueError, match=r"describe\(\) lists, such as .*'equal_opportunity_ratio'"):
        resolve("equal_opportunity_ration", binary)
    with pytest.raises(ValueError, match="'maybe'"):
        resolve("selection_rate", binary, positive="maybe")


def test_the_table_says_what_a_metric_is():
    described = metrics.describe()
    assert list(described["metric"]) == list(METRICS)
    assert (described[["formula", "more than two classes", "reference"]] != "").all().all()
    fixed = {name for name, rate in RATES.items() if not rate.given_label}
    predictive = {"positive_predictive_value", "negative_predictive_value"}
    assert fixed == predictive | {"false_discovery_rate", "false_omission_rate", "false_negative_share"}
    assert {name: rate.given for name, rate in RATES.items() if rate.given != "nothing"} == {
        "true_positive_rate": "label",
        "false_negative_rate": "label",
        "false_positive_rate": "label",
        "true_negative_rate": "label",
        "positive_predictive_value": "prediction",
        "negative_predictive_value": "prediction",
        "false_discovery_rate": "prediction",
        "false_omission_rate": "prediction",
    }
    assert {"equalized_odds_difference", "equalized_odds_difference_mean", "calibration_difference"} <= set(METRICS)
    assert not [name for name, row in DISPARITIES.items() if row.fair == 0 and row.better == "higher"]
    assert disparities.DISPARITIES["accuracy_below_overall"].overall == "contains the group"
