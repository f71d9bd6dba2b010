"""Clients side by side or one after the other, in any cut: equal sums up to rounding, and schedules that fit."""

import math
from itertools import product
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from fairsweep.datasets.selection.partitions import ClientsConfig, TrainingColumns, partition_clients
from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.federated.client_trainer import choose_execution
from fairsweep.trainables.federated.cohorts import examples_of, schedule
from fairsweep.trainables.federated.dpfedavg import Dpfedavg
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig, LocalConfig
from fairsweep.trainables.federated.grouped_pass import GroupedPass
from fairsweep.trainables.models.model import ModelConfig, build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.clipping import Clipping

KEY = seed_key(3, "train")


def learner(make_task, execution, at_once=None, model="cnn", local=None, **task):
    config = DpfedavgConfig(
        rounds=4,
        noise_multiplier=1.0,
        sampling_rate=0.5,
        clients={"partition": "quantity", "count": 11, "alpha": 0.7},
        local=local or {"batch_size": 4},
        augmentation={"flip": True, "crop": 1},
        clipping={"kind": "per_layer", "l2_clip_norm": 0.2},
        performance={"execution": execution, "clients_at_once": at_once},
    )
    return Dpfedavg(config, make_task(model, **{"n": 90, **task}))


class EveryLayer(ModelConfig):
    """A chain of all that goes through by group, with and without biases."""

    name: Literal["every layer"] = "every layer"

    def network(self, image_shape, classes):
        first = [nn.Conv2d(image_shape[2], 4, (3, 2), 2, padding=(1, 0), bias=False), nn.GroupNorm(2, 4), nn.ReLU()]
        second = [nn.Conv2d(4, 6, 3, groups=2, padding="same"), nn.Identity(), nn.Flatten()]
        return nn.Sequential(*first, *second, nn.Linear(96, 5, bias=False), nn.ReLU(), nn.Linear(5, classes))


class Branching(ModelConfig):
    """No chain: one layer's output is added to its input."""

    name: Literal["branching"] = "branching"

    def network(self, image_shape, classes):
        class Sum(nn.Sequential):
            def forward(self, x):
                return x + super().forward(x)

        return nn.Sequential(nn.Flatten(), Sum(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, classes))


class Tied(ModelConfig):
    """A chain in which one layer occurs twice."""

    name: Literal["tied"] = "tied"

    def network(self, image_shape, classes):
        layer = nn.Linear(64, 64)
        return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer, nn.Linear(64, classes))


MODELS_HERE = [*(MODELS[name]() for name in ("linear", "cnn")), EveryLayer(), Branching(), Tied()]
LOCAL = {
    "momentum": {"batch_size": 4, "epochs": 2, "optimizer": {"lr": 0.1, "momentum": 0.9}},
    "whole proximal": {"batch_size": None, "epochs": 3, "proximal": 0.5},
    "steps adam": {"batch_size": 5, "steps": 4, "optimizer": {"name": "adam", "lr": 0.01, "weight_decay": 0.1}},
}


@pytest.mark.parametrize(
    ("model", "local"),
    [*product(("linear", "cnn"), LOCAL), *((model, "momentum") for model in MODELS_HERE[2:])],
    ids=lambda given: getattr(given, "name", given),
)
def test_all_executions_give_equal_sums(make_task, model, local):
    everyone = np.array([3, 0, 10, 7, 1, 2, 9])
    found = []
    for execution, at_once in [("sequential", None), ("batched", None), ("batched", 3), ("sequential", 2)]:
        made = learner(make_task, execution, at_once, model, LOCAL[local])
        found.append(made._trainer.sums(made._weights, 2, everyone, Clipping("per_layer", 0.2)))
    for sums in found[1:]:
        torch.testing.assert_close(sums.total, found[0].total, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(sums.by_group, found[0].by_group, rtol=1e-4, atol=1e-4)
        assert sums.examples == found[0].examples
        assert sums.loss == pytest.approx(found[0].loss, rel=1e-4)
        assert set(sums.clients) == set(everyone)
        order = [np.argsort(s.clients) for s in (sums, found[0])]
        np.testing.assert_allclose(sums.norms[order[0]], found[0].norms[order[1]], rtol=1e-4)
        assert (sums.clipped[order[0]] == found[0].clipped[order[1]]).all()


def test_chains_of_known_layers_go_by_group():
    taken = {model.name: GroupedPass.of(build_model(model, (8, 8, 1), 2, KEY)) is not None for model in MODELS_HERE}
    assert GroupedPass.of(nn.Linear(3, 2)) is not None  # a head on features
    chains = {"linear": True, "cnn": True, "every layer": True}
    assert taken == {**chains, "branching": False, "tied": False}


def test_a_whole_training_is_equal_too(make_task):
    made = [learner(make_task, execution) for execution in ("sequential", "batched")]
    for _ in range(4):
        reports = [one.step() for one in made]
        assert reports[0].loss == pytest.approx(reports[1].loss, rel=1e-4)
    for name, value in made[0].weights().items():
        torch.testing.assert_close(value, made[1].weights()[name], rtol=1e-3, atol=1e-4)


def test_what_a_client_contributes_does_not_depend_on_who_else_joins(make_task):
    made = learner(make_task, "batched")
    clipping = Clipping("flat", 0.2)
    everyone = made._trainer.sums(made._weights, 1, np.arange(11), clipping)
    alone = [made._trainer.sums(made._weights, 1, np.array([client]), clipping).total for client in range(11)]
    torch.testing.assert_close(torch.stack(alone).sum(dim=0), everyone.total, rtol=1e-4, atol=1e-5)


def test_the_execution_that_made_a_state_is_kept(make_task):
    state = learner(make_task, "batched").state()
    resumed = learner(make_task, "sequential")
    resumed.load(state)
    assert resumed.execution == "batched"


def test_auto_is_a_function_of_model_and_device():
    config = DpfedavgConfig(noise_multiplier=1.0, clients={"partition": "iid", "count": 3})
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_execution(config, MODELS["linear"](), cpu) == "batched"
    assert choose_execution(config, MODELS["cnn"](), cpu) == "batched"
    assert choose_execution(config, MODELS["resnet18"](), cpu) == "sequential"
    assert choose_execution(config, MODELS["resnet18"](), cuda) == "batched"


class TwoLayers(ModelConfig):
    name: Literal["two layers"] = "two layers"

    def network(self, image_shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 3), nn.ReLU(), nn.Linear(3, classes))


@pytest.mark.parametrize("execution", ["batched", "sequential", "auto"])
def test_a_model_that_no_table_knows_is_trained(make_task, execution):
    config = DpfedavgConfig(
        noise_multiplier=1.0, clients={"partition": "iid", "count": 3}, performance={"execution": execution}
    )
    made = Dpfedavg(config, make_task(TwoLayers()))
    made.step()
    assert made.predict(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 2)


class TestSchedule:
    def partition(self):
        columns = TrainingColumns(np.arange(70), np.zeros(70, np.int64))
        return partition_clients(columns, ClientsConfig(partition="quantity", count=6, alpha=0.5), KEY)

    @pytest.mark.parametrize(("epochs", "batch"), [(1, 4), (3, 4), (2, 1000), (2, None)])
    def test_each_pass_sees_every_example_once(self, epochs, batch):
        partition, clients = self.partition(), np.array([4, 0, 2])
        plan = schedule(partition, clients, LocalConfig(epochs=epochs, batch_size=batch), KEY, 5)
        examples = examples_of(partition, clients)
        for client, steps, table in zip(plan.clients, plan.steps, plan.table, strict=True):
            own = sorted(partition.client(client).tolist())
            size = len(own) if batch is None else batch
            per_pass = -(-len(own) // size)
            assert steps == epochs * per_pass
            assert (table[steps:] == -1).all()
            for epoch in range(epochs):
                batches = table[epoch * per_pass : (epoch + 1) * per_pass]
                assert sorted(examples[batches[batches >= 0]].tolist()) == own
                assert [(b >= 0).sum() for b in batches[:-1]] == [size] * (per_pass - 1)
        assert list(plan.steps) == sorted(plan.steps, reverse=True)
        assert set(plan.clients) == set(clients)

    def test_steps_go_round_the_examples(self):
        partition = self.partition()
        plan = schedule(partition, np.arange(6), LocalConfig(steps=7, batch_size=5), KEY, 0)
        assert (plan.steps == 7).all()
        assert ((plan.table >= 0).sum(axis=2) >= 1).all()

    def test_orders_differ_by_round_and_pass_but_not_by_company(self):
        partition, local = self.partition(), LocalConfig(epochs=2, batch_size=3)
        largest = int(partition.sizes.argmax())
        alone, again, later = (
            schedule(partition, np.array(clients), local, KEY, number)
            for clients, number in (([largest], 0), ([largest, 1], 0), ([largest], 1))
        )
        company = examples_of(partition, np.array([largest, 1]))
        own = partition.client(largest)
        place = int(np.flatnonzero(again.clients == largest)[0])
        steps = alone.table.shape[1]
        drawn = alone.table[0]
        with_company = again.table[place, :steps]
        assert (np.where(drawn >= 0, own[drawn], -1) == np.where(with_company >= 0, company[with_company], -1)).all()
        assert (drawn != later.table[0]).any()
        assert (drawn[: steps // 2] != drawn[steps // 2 :]).any()

    def test_nobody_has_an_empty_schedule(self):
        plan = schedule(self.partition(), np.empty(0, np.int64), LocalConfig(), KEY, 0)
        assert (len(plan.clients), plan.table.shape[:2]) == (0, (0, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("execution", ["batched", "sequential"])
def test_a_cuda_device_gives_the_sums_of_the_cpu(make_task, execution):
    everyone, clipping = np.arange(11), Clipping("flat", 0.2)
    on_cpu = learner(make_task, "sequential")
    on_cuda = learner(make_task, execution, device=torch.device("cuda"))
    expected = on_cpu._trainer.sums(on_cpu._weights, 0, everyone, clipping)
    found = on_cuda._trainer.sums(on_cuda._weights, 0, everyone, clipping)
    torch.testing.assert_close(found.total.cpu(), expected.total, rtol=1e-3, atol=1e-4)
