"""Sections of the report on trends, pairs and selection: the numbers of their functions, and reasons where none fit."""

import doctest
import json
import warnings

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import fairsweep.analysis as analysis
import fairsweep.analysis.figures.plots as plots
import fairsweep.analysis.report.report_section as section
from fairsweep.analysis.drawing.palette import GROUP_COLOURS, LEARNER_COLOURS
from fairsweep.analysis.drawing.plotly_backend import X_TITLE
from fairsweep.analysis.inference.candidates import candidates
from fairsweep.analysis.inference.comparisons import compare_learners
from fairsweep.analysis.inference.selection import (
    best_setting,
    corrected_winner,
    distance_to_ideal,
    pareto_front,
    settings_table,
)
from fairsweep.analysis.inference.trends import trend, trends_by_group
from fairsweep.analysis.records.cell_records import read_cells, write_cells
from fairsweep.analysis.records.file_names import CELLS, CONFIG, PREDICTIONS, TRIALS
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.report.headline import extreme_groups
from fairsweep.analysis.report.pair_section import pair_section
from fairsweep.analysis.report.report_content import collect
from fairsweep.analysis.report.report_page import render, summary_table
from fairsweep.analysis.report.selection_section import selection_section
from fairsweep.analysis.report.summary_table import SummaryTable
from fairsweep.analysis.report.trend_section import trend_section
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.statistics.multiplicity import holm

JUDGED = ["validation accuracy", "validation accuracy_difference", "epsilon"]


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


@pytest.fixture
def seven(tmp_path, simulate):
    """Three learners, two levels, seven seeds: enough for exact tests."""
    return analysis.load(simulate["faces"](tmp_path / "s", replicates=7, shares=(0.5, 0.99), per_cell=20).folder)


def found_of(make, results):
    return make(results, design_of(results))


def without_validation(folder):
    """Take the validation split out of every record of a sweep."""
    for trial in (folder / TRIALS).iterdir():
        file = read_cells(trial / CELLS)
        table = file.table.filter(file.table.column("split").to_numpy() == "test")
        write_cells(trial / CELLS, table, list(file.vocabularies.values()), file.label)


def test_doctest():
    assert doctest.testmod(section).failed == 0


def test_trends_of_all_groups_are_those_of_each(results):
    found = trends_by_group(results, by="tone")
    assert list(found) == [(name, tone) for name in ("private", "matched", "tuned") for tone in ("light", "dark")]
    for (series, group), one in found.items():
        alone = trend(results, by="tone", group=group, learner=series)
        np.testing.assert_allclose(one.slopes, alone.slopes)
        assert (one.low, one.high, one.p_value) == pytest.approx((alone.low, alone.high, alone.p_value))


def test_a_trend_is_said_with_its_interval_and_test(results):
    found = found_of(trend_section, results)
    (section,) = found.findings
    (table,) = found.tables
    assert len(section.statements) == len(table.rows) == 3
    one = trend(results, by="tone", group="dark", learner="private")
    text = section.statements[0].text
    assert text.startswith("Whether a tenfold smaller minority lowers the test accuracy of learner private for tone = ")
    assert f"is undecided: the estimate is a loss of {100 * one.slope:.1f} points" in text
    assert section.statements[0].verdict == "undecided"  # two seeds show little
    assert "2 seeds, 300 test images" in text
    assert (table.numbers["p_holm"] >= holm(table.numbers["p_value"])).all()
    assert [one.verdict for one in section.statements] == [
        "different" if p < 0.05 else "undecided" for p in table.numbers["p_holm"]
    ]
    assert found.figures[0].name == "slopes"


def test_one_seed_has_a_slope_and_no_test(tmp_path, simulate):
    folder = simulate["faces"](tmp_path / "s", replicates=1, per_cell=10).folder
    results = analysis.load(folder)
    (section,) = found_of(trend_section, results).findings
    assert {one.verdict for one in section.statements} == {"undecided"}
    assert "no test" in section.lead
    assert "one seed does not show" in section.statements[0].reason
    assert "also selects among seeds" in found_of(selection_section, results).sentences[-1]
    pairs = found_of(pair_section, results)
    assert "share two seeds" in pairs.sentences[0]
    assert not pairs.tables


def test_without_levels_in_an_order_there_is_no_section(digits):
    assert found_of(trend_section, analysis.load(digits.folder)) is None


def test_a_pair_is_said_with_its_interval_its_verdict_and_how_often_it_wins(digits):
    results = analysis.load(digits.folder)
    found = found_of(pair_section, results)
    (section,) = found.findings
    (statement,) = section.statements
    assert statement.verdict == "different"
    row = compare_learners(results, by="digit").set_index("group").loc["8"]
    assert f"{-100 * row['difference']:.1f} points [" in statement.text
    assert "P(dpsgd > sgd) = 0.00 [0.00, 0.43]" in statement.text
    assert f"corrected for the {statement.found.family} questions of this report" in section.lead
    (line,) = found.tables[0].frame().to_dict("records")
    assert (line["verdict"], line["seeds"]) == ("different", "5")


def test_many_settings_are_not_all_compared(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=0, per_cell=5)
    for norm in range(1, 8):
        learner = {"name": "private", "kind": "dpsgd", "epsilon": 3.0, "l2_clip_norm": float(norm)}
        simulate["face_trial"](simulation, learner, 0.9, 0)
    (why,) = found_of(pair_section, analysis.load(simulation.folder)).sentences
    assert "7 settings make 21 pairs" in why


def test_candidates_are_judged_within_their_level(results):
    table = candidates(results, by="tone")
    plain = settings_table(results, ["accuracy", "accuracy_difference"], by="tone")
    pd.testing.assert_frame_equal(table[list(plain)], plain)
    for _, part in table.groupby("level", sort=False):
        np.testing.assert_array_equal(part["front"], pareto_front(part, JUDGED))
        np.testing.assert_allclose(part["distance"], distance_to_ideal(part, JUDGED))
        (best,) = part[part["best"]].to_dict("records")
        assert best["setting"] == best_setting(part, JUDGED[0])["setting"]


def test_the_choice_is_by_validation_and_its_report_on_test(results):
    found = found_of(selection_section, results)
    table = candidates(results, by="tone")
    part = table[table["level"] == "share 0.99"]
    best = best_setting(part, "validation accuracy")
    assert f"selects {best['series']} out of 3 settings" in found.sentences[0]
    assert f"{100 * best['validation accuracy']:.1f}% on validation" in found.sentences[0]
    assert f"{100 * best['test accuracy']:.1f}% [" in found.sentences[0]
    (shown,) = found.tables
    assert len(shown.rows) == len(summary_table(shown).rows) == 9
    assert [row[-1] for row in shown.rows].count("selected") == 3


def test_a_page_shows_what_a_search_chose_by_its_own_objective(faces):
    """The terminal printed it; the page had the best by validation accuracy alone."""
    results = analysis.load(faces.folder).filter(learner=["tuned", "matched"], share=0.99)
    objective = {"max": "worst_group_accuracy by tone", "min": None}
    results.sweep["sweep"]["search"] = {"algorithm": "tpe", "objectives": [objective]}
    setting = results.trials.loc[results.trials["learner"] == "matched", "setting"].iloc[0]
    numbers = pd.DataFrame({"setting": [setting]})
    chosen = SummaryTable(
        "Best setting", "On validation.", ("setting", "learner"), (("4", "matched"),), ((4.0, np.nan),), numbers
    )
    content = collect(results, search=[chosen])
    page, first = render(content), content.findings.headline
    assert "What the search chose: best setting" in page
    assert "The search (highest worst_group_accuracy by tone) chose matched at share 0.99: " in page
    assert first.statement.found.question.learner == "matched"
    assert first.chosen == (
        "The search chose this one of 2 settings: highest worst_group_accuracy by tone, on the validation split."
    )
    assert first.chosen in page
    opened = [one for group in content.findings.answer for one in group.statements]
    assert {one.found.question.learner for one in opened} <= {"matched"}
    before = extreme_groups(results, design_of(results), before=("matched",))
    assert [text.split(":")[0] for text in before] == ["matched", "tuned"]
    (without, *_) = found_of(selection_section, results).sentences
    assert without.startswith("This search chose by highest worst_group_accuracy by tone, which is not what follows")


def test_a_choice_on_the_split_that_reports_it_is_corrected(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=2, per_cell=20, shares=(0.5,))
    without_validation(simulation.folder)
    results = analysis.load(simulation.folder)
    (text,) = found_of(selection_section, results).sentences
    assert plots.selection(results) is None
    predictions = results.predictions().to_pandas()
    last = predictions[predictions["split"] == "test"]
    last = last.assign(right=last["label"] == last["prediction"]).merge(
        results.trials[["trial", "setting"]], on="trial"
    )
    order = sorted_by_trial(results.trials.drop_duplicates("setting"))
    runs = last.pivot(index=["setting", "trial"], columns="id", values="right").astype(float)
    found = corrected_winner(np.stack([runs.loc[name].sort_index().to_numpy() for name in order]))
    assert f"{100 * found.naive:.1f}%" in text
    assert f"{100 * found.corrected:.1f}% [{100 * found.low:.1f}, {100 * found.high:.1f}]" in text
    for trial in (simulation.folder / TRIALS).iterdir():
        (trial / PREDICTIONS).unlink()
    assert "no setting is named" in found_of(selection_section, analysis.load(simulation.folder)).sentences[0]


def sorted_by_trial(trials):
    """Settings in the order in which their first trials stand in the predictions."""
    return trials.sort_values("trial")["setting"]


def test_folds_are_neither_compared_nor_chosen_among(tmp_path, simulate):
    folder = simulate["faces"](tmp_path / "s", replicates=2, per_cell=5, shares=(0.5,)).folder
    for trial in (folder / TRIALS).iterdir():
        config = json.loads((trial / CONFIG).read_text())
        write_json(trial / CONFIG, config | {"split": {"kind": "folds", "folds": 2, "fold": 0}})
    results = analysis.load(folder)
    assert "different folds overlap" in found_of(pair_section, results).sentences[0]
    assert "each fold is a setting" in found_of(selection_section, results).sentences[0]


def test_slopes_are_drawn_as_they_are_tested(results):
    figure = plots.slopes(results)
    titles = [note.text for note in figure.layout.annotations if note.name != X_TITLE]
    assert titles == ["private", "matched", "tuned"]
    found = trends_by_group(results, by="tone", groups=["dark"])
    means = [trace for trace in figure.data if trace.mode == "lines" and trace.name == "dark tone"]
    for trace, one in zip(means, found.values(), strict=True):
        np.testing.assert_allclose(np.diff(trace.y) / np.diff(trace.x), -one.slope)
        np.testing.assert_allclose(trace.customdata[0], [-one.slope, -one.high, -one.low, 2, 300])
        assert trace.line.color == GROUP_COLOURS[1]
    seeds = [trace for trace in figure.data if trace.mode == "markers" and "seed 1" in trace.name]
    np.testing.assert_allclose(np.sort(seeds[0].y), np.sort(found["private", "dark"].table.values[0]))
    assert "n %{customdata[1]" in seeds[0].hovertemplate
    assert list(figure.layout.xaxis.ticktext) == ["2,000", "400", "40"]
    assert plots.slopes(results, learners=["tuned"]).layout.annotations[0].text == "tuned"


def test_selection_is_drawn_with_its_front(results):
    figure = plots.selection(results)
    table = candidates(results, by="tone")
    part = table[table["level"] == "share 0.99"]
    front = [trace for trace in figure.data if trace.name == "validation Pareto front"]
    for trace, metric in zip(front, ("accuracy", "accuracy_difference"), strict=True):
        np.testing.assert_allclose(trace.x, part.loc[part["front"], f"validation {metric}"])
        np.testing.assert_allclose(trace.y, part.loc[part["front"], f"test {metric}"])
    points = {trace.name: trace for trace in figure.data if trace.name in set(part["learner"])}
    assert [points[name].marker.color for name in ("private", "matched", "tuned")] == list(LEARNER_COLOURS[:3])
    assert all(trace.customdata[0][3] == 300 for trace in points.values())
    assert "n %{customdata[3]" in points["tuned"].hovertemplate


def test_both_backends_draw_them(results):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for draw in (plots.slopes, plots.selection):
            assert isinstance(draw(results), go.Figure)
            paper = draw(results, backend="matplotlib")
            FigureCanvasAgg(paper).draw()
            assert any(ax.has_data() for ax in paper.axes)
