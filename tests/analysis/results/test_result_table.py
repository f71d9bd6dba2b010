"""Tables for papers hold the averaged numbers, and what is bold is not significantly beaten."""

import re

import numpy as np
import pytest

import fairsweep.analysis as analysis

TRUE = {"good": 0.90, "alike": 0.90, "bad": 0.60}


@pytest.fixture
def learners(simulate, tmp_path):
    """Two learners of one accuracy and one far below; returns a function of the number of replicates."""

    def made(replicates):
        simulation = simulate["simulation"](
            tmp_path / f"s{replicates}",
            simulate["face_words"],
            ("tone", "shape"),
            "smiling",
            40,
            lambda learner, level, codes, label: np.full(len(label), TRUE[learner]),
        )
        for name, rate in zip(TRUE, (0.1, 0.2, 0.3), strict=True):
            for replicate in range(replicates):
                learner = {"name": name, "kind": "sgd", "lr": rate}
                simulate["face_trial"](simulation, learner, 0.9, replicate)
        simulation.write_sweep_json()
        return analysis.load(simulation.folder)

    return made


def test_cells_are_the_averaged_numbers(faces):
    results = analysis.load(faces.folder)
    table = results.table("series", "level")
    means = analysis.average(results.rates(["accuracy"], by=()), results=results)
    assert table.row_names == ("private", "matched", "tuned")
    assert table.column_names == ("share 0.5", "share 0.9", "share 0.99")
    for series, texts in zip(table.row_names, table.texts, strict=True):
        for level, text in zip(table.column_names, texts, strict=True):
            (row,) = means[(means["series"] == series) & (means["level"] == level)].itertuples()
            assert text == f"{100 * row.value:.1f} ± {50 * (row.high - row.low):.1f}"
    assert table.to_frame().loc["tuned", "share 0.5"] == table.texts[2][0]
    assert len(table.numbers) == 9


def test_groups_and_disparities_can_stand_in_a_table(faces):
    results = analysis.load(faces.folder)
    groups = results.table("group", "series", by="tone", where={"level": "share 0.9"})
    assert groups.row_names == ("light tone", "dark tone")
    metrics = ["accuracy_difference", "equal_opportunity_difference"]
    gaps = results.table("metric", "series", metrics=metrics, by="tone", where={"level": "share 0.99"}, bold=False)
    assert gaps.row_names == ("Accuracy gap", "Equal opportunity difference")
    assert not np.any(gaps.bold)
    assert "share 0.99" in gaps.caption


def test_what_is_bold_is_not_significantly_beaten(learners):
    table = learners(6).table("learner", "level")
    assert dict(zip(table.row_names, (line[0] for line in table.bold), strict=True)) == {
        "good": True,
        "alike": True,
        "bad": False,
    }
    assert "Holm" in table.caption
    assert table.numbers["bold"].sum() == 2


def test_with_one_replicate_nothing_is_bold(learners):
    table = learners(1).table("learner", "level")
    assert not np.any(table.bold)
    assert "Bold" not in table.caption


def test_latex_and_html_show_every_cell(faces):
    table = analysis.load(faces.folder).table("series", "level")
    latex = table.to_latex(label="tab:accuracy")
    body = latex[latex.index("midrule") : latex.index("bottomrule")]
    assert body.count(r"\\") == 3
    assert body.count("&") == 9
    assert body.count(r"\pm") == 9
    assert r"\label{tab:accuracy}" in latex
    assert r"Accuracy in \%" in latex
    numbers = re.findall(r"\d+\.\d", body)
    html = table._repr_html_()
    assert all(number in html for number in numbers)
    assert html.count("<b>") == sum(map(sum, table.bold))


def test_a_cell_with_several_numbers_is_refused_with_the_remedy(faces):
    results = analysis.load(faces.folder)
    with pytest.raises(ValueError, match=r"where=.*level"):
        results.table("group", "series", by="tone")
    with pytest.raises(ValueError, match="level must be one of"):
        results.table("group", "series", by="tone", where={"level": "share 0.1"})
    with pytest.raises(ValueError, match="two of"):
        results.table("series", "epoch")
