"""Group diagnostics: what they report equals what a slow count by hand gives."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fairsweep.trainables.dpsgd import diagnostics
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.models.model import build_model


def config(**fields):
    given = {
        "epochs": 2,
        "batch_size": 20,
        "noise_multiplier": 0.5,
        "l2_clip_norm": 0.6,
        "optimizer": {"name": "sgd", "lr": 0.0001},
        "performance": {"gradient_mode": "bookkeeping"},
    }
    return DpsgdConfig(**{**given, **fields})


@pytest.fixture
def task(make_task):
    random = np.random.default_rng(2)
    groups = {
        "tone": (random.random(80) < 0.2).astype(np.int16),
        "age": random.choice([1, 4, 6], 80).astype(np.int16),
    }
    return make_task("linear", n=80, groups=groups)


def per_example(task):
    """Returns the per-example gradients at the initial weights, float64 [n, P]."""
    model = build_model(task.model, task.image_shape, 2, task.keys.train).double()
    images = torch.from_numpy(task.feed.images(task.rows)).permute(0, 3, 1, 2).double() / 127.5 - 1
    rows = []
    for position in range(task.size):
        loss = F.cross_entropy(model(images[position : position + 1]), torch.tensor([int(task.labels[position])]))
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows)


def test_counts_norms_and_clipped_shares_equal_a_count_by_hand(task):
    norms = per_example(task).norm(dim=1).numpy()
    bound = float(np.median(norms))  # clips about half
    learner = Dpsgd(config(epochs=1, l2_clip_norm=bound * 1.0001, optimizer={"name": "sgd", "lr": 1e-9}), task)
    sampler = learner.plan.inclusion(task.keys.secret, 0)
    seen = np.concatenate([sampler.positions(step) for step in range(learner.plan.steps)])
    report = learner.step()
    assert report.examples == len(seen)
    for found in report.diagnostics:
        codes = task.groups[found.attribute]
        members = seen[(codes[seen] == found.value) & (task.labels[seen] == found.label)]
        assert found.count == len(members)
        assert found.mean_gradient_norm == pytest.approx(norms[members].mean(), rel=1e-5)
        assert found.clipped_share == pytest.approx((norms[members] > bound * 1.0001).mean())
    cells = {(f.attribute, f.value, f.label) for f in report.diagnostics}
    assert cells == {("tone", v, y) for v in (0, 1) for y in (0, 1)} | {
        ("age", v, y) for v in (1, 4, 6) for y in (0, 1)
    }
    for attribute in task.groups:
        assert sum(f.count for f in report.diagnostics if f.attribute == attribute) == len(seen)
    assert 0.2 < sum(f.clipped_share * f.count for f in report.diagnostics) / (2 * len(seen)) < 0.8


def test_cosines_equal_those_of_the_probe_s_mean_gradient_and_the_noised_update(task, monkeypatch):
    monkeypatch.setattr(diagnostics, "_PROBE_BUDGET", 1e9)  # every example of a cell, so that the probe has no choice
    monkeypatch.setattr(diagnostics, "_MOST_PROBE_EXAMPLES", 10**6)
    given = config(epochs=1, batch_size=80, optimizer={"name": "sgd", "lr": 1e-9})
    learner = Dpsgd(given, task)
    gradients = per_example(task)
    sampler, noise = learner.plan.inclusion(task.keys.secret, 0), learner.plan.noise(task.keys.secret, 0)
    assert learner.plan.steps == 1
    factors = (0.6 / gradients.norm(dim=1)).clamp(max=1)
    joined = torch.from_numpy(sampler.positions(0))
    drawn = noise.draw(gradients.shape[1], 0, task.device).double()
    update = (factors[joined, None] * gradients[joined]).sum(0) + noise.std * drawn
    for found in learner.step().diagnostics:
        members = (task.groups[found.attribute] == found.value) & (task.labels == found.label)
        mean = gradients[torch.from_numpy(members)].mean(0)
        assert found.cosine == pytest.approx(float(F.cosine_similarity(mean, update, dim=0)), abs=1e-5)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [3.0, 0.5]])
def test_a_twins_norms_and_cosines_are_of_one_pass_over_its_probe(task, monkeypatch, weights):
    monkeypatch.setattr(diagnostics, "_PROBE_BUDGET", 1e9)
    monkeypatch.setattr(diagnostics, "_MOST_PROBE_EXAMPLES", 10**6)
    remedy = {"kind": "class_weights", "weights": dict(zip(("0", "1"), weights, strict=True))}
    fields = {"performance": {"physical_batch_size": 80}, "remedy": remedy}
    given = config(epochs=1, batch_size=80, optimizer={"name": "sgd", "lr": 1e-9}, **fields).twin("twin")
    task = replace(task, value_names={"tone": ("0", "1"), "age": tuple("0123456"), task.label: ("0", "1")})
    learner, gradients = Dpsgd(given, task), per_example(task)
    joined = torch.from_numpy(learner.plan.inclusion(task.keys.secret, 0).positions(0))
    each = torch.tensor(weights, dtype=torch.float64)[torch.from_numpy(task.labels)]
    update = (each[joined, None] * gradients[joined]).sum(0)
    passes = []
    forward = torch.nn.Linear.forward
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda *asked: passes.append(1) or forward(*asked))
    diagnosed = learner.step().diagnostics
    assert len(passes) == 1 + len(diagnosed)  # of the step, and of each cell
    for found in diagnosed:
        members = torch.from_numpy((task.groups[found.attribute] == found.value) & (task.labels == found.label))
        norms = (each[:, None] * gradients)[members].norm(dim=1)
        assert found.mean_gradient_norm == pytest.approx(float(norms.mean()), rel=1e-5)
        mean = gradients[members].mean(0)
        assert found.cosine == pytest.approx(float(F.cosine_similarity(mean, update, dim=0)), abs=1e-5)


def test_without_noise_the_majority_s_gradient_points_along_the_update(make_task):
    task = make_task("linear", n=200, groups={"all": np.zeros(200, np.int16)})
    learner = Dpsgd(config(epochs=1, batch_size=200, noise_multiplier=0.0), task)
    assert np.mean([found.cosine for found in learner.step().diagnostics]) > 0.2


def test_the_probe_has_equally_many_examples_of_every_cell_and_stays_within_its_budget(make_task):
    random = np.random.default_rng(0)
    groups = {"tone": (random.random(2000) < 0.1).astype(np.int16), "age": random.integers(0, 7, 2000).astype(np.int16)}
    task = make_task("linear", n=2000, groups=groups)
    learner = Dpsgd(config(batch_size=200, epochs=1), task)
    learner.step()
    sizes = [len(labels) for _, labels in learner._diagnostics._probe._members.values()]
    assert len(sizes) == 2 * (2 + 7)
    assert set(sizes) == {int(2000 / 8 / 2 / 18)}
    assert 2 * sum(sizes) <= 2000 / 8


def test_a_twin_has_norms_from_the_probe_and_clips_nobody(task):
    learner = Dpsgd(config(epochs=1, optimizer={"name": "sgd", "lr": 1e-9}).twin("twin"), task)
    norms = per_example(task).norm(dim=1).numpy()
    for found in learner.step().diagnostics:
        members = (task.groups[found.attribute] == found.value) & (task.labels == found.label)
        assert found.count == 2  # one example of each cell (the budget of 80), measured twice
        assert norms[members].min() * 0.999 <= found.mean_gradient_norm <= norms[members].max() * 1.001
        assert found.clipped_share == 0
        assert -1 <= found.cosine <= 1


def test_a_cell_that_nobody_is_in_has_count_zero_and_nan(make_task):
    labels = np.array([0, 1] * 20)
    groups = {"tone": np.array([0, 0] * 10 + [0, 1] * 10, dtype=np.int16)}
    task = make_task("linear", n=40, labels=labels, groups=groups)
    report = Dpsgd(config(epochs=1, batch_size=40), task).step()
    missing = [found for found in report.diagnostics if (found.value, found.label) == (1, 0)]
    assert len(missing) == 1
    assert missing[0].count == 0
    assert math.isnan(missing[0].mean_gradient_norm)
    assert math.isnan(missing[0].clipped_share)
    assert math.isnan(missing[0].cosine)


def test_diagnostics_change_no_weight_and_no_groups_mean_no_diagnostics(task, make_task):
    measured, unmeasured = Dpsgd(config(), task), Dpsgd(config(), replace(task, diagnostics=False))
    for _ in range(2):
        measured.step(), unmeasured.step()
    for name, value in measured.weights().items():
        assert torch.equal(value, unmeasured.weights()[name])
    assert Dpsgd(config(), make_task("linear", n=80, groups={})).step().diagnostics == ()


@pytest.mark.parametrize("mode", ["functorch", "hooks", "ghost", "expanded_weights"])
def test_every_gradient_mode_reports_the_same(task, mode):
    expected = Dpsgd(config(), task).step().diagnostics
    found = Dpsgd(config(performance={"gradient_mode": mode}), task).step().diagnostics
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.attribute, ours.value, ours.label, ours.count) == (
            theirs.attribute, theirs.value, theirs.label, theirs.count,
        )  # fmt: skip
        assert ours.mean_gradient_norm == pytest.approx(theirs.mean_gradient_norm, rel=1e-4)
        assert ours.clipped_share == theirs.clipped_share
        assert ours.cosine == pytest.approx(theirs.cosine, abs=1e-4)
