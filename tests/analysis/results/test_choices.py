"""Results of some trials alone, and what a notebook shows first."""

from importlib.metadata import version

import pytest

import fairsweep.analysis as analysis
import fairsweep.datasets as datasets
from fairsweep.analysis.auditing.sweep_exposure import exposure_frame
from fairsweep.analysis.results.imbalance_design import design_of


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


def test_a_filter_keeps_trials_and_their_numbers(results):
    every = results.rates(["accuracy"], by="tone")
    chosen = results.filter(learner=["private", "matched"], share=0.9)
    assert set(chosen.trials["learner"]) == {"private", "matched"}
    assert len(chosen.folders) == len(chosen.trials) == 4
    found = chosen.rates(["accuracy"], by="tone").set_index(["trial", "group"])["value"]
    expected = every.set_index(["trial", "group"])["value"]
    assert found.to_dict() == expected.loc[found.index].to_dict()
    assert set(chosen.cells()["trial"]) == set(chosen.trials["trial"])
    assert len(results.trials) == 18  # the whole is as it was
    assert design_of(chosen).levels[0].value == 0.9


def test_learners_and_levels_are_indices(results):
    one = results["private", "share 0.9"]
    assert set(one.trials["series"]) == {"private"}
    assert set(one.trials["level"]) == {"share 0.9"}
    assert one.trials.equals(results["private", 0.9].trials)
    assert len(results["private"].trials) == 6
    assert len(results[:, 0.99].trials) == 6


def test_what_is_not_there_is_refused_with_what_is(results):
    with pytest.raises(ValueError, match=r"learner must be one of \['private', 'matched', 'tuned'\], but got 'privat'"):
        results["privat"]
    with pytest.raises(ValueError, match="a column of trials must be one of"):
        results.filter(epsilons=3)
    with pytest.raises(ValueError, match="takes a learner, or a learner and a level"):
        results["private", 0.9, 1]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda results: results.rates(["accuracy"], at="first"), r"at must be one of \['last', 'selected', 'all'\]"),
        (lambda results: results.rates(["accuracy"], by="tone", mean_over="hair"), "attribute must be one of"),
        (lambda results: results.predictions(["nobody"]), "trial must be one of"),
        (lambda results: results.predictions(columns=["logits"]), "column must be one of"),
        (lambda results: analysis.compare_learners(results, learners=["privat", "tuned"]), "learner must be one of"),
        (lambda results: analysis.reliability_frame(results, by="hair"), "attribute must be one of"),
        (lambda results: exposure_frame(results, of="forgoten"), r"of must be one of \['members', 'forgotten'\]"),
        (lambda results: exposure_frame(results, attacks=["LIRA"]), r"attack must be one of \['LiRA', 'RMIA'\]"),
    ],
)
def test_a_misspelt_choice_is_neither_the_default_nor_an_empty_table(results, ask, said):
    with pytest.raises(ValueError, match=said):
        ask(results)


def test_the_first_columns_of_a_frame_are_no_hashes(results):
    frame = results.frame(["accuracy"], by="tone")
    shown = [*frame.columns[:10], *frame.columns[-10:]]  # what a notebook shows of a wide table
    assert not {"setting", "trial"} & set(shown)
    assert list(frame.columns[:6]) == ["learner", "series", "level", "group", "metric", "value"]


def test_predictions_have_names(results):
    coded, named = results.predictions(), results.predictions(names=True)
    assert set(named.column("prediction").to_pylist()) == set(results.classes)
    expected = [results.classes[code] for code in coded.column("label").to_pylist()]
    assert named.column("label").to_pylist() == expected
    assert named.column_names == coded.column_names


def test_tables_and_packages_say_what_they_are(results):
    table = analysis.summary_tables(results)[0]
    html = table._repr_html_()
    assert table.title in html
    assert html.count("<tr") == 1 + len(table.rows)
    assert repr(table).splitlines()[0] == table.title
    assert analysis.__version__ == datasets.__version__ == version("fairsweep")
    assert {"filter", "table", "frame", "predictions", "attributes"} <= set(dir(results))
    assert dir(analysis.plots) == sorted(analysis.plots.__all__)


def test_a_table_of_means_is_text_too(results):
    table = results.table()
    assert repr(table).startswith(table.to_frame().to_string())
    assert repr(table).endswith(table.caption)


def test_no_table_begins_with_a_hash(results):
    for frame in (
        results.settings,
        analysis.arbitrariness(results, by="tone"),
        analysis.crossed_frame(results, ["accuracy"], draws=2),
    ):
        assert list(frame.columns[:2]) == ["learner", "series"]
        assert "setting" in frame.columns[-2:]
