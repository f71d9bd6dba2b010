"""Precision: what is clipped is what is summed, in every gradient mode; evaluation and weights stay in float32."""

import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from fairsweep.trainables.dpsgd.gradient_modes import GRADIENT_MODES, NO_HALF_PRECISION, choose_mode, make_mode
from fairsweep.trainables.layers.numerics import NumericsConfig, in_float32, use_numerics
from fairsweep.trainables.learners import AnyLearner, build_learner
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.optimizers import SgdOptimizer
from fairsweep.trainables.privacy.clipping import Clipping

CPU = torch.device("cpu")
READ = TypeAdapter(AnyLearner)
HALF = [mode for mode in GRADIENT_MODES if mode not in NO_HALF_PRECISION]


@pytest.fixture(scope="module")
def batch():
    draws = torch.Generator().manual_seed(0)
    return torch.randn(6, 1, 28, 28, generator=draws), torch.randint(0, 3, (6,), generator=draws)


def clipped_sum(model, precision, mode, clipping, inputs, labels):
    """Return the sum in one vector, float64, and what is known of the examples."""
    sums = [torch.zeros_like(p) for p in model.parameters()]
    found = make_mode(mode, model, precision).add_clipped(inputs, labels, clipping, sums)
    assert all(total.dtype == torch.float32 for total in sums)
    return torch.cat([total.flatten() for total in sums]).double(), found


@pytest.mark.parametrize("kind", ["flat", "per_layer"])
@pytest.mark.parametrize("mode", HALF)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_removing_an_example_moves_the_clipped_sum_by_at_most_the_norm(batch, precision, mode, kind):
    """With the gradient of all summed in that precision, as ghost clipping does, it moves by more."""
    inputs, labels = batch
    model = build_model(MODELS["cnn"](), (28, 28, 1), 3, bytes(32))
    with in_float32(model):
        exact = clipped_sum(model, "float32", "functorch", Clipping("none", None), inputs, labels)[1].norms
    use_numerics(model, NumericsConfig(precision=precision), CPU)
    bound = 0.3 * float(exact.min())
    total, found = clipped_sum(model, precision, mode, Clipping(kind, bound), inputs, labels)
    assert found.clipped.all()
    torch.testing.assert_close(found.norms, exact, rtol=0.02, atol=0)
    assert not torch.equal(found.norms, exact)  # it is another precision
    for left_out in range(len(labels)):
        kept = torch.arange(len(labels)) != left_out
        rest, _ = clipped_sum(model, precision, mode, Clipping(kind, bound), inputs[kept], labels[kept])
        assert float((total - rest).norm()) <= bound * (1 + 1e-5)


def test_norms_of_a_deep_network_in_bfloat16_are_those_of_float32_within_two_percent():
    """Where norm layers round too, one is 4% off at these weights: each of resnet18's twenty divides by what it got."""
    draws = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(8, 3, 32, 32, generator=draws)[4:], torch.randint(0, 3, (8,), generator=draws)[4:]
    model, plain = build_model(MODELS["resnet18"](), (32, 32, 3), 3, bytes([1]) * 32), Clipping("none", None)
    exact = clipped_sum(model, "float32", "bookkeeping", plain, inputs, labels)[1].norms
    use_numerics(model, NumericsConfig(precision="bfloat16"), CPU)
    found = clipped_sum(model, "bfloat16", "bookkeeping", plain, inputs, labels)[1].norms
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0)


def test_one_gradient_that_overflows_is_left_out_alone(batch):
    """The scale of float16 is a constant: nobody's contribution depends on another's overflow."""
    from fairsweep.trainables.privacy.gradients import add_finite

    inputs, labels = batch
    model = build_model(MODELS["cnn"](), (28, 28, 1), 3, bytes(32))
    use_numerics(model, NumericsConfig(precision="float16"), CPU)
    wild = inputs.clone()
    wild[2] *= 1e6
    sums, others = ([torch.zeros_like(p) for p in model.parameters()] for _ in range(2))
    mode, kept = make_mode("functorch", model, "float16"), torch.arange(6) != 2
    found = add_finite(mode, wild, labels, Clipping("flat", 0.1), sums)
    mode.add_clipped(inputs[kept], labels[kept], Clipping("flat", 0.1), others)
    assert found.norms.isfinite().tolist() == kept.tolist()
    for total, other in zip(sums, others, strict=True):
        torch.testing.assert_close(total, other, rtol=1e-4, atol=1e-7)


def test_modes_that_sum_in_the_precision_are_neither_taken_nor_chosen():
    for mode, reason in NO_HALF_PRECISION.items():
        with pytest.raises(ValidationError, match=f"gradient_mode {mode} has no precision bfloat16: {reason[:30]}"):
            read("dpsgd", noise_multiplier=1, performance={"precision": "bfloat16", "gradient_mode": mode})
    chosen = choose_mode(MODELS["linear"](), (4, 4, 1), 2, Clipping("flat", 1.0), CPU, 4, precision="bfloat16")
    assert set(chosen.refused) == set(NO_HALF_PRECISION)


def read(kind, **fields):
    return READ.validate_python({"name": kind, "kind": kind, **fields})


def test_only_training_passes_have_the_precision_and_weights_never(batch):
    images = np.random.default_rng(0).integers(0, 255, (4, 28, 28, 1)).astype(np.uint8)
    network = Network(MODELS["cnn"](), (28, 28, 1), 3, SgdOptimizer(), 1, bytes(32), CPU)
    logits, predicted = network.model(batch[0]), network.predict(images)
    use_numerics(network.model, NumericsConfig(precision="bfloat16"), CPU)
    rounded = network.model(batch[0])
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, logits)
    torch.testing.assert_close(rounded, logits, rtol=0.02, atol=0.02)
    assert torch.equal(network.predict(images), predicted)
    with in_float32(network.model):
        assert torch.equal(network.model(batch[0]), logits)
    assert torch.equal(network.model(batch[0]), rounded)
    assert all(value.dtype == torch.float32 for value in network.weights().values())


CLIENTS = {"clients": {"partition": "iid", "count": 8}, "sampling_rate": 1.0, "rounds": 6}
LEARNERS = {
    "sgd": {"kind": "sgd", "epochs": 3, "batch_size": 8},
    "dpsgd": {"kind": "dpsgd", "epochs": 3, "batch_size": 8, "noise_multiplier": 0.3, "optimizer": {"lr": 0.3}},
    "dpsgd twin": {"kind": "dpsgd", "epochs": 3, "batch_size": 8, "noise_multiplier": 0, "l2_clip_norm": None},
    "dpfedavg batched": {"kind": "dpfedavg", "noise_multiplier": 0.1, **CLIENTS},
    "dpfedavg sequential": {"kind": "dpfedavg", "noise_multiplier": 0.1, **CLIENTS},
    "sisa": {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 2, "inner": {"kind": "sgd", "batch_size": 8}},
}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", LEARNERS)
def test_accuracies_are_those_of_float32_within_noise_and_a_resume_repeats_to_the_bit(make_task, name, precision):
    accuracies = []
    for asked in ("float32", precision):
        given, performance = dict(LEARNERS[name]), {"precision": asked}
        if given["kind"] == "dpsgd":
            performance["gradient_mode"] = "bookkeeping"
        if given["kind"] == "dpfedavg":
            performance["execution"] = name.split()[1]
        place = given["inner"] = dict(given["inner"]) if "inner" in given else given
        if "inner" not in LEARNERS[name]:
            del given["inner"]
        place["performance"] = performance
        config, task = READ.validate_python({"name": "x", **given}), make_task("linear", n=96)
        learner = build_learner(config, task)
        while learner.iteration < learner.iterations:
            if learner.iteration == 1:
                state = learner.state()
            learner.step()
        resumed = build_learner(config, task)
        resumed.load(state)
        while resumed.iteration < resumed.iterations:
            resumed.step()
        images = task.feed.images(task.rows)
        assert torch.equal(resumed.predict(images), learner.predict(images))
        right = (learner.predict(images).argmax(1).numpy() == task.labels).mean()
        accuracies.append(right)
    assert accuracies[0] > 0.8
    assert abs(accuracies[1] - accuracies[0]) <= 2 * math.sqrt(0.8 * 0.2 / 96)


@pytest.mark.parametrize("field", [{"compile": True}, {"channels_last": True}, {"tf32": False}])
@pytest.mark.parametrize("learner", [{"kind": "dpsgd", "noise_multiplier": 1}, {"kind": "fedavg", **CLIENTS}])
def test_what_a_private_learner_cannot_honour_is_refused_with_the_reason(learner, field):
    given = {name: value for name, value in learner.items() if name != "sampling_rate"}
    with pytest.raises(ValidationError, match=rf"{next(iter(field))} is not for this learner: .*; leave it out"):
        read(given.pop("kind"), **given, performance=field)


def test_networks_made_one_after_another_are_not_compiled():
    inner = {"kind": "sgd", "performance": {"compile": True}}
    with pytest.raises(ValidationError, match=r"compile is not for the inner learner of sisa.*leave compile out"):
        read("sisa", inner=inner)
    with pytest.raises(ValidationError, match=r"compile is not for the inner learner of pbt.*leave compile out"):
        read("pbt", inner=inner, explore={"optimizer.lr": {"low": 0.01, "high": 0.1}})


def test_a_layout_changes_where_numbers_lie_alone(make_task):
    found = []
    for last in (False, True):
        config = read("sgd", epochs=1, batch_size=8, performance={"channels_last": last})
        learner = build_learner(config, make_task("cnn", n=16, size=16, channels=3))
        learner.step()
        found.append(learner.weights())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4)
        assert found[1][name].is_contiguous()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_training_gives_the_numbers_of_a_plain_one_and_resumes_to_the_bit(make_task):
    def trained(compiled, state=None):
        learner = build_learner(
            read("sgd", epochs=2, batch_size=8, performance={"compile": compiled}), make_task("linear", n=20)
        )
        if state is not None:
            learner.load(state)
        states = []
        while learner.iteration < learner.iterations:
            learner.step()
            states.append(learner.state())
        return learner.weights(), states

    (plain, _), (fast, states) = trained(False), trained(True)
    again, _ = trained(True, states[0])
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-4, atol=1e-5)
        assert torch.equal(again[name], fast[name])
