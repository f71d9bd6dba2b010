"""Sources that a sweep names are read when it is made, and stay with it."""

import pytest

from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

NET = """
from torch import nn

def make(image_shape, classes, width=4):
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, classes))
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder with a model, from which fairsweep is started."""
    (tmp_path / "nets.py").write_text(NET)
    (tmp_path / "other.py").write_text(NET.replace("nn.ReLU", "nn.Tanh"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def models(mapping, model):
    """The distinct models of a sweep's trials."""
    trials = check_sweep(Sweep.from_mapping(mapping | {"model": model, "seeds": 1})).trials
    return {trial.config.model.model_dump_json(): trial.config.model for trial in trials}.values()


def test_a_sweep_keeps_the_source_that_it_was_made_with(mapping, beside):
    sweep = Sweep.from_mapping(mapping | {"model": {"name": "nets.py:make"}})
    (beside / "nets.py").unlink()
    again = Sweep.from_mapping(sweep.model_dump(mode="json"))
    assert again.own_code == {"nets.py": NET}
    assert {trial.config.model.source for trial in check_sweep(again).trials} == {NET}


def test_names_and_args_can_be_dimensions(mapping, beside):
    named = {"name": {"grid": ["nets.py:make", "other.py:make"]}, "args": {"width": {"grid": [2, 3]}}}
    found = models(mapping, named)
    assert {(model.name, model.args["width"]) for model in found} == {
        (f"{file}.py:make", width) for file in ("nets", "other") for width in (2, 3)
    }
    assert {model.source for model in found} == {NET, NET.replace("nn.ReLU", "nn.Tanh")}
    whole = {"grid": [{"name": "linear"}, {"name": "nets.py:make"}, {"name": "other.py:make", "args": {"width": 2}}]}
    assert {model.name for model in models(mapping, whole)} == {"linear", "nets.py:make", "other.py:make"}


def test_an_installed_module_is_found_by_its_name(mapping, beside, monkeypatch):
    monkeypatch.syspath_prepend(str(beside))
    (model,) = models(mapping, {"name": "nets:make"})
    assert model.source == NET


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"name": "gone.py:make"}, "there is no file gone.py here"),
        ({"name": "gone.module:make"}, "no installed module 'gone.module'"),
        ({"name": "nets.py:made"}, "has no function or class 'made': did you mean 'make'"),
        ({"name": "nets.py:make", "args": {"depth": 2}}, "unexpected keyword argument 'depth'"),
        ({"name": "nets.py:make", "pretrained": "x"}, "only resnet18 has pretrained"),
        ({"name": "resnet81"}, "did you mean 'resnet18'"),
    ],
)
def test_what_is_not_there_is_told_before_anything_starts(mapping, beside, model, told):
    with pytest.raises(SweepError, match=told) as caught:
        models(mapping, model)
    assert caught.value.location[0] == "model"
