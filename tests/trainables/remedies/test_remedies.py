"""Remedies of ordinary training: each equals the loop that its paper writes, and takes nothing it should not."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from sklearn.utils.class_weight import compute_class_weight

from fairsweep.datasets.selection.sampling import GroupBalanced, Shuffled
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.remedies import RemedyConfig
from fairsweep.trainables.remedies.groups import balancing_weights, group_numbers
from fairsweep.trainables.sgd.sgd_learner import Sgd, SgdConfig

ADAPTER = TypeAdapter(RemedyConfig)
GIVEN = {"kind": "class_weights", "weights": {"1": 3.0}}
BALANCED = {"kind": "class_weights", "weights": "balanced"}
SAMPLING = {"kind": "group_sampling", "attributes": ["tone", "label"]}
REWEIGHTING = {"kind": "group_reweighting", "attributes": ["tone"]}
DRO = {"kind": "group_dro", "attributes": ["tone", "label"], "step_size": 0.5}
ALL = {"given": GIVEN, "balanced": BALANCED, "sampling": SAMPLING, "reweighting": REWEIGHTING, "dro": DRO}


def config(**fields):
    return SgdConfig(**{"epochs": 3, "batch_size": 20, "optimizer": {"name": "sgd", "lr": 0.1}, **fields})


@pytest.fixture
def task(make_task):
    """50 examples, a third of them dark, more of one label than of the other."""
    full = make_task("linear", n=80)
    return full.subset(np.r_[np.flatnonzero(full.labels == 0)[:32], np.flatnonzero(full.labels == 1)[:18]])


def train(learner):
    while learner.iteration < learner.iterations:
        learner.step()
    return learner


def by_hand(remedy, task, smoothing):
    """A loop in plain PyTorch, with the remedy written out; returns weights, group weights and mean losses by epoch."""
    labels, tone = torch.from_numpy(task.labels), torch.from_numpy(task.groups["tone"].astype(np.int64))
    cells = 2 * tone + labels
    model = build_model(task.model, task.image_shape, 2, task.keys.train)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.from_numpy(task.feed.images(task.rows)).permute(0, 3, 1, 2).float() / 127.5 - 1
    order = Shuffled(50, 20, 3, task.keys.train)
    if remedy in (SAMPLING, DRO):
        order = GroupBalanced(cells.numpy(), 20, 3, task.keys.train)
    weights = torch.ones(50)
    if remedy is GIVEN:
        weights = torch.where(labels == 1, 3.0, 1.0)
    elif remedy is BALANCED:
        by_class = compute_class_weight("balanced", classes=np.array([0, 1]), y=task.labels)
        weights = torch.from_numpy(by_class).float()[labels]
    elif remedy is REWEIGHTING:
        weights = torch.tensor([50 / (2 * int((tone == value).sum())) for value in tone.tolist()])
    q, losses_seen = [0.25] * 4, []
    for step in range(9):
        chosen = torch.from_numpy(order.positions(step))
        losses = F.cross_entropy(model(images[chosen]), labels[chosen], reduction="none", label_smoothing=smoothing)
        if remedy is DRO:  # algorithm 1, for all groups of a batch at once
            of_group = [losses[cells[chosen] == g].mean() for g in range(4)]
            q = [weight * math.exp(0.5 * float(loss.detach())) for weight, loss in zip(q, of_group, strict=True)]
            q = [weight / sum(q) for weight in q]
            objective = sum(weight * loss for weight, loss in zip(q, of_group, strict=True))
        else:
            objective = (weights[chosen] * losses).sum() / len(chosen)
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        losses_seen.append(losses.detach())
    return model.state_dict(), q, [float(torch.cat(losses_seen[3 * e : 3 * e + 3]).mean()) for e in range(3)]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("remedy", ALL.values(), ids=ALL)
def test_training_equals_the_remedy_written_out(task, remedy, smoothing):
    learner = Sgd(config(remedy=remedy, label_smoothing=smoothing), task)
    reports = [learner.step() for _ in range(3)]
    expected, q, losses = by_hand(remedy, task, smoothing)
    for name, value in learner.weights().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
    for report, loss in zip(reports, losses, strict=True):
        assert report.loss == pytest.approx(loss, rel=1e-3)  # without weights: the same quantity for every remedy
    if remedy is DRO:
        found = learner.state()["remedy"]["weights"]
        torch.testing.assert_close(found, torch.tensor(q), rtol=1e-3, atol=1e-5)
        assert float(found.max() - found.min()) > 0.01


@pytest.mark.parametrize("remedy", ALL.values(), ids=ALL)
def test_a_resume_goes_on_bit_for_bit(task, remedy):
    whole, half, rest = (Sgd(config(remedy=remedy), task) for _ in range(3))
    train(whole), half.step()
    rest.load(half.state())
    train(rest)
    assert all(torch.equal(value, whole.weights()[name]) for name, value in rest.weights().items())
    assert repr(rest.state()) == repr(whole.state())


def test_group_weights_belong_to_the_state_and_do_not_change_behind_it(task):
    learner = Sgd(config(remedy=DRO), task)
    learner.step()
    state = learner.state()
    before = state["remedy"]["weights"].clone()
    learner.step()
    assert torch.equal(state["remedy"]["weights"], before)
    fresh = Sgd(config(remedy=DRO), task)
    fresh.load({**state, "remedy": {}})
    fresh.step()  # from equal weights instead: another training
    assert not torch.equal(fresh.weights()["1.weight"], learner.weights()["1.weight"])
    fewer = Sgd(config(remedy={**DRO, "attributes": ["tone"]}), task)
    with pytest.raises(ValueError, match="weights of 2 groups"):
        fewer.load(state)


def test_a_state_made_before_there_were_remedies_is_taken(task):
    whole, half, rest = (Sgd(config(), task) for _ in range(3))
    train(whole), half.step()
    rest.load({name: value for name, value in half.state().items() if name != "remedy"})
    assert all(torch.equal(value, whole.weights()[name]) for name, value in train(rest).weights().items())


def test_group_dro_lifts_the_group_whose_loss_is_largest(make_task):
    """Labels of the dark are turned round at random: their loss stays up, and so does their weight."""
    full = make_task("linear", n=120)
    dark = full.groups["tone"] == 1
    labels = np.where(dark, np.random.default_rng(0).integers(0, 2, 120), full.labels)
    task = make_task("linear", n=120, labels=labels)
    remedy = {"kind": "group_dro", "attributes": ["tone"], "step_size": 0.1}
    learner = train(Sgd(config(epochs=10, remedy=remedy), task))
    light, dark_weight = learner.state()["remedy"]["weights"].tolist()
    assert dark_weight > 0.6 > 0.4 > light


def test_groups_are_the_intersections_that_occur(task):
    numbers = group_numbers(task, ("tone", "label"))
    assert sorted(set(numbers.tolist())) == [0, 1, 2, 3]
    assert (numbers == 2 * task.groups["tone"] + task.labels).all()
    light = task.subset(np.flatnonzero(task.groups["tone"] == 0))
    assert set(group_numbers(light, ("tone", "label")).tolist()) == {0, 1}
    weights = balancing_weights(numbers)
    assert weights.mean() == pytest.approx(1)
    assert np.ptp(np.bincount(numbers, weights)) == pytest.approx(0)


@pytest.mark.parametrize(
    ("remedy", "told"),
    [
        ({"kind": "group_drop", "attributes": ["tone"]}, "'class_weights', 'group_sampling'"),
        ({"kind": "group_dro"}, "attributes"),
        ({"kind": "group_dro", "attributes": []}, "at least 1 item"),
        ({"kind": "group_dro", "attributes": ["tone", "tone"]}, "named once"),
        ({"kind": "group_dro", "attributes": ["tone"], "step_size": 0}, "greater than 0"),
        ({"kind": "class_weights", "weights": "balance"}, "balanced"),
        ({"kind": "class_weights", "weights": {"1": -1}}, "greater than 0"),
    ],
)
def test_senseless_remedies_are_refused(remedy, told):
    with pytest.raises(ValidationError, match=told):
        ADAPTER.validate_python(remedy)


@pytest.mark.parametrize(
    ("remedy", "told"),
    [
        ({**DRO, "attributes": ["tome"]}, "did you mean 'tone'.*add it to dataset.groups"),
        ({**SAMPLING, "attributes": ["lable"]}, "did you mean 'label'"),
        ({**REWEIGHTING, "attributes": ["shape"]}, "known: tone, label"),
        ({"kind": "class_weights", "weights": {"7": 2}}, "has no value '7'"),
    ],
)
def test_unknown_names_are_refused_before_and_at_the_start(task, remedy, told):
    with pytest.raises(ValueError, match=told):
        config(remedy=remedy).check_values(task.roles)
    with pytest.raises(ValueError, match=told):
        Sgd(config(remedy=remedy), task)


def test_values_are_given_by_name_or_number_and_survive_json():
    written = [{"1": 2}, {1: 2.0}]
    configs = [ADAPTER.validate_python({"kind": "class_weights", "weights": weights}) for weights in written]
    assert configs[0] == configs[1]
    for remedy in ALL.values():
        made = ADAPTER.validate_python(remedy)
        assert ADAPTER.validate_json(made.model_dump_json()) == made


def test_every_remedy_order_and_weight_is_part_of_a_trial_s_identity_and_none_changes_none(make_config, sgd, dpsgd):
    remedies = [None, *ALL.values(), {"kind": "group_dro", "attributes": ["tone", "label"]}]
    remedies += [{"kind": kind, "attributes": ["tone"]} for kind in ("group_sampling", "group_dro")]
    found = [make_config({**sgd, "remedy": remedy}).trial for remedy in remedies]
    assert found[0] == make_config(sgd).trial
    orders = [
        {"sampler": "truncated_poisson"},
        {"sampler": "truncated_poisson", "max_batch_size": 40},
        {"sampler": "weighted_poisson", "sampling_weights": {"attribute": "tone", "weights": {"dark": 2}}},
        {"sampler": "weighted_poisson", "sampling_weights": {"attribute": "tone", "weights": {"dark": 3}}},
        {"remedy": GIVEN},
    ]
    found += [make_config({**dpsgd, **order}).trial for order in orders]
    assert make_config({**dpsgd, "max_batch_size": None, "remedy": None}).trial == make_config(dpsgd).trial
    assert len({*found, make_config(dpsgd).trial}) == len(found) + 1
