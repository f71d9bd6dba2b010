"""Whole sweeps through Python, on the session's Ray."""

import copy
import json

import pytest

from fairsweep import analysis
from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.prediction_records import read_examples
from fairsweep.sweeps.copies.resuming import resume_sweep
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "out"


@pytest.fixture
def small(mapping, folder):
    """Two learners at one level; all tests of this file share one output folder."""
    mapping["output"] = str(folder)
    mapping["imbalance"]["share"] = 0.9
    mapping["learners"] = mapping["learners"][:2]
    mapping["seeds"] = 1
    mapping["resources"] = {"max_concurrent": 1}  # in one worker: each is a process that imports torch
    return mapping


@pytest.fixture
def grown(small):
    """The same with a second level, and one learner under another name."""
    small = copy.deepcopy(small)
    small["imbalance"]["share"] = {"grid": [0.9, 0.5]}
    small["learners"][0]["name"] = "renamed"
    small["learners"][1]["twin_of"] = "renamed"
    return small


def states(folder):
    return {p.parent.name: p.read_bytes() for p in folder.glob("trials/*/state.json")}


def test_a_sweep_returns_its_results_and_leaves_the_documented_folder(small, folder, ray_session):
    results = Sweep.from_mapping(small).run(quiet=True)
    assert isinstance(results, analysis.SweepResults)
    assert set(results.trials["state"]) == {"done"}
    assert set(results.trials["learner"]) == {"private", "matched"}
    assert results.problems.empty
    rates = results.rates(["accuracy"], by="tone")
    assert rates["n"].sum() == 2 * 240
    assert {path.name for path in folder.iterdir()} >= {"sweep.yaml", "sweep.json", "examples.parquet", "trials"}
    description = read_json(folder / "sweep.json")
    assert description["name"] == "toy"
    assert description["dataset"]["label"] == "smiling"
    assert description["sweep"]["failures"] == {"retries": 2, "node_failures": 3}  # defaults are filled in
    assert read_examples(folder / "examples.parquet").num_rows == 960
    names = sorted(path.name.rsplit("-", 1)[0] for path in (folder / "trials").iterdir())
    assert names == ["matched_s0", "private_s0"]


def test_running_it_again_runs_nothing(small, folder, ray_session, capsys):
    Sweep.from_mapping(small).run(quiet=True)
    before = states(folder)
    assert before
    Sweep.from_mapping(small).run()
    assert "all 2 trials are done" in capsys.readouterr().err
    assert states(folder) == before


def test_a_grown_sweep_runs_only_what_is_missing(small, grown, folder, ray_session, capsys):
    Sweep.from_mapping(small).run(quiet=True)
    before = states(folder)
    results = Sweep.from_mapping(grown).run()
    assert "2 of 4 trials are done" in capsys.readouterr().err
    after = states(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == 4
    assert set(results.trials["learner"]) == {"renamed", "matched"}


def test_a_sweep_resumes_from_its_folder_alone(grown, folder, ray_session, tmp_path, monkeypatch):
    Sweep.from_mapping(grown).run(quiet=True)
    monkeypatch.chdir(tmp_path)
    sweep, text = resume_sweep(folder)
    assert sweep.folder == folder
    assert sweep.imbalance.raw["share"] == {"grid": [0.9, 0.5]}
    assert text == (folder / "sweep.yaml").read_text()
    before = states(folder)
    run_sweep(sweep, quiet=True)
    assert states(folder) == before
    with pytest.raises(SweepError, match="is not a sweep folder"):
        resume_sweep(tmp_path)


def test_a_trial_that_fails_does_not_stop_the_sweep(small, tmp_path, ray_session):
    small["output"] = str(tmp_path / "failing")
    small["learners"] = [
        {"name": "good", "kind": "sgd", "epochs": 1},
        {
            "name": "bad",
            "kind": "sgd",
            "epochs": 3,
            "batch_size": 24,
            "optimizer": {"name": "sgd", "lr": 1e30, "weight_decay": 1e10},
        },
    ]
    results = Sweep.from_mapping(small).run(quiet=True)
    assert dict(zip(results.trials["learner"], results.trials["state"], strict=True)) == {
        "good": "done",
        "bad": "failed",
    }
    (state,) = [json.loads(p.read_text()) for p in (tmp_path / "failing").glob("trials/bad*/state.json")]
    assert state["error"].startswith("DivergedError")
    assert "Traceback" in state["traceback"]


def test_a_sweep_equals_its_trials_run_alone(small, folder, toy, tmp_path, ray_session):
    from fairsweep.sweeps.planning.expand import expand
    from fairsweep.trainables.trial.trial import Trial

    Sweep.from_mapping(small).run(quiet=True)
    for trial in expand(Sweep.from_mapping(small), toy):
        (path,) = (folder / "trials").glob(f"*-{trial.trial[:8]}")
        alone = Trial(trial.config, tmp_path / trial.trial).run()
        assert read_cells(path / "cells.parquet").table == read_cells(alone / "cells.parquet").table


def test_gradient_modes_are_chosen_once_for_the_sweep(small, tmp_path, ray_session):
    small["output"] = str(tmp_path / "auto")
    small["learners"] = [small["learners"][0] | {"performance": {"gradient_mode": "auto"}, "epochs": 1}]
    small["seeds"] = 2
    Sweep.from_mapping(small).run(quiet=True)
    (chosen,) = read_json(tmp_path / "auto" / "gradient_modes.json").values()
    used = {
        read_json(path)["learner"]["performance"]["gradient_mode"]
        for path in (tmp_path / "auto").glob("trials/*/config.json")
    }
    assert used == {chosen}
