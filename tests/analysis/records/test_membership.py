"""Results are those of the sweep as it stands; trials of its earlier versions are shown on request."""

import shutil

import numpy as np
import pytest

from fairsweep import analysis
from fairsweep.analysis.comparing.comparison import compare
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.report.report_page import write_report
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.statistics.intervals import replicate_mean

_TERM = '"separately tuned":'  # of the glossary, which is the same in every report


@pytest.fixture
def edited(faces, tmp_path):
    """A sweep whose separately tuned learner was edited away since; of 18 trials 12 belong to it."""
    folder = shutil.copytree(faces.folder, tmp_path / "sweep")
    trials = analysis.load(folder).folders
    members = [trial.hash for trial in trials if trial.config["learner"]["name"] != "tuned"]
    write_json(folder / "sweep.json", read_json(folder / "sweep.json") | {"members": members})
    return folder


def test_trials_of_earlier_versions_are_left_out_and_come_on_request(edited, faces):
    results = analysis.load(edited)
    assert set(results.trials["learner"]) == {"private", "matched"}
    assert set(results.rates()["learner"]) == {"private", "matched"}
    assert [name.partition("_")[0] for name in results.former] == ["tuned"] * 6
    assert "6 of earlier versions" in results._repr_html_()
    every = analysis.load(edited, former=True)
    assert (len(every.trials), every.former) == (18, ())
    assert analysis.load(faces.folder).former == ()  # nothing is listed: all belong


def test_the_report_says_what_it_leaves_out(edited, faces):
    text = write_report(edited).read_text()
    assert "6 trials of earlier versions of the sweep are left out" in text
    assert f"fairsweep prune {edited}" in text
    assert "separately tuned" in write_report(faces.folder, edited / "whole.html").read_text().replace(_TERM, "")
    assert "separately tuned" not in text.replace(_TERM, "")


def test_a_comparison_names_the_learners_that_it_leaves_out(edited, faces):
    found = compare(edited, faces.folder)
    assert "Not compared because only B has them: tuned." in found.sentences()
    assert "tuned" not in set(found.differences["learner"])


def test_trainings_that_score_equal_still_have_an_interval(faces, tmp_path):
    """All trials get one trial's predictions; the same trial twice has no luck, two trainings have."""
    folder = shutil.copytree(faces.folder, tmp_path / "sweep")
    first, *others = sorted((folder / "trials").iterdir())
    for trial in others:
        for name in ("cells.parquet", "predictions.parquet"):
            shutil.copy(first / name, trial / name)
    means = average(analysis.load(folder).frame(["accuracy", "accuracy_difference"]))
    assert (means["std"] == 0).all()
    assert (means["training_low"] < means["training_high"]).all()
    one = means[(means["group"] == "all") & (means["metric"] == "accuracy")].iloc[0]
    assert one["training_high"] - one["value"] == pytest.approx(12.706 / (one["n"] * np.sqrt(24)), rel=1e-3)
    again = compare(folder, folder).differences
    assert (again["high"] == 0).all()
    changed = shutil.copytree(folder, tmp_path / "changed")
    for trial in (changed / "trials").iterdir():
        config = read_json(trial / "config.json")
        write_json(trial / "config.json", config | {name: f"{config[name]}x" for name in ("trial", "setting")})
    differences = compare(folder, changed).differences
    assert set(differences["pairing"]) == {"same seeds"}
    assert (differences["low"] < differences["high"]).all()


def test_the_resolution_bounds_an_interval_from_below_only():
    values = [[0.9, 0.9, 0.9], [0.7, 0.8, 0.9], [np.nan, 0.5, np.nan]]
    plain, stepped = (replicate_mean(values, resolution=step).half_width for step in (0.0, 0.01))
    assert plain[0] == 0 < stepped[0]
    assert plain[1] == stepped[1]
    assert np.isnan(stepped[2])
