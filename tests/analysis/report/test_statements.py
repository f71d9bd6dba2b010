"""Sentences say what the numbers allow and not more."""

import numpy as np
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.figures import plots
from fairsweep.analysis.inference.candidates import candidates
from fairsweep.analysis.inference.selection import best_setting
from fairsweep.analysis.records.file_names import CONFIG
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.report.baselines import comparisons
from fairsweep.analysis.report.headline import extreme_groups, headline, opened
from fairsweep.analysis.report.page_verdicts import page_verdicts
from fairsweep.analysis.report.pair_section import pair_section
from fairsweep.analysis.report.selection_section import selection_section
from fairsweep.analysis.report.statements import accuracy_change, answer, caveats, question
from fairsweep.analysis.report.trend_section import trend_section
from fairsweep.analysis.results.imbalance_design import design_of, named, shown
from fairsweep.analysis.verdicts.verdict import Question, Verdict
from fairsweep.analysis.verdicts.verdict_sentences import points_text


def test_numbers_are_points_with_a_true_minus():
    assert points_text(-0.18, -0.25, -0.109) == "−18.0 points [−25.0, −10.9]"  # noqa: RUF001
    assert points_text(0.0, -0.0, 0.0) == "0.0 points [0.0, 0.0]"


def test_a_change_has_its_sign_in_the_verb_and_what_is_undecided_is_not_claimed():
    asked = Question("difference", "private", "plain", "tone", "dark", "share 0.9")
    found = Verdict(asked, "different", -0.121, -0.2, -0.05, seeds=3, images=60)
    assert accuracy_change("learner private", "test accuracy for tone = dark", found, " compared with plain") == (
        "Learner private lowers test accuracy for tone = dark by 12.1 points [5.0, 20.0] compared with plain (3 seeds, "
        "60 test images)."
    )
    found = Verdict(asked, "undecided", 0.03, -0.01, 0.07, seeds=3)
    assert accuracy_change("learner private", "test accuracy for tone = dark", found) == (
        "Whether learner private raises test accuracy for tone = dark is undecided: the estimate is a gain of "
        "3.0 points [−1.0, 7.0] (3 seeds)."  # noqa: RUF001
    )


def test_the_question_names_what_is_rare(faces, digits):
    results = analysis.load(faces.folder)
    design = design_of(results)
    assert (design.attribute, design.rare) == ("tone", ("dark",))
    assert [level.value for level in design.levels] == [0.5, 0.9, 0.99]
    assert question(results, design) == (
        "How does differential privacy affect accuracy for each group of tone when predicting smiling, as images with "
        "tone = dark become rarer in the training set?"
    )
    results = analysis.load(digits.folder)
    design = design_of(results)
    assert (design.attribute, design.rare, design.of_label, design.is_trend) == ("digit", ("8",), True, False)
    assert question(results, design).endswith("with few training images with digit = 8?")
    assert shown(results, "digit", "8") == "digit 8"


def test_the_question_names_forgetting(tmp_path, simulate):
    sweep = simulate["faces"](tmp_path / "sweep", replicates=1, shares=(0.9,))
    simulate["face_trial"](sweep, sweep.learners["tuned"] | {"kind": "sisa"}, 0.9, 0)
    sweep.write_sweep_json()
    results = analysis.load(sweep.folder)
    asked = question(results, design_of(results))
    assert asked.startswith("How do differential privacy and unlearning affect accuracy for each group of tone when")


def test_twins_and_separately_tuned_learners_are_called_so(faces):
    results = analysis.load(faces.folder)
    found = comparisons(results)
    assert [(c.learner, c.baseline) for c in found] == [("private", "twin"), ("private", "tuned")]
    assert "matched twin" in found[0].words
    assert "separately tuned" in found[1].words
    texts = [statement.text for section in answer(results, design_of(results)) for statement in section.statements]
    assert any("its matched twin (matched)" in text for text in texts)
    assert any("tuned (separately tuned)" in text for text in texts)
    assert any("mixes the effect of privacy" in text for text in caveats(results, answer(results, design_of(results))))


def test_a_private_learner_without_a_twin_is_not_compared_with_anothers(tmp_path, simulate):
    """Nor does a baseline with several settings, with which no trial can be paired, stop the answer."""
    sweep = simulate["faces"](tmp_path / "sweep", replicates=1, shares=(0.9,))
    names = {config["name"]: config for config in sweep.learners.values()}
    simulate["face_trial"](sweep, names["private"] | {"name": "private-loose", "epsilon": 9.0}, 0.9, 0)
    simulate["face_trial"](sweep, names["tuned"] | {"batch_size": 7}, 0.9, 0)
    sweep.write_sweep_json()
    results = analysis.load(sweep.folder)
    found = [(c.learner, c.baseline) for c in comparisons(results)]
    assert found == [("private", "twin"), ("private", "tuned"), ("private-loose", "tuned")]
    titles = [section.title for section in answer(results, design_of(results))]
    assert "Excess loss of rare groups" in titles


def test_numbers_in_sentences_are_those_of_the_tables(digits):
    results = analysis.load(digits.folder)
    sections = {section.title: section for section in answer(results, design_of(results))}
    row = analysis.excess_loss(results, "digit", "8", learner="dpsgd", baseline="sgd").iloc[0]
    (statement,) = sections["Excess loss of rare groups"].statements
    assert f"{100 * row['value']:.1f} points" in statement.text
    assert statement.found.estimate == pytest.approx(row["value"])
    assert statement.verdict == "different"
    assert "5 seeds, 100 test images" in statement.text
    gaps = {s.found.question.learner: s for s in sections["Accuracy gap between classes"].statements}
    assert gaps["dpsgd"].verdict == "different"
    assert gaps["dpsgd"].text.startswith("Learner dpsgd: accuracy for digit = 8 is ")
    assert "the other classes on average" in gaps["sgd"].text


def test_equal_learners_do_not_differ_significantly(tmp_path, simulate, monkeypatch):
    """Private and twin with one and the same truth: hardly a sentence may claim a difference."""
    truth = simulate["truth"]
    monkeypatch.setitem(truth, "private", truth["matched"])
    significant = total = 0
    for seed in range(6):
        simulation = simulate["faces"](tmp_path / str(seed), replicates=3, per_cell=30, shares=(0.5,), seed=seed)
        results = analysis.load(simulation.folder)
        for section in answer(results, design_of(results)):
            if section.title in ("Effect of privacy on accuracy", "Excess loss of rare groups"):
                total += len(section.statements)
                significant += sum(statement.verdict == "different" for statement in section.statements)
    assert total == 24
    assert significant <= 1


def test_one_replicate_is_said(unfinished):
    results = analysis.load(unfinished.folder)
    design = design_of(results)
    assert [level.value for level in design.levels] == [0.5, 0.9]
    sections = answer(results, design)
    assert all(statement.verdict != "different" for section in sections for statement in section.statements)
    assert any("only one replicate" in text for text in caveats(results, sections))


def test_a_sweep_without_imbalance_or_privacy_has_an_answer_too(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    for replicate in (0, 1):
        simulation.trial({"name": "tuned", "kind": "sgd"}, None, 0.5, replicate, counts=[(0, 0, 0, 10), (1, 0, 1, 20)])
    results = analysis.load(simulation.folder)
    design = design_of(results)
    assert (design.attribute, design.rare, design.is_trend) == ("tone", (), False)
    assert question(results, design) == "How accurate are the models for each group of tone when predicting smiling?"
    sections = answer(results, design)
    assert [section.title for section in sections] == ["Accuracy gap between groups"]
    assert results.trials["level"].unique().tolist() == ["natural"]


@pytest.mark.parametrize("form", ["minority_size", "keep"])
def test_other_forms_of_imbalance_make_levels(tmp_path, simulate, form):
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    for size in (400, 40):
        imbalance = {"attribute": "tone"}
        if form == "keep":
            imbalance |= {"keep": {"dark": size}}
        else:
            imbalance |= {"majority": "light", "majority_size": 1000, "minority_size": size}
        counts = [(0, 0, 0, 1000), (1, 0, 1, size)]
        level = 0.5 if size == 400 else 0.99
        for learner in ("private", "matched"):
            config = {"name": learner, "kind": "dpsgd", "twin_of": "private" if learner == "matched" else None}
            simulation.trial(config, imbalance, level, 0, counts=counts)
    results = analysis.load(simulation.folder)
    design = design_of(results)
    assert [level.value for level in design.levels] == [400, 40]
    assert [level.rare_count for level in design.levels] == [400, 40]
    assert design.is_trend
    assert design.rare == ("dark",)
    column = "minority_size" if form == "minority_size" else "level_value"
    assert set(results.trials[column]) == {400, 40}


def test_crossed_seeds_are_said(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    for replicate, (data, train) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        folder = simulate["face_trial"](simulation, {"name": "tuned", "kind": "sgd"}, 0.5, replicate)
        config = read_json(folder / CONFIG)
        write_json(folder / CONFIG, config | {"seeds": {"data": data, "train": train}})
    results = analysis.load(simulation.folder)
    assert any("share data seeds" in text for text in caveats(results, answer(results, design_of(results))))


def test_sentences_name_a_group_with_its_attribute(faces):
    results = analysis.load(faces.folder)
    assert named(results, "tone", "dark") == "tone = dark"
    assert named(results, "shape", "long") == "shape = long"
    assert named(results, "smiling", "no") == "smiling = no"


def test_a_bound_that_is_not_0_does_not_read_as_0():
    assert points_text(0.09, 0.0003, 0.188) == "9.0 points [0.03, 18.8]"
    assert points_text(0.0, float("nan"), float("nan")) == "0.0 points"


def test_a_question_has_one_number_and_one_verdict_wherever_it_is_shown(faces):
    results = analysis.load(faces.folder)
    design = design_of(results)
    changes = next(one for one in answer(results, design) if one.title == "Effect of privacy on accuracy")
    pairs = pair_section(results, design)
    for statement in changes.statements:
        asked = statement.found.question
        (same,) = (one for one in pairs.findings[0].statements if one.found.question in (asked, asked.reversed()))
        assert (same.verdict, same.reason) == (statement.verdict, statement.reason)
        found = same.found if same.found.question == asked else same.found.reversed()
        numbers = [(one.question, one.estimate, one.low, one.high, one.p_adjusted) for one in (found, statement.found)]
        assert numbers[0] == numbers[1]
    trends = trend_section(results, design).findings[0].statements
    everything = [s.found for g in answer(results, design) for s in g.statements] + [s.found for s in trends]
    assert {one.family for one in everything if one.family} == {page_verdicts(results, design).family}


def test_a_margin_of_the_sweep_file_tests_equivalence(tmp_path, simulate, monkeypatch):
    truth = simulate["truth"]
    monkeypatch.setitem(truth, "private", truth["matched"])
    simulation = simulate["faces"](
        tmp_path / "s", replicates=6, per_cell=150, shares=(0.5,), shared=1.0, training_spread=0.0
    )
    simulation.write_sweep_json(sweep={"analysis": {"margin": 0.05}})
    results = analysis.load(simulation.folder)
    design = design_of(results)
    changes = next(one for one in answer(results, design) if one.title == "Effect of privacy on accuracy")
    assert [one.verdict for one in changes.statements] == ["equivalent", "equivalent"]
    assert "A difference of 5 points or more is excluded" in changes.statements[0].reason
    wide = page_verdicts(results, design, margin=0.0001)
    assert {one.word for one in wide.kind("difference")} == {"undecided"}


def collapsing(folder, simulate, learners=("private", "tuned")):
    """A sweep in which ``private`` predicts one class whatever it is given, and ``tuned`` and others do not."""

    def accuracy(learner, level, codes, label):
        return np.where(label == 0, 1.0, 0.0) if learner == "private" else np.full(len(label), 0.8)

    sweep = simulate["simulation"](
        folder, simulate["face_words"], ("tone", "shape"), "smiling", 10, accuracy, training_spread=0.0
    )
    for replicate in range(3):
        for name in learners:
            learner = {"name": name, "kind": "dpsgd" if name == "private" else "sgd", "epochs": 8, "epsilon": None}
            for share in (0.5, 0.9):
                simulate["face_trial"](
                    sweep, learner | {"epsilon": 3.0} if name == "private" else learner, share, replicate
                )
    sweep.write_sweep_json()
    return sweep


def test_a_collapsed_learner_is_named_in_answer_and_tables(tmp_path, simulate):
    sweep = collapsing(tmp_path / "sweep", simulate)
    results = analysis.load(sweep.folder)
    found = results.collapsed()
    assert set(found["series"]) == {"private"}
    assert len(found) == 6
    assert set(found["prediction"]) == {"no"}
    design = design_of(results)
    first = answer(results, design)[0]
    assert first.title == "Collapsed learners"
    assert [one.text for one in first.statements] == [
        f"Learner private ({level}) has collapsed in 3 of 3 replicates: it predicts smiling = no for every test image."
        for level in dict.fromkeys(found["level"])
    ]
    table = analysis.summary_tables(results)[0]
    runs = table.frame().groupby("learner")["runs"].unique()
    assert list(runs["private"]) == ["3, 3 collapsed"]
    assert list(runs["tuned"]) == ["3"]
    assert "Collapsed: the model predicts one class for every test image." in table.caption
    trends = trend_section(results, design)
    for text in [statement.text for group in trends.findings for statement in group.statements]:
        assert "nan" not in text
        assert "private" not in text or text.endswith("the trend of the test accuracy for tone = dark is undefined.")
    assert any("private predicts one class for every test image" in one.reason for one in trends.findings[0].statements)


def first_screen(results):
    design = design_of(results)
    verdicts = page_verdicts(results, design)
    return headline(results, design, verdicts, answer(results, design, verdicts=verdicts), "runs/x")


def test_a_collapsed_learner_is_neither_the_answer_nor_the_fairest(tmp_path, simulate):
    """Its gap is 0 and it was the first: headline, selection and front named it."""
    results = analysis.load(collapsing(tmp_path / "sweep", simulate, ("private", "tuned", "other")).folder)
    design = design_of(results)
    first = first_screen(results)
    asked = first.statement.found.question
    assert "private" not in (asked.learner, asked.baseline)
    assert first.statement.verdict != "undefined"
    assert first.collapsed == (
        "At share 0.9, 1 of 3 learners has collapsed (one class is predicted for every test image) and has no part in "
        "this answer: private."
    )
    shown_first, folded = (
        [one for group in part for one in group.statements] for part in opened(answer(results, design), first)
    )
    assert [one.found is None for one in shown_first] == [True, False, False]
    assert [one.found is None for one in folded].count(True) == 1
    table = candidates(results, by="tone")
    fallen = table["learner"] == "private"
    assert table.loc[fallen, "collapsed"].tolist() == [3, 3]
    assert not table.loc[fallen, ["front", "best"]].to_numpy().any()
    assert best_setting(table, "validation accuracy_difference")["learner"] != "private"
    assert best_setting(table[fallen], "validation accuracy_difference")["learner"] == "private"
    section = selection_section(results, design)
    assert not [text for text in section.sentences[:-1] if "private" in text]
    assert section.sentences[-1] == (
        "Left out of the selection: 1 of 3 settings, of which a run has collapsed: it predicts one class for every "
        "validation image, so that its groups differ in nothing that it has learnt. This is private (3 of 3 runs)."
    )
    assert [row[-1] for row in section.tables[0].rows if row[1] == "private"] == ["collapsed", "collapsed"]
    drawn = plots.pareto_front(results, "tone", level="share 0.9")
    (front,) = [trace for trace in drawn.data if trace.name == "not dominated"]
    assert min(front.y) > 0.6
    assert "private (collapsed)" in {trace.name for trace in drawn.data}
    (text,) = [one for one in extreme_groups(results, design) if one.startswith("private")]
    assert text.endswith("collapsed: it predicts one class for every test image")
    gaps = results.table("series", "level", metrics=["accuracy_difference"])
    assert not gaps.numbers.loc[gaps.numbers["learner"] == "private", "bold"].any()
    assert (
        "Collapsed, and never bold: private (share 0.5), private (share 0.9); a run predicts one class" in gaps.caption
    )
    alone = results.filter(learner=["private"])
    assert first_screen(alone).statement.verdict == "undefined"  # and nothing else could be said


def test_both_intervals_of_a_gap_are_told_apart(tmp_path, simulate):
    results = analysis.load(collapsing(tmp_path / "sweep", simulate, ("tuned",)).folder).filter(share=0.9)
    assert "signed difference" in first_screen(results).lead
    (gaps,) = [one for one in answer(results, design_of(results)) if one.title.startswith("Accuracy gap")]
    assert "signed difference" in gaps.lead
    assert "simultaneous" in gaps.lead
    (table,) = [one for one in analysis.summary_tables(results) if one.title == "Disparities by tone"]
    assert "cut at 0" in table.caption
    assert "signed difference" in table.caption
