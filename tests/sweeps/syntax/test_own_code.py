"""Sources that a sweep names are read when it is made, and stay with it."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from fairsweep.sweeps.execution.extending import extend_sweep
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.trial.trial import Trial

EXAMPLE = Path(__file__).parents[3] / "examples" / "own-model"
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


def test_a_sweep_whose_files_are_gone_is_extended_by_what_it_keeps(mapping, beside, run_here):
    for name in ("learner.py", "metrics.py"):
        shutil.copy(EXAMPLE / name, beside / name)
    own = {"model": {"name": "nets.py:make"}, "metrics": ["metrics.py:screening_cost"], "seeds": 1}
    own["learners"] = [{"name": "focal", "kind": "learner.py:Focal", "epochs": 1}]
    (beside / "sweep.yaml").write_text(yaml.safe_dump(mapping | own))
    folder = run_here(beside / "sweep.yaml")
    for name in ("nets.py", "learner.py", "metrics.py"):
        (beside / name).unlink()
    plan = check_sweep(extend_sweep(folder, seeds=2).sweep)
    added = OutputFolder.at(folder).ledger.missing(plan.trials)
    assert (len(plan.trials), len(added)) == (4, 2)
    assert (Trial(added[0].config, beside / "added").run() / "cells.parquet").exists()


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


OTHERS = """
from fairsweep.analysis import Metric

rare = Metric("rare_cost", lambda counts: counts.fn / counts.n, "lower")
lines = None


def twice(counts, weight):
    return counts.tp


class Tracks:
    is_live = False

    def __init__(self, place):
        pass

    def send(self, report, after):
        pass

    def send_sweep(self, report):
        pass

    def close(self):
        pass


class Silent:
    is_live = False


class Odd(Tracks):
    def send(self, report):
        pass
"""


def test_metrics_and_trackers_of_a_file_stay_with_the_sweep_and_change_no_trial(mapping, beside):
    (beside / "others.py").write_text(OTHERS)
    plain = check_sweep(Sweep.from_mapping(mapping))
    given = {"metrics": ["others.py:rare", "auc"], "tracking": ["files", "others.py:Tracks"]}
    given |= {"search": {"algorithm": "grid"}, "stop": {"target": ["rare_cost <= 0.01"]}}
    sweep = Sweep.from_mapping(mapping | given)
    (beside / "others.py").unlink()
    again = Sweep.from_mapping(sweep.model_dump(mode="json"))
    assert again.own_code == {"others.py": OTHERS}
    assert again.tracking.names == ("files", "others.py:Tracks")
    assert [t.trial for t in check_sweep(again).trials] == [t.trial for t in plain.trials]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"metrics": ["gone.py:f"]}, "metrics[0]: there is no file gone.py here"),
        ({"metrics": ["others.py:rar"]}, "did you mean 'rare'"),
        (
            {"metrics": ["others.py:lines"]},
            "must be a fairsweep.analysis.Metric, or a function of the confusion counts",
        ),
        ({"metrics": ["others.py:twice"]}, "twice() missing 1 required positional argument: 'weight'"),
        ({"metrics": ["broken.py:f"]}, "broken.py, line 1: 'import nothing_like_it': ModuleNotFoundError"),
        ({"metrics": ["acuracy"]}, "did you mean 'accuracy'"),
        ({"metrics": ["accuracy_difference"]}, "accuracy_difference is a disparity"),
        ({"tracking": ["tensorbord"]}, "did you mean 'tensorboard'"),
        ({"tracking": ["others.py:Silent"]}, "others.py:Silent must be a class with the parts of"),
        ({"tracking": ["others.py:Odd"]}, "others.py:Odd.send must take the arguments of"),
        ({"tracking": {"own": ["others.py:twice"]}}, "must be a class with the parts of"),
    ],
)
def test_what_is_no_metric_or_tracker_is_told_before_anything_starts(mapping, beside, fields, told):
    (beside / "others.py").write_text(OTHERS)
    (beside / "broken.py").write_text("import nothing_like_it")
    with pytest.raises(SweepError) as caught:
        Sweep.from_mapping(mapping | fields)
    assert told in str(caught.value)
    assert caught.value.location[0] in fields


@pytest.mark.parametrize("group", ["learners", "metrics", "trackers"])
def test_installed_packages_offer_them_by_entry_points(mapping, beside, monkeypatch, group):
    site = beside / "site"
    (site / "others-1.0.dist-info").mkdir(parents=True)
    (site / "installed_others.py").write_text(
        OTHERS + "\nfrom fairsweep.trainables.sgd.sgd_learner import Sgd, SgdConfig\n"
        "class Config(SgdConfig):\n    kind: str\nclass Mine(Sgd):\n    config = Config\n"
    )
    (site / "others-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    name = {"learners": "Mine", "metrics": "rare", "trackers": "Tracks"}[group]
    (site / "others-1.0.dist-info/entry_points.txt").write_text(
        f"[fairsweep.{group}]\nmine = installed_others:{name}\n"
    )
    monkeypatch.syspath_prepend(str(site))
    fields = {
        "learners": {"learners": [{"name": "mine", "kind": "mine", "epochs": 1, "batch_size": 32}]},
        "metrics": {"metrics": ["mine"]},
        "trackers": {"tracking": ["mine"]},
    }
    assert check_sweep(Sweep.from_mapping(mapping | {"seeds": 1} | fields[group])).trials
    sys.modules.pop("installed_others", None)
