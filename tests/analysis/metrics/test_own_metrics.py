"""A metric from a function of the confusion counts stands beside fairsweep's own, with intervals and disparities."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from fairsweep import analysis
from fairsweep.analysis.metrics.disparities import remove_score
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.report.summary_table import summary_tables


@pytest.fixture
def own():
    """Defines a metric for one test."""
    names = []

    def define(name, *arguments, **more):
        names.append(name)
        return analysis.Metric(name, *arguments, **more)

    yield define
    for name in names:
        remove_score(name)


def f1(counts):
    """2 TP over 2 TP, FP and FN."""
    return 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)


def as_builtin(frame, own, builtin):
    """Rows of an own metric and of fairsweep's, without the names, and what they rest on: nobody knows of the own."""
    return [
        frame[frame["metric"] == name].drop(columns=["metric", "n_min"]).reset_index(drop=True)
        for name in (own, builtin)
    ]


def test_an_own_f1_equals_the_builtin_one_with_its_intervals_and_disparities(faces, own):
    results = analysis.load(faces.folder)
    mine = own("my_f1", f1, "higher")
    frame = results.frame([mine, "f1", "my_f1_difference", "f1_difference"], by="tone")
    for name, builtin in ((mine, "f1"), ("my_f1_difference", "f1_difference")):
        pd.testing.assert_frame_equal(*as_builtin(frame, name, builtin))
    gaps = results.disparities(["worst_group_my_f1", "worst_group_f1"], by="tone")
    pd.testing.assert_frame_equal(*as_builtin(gaps, "worst_group_my_f1", "worst_group_f1"))
    assert {"my_f1_difference", "my_f1_ratio", "worst_group_my_f1", "my_f1_below_overall"} <= set(mine.disparities)
    assert frame["low"].notna().all()


def test_an_own_metric_is_listed_and_used_by_name_elsewhere(faces, own):
    own("cost", lambda c: (5 * c.fn + c.fp) / c.n, "lower", range=(0, 5))
    row = analysis.describe().set_index("metric").loc["cost"]
    assert (row["better"], row["reference"]) == ("lower", "defined by the user")
    assert "worst_group_cost" in analysis.METRICS
    results = analysis.load(faces.folder)
    assert np.isfinite(analysis.trend(results, "cost", over="share", learner="tuned").slope)


def test_a_metric_that_is_defined_again_replaces_the_former_one(faces, own):
    results = analysis.load(faces.folder)
    own("errors", lambda c: c.fn / c.n, "lower")
    before = results.rates(["errors"])["value"]
    own("errors", lambda c: (c.fn + c.fp) / c.n, "lower")
    after = results.rates(["errors"])["value"]
    assert (after > before).any()
    np.testing.assert_allclose(after, 1 - results.rates(["accuracy"])["value"])


def test_a_metric_of_all_classes_needs_no_positive_one(digits, own):
    own("right", lambda c: np.diagonal(c.matrix, axis1=-2, axis2=-1).sum(-1) / c.n, "higher", needs_positive=False)
    rates = analysis.load(digits.folder).rates(["right", "accuracy"], by=())
    np.testing.assert_allclose(*(rates[rates["metric"] == name]["value"] for name in ("right", "accuracy")))


@pytest.mark.parametrize(
    ("name", "formula", "direction", "said"),
    [
        ("f1", f1, "higher", "there is a metric 'f1' already"),
        ("accuracy_difference", f1, "higher", "already"),
        ("my f1", f1, "higher", "letters, digits and underscores"),
        ("mine", f1, "up", "higher, lower or none"),
        ("mine", lambda c: c.tp.sum(), "higher", "one number for each entry"),
        ("mine", lambda c: 1.0 if c.tp > 3 else 0.0, "higher", "fails on arrays of counts"),
        ("mine", lambda c: c.hits, "higher", "AttributeError"),
        ("mine", lambda c: c.tp, "higher", "range="),
        ("mine", lambda c: c.tp * np.nan, "higher", "undefined for every count"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(own, name, formula, direction, said):
    with pytest.raises(ValueError, match=said):
        own(name, formula, direction)
    assert "mine" not in analysis.METRICS


FILE = """
from fairsweep.analysis import Metric

cost = Metric("filed_cost", lambda counts: (5 * counts.fn + counts.fp) / counts.n, "lower", range=(0, 5))


def filed_f1(counts):
    return 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)
"""


@pytest.fixture
def stored(faces, tmp_path):
    """Makes a sweep whose file named metrics: its folder is all that there is of them."""

    def make(metrics, own_code, name="copy"):
        folder = tmp_path / name
        shutil.copytree(faces.folder, folder)
        content = json.loads((folder / "sweep.json").read_text())
        content["sweep"] |= {"metrics": metrics, "own_code": own_code}
        write_json(folder / "sweep.json", content)
        return folder

    yield make
    for name in ("filed_cost", "filed_f1"):
        remove_score(name)


def test_metrics_of_a_sweeps_file_are_in_its_tables_and_report_wherever_it_is_opened(stored):
    folder = stored(["gone/my.py:cost", "gone/my.py:filed_f1", "f1"], {"gone/my.py": FILE})
    results = analysis.load(folder)
    assert results.further_metrics() == ("filed_cost", "filed_f1", "f1")
    frame = results.frame(by="tone")
    assert {"filed_cost", "filed_cost_difference", "filed_f1", "f1_difference"} <= set(frame["metric"])
    pd.testing.assert_frame_equal(*as_builtin(frame, "filed_f1", "f1"))
    titles = {table.title: table for table in summary_tables(results)}
    assert "worst group" in titles["Filed cost by tone"].header
    assert "times 100" in titles["Filed cost by tone"].caption
    assert "difference" in titles["Filed f1 by tone"].header
    best = analysis.best_setting(analysis.settings_table(results, ["filed_cost"]), "validation filed_cost")
    assert np.isfinite(best["test filed_cost"])
    assert results.problems.empty


def test_two_sweeps_with_metrics_of_one_name_have_each_its_own(stored):
    one = analysis.load(stored(["my.py:cost"], {"my.py": FILE}, "one"))
    two = analysis.load(stored(["my.py:cost"], {"my.py": FILE.replace("5 *", "3 *")}, "two"))
    first, second, again = (each.rates(["filed_cost"], by=())["value"] for each in (one, two, one))
    assert (first > second).all()
    assert again.equals(first)


def test_a_metric_that_fails_is_a_problem_and_the_rest_opens(stored):
    results = analysis.load(stored(["my.py:cost", "f1"], {"my.py": "import nothing_like_it"}))
    assert "f1" in set(results.rates(by=())["metric"])
    (problem,) = results.problems["message"]
    assert "my.py does not import: my.py, line 1" in problem


def test_text_of_a_sweep_is_not_run_where_that_is_not_wanted(stored, tmp_path):
    mark = tmp_path / "ran"
    folder = stored(["my.py:f"], {"my.py": f"open({str(mark)!r}, 'w')\ndef f(c): return c.tp / c.n"})
    analysis.load(folder, own_metrics=False).frame(by="tone")
    assert not mark.exists()
