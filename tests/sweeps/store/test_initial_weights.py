"""Sweeps whose file does not name initial weights: new ones start from PyTorch's, those of before go on with theirs."""

import pytest

from fairsweep.analysis.records.files import read_json
from fairsweep.sweeps.execution.extending import extend_sweep
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.store.description import Description
from fairsweep.sweeps.store.difference import difference_of
from fairsweep.sweeps.store.initial_weights import with_initial
from fairsweep.sweeps.sweep import Sweep

TORCH, HE = {"initial": "torch"}, {"initial": "he"}


@pytest.fixture
def text(sweep_text, tmp_path):
    return sweep_text(tmp_path / "out").replace("name: linear", "name: cnn, width: 4")


@pytest.fixture
def former(text, run_here, tmp_path):
    """The folder of a finished sweep as earlier versions wrote it: nothing in it names initial weights."""
    (tmp_path / "file.yaml").write_text(text)
    folder = run_here(tmp_path / "file.yaml")
    assert "initial" not in (folder / "sweep.json").read_text()
    assert not any("initial" in config.read_text() for config in folder.glob("trials/*/config.json"))
    return folder


def test_a_sweep_of_before_is_resumed_and_extended_without_training_anything_anew(former, tmp_path):
    again = Sweep.from_yaml(tmp_path / "file.yaml")
    assert plan_sweep(again).missing == 0
    assert not difference_of(again).lines()
    grown = extend_sweep(former, seeds=2).sweep
    assert (len(plan_sweep(grown).labels), plan_sweep(grown).missing) == (4, 2)
    assert difference_of(grown).left == ()
    edited = Sweep.from_mapping(grown.model_dump(mode="json") | {"model": {"name": "cnn", "width": 4, **TORCH}})
    assert plan_sweep(edited).missing == 4
    elsewhere = Sweep.from_mapping(again.model_dump(mode="json") | {"output": str(tmp_path / "elsewhere")})
    assert {trial.config.model.initial for trial in check_sweep(with_initial(elsewhere)).trials} == {"torch"}


def test_a_lost_description_is_rebuilt_with_the_initial_weights_of_its_trials(former, text, run_here, tmp_path):
    (former / "sweep.json").write_text("{")
    assert "initial" not in Description.read(former).content["sweep"]["model"]
    named = tmp_path / "named.yaml"
    named.write_text(
        text.replace("width: 4", "width: 4, initial: torch").replace(str(tmp_path / "out"), f"{tmp_path}/new")
    )
    folder = run_here(named)
    (folder / "sweep.json").unlink()
    (folder / "sweep.yaml").write_text(text)
    assert Description.read(folder).content["sweep"]["model"]["initial"] == "torch"
    assert read_json(next(folder.glob("trials/private*/config.json")))["model"]["initial"] == "torch"


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({}, TORCH),
        ({"name": "cnn", "width": 8}, {"name": "cnn", "width": 8, **TORCH}),
        ({"name": "cnn", **HE}, {"name": "cnn", **HE}),
        ({"initial": {"grid": ["torch", "he"]}}, {"initial": {"grid": ["torch", "he"]}}),
        ({"name": "linear"}, {"name": "linear"}),
        ({"name": "alexnet"}, {"name": "alexnet"}),
        ({"grid": [{"name": "cnn"}, {"name": "linear"}]}, {"grid": [{"name": "cnn", **TORCH}, {"name": "linear"}]}),
        ({"name": {"grid": ["linear", "cnn"]}}, {"name": {"grid": ["linear", "cnn"]}, **TORCH}),
    ],
)
def test_new_sweeps_name_them_where_the_model_has_a_choice(mapping, model, named):
    sweep = with_initial(Sweep.from_mapping(mapping | {"model": model}))
    assert sweep.model.raw == named
    assert with_initial(sweep) is sweep


def test_a_list_of_models_gives_them_to_those_that_have_a_choice(mapping):
    sweep = with_initial(Sweep.from_mapping(mapping | {"model": {"name": {"grid": ["linear", "cnn"]}}, "seeds": 1}))
    models = {trial.config.model.name: trial.config.model for trial in check_sweep(sweep).trials}
    assert models["cnn"].initial == "torch"
    assert "initial" not in models["linear"].record()
