"""The server's optimisers against Reddi et al.'s formulas written out, and through a resume."""

import numpy as np
import pytest
import torch

from fairsweep.trainables.federated.server_optimizers import ServerConfig, ServerOptimizer


def reference(config, updates, weights):
    """Reddi et al. 2021, algorithm 2, in float64."""
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for update in updates:
        if config.name == "sgd":
            mean = config.momentum * mean + update
            weights = weights + config.lr * mean
            continue
        first, second = config.betas
        mean = first * mean + (1 - first) * update
        if config.name == "adam":
            square = second * square + (1 - second) * update**2
        else:
            square = square - (1 - second) * update**2 * np.sign(square - update**2)
        weights = weights + config.lr * mean / (np.sqrt(square) + config.adaptivity)
    return weights


@pytest.mark.parametrize(
    "config",
    [
        ServerConfig(lr=0.7),
        ServerConfig(lr=0.5, momentum=0.9),
        ServerConfig(name="adam", lr=0.05),
        ServerConfig(name="yogi", lr=0.05, betas=(0.8, 0.95), adaptivity=0.01),
    ],
    ids=["sgd", "momentum", "adam", "yogi"],
)
def test_updates_follow_the_paper_also_through_a_resume(config):
    random = np.random.default_rng(1)
    updates, start = random.normal(size=(6, 50)), random.normal(size=50)
    weights, server = torch.tensor(start, dtype=torch.float32), ServerOptimizer(config, 50, torch.device("cpu"))
    for step, update in enumerate(updates):
        if step == 3:
            state = server.state()
            server = ServerOptimizer(config, 50, torch.device("cpu"))
            server.load(state)
        server.apply(torch.tensor(update, dtype=torch.float32), weights)
    np.testing.assert_allclose(weights.numpy(), reference(config, updates, start), atol=2e-5)
