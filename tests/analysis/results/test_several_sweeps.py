"""Several sweeps in hand together: each trial once, from where it is done, with the name of its sweep."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.records.file_names import CONFIG, STATE, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import write_json


@pytest.fixture
def two(tmp_path, simulate):
    """A sweep of two levels, and one that repeats the second level and adds a third."""
    one = simulate["faces"](tmp_path / "one", replicates=1, shares=(0.5, 0.9), per_cell=5)
    other = simulate["faces"](tmp_path / "other", replicates=1, shares=(0.9, 0.99), per_cell=5)
    other.write_sweep_json("more levels")
    return one.folder, other.folder


def test_each_trial_is_taken_once_and_says_from_where(two):
    single = analysis.load(two[0])
    assert set(single.trials["sweep"]) == {"simulated"}
    both = analysis.load(two[0], two[1])
    assert len(both.trials) == 9
    assert both.trials.groupby("sweep", sort=False).size().to_dict() == {"simulated": 6, "more levels": 3}
    assert both.name == "simulated + more levels"
    frame = both.rates(["accuracy"], by="tone")
    assert set(frame["sweep"]) == {"simulated", "more levels"}
    mine = frame[frame["sweep"] == "simulated"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, single.rates(["accuracy"], by="tone"))
    pd.testing.assert_frame_equal(analysis.load(list(two)).trials, both.trials)
    ids = both.examples.column("id").to_numpy()
    assert len(ids) == len(set(ids.tolist())) == single.examples.num_rows
    assert both.predictions(columns=["id"]).num_rows == 9 * len(ids)


def test_the_copy_that_is_done_is_preferred(two):
    for folder in (two[0] / TRIALS).iterdir():
        state = json.loads((folder / STATE).read_text())
        write_json(folder / STATE, state | {"state": "failed", "error": "stopped"})
    both = analysis.load(*two)
    counts = both.trials.groupby(["sweep", "state"]).size().to_dict()
    assert counts == {("simulated", "failed"): 3, ("more levels", "done"): 6}
    assert len(both.rates(["accuracy"], by=())) == 6


def test_trials_of_one_name_that_differ_are_kept_apart(two):
    copied = two[1].parent / "copied"
    shutil.copytree(two[0], copied)
    for folder in (copied / TRIALS).iterdir():
        config = json.loads((folder / CONFIG).read_text())
        write_json(folder / CONFIG, config | {"trial": "other" + config["trial"]})
    both = analysis.load(two[0], copied)
    assert len(both.trials) == 12
    assert both.trials["trial"].nunique() == 12
    assert sorted(set(both.trials["sweep"])) == ["simulated", "simulated (2)"]
    assert len(both.rates(["accuracy"], by=())) == 12


def test_sweeps_on_different_data_are_not_mixed(two):
    content = json.loads((two[1] / SWEEP_JSON).read_text())
    content["dataset"]["content_hash"] = "another"
    write_json(two[1] / SWEEP_JSON, content)
    with pytest.raises(ValueError, match=r"analysis\.compare"):
        analysis.load(*two)
    with pytest.raises(ValueError, match="at least one"):
        analysis.load([])


def test_settings_have_one_row_each(faces):
    results = analysis.load(faces.folder)
    settings = results.settings
    assert len(settings) == results.trials["setting"].nunique() == 9
    assert (settings["trials"] == 2).all()
    assert (settings["done"] == 2).all()
    assert settings.loc[settings["learner"] == "private", "epsilon"].eq(3.0).all()


def test_an_overview_says_what_is_there(faces, unfinished, tmp_path):
    text = analysis.load(faces.folder)._repr_html_()
    for part in ("18 done", "private, matched, tuned", "light tone, dark tone", "share 0.9", "<th", "smiling: no, yes"):
        assert part in text
    assert "problems" not in text
    assert "problems" in analysis.load(unfinished.folder)._repr_html_()
    (tmp_path / "empty" / "trials").mkdir(parents=True)
    assert "none yet" in analysis.load(tmp_path / "empty")._repr_html_()


def test_tidy_tables_are_written(faces, tmp_path):
    results = analysis.load(faces.folder)
    frame = results.frame(["accuracy", "accuracy_difference"], by="tone")
    results.to_parquet(tmp_path / "a.parquet", ["accuracy", "accuracy_difference"], by="tone")
    results.to_csv(tmp_path / "a.csv", ["accuracy", "accuracy_difference"], by="tone")
    for read in (pd.read_parquet(tmp_path / "a.parquet"), pd.read_csv(tmp_path / "a.csv")):
        np.testing.assert_allclose(read["value"], frame["value"])
        assert list(read.columns) == list(frame.columns)
        assert read["group"].tolist() == frame["group"].tolist()
