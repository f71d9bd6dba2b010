"""The server's optimisers against Reddi et al.'s formulas written out, and through a resume."""

import numpy as np
import pytest
import torch

from fairsweep.trainables.federated.server_optimizers import ServerConfig, ServerOptimizer
from fairsweep.trainables.learning.learner_config import IDENTITY


def reference(config, updates, weights):
    """Reddi et al. 2021, algorithm 2, in float64; torch's form of Nesterov's momentum."""
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step, update in enumerate(updates):
        rate = config.lr * (0.1 if config.schedule.name == "milestones" and 2 * step >= len(updates) else 1)
        rate *= min(1, (step + 1) / config.schedule.warmup) if config.schedule.warmup else 1
        if config.name == "sgd":
            mean = config.momentum * mean + update
            weights = weights + rate * (update + config.momentum * mean if config.nesterov else mean)
            continue
        first, second = config.betas
        mean = first * mean + (1 - first) * update
        if config.name == "adam":
            square = second * square + (1 - second) * update**2
        else:
            square = square - (1 - second) * update**2 * np.sign(square - update**2)
        weights = weights + rate * mean / (np.sqrt(square) + config.adaptivity)
    return weights


@pytest.mark.parametrize(
    "config",
    [
        ServerConfig(lr=0.7),
        ServerConfig(lr=0.5, momentum=0.9),
        ServerConfig(name="adam", lr=0.05),
        ServerConfig(name="yogi", lr=0.05, betas=(0.8, 0.95), adaptivity=0.01),
        ServerConfig(lr=0.5, momentum=0.9, nesterov=True, schedule={"name": "milestones", "at": (0.5,), "warmup": 2}),
        ServerConfig(name="adam", lr=0.05, schedule={"name": "constant", "warmup": 3}),
    ],
    ids=["sgd", "momentum", "adam", "yogi", "nesterov", "warmup"],
)
def test_updates_follow_the_paper_also_through_a_resume(config):
    random = np.random.default_rng(1)
    updates, start = random.normal(size=(6, 50)), random.normal(size=50)
    weights, server = torch.tensor(start, dtype=torch.float32), ServerOptimizer(config, 50, 6, torch.device("cpu"))
    for step, update in enumerate(updates):
        if step == 3:
            state = server.state()
            server = ServerOptimizer(config, 50, 6, torch.device("cpu"))
            server.load(state)
        server.apply(step, torch.tensor(update, dtype=torch.float32), weights)
    np.testing.assert_allclose(weights.numpy(), reference(config, updates, start), atol=2e-5)


def test_what_earlier_versions_had_is_hashed_as_they_did():
    former = {"name", "lr", "momentum", "betas", "adaptivity"}
    assert ServerConfig(momentum=0.9).model_dump(context=IDENTITY).keys() == former
    later = ServerConfig(momentum=0.9, nesterov=True, schedule="cosine")
    assert later.model_dump(context=IDENTITY).keys() == former | {"nesterov", "schedule"}
    with pytest.raises(ValueError, match="nesterov is a form of momentum"):
        ServerConfig(nesterov=True)
