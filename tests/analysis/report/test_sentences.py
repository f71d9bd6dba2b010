"""Every sentence with a verdict that a report can make, over all outcomes that a question can have.

``pytest --log-cli-level=INFO -k every_sentence`` prints them with ``#`` in the place of numbers, to be read through.
"""

import logging
import re
from dataclasses import replace

import numpy as np
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.report.arbitrariness_section import arbitrariness_section
from fairsweep.analysis.report.headline import headline
from fairsweep.analysis.report.page_verdicts import PageVerdicts, page_verdicts
from fairsweep.analysis.report.pair_section import pair_section
from fairsweep.analysis.report.report_content import collect
from fairsweep.analysis.report.report_page import render
from fairsweep.analysis.report.selection_section import selection_section
from fairsweep.analysis.report.statements import answer
from fairsweep.analysis.report.study_description import data_sentences
from fairsweep.analysis.report.trend_section import trend_section
from fairsweep.analysis.results.imbalance_design import design_of

LISTED = logging.getLogger(__name__)
NAN = float("nan")
COLLAPSED = "private predicts one class for every test image"
OUTCOMES = {
    "different, a loss": {"word": "different", "estimate": -0.121, "low": -0.2, "high": -0.05, "p_adjusted": 0.0004},
    "different, a gain": {"word": "different", "estimate": 0.03, "low": 0.01, "high": 0.05, "p_adjusted": 0.012},
    "different, collapsed": {"word": "different", "estimate": -0.3, "low": -0.4, "high": -0.2, "note": COLLAPSED},
    "equivalent": {
        "word": "equivalent",
        "estimate": -0.003,
        "low": -0.008,
        "high": 0.002,
        "equivalence_adjusted": 0.01,
    },
    "undecided": {"word": "undecided", "estimate": -0.03, "low": -0.08, "high": 0.02, "seeds_needed": 9},
    "undecided, a gain": {"word": "undecided", "estimate": 0.03, "low": -0.02, "high": 0.08, "seeds_needed": 5000},
    "undecided, beyond 0": {
        "word": "undecided",
        "estimate": -0.03,
        "low": -0.058,
        "high": -0.002,
        "images_needed": 900,
    },
    "undecided, no difference": {"word": "undecided", "estimate": 0.0, "low": -0.05, "high": 0.05},
    "undecided, one seed": {"word": "undecided", "seeds": 1, "p_value": NAN, "p_adjusted": NAN, "superiority": None},
    "undecided, runs agree": {"word": "undecided", "low": NAN, "high": NAN, "p_value": NAN, "images": 0},
    "undefined": {"word": "undefined", "estimate": NAN, "low": NAN, "high": NAN, "note": "fewer than two groups"},
}
USUAL = {"p_value": 0.04, "p_adjusted": 0.3, "family": 14, "seeds": 3, "images": 300, "detectable": 0.09, "note": ""}
MARGIN = 0.02
FEW = ("different, a loss", "equivalent", "undecided", "undefined")
"""Outcomes of the sections that take longer to make."""


@pytest.fixture(
    scope="module", params=["two groups", "ten classes", "no private learner", "small groups", "release", "people"]
)
def told(request, faces, digits):
    """A sweep, its design, its verdicts."""
    results = analysis.load(digits.folder if request.param == "ten classes" else faces.folder)
    if request.param == "no private learner":
        results = results.filter(learner="tuned")
    if request.param == "small groups":
        results = analysis.load(faces.folder, min_group_size=1000)
    if request.param == "release":
        for folder in results.folders:
            folder.config["mode"] = "release"
    if request.param == "people":
        results = imported()
    design = design_of(results)
    return results, design, page_verdicts(results, design)


def imported(people=60, images=5):
    """Predictions of two methods that another program trained three times each, about people with several images."""
    rng = np.random.default_rng(0)
    truth, tone = (np.tile(np.repeat(np.arange(people) // n % 2, images), 6) for n in (2, 1))
    return analysis.from_predictions(
        truth,
        np.where(rng.random(len(truth)) < 0.8, truth, 1 - truth),
        {"tone": np.where(tone, "dark", "light")},
        user=np.tile(np.repeat(np.arange(people), images), 6),
        trial=np.repeat([f"{name}/{seed}" for name in "ab" for seed in range(3)], people * images),
        learner=np.repeat(["a", "b"], 3 * people * images),
        seed=np.repeat([0, 1, 2] * 2, people * images),
    )


def statements(told, outcome, *, with_trends):
    """All statements of a page on which every question has one outcome."""
    results, design, known = told
    margin = MARGIN if outcome["word"] == "equivalent" else None
    changed = {
        question: replace(verdict, **{"margin": margin, "seeds_needed": NAN, "images_needed": NAN} | USUAL | outcome)
        for question, verdict in known.found.items()
    }
    verdicts = PageVerdicts(changed, margin)
    groups = answer(results, design, verdicts=verdicts)
    found = [statement for group in groups for statement in group.statements]
    first = headline(results, design, verdicts, groups, "runs/x")
    sections = [pair_section(results, design, verdicts)]
    if with_trends:
        sections.append(trend_section(results, design, verdicts))
    found += [] if first is None else [first.statement]
    found += [s for section in sections if section for group in section.findings for s in group.statements]
    return found


@pytest.mark.parametrize("outcome", list(OUTCOMES))
def test_every_sentence_says_what_its_verdict_allows(told, outcome, request):
    if outcome not in FEW and request.node.callspec.params["told"] not in ("two groups", "ten classes"):
        pytest.skip("said of the usual sweeps")
    for statement in statements(told, OUTCOMES[outcome], with_trends=outcome in FEW):
        text = f"{statement.text} {statement.reason}"
        LISTED.info("%s: %s", outcome, re.sub(r"\d[\d.,]*\d|\d", "#", text))
        assert not re.search(r"\bnan\b|\binf\b|None|\s\s| ,|\(\)|\(; |; \)|\b1 seeds|\+|--", text)
        if request.node.callspec.params["told"] == "people":
            assert not re.search(r"\bimages?\b", text)  # of imported predictions nobody knows what they are of
        assert statement.text.endswith(".")
        assert statement.text[0].isupper()
        claims = re.search(r"\b(lowers|raises|costs|gains|loses)\b", statement.text)
        if statement.verdict == "undecided":
            assert "undecided" in statement.text
            assert claims is None or statement.text.startswith("Whether ")
        elif statement.verdict == "equivalent":
            assert "within 2 points" in statement.text or "less than 2 points" in statement.text
        elif statement.verdict == "undefined":
            assert not re.search(r"\d+\.\d points", statement.text)
        assert statement.direction == "none" or np.isfinite(statement.found.estimate)


def test_a_page_on_other_data_than_images_speaks_of_what_it_has(faces):
    """Captions, axes, tables and sentences of a sweep over imbalance, with twins and diagnostics."""
    results = analysis.load(faces.folder).filter(learner=["private", "matched"], share=[0.5, 0.99])
    results.sweep["dataset"]["unit"] = "patient"
    page = render(collect(results)).partition("<body>")[2].partition('<script type="text/plain"')[0]
    assert page.count("patients") > 20
    assert not re.findall(r".{0,60}(?<!No example )\bimages?\b.{0,20}", page)


def test_other_sections_on_imported_predictions_count_what_they_are_of():
    """Two settings, of which the better one is named on test: they have no validation split."""
    results = imported()
    design = design_of(results)
    sections = arbitrariness_section(results, design), selection_section(results, design)
    texts = [*data_sentences(results, design)]
    for section in sections:
        texts += [*section.sentences, *(one.caption for one in (*section.figures, *section.tables))]
    assert len(texts) > 5
    assert not [text for text in texts if re.search(r"\bimages?\b", text, re.IGNORECASE)]
    assert any("resampled examples" in text for text in texts)
