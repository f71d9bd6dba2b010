"""Section on arbitrariness: its sentence, table and figure show the numbers of `analysis.arbitrariness`."""

import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.figures import plots
from fairsweep.analysis.report.arbitrariness_section import arbitrariness_section
from fairsweep.analysis.results.imbalance_design import design_of


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


@pytest.fixture(scope="module")
def between(results):
    found = analysis.arbitrariness(results, by="tone")
    return found[found["metric"] == "disagreement"].set_index(["series", "level", "group"])


def section_of(results):
    return arbitrariness_section(results, design_of(results))


def test_the_sentence_is_of_the_learner_that_disagrees_most_on_the_rare_group(results, between):
    (sentence,) = section_of(results).sentences
    rare = between.xs(("share 0.99", "dark"), level=("level", "group"))
    worst = rare["value"].idxmax()
    assert sentence.startswith(f"At share 0.99, two trainings of {worst} that differ in their seeds")
    for group in ("dark", "light"):
        row = between.loc[worst, "share 0.99", group]
        text = f"{100 * row['value']:.1f}% [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        assert text in sentence
        assert f"tone = {group}" in sentence
    assert "(1 pair of trainings)" in sentence


def test_a_private_learner_stands_beside_its_twin(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", shares=(0.99,), per_cell=40)
    results = analysis.load(simulation.folder)
    row = analysis.arbitrariness(results, by="tone").set_index(["series", "metric", "group"])
    (sentence,) = section_of(results).sentences
    assert "two trainings of private" in sentence
    assert f"For its twin matched it is {100 * row.loc['matched', 'disagreement', 'dark']['value']:.1f}%" in sentence


def test_one_of_many_classes_is_said_beside_the_range_of_the_others(digits):
    results = analysis.load(digits.folder)
    found = section_of(results)
    assert "of the test images with digit = 8, and for " in found.sentences[0]
    assert "of those of each other class (10 pairs of trainings)." in found.sentences[0]
    assert found.tables[0].header == ("learner", "level", "ε", "runs", "digit 8")


def test_tables_and_figure_show_the_same_numbers(results, between):
    found = section_of(results)
    table = found.tables[0].frame()
    assert len(table) == 9
    for row in table.to_dict("records"):
        value = between.loc[row["learner"], row["level"], "dark"]["value"]
        assert row["dark tone"].startswith(f"{100 * value:.1f} [")
    drawn = {trace.name: trace.y.tolist() for trace in found.figures[0].figure.data if trace.xaxis == "x"}
    assert drawn["dark tone"] == pytest.approx(between.loc["private"].xs("dark", level="group")["value"].tolist())
    with pytest.raises(ValueError, match="metric must be one of"):
        plots.arbitrariness_by_level(results, metric="accuracy")


def test_one_seed_shows_nothing(tmp_path, simulate):
    results = analysis.load(simulate["faces"](tmp_path / "s", replicates=1, shares=(0.9,), per_cell=10).folder)
    assert section_of(results) is None
    assert plots.arbitrariness_by_level(results) is None
