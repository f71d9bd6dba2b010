"""Verdicts of a family of questions."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fairsweep.analysis.statistics.effects import effect_of_values
from fairsweep.analysis.statistics.multiplicity import holm
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds
from fairsweep.analysis.verdicts.verdict import Finding, Question, decide
from fairsweep.analysis.verdicts.verdict_sentences import reason

PRIVACY = Question("difference", "private", "plain", "tone", "dark", "share 0.9")


def finding(values, **changes):
    values = np.asarray(values, float)
    seeds = ReplicateSeeds.of(np.arange(len(values)), np.arange(len(values)))
    return Finding(replace(PRIVACY, **changes), effect_of_values(values, seeds))


def test_three_words():
    given = [
        finding([-0.11, -0.12, -0.10, -0.12, -0.11]),
        finding([0.001, -0.001, 0.002, 0.0, -0.002], group="light"),
        finding([-0.2, 0.1, 0.05, -0.1, 0.2], group="all"),
    ]
    found = decide(given, margin=0.02)
    assert [one.word for one in found] == ["different", "equivalent", "undecided"]
    assert {one.family for one in found} == {3}
    assert found[0].estimate == pytest.approx(-0.112)
    assert found[2].seeds_needed > 5
    assert found[2].detectable > 0.2
    assert [one.word for one in decide(given)] == ["different", "undecided", "undecided"]


@pytest.mark.parametrize("kind", ["difference", "slope", "step"])
def test_where_nothing_can_be_detected_no_number_is_given(kind):
    """Two seeds far apart: a difference of 1,006 points was called detectable."""
    (found,) = decide([finding([-0.3, 0.4], kind=kind)])
    assert np.isinf(found.detectable)
    assert "too small to detect any difference" in reason(found)


def test_a_small_difference_within_the_margin_does_not_matter():
    (found,) = decide([finding([0.005, 0.006, 0.005, 0.006])], margin=0.02)
    assert found.p_value < 0.001
    assert found.word == "equivalent"


def test_one_family_is_corrected_and_its_intervals_are_not():
    rng = np.random.default_rng(0)
    given = [finding(rng.normal(0.02, 0.02, 5), group=str(i)) for i in range(8)]
    found = decide(given)
    np.testing.assert_allclose([one.p_adjusted for one in found], holm([one.p_value for one in found]))
    alone = [decide([one])[0] for one in given]
    assert [(one.low, one.high) for one in found] == [(one.low, one.high) for one in alone]
    assert sum(one.word == "different" for one in found) < sum(one.word == "different" for one in alone)


def test_a_family_rarely_claims_anything_without_an_effect():
    rng = np.random.default_rng(1)
    claims = sum(
        any(one.word == "different" for one in decide([finding(v, group=str(i)) for i, v in enumerate(values)]))
        for values in rng.normal(0, 0.02, (100, 6, 3))
    )
    assert claims <= stats.binom.ppf(0.999, 100, 0.05)


def test_what_cannot_be_asked_says_why():
    one, nothing, without = decide(
        [finding([0.1]), Finding(PRIVACY, None, note="no trial is done"), finding([np.nan, np.nan])]
    )
    assert (one.word, one.seeds, one.family) == ("undecided", 1, 0)
    assert np.isnan(one.p_value)
    assert (nothing.word, nothing.note) == ("undefined", "no trial is done")
    assert without.word == "undefined"


def test_the_reversed_question_has_the_reversed_answer():
    (found,) = decide([finding([-0.11, -0.12, -0.10])])
    back = found.reversed()
    assert (back.question.learner, back.question.baseline) == ("plain", "private")
    assert (back.estimate, back.low, back.high) == (-found.estimate, -found.high, -found.low)
    assert back.reversed() == found


def test_a_margin_must_be_positive():
    with pytest.raises(ValueError, match="margin must be above 0"):
        decide([finding([0.1, 0.2])], margin=0.0)
