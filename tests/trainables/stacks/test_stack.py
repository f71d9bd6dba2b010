"""Learners that train side by side learn what each learns alone, up to rounding, and only those that can do so do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.learners import build_learner
from fairsweep.trainables.learning.learner import TrialKeys
from fairsweep.trainables.models.frozen_body import Tail
from fairsweep.trainables.models.linear import LinearConfig
from fairsweep.trainables.sgd.sgd_learner import SgdConfig
from fairsweep.trainables.stacks.stack import step_together

PRIVATE = {"kind": "dpsgd", "batch_size": 16, "epochs": 4, "noise_multiplier": 1.0, "optimizer": {"lr": 0.1}}
PLAIN = {"kind": "sgd", "batch_size": 16, "epochs": 4, "optimizer": {"lr": 0.1}}
TONES = {"kind": "class_weights", "weights": {"0": 2.0}}


def config(**fields):
    return (DpsgdConfig if fields["kind"] == "dpsgd" else SgdConfig)(**fields)


def keys(number):
    return TrialKeys(
        data=seed_key(1, "data"), train=seed_key(number, "train"), secret=derive(seed_key(0, "s"), "trial", number)
    )


def learners(make_task, configs, **fields):
    task = make_task(n=90, **fields)
    return [build_learner(given, replace(task, keys=keys(number))) for number, given in enumerate(configs)]


def assert_equal(alone, beside, reports, others, apart=1e-6):
    for one, other, report, their in zip(alone, beside, reports, others, strict=True):
        for name, weight in one.weights().items():
            torch.testing.assert_close(other.weights()[name], weight, rtol=0, atol=apart)
        assert (their.iteration, their.examples, their.steps) == (report.iteration, report.examples, report.steps)
        assert their.loss == pytest.approx(report.loss, abs=1e-5, nan_ok=True)
        for mine, yours in zip(report.diagnostics, their.diagnostics, strict=True):
            assert (yours.attribute, yours.value, yours.label, yours.count) == (
                mine.attribute,
                mine.value,
                mine.label,
                mine.count,
            )
            for number in ("mean_gradient_norm", "clipped_share", "cosine"):
                assert getattr(yours, number) == pytest.approx(getattr(mine, number), abs=1e-4, nan_ok=True)


STACKS = {
    "what differs between private trials": [
        PRIVATE,
        PRIVATE | {"noise_multiplier": 0.5, "l2_clip_norm": 0.3, "optimizer": {"lr": 0.02, "momentum": 0.9}},
        PRIVATE | {"epochs": 7, "optimizer": {"lr": 0.1, "weight_decay": 0.01, "schedule": {"name": "cosine"}}},
        PRIVATE | {"noise_multiplier": 0.0},
        PRIVATE | {"remedy": TONES},
        PRIVATE | {"batch_size": 40},
        PRIVATE | {"sampler": "truncated_poisson", "max_batch_size": 18},
        PRIVATE | {"sampler": "shuffled"},
        PRIVATE | {"sampler": "weighted_poisson", "sampling_weights": {"attribute": "tone", "weights": {"dark": 2.0}}},
    ],
    "per layer": [PRIVATE | {"clipping": "per_layer", "l2_clip_norm": norm} for norm in (0.1, 5.0)],
    "twins": [PRIVATE | {"noise_multiplier": 0.0, "l2_clip_norm": None}, PRIVATE | {"clipping": "none"}],
    "nesterov": [PRIVATE | {"optimizer": {"lr": 0.05, "momentum": m, "nesterov": True}} for m in (0.5, 0.9)],
    "empty batches": [PRIVATE | {"batch_size": 1}, PRIVATE | {"batch_size": 2}],
    "few rows at once": [PRIVATE | {"performance": {"physical_batch_size": 5}}, PRIVATE],
    "what differs between plain trials": [
        PLAIN,
        PLAIN | {"optimizer": {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.1}},
        PLAIN | {"batch_size": 7, "epochs": 6},
        PLAIN | {"optimizer": {"lr": 0.1, "schedule": {"name": "linear", "warmup": 1}}},
    ],
}


@pytest.mark.parametrize("name", STACKS)
def test_side_by_side_each_learns_what_it_learns_alone(make_task, name):
    configs = [config(**fields) for fields in STACKS[name]]
    alone, beside = (learners(make_task, configs) for _ in range(2))
    assert len({learner.stack_kind() for learner in beside}) == 1
    for _ in range(2):
        reports = [learner.step() for learner in alone]
        assert_equal(alone, beside, reports, step_together(beside))
    # What is left of a stack goes on alone, momentum and all.
    assert_equal(alone, beside, *([learner.step() for learner in side] for side in (alone, beside)))


@pytest.mark.parametrize("kind", [PRIVATE, PLAIN])
def test_heads_with_hidden_layers_train_on_features(make_task, monkeypatch, kind):
    features = np.random.default_rng(3).normal(size=(90, 6)).astype(np.float32)
    head = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    whole = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6), head)

    def build(*_):
        torch.manual_seed(5)
        for parameter in whole.parameters():
            parameter.data.normal_(0, 0.5)
        return type(whole)(whole[0], whole[1], torch.nn.Sequential(*(clone(layer) for layer in head)))

    def clone(layer):
        if not isinstance(layer, torch.nn.Linear):
            return torch.nn.ReLU()
        copied = torch.nn.Linear(layer.in_features, layer.out_features)
        copied.load_state_dict(layer.state_dict())
        return copied

    monkeypatch.setattr("fairsweep.trainables.models.network.build_model", build)
    fields = {"tail": Tail("2", (6,)), "feed": ResidentFeed(np.arange(90), features)}
    if kind is PRIVATE:
        kind = kind | {"performance": {"gradient_mode": "bookkeeping"}}
    configs = [config(**kind), config(**kind | {"optimizer": {"lr": 0.3, "momentum": 0.5}})]
    alone, beside = (learners(make_task, configs, **fields) for _ in range(2))
    assert beside[0].stack_kind() is not None
    for _ in range(3):
        reports = [learner.step() for learner in alone]
        assert_equal(alone, beside, reports, step_together(beside))
    assert not torch.equal(beside[0].weights()["2.0.weight"], beside[1].weights()["2.0.weight"])


def test_members_at_other_iterations_train_beside_each_other_and_states_fit_single_learners(make_task):
    configs = [config(**PRIVATE), config(**PRIVATE | {"optimizer": {"lr": 0.1, "momentum": 0.9}})]
    alone, beside = (learners(make_task, configs) for _ in range(2))
    for side in (alone, beside):
        side[0].step()
    step_together(beside)
    for learner in alone:
        learner.step()
    resumed = learners(make_task, configs)
    for one, other in zip(resumed, beside, strict=True):
        one.load(other.state())
    assert_equal(alone, resumed, *([learner.step() for learner in side] for side in (alone, resumed)))


def test_in_release_mode_a_stack_reports_nothing_of_the_batches(make_task):
    configs = [config(**PRIVATE), config(**PRIVATE | {"noise_multiplier": 2.0})]
    alone, beside = (learners(make_task, configs, diagnostics=False) for _ in range(2))
    reports, others = [learner.step() for learner in alone], step_together(beside)
    assert_equal(alone, beside, reports, others)
    assert all(math.isnan(report.loss) and not report.diagnostics for report in others)


def test_an_example_whose_gradient_overflows_contributes_nothing_and_the_others_members_are_untouched(make_task):
    images = np.random.default_rng(3).normal(size=(90, 6)).astype(np.float32)
    images[4] = 3e38

    def linear(number):
        given = config(**PRIVATE | {"batch_size": 45})
        task = make_task(n=90, feed=ResidentFeed(np.arange(90), images), tail=Tail("1", (6,)))
        task = replace(task, model=LinearConfig(), image_shape=(1, 6, 1), keys=keys(number))
        return build_learner(given, task)

    alone, beside = ([linear(number) for number in range(3)] for _ in range(2))
    reports, others = [learner.step() for learner in alone], step_together(beside)
    assert_equal(alone, beside, reports, others)
    assert all(weight.isfinite().all() for learner in beside for weight in learner.weights().values())


def test_one_that_diverges_leaves_the_others_as_they_are(make_task):
    wild = PLAIN | {"optimizer": {"lr": 1e30, "weight_decay": 1e10}}
    alone, beside = learners(make_task, [config(**PLAIN)]), learners(make_task, [config(**PLAIN), config(**wild)])
    for _ in range(3):
        reports, others = [learner.step() for learner in alone], step_together(beside)
    assert_equal(alone, beside[:1], reports, others[:1])
    assert math.isnan(others[1].loss)


ALONE = {
    "adam": PRIVATE | {"optimizer": {"name": "adam"}},
    "averaged weights": PLAIN | {"ema": 0.9},
    "augmented images": PLAIN | {"augmentation": {"flip": True}},
    "a remedy": PLAIN | {"remedy": {"kind": "group_dro", "attributes": ["tone"]}},
    "smoothed labels": PLAIN | {"label_smoothing": 0.1},
    "another precision": PRIVATE | {"performance": {"precision": "bfloat16"}},
    "canaries": PRIVATE | {"audit": {"canaries": 8}},
}


@pytest.mark.parametrize("name", ALONE)
def test_what_a_stack_does_not_do_trains_alone(make_task, name):
    (learner,) = learners(make_task, [config(**ALONE[name])])
    assert learner.stack_kind() is None


def test_convolutions_train_alone(make_task):
    (learner,) = learners(make_task, [config(**PRIVATE)], model="cnn", size=28)
    assert learner.stack_kind() is None


def test_kinds_tell_apart_what_cannot_train_together(make_task):
    different = [
        PRIVATE,
        PLAIN,
        PRIVATE | {"clipping": "per_layer"},
        PRIVATE | {"clipping": "none"},
        PLAIN | {"optimizer": {"momentum": 0.9, "nesterov": True}},
    ]
    kinds = {learner.stack_kind() for learner in learners(make_task, [config(**fields) for fields in different])}
    wider = learners(make_task, [config(**PRIVATE)], classes=3)[0].stack_kind()
    assert None not in kinds
    assert len(kinds | {wider}) == 6


def test_as_few_rows_are_worked_on_at_once_as_a_member_asks_for(make_task, monkeypatch):
    configs = [config(**PRIVATE | {"performance": {"physical_batch_size": 6}}), config(**PRIVATE), config(**PRIVATE)]
    beside, asked = learners(make_task, configs), []
    feed = beside[0]._task.feed
    monkeypatch.setattr(feed, "images", lambda rows, images=feed.images: asked.append(len(rows)) or images(rows))
    monkeypatch.setattr("fairsweep.trainables.dpsgd.diagnostics.GroupDiagnostics.measures_at", lambda *_: False)
    for learner in beside:
        learner._begin_diagnostics()
    asked.clear()
    step_together(beside)
    assert max(asked) == 6


def test_every_step_under_truncated_sampling_works_on_as_many_rows(make_task, monkeypatch):
    """How many joined a step is not to be seen from outside, as where each trains alone."""
    cut = PRIVATE | {"sampler": "truncated_poisson", "max_batch_size": 20}
    beside, asked = learners(make_task, [config(**cut), config(**cut)], diagnostics=False), []
    feed = beside[0]._task.feed
    monkeypatch.setattr(feed, "images", lambda rows, images=feed.images: asked.append(len(rows)) or images(rows))
    step_together(beside)
    assert set(asked) == {40}


def test_large_images_are_worked_on_a_few_at_a_time(make_task, monkeypatch):
    monkeypatch.setattr("fairsweep.trainables.stacks.stack._MOST_BYTES", 4 * 64 * 8)
    configs = [config(**PRIVATE | {"noise_multiplier": noise}) for noise in (1.0, 2.0)]
    alone, beside = (learners(make_task, configs) for _ in range(2))
    reports, asked = [learner.step() for learner in alone], []
    beside[0]._begin_diagnostics(), beside[1]._begin_diagnostics()
    feed = beside[0]._task.feed
    monkeypatch.setattr(feed, "images", lambda rows, images=feed.images: asked.append(len(rows)) or images(rows))
    assert_equal(alone, beside, reports, step_together(beside))
    assert max(asked) == 8
