"""What every learner promises: one suite that each kind in the table must pass."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.learners import LEARNERS, AnyLearner, build_learner, check, plan_privacy, twin_of
from fairsweep.trainables.learning.learner import LabelledRows
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.sgd.sgd_learner import SgdConfig

ADAPTER = TypeAdapter(AnyLearner)
AUGMENTED = {"flip": True, "crop": 1, "brightness": 0.1}
CONFIGS = {
    "sgd momentum": {"kind": "sgd", "optimizer": {"lr": 0.1, "momentum": 0.9, "milestones": [0.5]}},
    "sgd adam": {"kind": "sgd", "ema": 0.9, "optimizer": {"name": "adam", "lr": 0.01}, "augmentation": AUGMENTED},
    "sgd group_dro": {"kind": "sgd", "remedy": {"kind": "group_dro", "attributes": ["tone", "label"], "step_size": 1}},
    "dpsgd truncated": {
        "kind": "dpsgd",
        "noise_multiplier": 4.0,
        "sampler": "truncated_poisson",
        "max_batch_size": 20,
        "remedy": {"kind": "class_weights", "weights": {"1": 2.0}},
    },
    "dpsgd weighted": {
        "kind": "dpsgd",
        "noise_multiplier": 4.0,
        "sampler": "weighted_poisson",
        "sampling_weights": {"attribute": "tone", "weights": {"dark": 2.0}},
    },
    "dpsgd momentum": {
        "kind": "dpsgd",
        "noise_multiplier": 0.8,
        "optimizer": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "schedule": {"name": "linear", "warmup": 1}},
        "ema": 0.9,
        "augmentation": AUGMENTED,
        "augmentation_multiplicity": 2,
        "performance": {"physical_batch_size": 6},
    },
    "dpsgd adamw": {
        "kind": "dpsgd",
        "noise_multiplier": 0.8,
        "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1, "schedule": "cosine"},
    },
    "dpsgd hooks": {"kind": "dpsgd", "noise_multiplier": 0.8, "performance": {"gradient_mode": "hooks"}},
    "dpsgd twin": {"kind": "dpsgd", "noise_multiplier": 0.0, "l2_clip_norm": None},
    "dpfedavg adaptive": {
        "kind": "dpfedavg",
        "rounds": 5,
        "clients": {"partition": "dirichlet", "count": 8, "alpha": 0.5},
        "sampling_rate": 0.7,
        "local": {"batch_size": 4, "optimizer": {"lr": 0.1, "momentum": 0.5, "nesterov": True, "schedule": "linear"}},
        "server": {"name": "yogi", "lr": 0.01},
        "ema": 0.5,
        "clipping": {"quantile": 0.5},
        "noise_multiplier": 0.8,
        "augmentation": AUGMENTED,
    },
    "dpfedavg batched": {
        "kind": "dpfedavg",
        "rounds": 9,
        "rounds_per_iteration": 2,
        "clients": {"partition": "attribute", "attribute": "tone", "count": 8},
        "sampling_rate": 0.7,
        "local": {"steps": 3, "batch_size": 4, "optimizer": {"name": "adam", "lr": 0.01}},
        "server": {"momentum": 0.9, "lr": 0.5},
        "clipping": {"kind": "per_layer", "l2_clip_norm": 0.3},
        "noise_multiplier": 0.8,
        "performance": {"execution": "batched", "clients_at_once": 3},
    },
    "fedavg": {
        "kind": "fedavg",
        "rounds": 5,
        "clients": {"partition": "quantity", "count": 8, "alpha": 1.0},
        "cohort_size": 3,
        "server": {"name": "adam", "lr": 0.01},
    },
    "sisa": {
        "kind": "sisa",
        "shards": 2,
        "slices": 2,
        "epochs": 2,
        "inner": {"kind": "sgd", "batch_size": 16, "ema": 0.5, "optimizer": {"lr": 0.1, "momentum": 0.9}},
        "requests": {"count": 4, "batch": 2},
    },
    "sisa private": {
        "kind": "sisa",
        "shards": 2,
        "slices": 2,
        "epochs": 1,
        "inner": {
            "kind": "dpsgd",
            "batch_size": 8,
            "noise_multiplier": 0.8,
            "performance": {"gradient_mode": "hooks"},
        },
        "requests": {"count": 2, "by": "influential", "shard": 2},
    },
    "pbt": {
        "kind": "pbt",
        "population": 3,
        "interval": 2,
        "inner": {"kind": "sgd", "epochs": 5, "batch_size": 16, "ema": 0.9, "augmentation": AUGMENTED},
        "explore": {
            "optimizer.lr": {"low": 1e-3, "high": 1.0, "log": True},
            "optimizer.momentum": [0.0, 0.5, 0.9],
            "batch_size": {"low": 8, "high": 20},
        },
        "objective": {"max": "worst_group_accuracy by tone"},
    },
}


def config(name):
    shared = {"epochs": 5, "batch_size": 16} if CONFIGS[name]["kind"] in ("sgd", "dpsgd") else {}
    return ADAPTER.validate_python({"name": name, **shared, **CONFIGS[name]})


def through_a_file(state):
    """Saves and loads as a checkpoint does: nothing but tensors and plain values passes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def assert_equal_weights(one, other):
    assert list(one.weights()) == list(other.weights())
    for name, value in one.weights().items():
        assert torch.equal(value, other.weights()[name]), name


@pytest.fixture(params=CONFIGS)
def name(request):
    return request.param


@pytest.fixture
def make(make_task, name):
    """Makes fresh learners on equal tasks."""
    measured = np.arange(0, 50, 2)

    def build():
        task = make_task("cnn", n=50)
        groups = {attribute: codes[measured] for attribute, codes in task.groups.items()}
        validation = LabelledRows(task.rows[measured], task.labels[measured], groups)
        return build_learner(config(name), replace(task, validation=validation))

    return build


class TestEveryLearner:
    def test_a_resume_at_any_iteration_equals_the_uninterrupted_run_bit_for_bit(self, make):
        whole, reports, states = make(), [], []
        states.append(whole.state())
        for _ in range(whole.iterations):
            reports.append(whole.step())
            states.append(whole.state())
        for stopped, state in enumerate(states):
            resumed = make()
            resumed.load(through_a_file(state))
            assert resumed.iteration == stopped
            rest = [resumed.step() for _ in range(resumed.iterations - stopped)]
            assert_equal_weights(resumed, whole)
            for ours, theirs in zip(rest, reports[stopped:], strict=True):
                assert (ours.loss, ours.examples, ours.steps) == (theirs.loss, theirs.examples, theirs.steps)
                assert repr(ours.diagnostics) == repr(theirs.diagnostics)

    def test_a_state_is_a_copy_and_survives_further_training(self, make):
        learner = make()
        learner.step()
        state = learner.state()
        before = repr(state)
        learner.step()
        assert repr(state) == before
        again = make()
        again.load(state)
        again.step()
        assert_equal_weights(again, learner)
        assert repr(state) == before

    def test_equal_tasks_give_equal_models(self, make):
        one, other = make(), make()
        assert one.step().loss == other.step().loss
        assert_equal_weights(one, other)

    def test_a_state_holds_neither_keys_nor_generator_states(self, make, make_task):
        learner = make()
        learner.step()
        state = learner.state()

        def leaves(value):
            if isinstance(value, dict):
                for key, item in value.items():
                    assert isinstance(key, str | int)
                    yield from leaves(item)
            elif isinstance(value, list | tuple):
                for item in value:
                    yield from leaves(item)
            else:
                yield value

        found = list(leaves(state))
        assert all(isinstance(leaf, torch.Tensor | str | int | float | bool | None) for leaf in found)
        assert not any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.uint8 for leaf in found)

    def test_predictions_are_float32_logits_that_change_nothing(self, make, make_task):
        learner, task = make(), make_task("cnn", n=50)
        learner.step()
        images = task.feed.images(task.rows)
        before = repr(learner.state())
        logits = learner.predict(images)
        assert (logits.dtype, logits.device.type, tuple(logits.shape)) == (torch.float32, "cpu", (50, 2))
        torch.testing.assert_close(learner.predict(images[7:9]), logits[7:9], rtol=1e-4, atol=1e-5)
        assert learner.predict(images[:0]).shape == (0, 2)
        assert repr(learner.state()) == before
        assert not logits.requires_grad
        assert not logits.is_inference()

    def test_reports_count_up_and_training_ends(self, make):
        learner = make()
        for done in range(1, learner.iterations + 1):
            report = learner.step()
            assert report.iteration == learner.iteration == done
            assert report.steps >= 1
            assert report.seconds > 0
            assert math.isfinite(report.loss)
        with pytest.raises(RuntimeError, match="iterations are done"):
            learner.step()

    def test_a_state_of_another_kind_is_refused(self, make):
        learner = make()
        with pytest.raises(ValueError, match="kind"):
            learner.load({**learner.state(), "kind": "another"})

    def test_privacy_grows_with_training_or_is_not_claimed(self, make):
        learner = make()
        before = learner.privacy()
        learner.step()
        after = learner.privacy()
        if before is None:
            assert after is None
        else:
            assert before.epsilon.pld == 0
            assert after.epsilon.pld > 0
            json.dumps(after.model_dump(mode="json"), allow_nan=False)


def test_a_config_is_read_by_its_kind_and_unknown_ones_are_refused():
    assert isinstance(config("sgd adam"), SgdConfig)
    assert isinstance(config("dpsgd adamw"), DpsgdConfig)
    for name in CONFIGS:
        assert ADAPTER.validate_json(ADAPTER.dump_json(config(name))) == config(name)
    with pytest.raises(ValidationError, match=r"did you mean 'sgd'. .known: sgd, dpsgd, dpfedavg, fedavg, sisa, pbt"):
        ADAPTER.validate_python({"kind": "sdg"})
    assert set(LEARNERS) == {"sgd", "dpsgd", "dpfedavg", "fedavg", "sisa", "pbt"}


def test_a_plan_made_beforehand_gives_the_same_learner(make_task):
    given = config("dpsgd momentum")
    plan = plan_privacy(given, 50)
    task = make_task("cnn", n=50)
    one, other = build_learner(given, task), build_learner(given, task, plan)
    one.step(), other.step()
    assert_equal_weights(one, other)
    assert plan_privacy(config("sgd adam"), 50) is None
    with pytest.raises(ValueError, match="has no privacy plan"):
        build_learner(config("sgd adam"), task, plan)


def test_batchnorm_is_refused_for_private_learners_before_anything_starts(make_task):
    batch = MODELS["cnn"](norm="batch")
    check(batch, config("sgd adam"))
    with pytest.raises(ValueError, match="norm: group"):
        check(batch, config("dpsgd adamw"))
    with pytest.raises(ValueError, match="norm: group"):
        check(batch, config("sisa private"))
    with pytest.raises(ValueError, match="norm: group"):
        build_learner(config("dpsgd adamw"), make_task(batch))


def test_only_private_learners_have_twins():
    assert twin_of(config("dpsgd adamw"), "matched").name == "matched"
    with pytest.raises(ValueError, match=r"private learner.*'sgd adam' is of kind 'sgd'"):
        twin_of(config("sgd adam"), "matched")


def test_learning_works_without_ray_and_importing_loads_neither_ray_nor_opacus():
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['ray'] = None; import fairsweep.trainables; "
        "assert not {'opacus', 'torchvision'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_positions_are_those_of_the_task_and_not_rows_of_the_feed(make_task):
    """Labels belong to positions, images to rows of the feed: they must stay together in any order of rows."""
    task = make_task("linear", n=200)
    shuffled = np.random.default_rng(0).permutation(200)
    again = make_task("linear", n=200, rows=task.rows[shuffled], labels=task.labels[shuffled], groups={})
    learner = build_learner(SgdConfig(epochs=10, batch_size=20), again)
    for _ in range(10):
        learner.step()
    assert (learner.predict(task.feed.images(task.rows)).argmax(1).numpy() == task.labels).mean() > 0.9
