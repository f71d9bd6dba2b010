import copy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError


def refused(mapping, *changes, drop=()):
    """The error of a sweep in which values at some places are changed."""
    content = copy.deepcopy(mapping)
    for place, value in changes:
        node = content
        for part in place[:-1]:
            node = node[part]
        node[place[-1]] = value
    for place in drop:
        node = content
        for part in place[:-1]:
            node = node[part]
        del node[place[-1]]
    with pytest.raises(SweepError) as caught:
        Sweep.from_mapping(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_dataset_and_learners_are_required(toy_path):
    sweep = Sweep.from_mapping(
        {"dataset": {"path": str(toy_path), "label": "smiling", "groups": ["tone"]}, "learners": [{"kind": "sgd"}]}
    )
    assert (sweep.name, sweep.seeds, sweep.search.algorithm, sweep.privacy.mode) == ("sweep", 1, "grid", "research")
    assert sweep.folder == Path("runs/sweep").resolve()
    for name, field in Sweep.model_fields.items():
        assert field.description, name
        assert field.is_required() == (name in ("dataset", "learners"))


def test_a_sweep_survives_a_round_trip(mapping):
    mapping["seeds"] = {"data": 2, "train": 3}
    sweep = Sweep.from_mapping(mapping)
    assert Sweep.from_mapping(sweep.model_dump(mode="json")) == sweep


PRIVATE = ("learners", 0)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("sedes",), 2, ["unknown key 'sedes'", "did you mean 'seeds'?"]),
        ((*PRIVATE, "epoch"), 2, ["learners[0].epoch", "did you mean 'epochs'?"]),
        ((*PRIVATE, "optimizer"), {"name": "sgd", "rl": 1}, ["learners[0].optimizer.rl", "did you mean 'lr'?"]),
        ((*PRIVATE, "performance"), {"gradient_mod": "hooks"}, ["did you mean 'gradient_mode'?"]),
        (("dataset", "group"), "tone", ["dataset.group", "did you mean 'groups'?"]),
        (("imbalance", "majorty"), "light", ["imbalance.majorty", "did you mean 'majority'?"]),
        (("model",), {"nam": "cnn"}, ["model.nam", "did you mean 'name'?"]),
        (("evaluation",), {"balnce": ["tone"]}, ["evaluation.balnce", "did you mean 'balance'?"]),
        (("evaluation",), {"validation": {"per_cel": 1}}, ["evaluation.validation.per_cel", "per_cell"]),
        (("resources",), {"gpus": 1}, ["resources.gpus", "did you mean 'gpu'?"]),
        (("search",), {"algoritm": "grid"}, ["did you mean 'algorithm'?"]),
        ((*PRIVATE, "kind"), "dpsdg", ["no learner of kind 'dpsdg'", "did you mean 'dpsgd'?"]),
        (("learners", 1, "twin_of"), "privat", ["no learner 'privat'", "did you mean 'private'?"]),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(mapping, place, value, words):
    message = refused(mapping, (place, value))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ((*PRIVATE, "epochs"), "three", ["learners[0].epochs", "whole number", "'three'"]),
        ((*PRIVATE, "epochs"), 0, ["learners[0].epochs", "greater than or equal to 1", "0"]),
        ((*PRIVATE, "optimizer"), {"lr": -1}, ["learners[0].optimizer.lr", "greater than 0"]),
        (("seeds",), "many", ["seeds", "'many'"]),
        (("seeds",), 0, ["seeds", "greater than or equal to 1"]),
        (("seeds",), {"data": 1, "training": 5}, ["seeds.training", "did you mean 'train'?"]),
        (("imbalance", "share"), 1.2, ["imbalance.share", "less than or equal to 1", "1.2"]),
        (("imbalance", "share"), {"grid": [0.5, -0.1]}, ["imbalance.share", "greater than or equal to 0", "-0.1"]),
        (("imbalance", "share"), {"grid": [0.5, 0.5]}, ["imbalance.share", "must differ"]),
        (("imbalance", "keep"), {"dark": 3}, ["imbalance", "exactly one form"]),
        (("imbalance", "size"), "all", ["imbalance.size", "whole number", "'all'"]),
        (("learners",), [], ["learners", "at least 1"]),
        (("learners",), "dpsgd", ["learners", "'dpsgd'"]),
        (("learners", 0), "dpsgd", ["learners[0]", "mapping"]),
        (("dataset", "groups"), ["tone", "tone"], ["dataset", "once"]),
        (("resources",), {"cpu": 1.5}, ["resources", "whole number", "1.5"]),
        (("resources",), {"cpu": 0}, ["resources", "must reserve something"]),
        (("search",), {"algorithm": "random"}, ["search", "samples"]),
        (("learners", 2, "name"), "private", ["two learners have the name 'private'"]),
        (("learners", 1, "epochs"), 4, ["learners[1].epochs", "takes every field except its privacy"]),
        (("learners", 1, "twin_of"), "tuned", ["learners[1]", "private learner", "sgd"]),
        (("learners", 1, "twin_of"), "matched", ["twin itself"]),
        (("learners", 2, "kind"), None, ["learners[2]", "needs a kind"]),
        ((*PRIVATE, "epsilon"), 3.0, ["learners[0]", "exactly one of epsilon", "noise_multiplier"]),
        ((*PRIVATE, "optimizer"), {"lr": {"uniform": [0, 1]}}, ["learners[0].optimizer.lr", "algorithm: random"]),
        (("privacy",), {"mode": "relase"}, ["privacy.mode", "'relase'"]),
        (("failures",), {"retries": -1}, ["failures.retries", "-1"]),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(mapping, place, value, words):
    message = refused(mapping, (place, value))
    for word in words:
        assert word in message


@pytest.mark.parametrize("field", ["dataset", "learners"])
def test_a_missing_field_is_named(mapping, field):
    assert f"{field} is required" in refused(mapping, drop=[(field,)])
    assert "label is required" in refused(mapping, drop=[("dataset", "label")])
    assert "attribute is required" in refused(mapping, drop=[("imbalance", "attribute")])


def test_a_misspelt_required_field_is_answered_as_a_misspelling(mapping):
    message = refused(mapping, (("dataset", "lable"), "smiling"), drop=[("dataset", "label")])
    assert "did you mean 'label'?" in message


def test_a_file_error_has_the_line(mapping, tmp_path):
    path = tmp_path / "sweep.yaml"
    mapping["learners"][0]["optimizer"] = {"name": "sgd", "momentun": 0.9}
    YAML().dump(mapping, path)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "momentun" in text)
    with pytest.raises(SweepError) as caught:
        Sweep.from_yaml(path)
    assert str(caught.value).startswith(f"{path}, line {line}: learners[0].optimizer.momentun: unknown key")


def test_python_objects_are_checked_too(mapping):
    with pytest.raises(ValueError, match=r"learners\[0\]\.epoch"):
        Sweep(**mapping | {"learners": [{"kind": "sgd", "epoch": 1}]})
