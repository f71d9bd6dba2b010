"""The JSON schema for editors takes every example and refuses what is broken."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from fairsweep.sweeps.spec.schema import schema_text, sweep_schema
from fairsweep.sweeps.syntax.sweep_file import SweepSource

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator():
    schema = sweep_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def as_json(path):
    return json.loads(json.dumps(SweepSource.read(path).content))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_accepted(validator, path):
    assert [error.message for error in validator.iter_errors(as_json(path))] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("seed",), 5),
        (("seeds",), 0),
        (("dataset", "label"), None),
        (("dataset", "lable"), "smiling"),
        (("imbalance", "share"), 1.5),
        (("imbalance", "size"), "many"),
        (("imbalance", "majorty"), "light"),
        (("model", "nam"), "cnn"),
        (("learners",), []),
        (("learners", 0, "kind"), "dp-sgd"),
        (("learners", 0, "epoch"), 5),
        (("learners", 0, "batch_size"), 0),
        (("learners", 0, "optimizer", "lr"), {"grid": []}),
        (("learners", 1, "epochs"), 3),  # of a twin
        (("evaluation", "per_cell"), -1),
        (("resources",), {"gpu": "all"}),
    ],
)
def test_broken_files_are_refused(validator, place, value):
    content = copy.deepcopy(as_json(EXAMPLES[0].with_name("quickstart.yaml")))
    node = content
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    assert not validator.is_valid(content)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("feed",), "stream"),
        (("tracking",), ["tensorboard", "files"]),
        (("tracking",), {"wandb": True}),
        (("seeds",), {"data": 2, "train": 3}),
        (("imbalance", "majority"), {"code": 0}),
        (("imbalance",), {"grid": [None]}),
        (("split",), {"kind": "folds", "folds": 5}),
        (("checkpoints",), {"budget": "2GB"}),
        (("learners", 0, "epsilon"), {"loguniform": [1, 10]}),
        (("learners", 2, "name"), "other"),
    ],
)
def test_other_ways_to_write_it_are_accepted(validator, place, value):
    content = copy.deepcopy(as_json(EXAMPLES[0].with_name("quickstart.yaml")))
    node = content
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    assert [error.message for error in validator.iter_errors(content)] == []


def test_the_stored_schema_is_that_of_the_configs(fairsweep):
    code, output, _ = fairsweep("schema")
    assert code == 0
    assert output == schema_text(), "a config has changed: run `make schema`"
