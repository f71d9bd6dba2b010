"""The first screen says the answer once, what it rests on, and what would make it firmer."""

import re
from html.parser import HTMLParser

import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.records.file_names import STATE, TRIALS
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.report.page_verdicts import page_verdicts
from fairsweep.analysis.report.report_content import collect
from fairsweep.analysis.report.statements import statement_of
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.verdicts.verdict import Question, Verdict


class Findings(HTMLParser):
    """Collects the classes of findings, those that are folded apart."""

    def __init__(self, text):
        super().__init__()
        self.opened, self.folded, self._parts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "details":
            self._parts.append("open" in given)
        if tag == "li" and re.match("different|equivalent|undecided|undefined", given.get("class") or ""):
            (self.opened if all(self._parts) else self.folded).append(given["class"].split())

    def handle_endtag(self, tag):
        if tag == "details":
            self._parts.pop()


@pytest.fixture(scope="module")
def content(digits):
    return collect(analysis.load(digits.folder))


def found(kind, estimate, word="different"):
    return Verdict(Question(kind, "private", "plain"), word, estimate, estimate - 0.01, estimate + 0.01, family=3)


def test_the_answer_has_the_number_and_the_verdict_of_its_question(content, digits):
    results = analysis.load(digits.folder)
    design = design_of(results)
    first = content.findings.headline
    asked = first.statement.found.question
    verdict = page_verdicts(results, design).of(asked)
    assert (asked.kind, asked.learner, asked.group, asked.level) == ("difference", "dpsgd", "8", design.levels[-1].text)
    assert first.statement.verdict == verdict.word == "different"
    assert first.statement.text.startswith("Private training (dpsgd, ε = 6.23) costs the rare class (digit = 8) ")
    assert f"{-100 * verdict.estimate:.1f} points of accuracy (95% CI " in first.statement.text
    excess = page_verdicts(results, design).of(Question("excess", *asked_pair(asked), "digit", "8", asked.level))
    others = 100 * (verdict.estimate + excess.estimate)
    change = f"{'a loss' if others < 0 else 'a gain'} of {abs(others):.1f}"
    assert f"the estimate for the other classes on average is {change}" in first.statement.text
    assert dict(first.trust)["Seeds"] == "5"


def asked_pair(question):
    return question.learner, question.baseline


def test_an_undecided_answer_does_not_claim_a_loss(faces):
    first = collect(analysis.load(faces.folder)).findings.headline
    assert first.statement.found.question.baseline == "matched"  # its twin, not the learner tuned apart
    if first.statement.verdict == "undecided":
        assert first.statement.text.startswith("Whether private training (private, ε = 3) costs the rare group")
    assert "the same training without privacy (matched)" in first.statement.text
    assert "; the estimate for tone = light is a" in first.statement.text
    names = {trace.name for trace in first.figure.figure.data if trace.showlegend}
    assert names == {"light tone", "dark tone"}
    titles = {note.text for note in first.figure.figure.layout.annotations}
    assert {"private", "matched"} <= titles
    assert "tuned" not in titles


def test_few_seeds_are_said_with_the_minutes_and_the_command_that_adds_them(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=2, shares=(0.5,), per_cell=20)
    simulation.write_sweep_json(sweep={"seeds": 2, "output": "my runs/s"})
    for i, folder in enumerate(sorted((simulation.folder / TRIALS).iterdir())):
        # Two trials at a time, a minute each, and a night between the second pair and the third.
        state = read_json(folder / STATE) | {"seconds": 60.0, "updated": 1e9 + 60 * (i // 2) + 40_000 * (i > 3)}
        write_json(folder / STATE, state)
    more = collect(analysis.load(simulation.folder)).findings.headline.more
    assert more == (
        "2 seeds so far: with fewer than 5, intervals are wide. 3 more on the same machine take about 4 minutes:",
        "fairsweep extend 'my runs/s' --seeds 5",
    )
    simulation.write_sweep_json(sweep={"seeds": 2, "learners": []})  # its file names no output
    assert collect(analysis.load(simulation.folder)).findings.headline.more[1] == (
        "fairsweep extend runs/simulated --seeds 5"
    )
    simulation.write_sweep_json(sweep={"seeds": 5})
    assert collect(analysis.load(simulation.folder)).findings.headline.more == ("", "")


def test_at_most_three_findings_are_open(faces, digits):
    for sweep in (faces, digits):
        results = analysis.load(sweep.folder)
        page = Findings(analysis.write_report(sweep.folder).read_text())
        assert len(page.opened) <= 3
        assert len(page.opened) + len(page.folded) >= len(page_verdicts(results, design_of(results)).found) - 1


@pytest.mark.parametrize(
    ("kind", "estimate", "direction"),
    [
        ("difference", -0.1, "harm"),
        ("excess", 0.1, "harm"),
        ("growth", 0.1, "harm"),
        ("gap", -0.1, "harm"),
        ("slope", -0.1, "harm"),
        ("difference", 0.1, "benefit"),
        ("gap", 0.1, "benefit"),
        ("slope", 0.0, "none"),
    ],
)
def test_the_direction_of_harm_follows_the_question(kind, estimate, direction):
    assert statement_of("", found(kind, estimate)).direction == direction
    assert statement_of("", found(kind, estimate, "undecided")).direction == direction
    assert statement_of("", found(kind, estimate, "equivalent")).direction == "none"


def test_a_proven_harm_looks_like_one(content):
    statements = [one for group in (*content.findings.answer, *content.findings.further) for one in group.statements]
    assert any(one.verdict == "different" and one.direction == "harm" for one in statements)
    assert all(one.direction != "benefit" for one in statements if one.found.question.learner == "dpsgd")
