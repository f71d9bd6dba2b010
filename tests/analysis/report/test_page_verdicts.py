"""One question has one estimate, one interval and one verdict, in every place that tells it."""

import numpy as np
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.report.headline import headline
from fairsweep.analysis.report.page_verdicts import page_verdicts, step_of
from fairsweep.analysis.report.pair_section import pair_section
from fairsweep.analysis.report.statements import answer
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.verdicts.verdict import Question

LEVEL = "share 0.99"


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


@pytest.fixture(scope="module")
def verdicts(results):
    return page_verdicts(results, design_of(results))


def numbers(row, value):
    return [float(row[name]) for name in (value, "low", "high")]


def told(verdict):
    return [verdict.estimate, verdict.low, verdict.high]


def one_row(table, **wanted):
    (row,) = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])].to_dict("records")
    return row


def test_private_against_twin_is_told_once(results, verdicts):
    asked = Question("difference", "private", "matched", "tone", "dark", LEVEL)
    verdict = verdicts.of(asked)
    pairs = analysis.compare_learners(results, by="tone")
    row = one_row(pairs, first="private", second="matched", level=LEVEL, group="dark")
    assert numbers(row, "difference") == pytest.approx(told(verdict))
    assert row["p_value"] == pytest.approx(verdict.p_value)
    mean = analysis.mean_differences(results, ["accuracy"], by="tone", baseline="twin")
    assert numbers(one_row(mean, series="private", level=LEVEL, group="dark"), "value") == pytest.approx(told(verdict))
    design = design_of(results)
    groups = answer(results, design, verdicts=verdicts)
    found = (*groups, *pair_section(results, design, verdicts).findings)
    listed = [s for group in found for s in group.statements if s.found]
    listed.append(headline(results, design, verdicts, groups, "runs/x").statement)
    same = [s.found for s in listed if s.found.question in (asked, asked.reversed())]
    assert len(same) == 3  # the headline, the finding and the pair
    for found in same:
        found = found if found.question == asked else found.reversed()
        assert told(found) == told(verdict)
        assert (found.word, found.p_adjusted) == (verdict.word, verdict.p_adjusted)


def test_excess_loss_and_trend_are_told_once(results, verdicts):
    design = design_of(results)
    excess = analysis.excess_loss(results, "tone", "dark", learner="private")
    asked = Question("excess", "private", "matched", "tone", "dark", LEVEL)
    assert numbers(one_row(excess, level=LEVEL), "value") == pytest.approx(told(verdicts.of(asked)))
    found = analysis.trend(results, "accuracy", "level_value", by="tone", group="dark", learner="private")
    sign = step_of(found, design)[1]
    slope = verdicts.of(Question("slope", "private", "", "tone", "dark"))
    bounds = sorted((sign * found.low, sign * found.high))
    assert [sign * found.slope, *bounds] == pytest.approx(told(slope))
    assert found.p_value == pytest.approx(slope.p_value)


def test_all_images_together_are_one_question_too(results, verdicts):
    """Whether the groups are named or not, the evaluation set fixes their sizes."""
    design = design_of(results)
    pairs = analysis.compare_learners(results)
    row = one_row(pairs, first="private", second="matched", level=LEVEL)
    table = analysis.mean_differences(results, ["accuracy"], by=(), baseline="twin")
    assert numbers(one_row(table, level=LEVEL), "value") == pytest.approx(numbers(row, "difference"))
    assert design.attribute == "tone"


def test_bold_means_what_the_pairs_say(results):
    table = results.table("series", "level", by="tone", where={"group": "dark"})
    pairs = analysis.compare_learners(results, by="tone")
    for column, level in enumerate(table.column_names):
        mine = pairs[(pairs["level"] == level) & (pairs["group"] == "dark")]
        adjusted = dict(zip(zip(mine["first"], mine["second"], strict=True), mine["p_value"], strict=True))
        fewest = min(adjusted.values())
        losers = {name for name, line in zip(table.row_names, table.bold, strict=True) if not line[column]}
        assert bool(losers) == (3 * fewest < 0.05)


def test_rates_given_the_label_and_other_metrics_are_compared_by_the_same_rule(results):
    for metric in ("true_positive_rate", "positive_predictive_value"):
        pairs = analysis.compare_learners(results, metric, by="tone")
        row = one_row(pairs, first="private", second="tuned", level=LEVEL, group="dark")
        assert row["low"] < row["difference"] < row["high"]
        assert (row["p_value"] < 0.05) == (row["low"] > 0 or row["high"] < 0)
