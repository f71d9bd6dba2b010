"""Optimisers: their updates are torch's own, and the textbook's."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from fairsweep.trainables.federated.local_optimizers import LocalOptimizer
from fairsweep.trainables.models.optimizers import AnyOptimizer, set_learning_rate

read = TypeAdapter(AnyOptimizer).validate_python


def gradients(steps, size=5):
    return torch.from_numpy(np.random.default_rng(3).normal(size=(steps, size))).float()


def train(config, start, sequence):
    weight = torch.nn.Parameter(start.clone())
    optimizer = config.build([weight])
    for step, gradient in enumerate(sequence):
        weight.grad = gradient.clone()
        set_learning_rate(optimizer, config.learning_rate(step, len(sequence), epochs=len(sequence)))
        optimizer.step()
    return weight.detach().double()


def test_sgd_with_momentum_weight_decay_and_milestones_is_the_textbook_update():
    schedule = {"name": "milestones", "at": (0.5, 0.75), "by": 0.1}
    config = read({"lr": 0.3, "momentum": 0.9, "weight_decay": 0.01, "schedule": schedule})
    start, sequence = torch.arange(5.0), gradients(8)
    weight, velocity = start.double(), torch.zeros(5, dtype=torch.float64)
    for step, gradient in enumerate(sequence.double()):
        velocity = 0.9 * velocity + gradient + 0.01 * weight
        weight = weight - 0.3 * (1 if step < 4 else 0.1 if step < 6 else 0.01) * velocity
    torch.testing.assert_close(train(config, start, sequence), weight, rtol=1e-5, atol=1e-6)


def test_adam_is_the_textbook_update():
    config = read({"name": "adam", "lr": 0.01, "betas": (0.8, 0.95)})
    start, sequence = torch.arange(5.0), gradients(6)
    weight = start.double()
    first, second = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for step, gradient in enumerate(sequence.double(), start=1):
        first, second = 0.8 * first + 0.2 * gradient, 0.95 * second + 0.05 * gradient**2
        weight = weight - 0.01 * (first / (1 - 0.8**step)) / ((second / (1 - 0.95**step)).sqrt() + 1e-8)
    torch.testing.assert_close(train(config, start, sequence), weight, rtol=1e-5, atol=1e-6)


FAMILY = [
    ({"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, torch.optim.SGD),
    ({"momentum": 0.5}, torch.optim.SGD),
    ({"name": "adam", "weight_decay": 0.1}, torch.optim.Adam),
    ({"name": "adamw", "betas": (0.7, 0.9), "weight_decay": 0.1}, torch.optim.AdamW),
]


@pytest.mark.parametrize(("fields", "kind"), FAMILY, ids=["nesterov", "momentum", "adam", "adamw"])
def test_servers_and_clients_take_the_steps_of_torchs_optimiser(fields, kind):
    start, sequence = torch.arange(5.0), gradients(7)
    weight = torch.nn.Parameter(start.clone())
    optimizer = kind([weight], lr=0.05, **{name: value for name, value in fields.items() if name != "name"})
    for gradient in sequence:
        weight.grad = gradient.clone()
        optimizer.step()
    config = read({"lr": 0.05, **fields})
    torch.testing.assert_close(train(config, start, sequence), weight.detach().double())
    client = start[None].clone()
    local = LocalOptimizer(config, [client])
    for gradient in sequence:
        local.update([client], [gradient[None]], rate=0.05)
    torch.testing.assert_close(client[0], weight.detach(), rtol=1e-5, atol=1e-6)


def test_decoupled_decay_is_another_update_than_an_l2_term():
    start, sequence = torch.arange(5.0), gradients(7)
    found = [
        train(read({"name": name, "lr": 0.05, "weight_decay": 0.5}), start, sequence) for name in ("adam", "adamw")
    ]
    assert (found[0] - found[1]).abs().max() > 0.01


def test_what_an_earlier_version_wrote_is_read_as_it_was_meant():
    idle = {"weight_decay": 0.0, "milestones": [], "milestone_factor": 0.1}
    assert read({"name": "sgd", "lr": 0.1, "momentum": 0.0, "betas": [0.9, 0.999], **idle}) == read({})
    assert read({"name": "adam", "lr": 0.1, "momentum": 0.0, "betas": [0.9, 0.999], **idle}) == read("adam")
    dropped = read({"milestones": [0.5], "milestone_factor": 0.2})
    assert dropped == read({"schedule": {"name": "milestones", "at": (0.5,), "by": 0.2}})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"lr": 0}, "greater than 0"),
        ({"lr": float("nan")}, "finite"),
        ({"momentum": 1.0}, "less than 1"),
        ({"name": "adam", "momentum": 0.9}, "give betas instead"),
        ({"name": "adamw", "momentum": 0.9}, "give betas instead"),
        ({"name": "sgd", "betas": (0.5, 0.9)}, "give momentum instead"),
        ({"name": "adam", "betas": (0.5, 1.0)}, r"in \[0, 1\)"),
        ({"milestones": (0.75, 0.5)}, "ascending fractions"),
        ({"milestones": (10,)}, "ascending fractions"),
        ({"milestones": (0.5,), "schedule": "cosine"}, "got both: write schedule"),
        ({"nesterov": True}, "set momentum"),
        ({"name": "adamw", "nesterov": True}, "adamw.nesterov"),
        ({"name": "lion"}, "'sgd', 'adam', 'adamw'"),
    ],
)
def test_bad_fields_are_refused_and_named(fields, told):
    with pytest.raises(ValidationError, match=told):
        read(fields)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_step_enters_no_profilers_record_which_would_take_as_long_as_a_small_update(name):
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizers = [read({"name": name}).build([weight]) for _ in range(2)]
    weight.grad = torch.ones(3)
    with torch.profiler.profile() as profiled:
        for optimizer in optimizers:
            optimizer.step()
    names = {event.key for event in profiled.key_averages()}
    assert any("fused" in key for key in names)
    assert not [key for key in names if key.startswith("Optimizer")]
