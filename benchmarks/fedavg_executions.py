"""Seconds a federated round on one device: clients stacked by torch.func against one after the other.

    python benchmarks/fedavg_executions.py [--device cuda] [--models linear cnn resnet18]

A cohort of 32 clients of 20 images of 32 x 32 in colour, one local pass in batches of 10; clipping and noise included.
The fastest of five rounds after the first.
"""

import argparse
import time

import numpy as np
import torch

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.federated.dpfedavg import Dpfedavg
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig
from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
from fairsweep.trainables.models.models import MODELS

CLIENTS, EACH, ROUNDS = 32, 20, 6


def seconds(model, device, execution):
    """The fastest round of one way to train clients."""
    random = np.random.default_rng(0)
    size = CLIENTS * EACH
    task = LearningTask(
        model=MODELS[model](),
        classes=10,
        image_shape=(32, 32, 3),
        rows=np.arange(size),
        labels=random.integers(0, 10, size),
        groups={},
        feed=ResidentFeed(np.arange(size), random.integers(0, 256, (size, 32, 32, 3)).astype(np.uint8)),
        keys=TrialKeys(data=seed_key(0, "data"), train=seed_key(0, "train"), secret=seed_key(0, "secret")),
        device=device,
        diagnostics=False,
    )
    config = DpfedavgConfig(
        rounds=ROUNDS,
        noise_multiplier=1.0,
        sampling_rate=1.0,
        clients={"partition": "iid", "count": CLIENTS, "held_out": 0.0},
        performance={"execution": execution},
    )
    learner = Dpfedavg(config, task)
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        learner.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - began)
    return min(found[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", nargs="+", choices=("linear", "cnn", "resnet18"), default=("linear", "cnn"))
    chosen = parser.parse_args()
    print(f"{chosen.device}: {CLIENTS} clients of {EACH} images, torch {torch.__version__}")
    print(f"{'model':>9} {'batched':>9} {'sequential':>11}  s/round")
    for model in chosen.models:
        times = [seconds(model, torch.device(chosen.device), way) for way in ("batched", "sequential")]
        print(f"{model:>9} {times[0]:>9.4f} {times[1]:>11.4f}", flush=True)


if __name__ == "__main__":
    main()
