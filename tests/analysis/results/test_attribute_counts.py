"""Results by an attribute that the sweep did not count: from predictions, with the numbers that cells would give."""

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.records.file_names import EXAMPLES
from fairsweep.analysis.records.prediction_records import read_examples, write_examples


@pytest.fixture(scope="module")
def results(tmp_path_factory, simulate):
    """A sweep by tone and shape whose images also have glasses, which are as the shape, and an age without names."""
    simulation = simulate["faces"](tmp_path_factory.mktemp("attributes") / "s", shares=(0.9,), per_cell=30)
    path = simulation.folder / EXAMPLES
    table = read_examples(path)
    age = np.arange(len(table), dtype=np.int16) % 3
    shape = table.column("shape")
    write_examples(path, table.append_column("glasses", shape).append_column("age", [age]))
    dataset = {"name": "faces", "values": {"glasses": ["round", "long"]}, "shown": {"glasses": {"round": "bare"}}}
    simulation.write_sweep_json(dataset=dataset)
    return analysis.load(simulation.folder)


def alike(counted, predicted):
    """Assert that two tables are equal but for the name of the attribute."""
    renamed = {name: predicted[name].astype(str).str.replace("glasses", "shape") for name in ("attribute", "group")}
    found, expected = (table.astype(dict.fromkeys(renamed, str)) for table in (predicted.assign(**renamed), counted))
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True))


def test_attributes_list_what_results_can_be_had_by(results):
    assert results.attributes == ("tone", "shape", "smiling", "glasses", "age")
    assert results.vocabulary("glasses").display == ("bare", "long")
    assert results.vocabulary("age").values == ("0", "1", "2")  # no names are recorded


@pytest.mark.parametrize("by", [("glasses",), ("tone", "glasses"), ("glasses", "smiling")])
def test_numbers_are_those_of_the_cells(results, by):
    counted = tuple("shape" if name == "glasses" else name for name in by)
    metrics = ["accuracy", "selection_rate", "auc", "accuracy_difference", "equalized_odds_difference", "f1"]
    alike(results.frame(metrics, by=counted), results.frame(metrics, by=by))
    alike(analysis.arbitrariness(results, counted), analysis.arbitrariness(results, by))
    assert (results.counts(by).values == results.counts(counted).values).all()


def test_a_bootstrap_resamples_its_groups(results):
    one, other = (analysis.bootstrap_frame(results, ["accuracy"], by=name, draws=800) for name in ("shape", "glasses"))
    np.testing.assert_array_equal(one["value"], other["value"])
    np.testing.assert_allclose(one[["low", "high"]], other[["low", "high"]], atol=0.03)  # other draws


def test_an_attribute_that_was_not_counted_is_not_known_at_every_iteration(results):
    with pytest.raises(ValueError, match=r"by='glasses', which is none .* needs the predictions of .* at iteration 1"):
        results.rates(["accuracy"], by="glasses", at="all")
    with pytest.raises(ValueError, match=r"one of \['tone', .*, but got 'glases'; did you mean 'glasses'\?"):
        results.disparities(by="glases")


def test_an_attribute_of_some_images_alone_is_refused(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.9,), per_cell=5)
    path = simulation.folder / EXAMPLES
    table = read_examples(path)
    write_examples(path, table.append_column("age", [np.zeros(len(table), np.int16)]).slice(1))
    with pytest.raises(ValueError, match=r"the age of each image in examples\.parquet, but they are not recorded"):
        analysis.load(simulation.folder).rates(["accuracy"], by="age")


def test_figures_take_any_attribute(results):
    drawn = analysis.plots.rate_by_level(results, "glasses", backend="plotly")
    assert {"bare", "long"} <= {trace.name for trace in drawn.data}
