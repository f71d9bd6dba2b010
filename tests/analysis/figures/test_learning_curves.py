"""Learning curves: the recorded rates after each iteration, with the spread of the replicates."""

import numpy as np
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.figures.training_diagnostics import learning_curves
from fairsweep.analysis.report.report_figures import curves
from fairsweep.analysis.results.imbalance_design import design_of


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_curve_is_the_mean_over_replicates_at_each_iteration(results, split):
    drawn = learning_curves(results, "tone", split=split)
    assert [panel.title for panel in drawn.panels] == ["private", "matched", "tuned"]
    line = next(mark for mark in drawn.panels[0].marks if mark.name == "dark tone, share 0.99")
    rates = results.rates(["accuracy"], by="tone", split=split, at="all")
    rates = rates.query("series == 'private' and level == 'share 0.99' and group == 'dark'")
    by_iteration = rates.groupby("iteration")["value"]
    np.testing.assert_allclose(line.y, by_iteration.mean())
    np.testing.assert_allclose(line.bands[0].low, by_iteration.min())
    np.testing.assert_allclose(line.bands[0].high, by_iteration.max())
    assert line.x.tolist() == [1, 2, 3]


def test_of_many_levels_two_are_drawn_and_others_can_be_chosen(results):
    assert learning_curves(results).legend == (
        "light tone, share 0.99",
        "dark tone, share 0.99",
        "light tone, share 0.5",
        "dark tone, share 0.5",
    )
    one = learning_curves(results, levels=["share 0.9"], series=["tuned"])
    assert [panel.title for panel in one.panels] == ["tuned"]
    assert one.legend == ("light tone", "dark tone")
    with pytest.raises(ValueError, match=r"levels must be one or two of \['share 0.5', .*, but got \['share 0.8'\]"):
        learning_curves(results, levels=["share 0.8"])
    with pytest.raises(ValueError, match="metric must be a rate or score of cells"):
        learning_curves(results, metric="accuracy_difference")


def test_of_many_groups_the_others_are_one_line(digits):
    results = analysis.load(digits.folder)
    drawn = learning_curves(results)
    assert drawn.legend == ("digit 8", "others")
    counts = results.counts("digit", at="all").values
    others = [0, 1, 2, 3, 4, 5, 6, 7, 9]
    whole = np.trace(counts[:, others].sum(1), axis1=1, axis2=2) / counts[:, others].sum((1, 2, 3))
    chosen = results.trials.set_index("trial").loc[list(results.evaluations(at="all").trial), "series"] == "sgd"
    expected = whole[chosen.to_numpy()].reshape(-1, 3).mean(0)
    (line,) = (mark for mark in drawn.panels[0 if drawn.panels[0].title == "sgd" else 1].marks if mark.name == "others")
    np.testing.assert_allclose(line.y, expected)


def test_one_iteration_is_no_curve(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.9,), per_cell=5, iterations=1)
    results = analysis.load(simulation.folder)
    assert analysis.plots.learning_curves(results) is None
    assert curves(results, design_of(results)) == ()
