"""Optimisers: the updates are the textbook's, and the schedule is a function of the position."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fairsweep.trainables.models.optimizers import OptimizerConfig, build_optimizer, learning_rate, set_learning_rate


def gradients(steps, size=5):
    return torch.from_numpy(np.random.default_rng(3).normal(size=(steps, size))).float()


def train(config, start, sequence):
    weight = torch.nn.Parameter(start.clone())
    optimizer = build_optimizer(config, [weight])
    for step, gradient in enumerate(sequence):
        weight.grad = gradient.clone()
        set_learning_rate(optimizer, learning_rate(config, step, len(sequence)))
        optimizer.step()
    return weight.detach().double()


def test_sgd_with_momentum_weight_decay_and_milestones_is_the_textbook_update():
    config = OptimizerConfig(lr=0.3, momentum=0.9, weight_decay=0.01, milestones=(0.5, 0.75), milestone_factor=0.1)
    start, sequence = torch.arange(5.0), gradients(8)
    weight, velocity = start.double(), torch.zeros(5, dtype=torch.float64)
    for step, gradient in enumerate(sequence.double()):
        velocity = 0.9 * velocity + gradient + 0.01 * weight
        weight = weight - 0.3 * (1 if step < 4 else 0.1 if step < 6 else 0.01) * velocity
    torch.testing.assert_close(train(config, start, sequence), weight, rtol=1e-5, atol=1e-6)


def test_adam_is_the_textbook_update():
    config = OptimizerConfig(name="adam", lr=0.01, betas=(0.8, 0.95))
    start, sequence = torch.arange(5.0), gradients(6)
    weight = start.double()
    first, second = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for step, gradient in enumerate(sequence.double(), start=1):
        first, second = 0.8 * first + 0.2 * gradient, 0.95 * second + 0.05 * gradient**2
        weight = weight - 0.01 * (first / (1 - 0.8**step)) / ((second / (1 - 0.95**step)).sqrt() + 1e-8)
    torch.testing.assert_close(train(config, start, sequence), weight, rtol=1e-5, atol=1e-6)


def test_the_learning_rate_of_a_step_does_not_depend_on_the_steps_before():
    config = OptimizerConfig(lr=1.0, milestones=(1 / 3, 0.9))
    rates = [learning_rate(config, step, 10) for step in range(10)]
    assert rates == [1.0] * 4 + [0.1] * 5 + [pytest.approx(0.01)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"lr": 0}, "greater than 0"),
        ({"lr": float("nan")}, "finite"),
        ({"momentum": 1.0}, "less than 1"),
        ({"name": "adam", "momentum": 0.9}, "give betas instead"),
        ({"name": "sgd", "betas": (0.5, 0.9)}, "give momentum instead"),
        ({"name": "adam", "betas": (0.5, 1.0)}, r"in \[0, 1\)"),
        ({"milestones": (0.75, 0.5)}, "ascending fractions"),
        ({"milestones": (10,)}, "ascending fractions"),
        ({"nesterov": True}, "nesterov"),
    ],
)
def test_bad_fields_are_refused_and_named(fields, told):
    with pytest.raises(ValidationError, match=told):
        OptimizerConfig(**fields)
