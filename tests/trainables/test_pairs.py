"""Every learner with every model, norm, trained part and head: two steps, or a refusal that says why.

The gate takes a sample in which each value stands beside each learner; the whole product is slow.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from fairsweep.trainables.learners import LEARNERS, AnyLearner, build_learner
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner import LabelledRows
from fairsweep.trainables.models.examination import examine
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS, AnyModel

CLIENTS = {"partition": "iid", "count": 2}
PRIVATE = {"noise_multiplier": 0.8}
LEARN = {
    "sgd": {"kind": "sgd", "epochs": 1, "batch_size": 4},
    "dpsgd": {"kind": "dpsgd", "epochs": 1, "batch_size": 4, "performance": {"gradient_mode": "functorch"}} | PRIVATE,
    "fedavg": {"kind": "fedavg", "rounds": 2, "rounds_per_iteration": 2, "clients": CLIENTS, "cohort_size": 2},
    "dpfedavg": {"kind": "dpfedavg", "rounds": 2, "rounds_per_iteration": 2, "clients": CLIENTS, "sampling_rate": 1}
    | PRIVATE,
    "sisa": {"kind": "sisa", "shards": 2, "slices": 1, "epochs": 1, "inner": {"kind": "sgd", "batch_size": 2}},
    "sisa private": {
        "kind": "sisa",
        "shards": 2,
        "slices": 1,
        "epochs": 1,
        "inner": {"kind": "dpsgd", "batch_size": 2, "performance": {"gradient_mode": "functorch"}} | PRIVATE,
    },
    "pbt": {
        "kind": "pbt",
        "population": 2,
        "inner": {"kind": "sgd", "epochs": 2, "batch_size": 8},
        "explore": {"optimizer.lr": {"low": 0.01, "high": 0.1}},
    },
}
NAMES = ["linear", "cnn", "resnet18", "own", "weighted"]
NORMS = ["group", "frozen", "batch", "none"]
PARTS = ["all", "head", "middle"]
HEADS = [None, {"hidden": [3], "dropout": [0.2]}]
MIDDLE = {"cnn": ["0", "head"], "resnet18": ["layer4", "head"], "own": ["second", "head"], "weighted": ["second"]}
TAKES_BATCH_NORM = {"sgd", "sisa", "pbt"}


def refusal(learner, name, norm):
    """What the message that refuses a pair says; None where it trains."""
    if norm == "frozen" and name in ("cnn", "resnet18"):
        return "published weights"
    return "norm: group" if norm == "batch" and learner not in TAKES_BATCH_NORM else None


def _pairs():
    models = [
        (name, norm, part, head)
        for name, norm, part, head in itertools.product(NAMES, NORMS, PARTS, range(len(HEADS)))
        if not (name == "linear" and (part == "middle" or norm != "group"))
    ]
    quick = [model for model in models if model[0] != "resnet18"]
    for turn, learner in enumerate(LEARN):
        gate = {quick[(turn * 5 + 13 * number) % len(quick)] for number in range(9)}
        for model in models:
            marks = () if model in gate else pytest.mark.slow
            yield pytest.param(learner, *model, id="-".join(map(str, (learner, *model))), marks=marks)


@pytest.fixture(scope="module")
def file(own, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.pt"
    torch.save(build_model(own(norm="batch"), (8, 8, 1), 3, bytes(32)).state_dict(), path)
    return path


@pytest.fixture
def read(own, file):
    """Reads a model as a sweep does."""

    def make(name, norm, part, head):
        fields = {"train": MIDDLE[name] if part == "middle" else part, "head": HEADS[head]}
        fields |= {} if name == "linear" else {"norm": norm}
        if name in MODELS:
            return TypeAdapter(AnyModel).validate_python({"name": name, **fields})
        return own(**fields, **({"weights": file} if name == "weighted" else {}))

    return make


@pytest.mark.parametrize(("learner", "name", "norm", "part", "head"), list(_pairs()))
def test_a_pair_takes_two_steps_or_says_why_not(learner, name, norm, part, head, read, make_task):
    config = TypeAdapter(AnyLearner).validate_python(LEARN[learner])
    size, message = 16 if name == "resnet18" else 8, refusal(learner, name, norm)
    if message is not None:
        with pytest.raises(ValueError, match=message):
            _train(config, read(name, norm, part, head), size, make_task)
        return
    before, after, report = _train(config, read(name, norm, part, head), size, make_task)
    assert isinstance(report, IterationReport)
    assert report.steps >= 2
    moved = {place for place, value in after.items() if not torch.equal(value, before[place])}
    assert moved
    if part == "head" and learner != "pbt":  # the best member may be another, with initial weights of its own
        assert len({place.rpartition(".")[0] for place in moved}) <= (2 if head else 1) * 2


def _train(config, model, size, make_task):
    """Do what a sweep does: check the learner's config against the model and the network, then train."""
    config.check_model(model)
    examined = examine(model, (size, size, 1), 3)
    config.check_network(model.name, examined)
    task = make_task(model, n=8, size=size, classes=3)
    measured = np.arange(0, 8, 2)
    groups = {name: codes[measured] for name, codes in task.groups.items()}
    validation = LabelledRows(task.rows[measured], task.labels[measured], groups)
    learner = build_learner(config, replace(task, validation=validation))
    before, report = learner.weights(), learner.step()
    return before, learner.weights(), report


def test_every_kind_and_model_of_the_tables_is_in_a_pair():
    assert {content["kind"] for content in LEARN.values()} == set(LEARNERS)
    assert set(MODELS) <= set(NAMES)
