"""Records that contradict one another or the documented schema are named."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.checking.schema import markdown
from fairsweep.analysis.checking.sweep_check import check_sweep
from fairsweep.analysis.records.file_names import CONFIG, PREDICTIONS, TRIALS
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.records.prediction_records import read_predictions, write_predictions

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def sweep(tmp_path, simulate):
    simulate["faces"](tmp_path / "sweep", replicates=1, per_cell=10, shares=(0.9,))
    return tmp_path / "sweep"


@pytest.fixture
def trial(sweep):
    return sorted((sweep / TRIALS).iterdir())[0]


def rewrite(trial, change):
    """Writes predictions anew, with a true checksum, after a change of their columns."""
    table = read_predictions(trial / PREDICTIONS)
    columns = {name: np.array(table.column(name).to_pylist()) for name in table.column_names}
    change(columns)
    arrays = {name: pa.array(list(values)) for name, values in columns.items()}
    write_predictions(trial / PREDICTIONS, pa.table(arrays).cast(table.schema.remove_metadata()))


def messages(sweep):
    found = analysis.load(sweep).problems
    assert [problem.message for problem in check_sweep(sweep)] == list(found["message"])
    return list(found["message"])


def test_records_that_agree_have_no_problem(sweep):
    assert messages(sweep) == []


def test_log_probabilities_that_do_not_add_up_to_one_are_named(sweep, trial):
    rewrite(trial, lambda columns: columns["log_probabilities"].__setitem__(slice(0, 5), [0.0, 0.0]))
    (message,) = messages(sweep)
    assert message.startswith("5 of 120 rows, the first of id")
    assert "do not add up to 1" in message
    assert "they add up to 2" in message
    assert trial.name in message


def test_predictions_that_are_not_the_likeliest_class_are_named(sweep, trial):
    def swap(columns):
        columns["prediction"] = 1 - columns["prediction"]

    rewrite(trial, swap)
    found = messages(sweep)
    assert "120 of 120 rows" in found[0]
    assert "not the likeliest class" in found[0]
    assert any("the test predictions of iteration 3 have" in one and "cells.parquet counts" in one for one in found)


def test_predictions_of_an_evaluation_that_was_never_counted_are_named(sweep, trial):
    rewrite(trial, lambda columns: columns["iteration"].__setitem__(slice(None), 7))
    assert ["no counterpart in cells.parquet" in one for one in messages(sweep)] == [True, True]


def test_ids_that_stand_twice_and_codes_without_a_class_are_named(sweep, trial):
    rewrite(trial, lambda columns: columns["id"].__setitem__(1, columns["id"][0]))
    assert "1 of 120 rows repeat an id" in messages(sweep)[0]
    rewrite(trial, lambda columns: columns["label"].__setitem__(0, 2))
    assert "a label that is no class: codes lie in 0 … 1" in messages(sweep)[0]


def test_what_is_not_as_documented_is_named(sweep, trial):
    config = read_json(trial / CONFIG)
    write_json(trial / CONFIG, {k: v for k, v in config.items() if k != "seeds"} | {"replicate": "first"})
    table = read_predictions(trial / PREDICTIONS)
    write = analysis.records.files.write_parquet
    write(trial / PREDICTIONS, table.drop_columns(["split"]).set_column(0, "iteration", pa.array([3] * 120)), {})
    found = {(problem.file, problem.message.split(" (")[0]) for problem in check_sweep(sweep)}
    assert (CONFIG, "it must have the member seeds") in found
    assert (CONFIG, "replicate must be integer") in found
    assert (PREDICTIONS, "it must have the column split") in found
    assert (PREDICTIONS, "column iteration must be int32, but is int64") in found


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="with a folder trials"):
        check_sweep(tmp_path)


def test_the_documented_schema_is_the_one_that_is_checked():
    """To renew the page: write `markdown()` behind the text under Schema in docs/records.md."""
    assert (ROOT / "docs" / "records.md").read_text().endswith(markdown())
