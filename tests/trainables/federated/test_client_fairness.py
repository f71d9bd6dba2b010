"""Who is served how well, and whose updates count: against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from fairsweep.trainables.federated.dpfedavg import Dpfedavg
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig


@pytest.fixture
def learner(make_task):
    config = DpfedavgConfig(
        rounds=2,
        sampling_rate=1.0,
        noise_multiplier=0.1,
        clients={"partition": "attribute", "attribute": "tone", "count": 12, "held_out": 0.3},
        clipping={"l2_clip_norm": 0.3},
        local={"batch_size": 4},
    )
    return Dpfedavg(config, make_task("linear", n=120))


def by_group(report):
    return {(line.attribute, line.value): line for line in report.clients}


def test_client_accuracy_is_that_on_the_clients_own_held_out_examples(learner):
    report = by_group(learner.step())
    task, tone = learner.task, learner.task.groups["tone"]
    accuracies, homes = [], []
    for client in range(12):
        own = learner.partition.client(client)
        held_out = own[len(own) - int(0.3 * len(own)) :]
        predicted = learner.predict(task.feed.images(task.rows[held_out])).argmax(1).numpy()
        accuracies.append((predicted == task.labels[held_out]).mean())
        homes.append(np.bincount(tone[own]).argmax())
    accuracies, homes = np.array(accuracies), np.array(homes)
    assert set(report) == {("", -1), ("tone", 0), ("tone", 1)}
    for key, members in {("", -1): homes >= 0, ("tone", 0): homes == 0, ("tone", 1): homes == 1}.items():
        line, measured = report[key], accuracies[members]
        assert line.clients == members.sum() > 0
        assert line.accuracy_mean == pytest.approx(measured.mean())
        assert line.accuracy_variance == pytest.approx(measured.var())
        worst = np.sort(measured)[: math.ceil(len(measured) / 10)]
        assert line.accuracy_worst_decile == pytest.approx(worst.mean())


def test_updates_are_those_of_the_groups_clients(learner):
    from fairsweep.trainables.privacy.clipping import Clipping

    begin = learner._weights.clone()
    free = learner._trainer.sums(begin, 0, np.arange(12), Clipping("none", None))
    report = by_group(learner.step())
    change = learner._weights - begin  # server lr 1: the noised mean update
    members = learner._groups.members[:, free.clients]
    for index, key in enumerate(learner._groups.names):
        line, own = report[key], members[index]
        assert line.updates == own.sum()
        assert line.mean_update_norm == pytest.approx(free.norms[own].mean(), rel=1e-5)
        assert line.clipped_share == pytest.approx((free.norms[own] > 0.3).mean())
        cosine = torch.nn.functional.cosine_similarity(free.by_group[index], change, dim=0)
        assert line.cosine == pytest.approx(float(cosine), abs=1e-4)
    assert report["", -1].updates == report["tone", 0].updates + report["tone", 1].updates == 12


def test_a_client_without_held_out_examples_is_not_measured(make_task):
    config = DpfedavgConfig(
        rounds=1, noise_multiplier=1.0, clients={"partition": "iid", "count": 10, "held_out": 0.0}, sampling_rate=0.5
    )
    report = by_group(Dpfedavg(config, make_task("linear", n=40)).step())
    assert report["", -1].clients == 0
    assert math.isnan(report["", -1].accuracy_mean)
    assert math.isnan(report["", -1].accuracy_worst_decile)


def test_the_partition_is_described_in_whole_numbers(learner):
    facts = learner.facts()["clients"]
    assert (facts["count"], facts["execution"]) == (12, "batched")
    sizes = learner.partition.sizes
    assert facts["examples"] == {"least": sizes.min(), "median": np.median(sizes), "most": sizes.max()}
    assert sum(facts["majority"]["tone"]["clients"]) == 12
    counts = np.array(facts["listed"]["label"]["counts"])
    assert counts.sum() == 120
    assert (counts.sum(axis=1) == sizes).all()
