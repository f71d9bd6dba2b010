"""The average of weights is torch's, is what predicts and is kept, and leaves the training itself as it was."""

import io

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.federated.dpfedavg import Dpfedavg
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.optimizers import SgdOptimizer

IMAGES = np.random.default_rng(2).integers(0, 256, (5, 8, 8, 1)).astype(np.uint8)


def network(ema, norm="batch", train="all"):
    model, key = MODELS["cnn"](norm=norm, width=4, train=train), seed_key(1, "train")
    optimizer = SgdOptimizer(lr=0.1, momentum=0.9)
    return Network(model, (8, 8, 1), 3, optimizer, 20, key, torch.device("cpu"), ema=ema)


def take_steps(made, steps, after=lambda: None):
    for step in steps:
        draws = torch.Generator().manual_seed(step)
        made.model(torch.randn(6, 1, 8, 8, generator=draws)).square().sum().backward()
        made.update(step)
        after()


@pytest.mark.parametrize("train", ["all", "head"])
def test_it_is_that_of_torch_bit_for_bit(train):
    made = network(0.9, train=train)
    averaged = AveragedModel(made.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    take_steps(made, range(9), lambda: averaged.update_parameters(made.model))
    for name, value in averaged.module.state_dict().items():
        assert torch.equal(made.weights()[name], value), name
    with torch.no_grad():
        logits = averaged.module.eval()(torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 127.5 - 1)
    torch.testing.assert_close(made.predict(IMAGES), logits)
    last = made.state()["model"]
    assert any(not torch.equal(value, last[name]) for name, value in made.weights().items())


def test_the_training_is_the_same_with_and_without_also_after_predictions_and_a_resume():
    plain, averaging = network(None), network(0.9)
    take_steps(plain, range(9))
    take_steps(averaging, range(4), lambda: averaging.predict(IMAGES))
    buffer = io.BytesIO()
    torch.save(averaging.state(), buffer)
    buffer.seek(0)
    resumed = network(0.9)
    resumed.load(torch.load(buffer, weights_only=True))
    take_steps(averaging, range(4, 9))
    take_steps(resumed, range(4, 9))
    for name, value in plain.weights().items():
        assert torch.equal(averaging.state()["model"][name], value), name
        assert torch.equal(averaging.weights()[name], resumed.weights()[name]), name


def test_before_the_first_step_it_is_the_initial_weights_or_those_that_were_loaded():
    fresh, other = network(0.9), network(None)
    take_steps(other, range(2))
    assert torch.equal(fresh.predict(IMAGES), network(None).predict(IMAGES))
    fresh.load({**fresh.state(), "model": other.weights()})
    assert torch.equal(fresh.predict(IMAGES), other.predict(IMAGES))


PRIVATE = {
    "dpsgd": (Dpsgd, DpsgdConfig, {"epochs": 2, "batch_size": 16, "performance": {"gradient_mode": "bookkeeping"}}),
    "dpfedavg": (Dpfedavg, DpfedavgConfig, {"rounds": 3, "sampling_rate": 0.5, "clients": {"count": 8}}),
}


@pytest.mark.parametrize("kind", PRIVATE)
def test_of_noised_weights_it_is_post_processing(make_task, kind):
    """Cohorts, noise and weights step by step are those of a training without it, and so is what is spent."""
    learner, config, fields = PRIVATE[kind]
    plain, averaging = (learner(config(noise_multiplier=0.8, ema=ema, **fields), make_task()) for ema in (None, 0.7))
    for _ in range(plain.iterations):
        losses = [one.step().loss for one in (plain, averaging)]
        assert losses[0] == losses[1]
    assert averaging.privacy() == plain.privacy()
    states = [one.state() for one in (plain, averaging)]
    last = [state["weights"] if kind == "dpfedavg" else state["network"]["model"]["1.weight"] for state in states]
    assert torch.equal(*last)
    assert not torch.equal(plain.weights()["1.weight"], averaging.weights()["1.weight"])
