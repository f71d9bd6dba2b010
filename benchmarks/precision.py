"""Measure what precision, layout and compilation change: examples per second of training, and the first epoch's cost.

    python benchmarks/precision.py [--device cuda] [--learner sgd|dpsgd] [--models cnn resnet18]

Each row is a training of its own; the rate is that of the fastest of three epochs after the first, the ratio is to
float32. On a CPU time is that of one thread, so that other programs do not count. `first` is by how much the first
epoch took longer on the clock, where compilation happens.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.learners import AnyLearner, build_learner
from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
from fairsweep.trainables.models.models import MODELS

SHAPES = {"linear": (28, 28, 1), "cnn": (28, 28, 1), "resnet18": (64, 64, 3)}
EXAMPLES = {"linear": 8192, "cnn": 2048, "resnet18": 128}
BATCH, EPOCHS = 64, 4
CHOICES: dict[str, list[dict[str, Any]]] = {
    "sgd": [
        {},
        {"channels_last": True},
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "channels_last": True},
        {"precision": "float16"},
        {"compile": True},
        {"compile": True, "precision": "bfloat16"},
    ],
    "dpsgd": [
        {"gradient_mode": mode, "precision": precision}
        for mode in ("bookkeeping", "functorch", "hooks")
        for precision in ("float32", "bfloat16", "float16")
    ],
}
EXTRA = {"sgd": {}, "dpsgd": {"noise_multiplier": 1.0, "batch_size": BATCH}}


def task_of(model: str, device: torch.device) -> LearningTask:
    """Make a training set of noise."""
    draws, count = np.random.default_rng(0), EXAMPLES[model]
    images = draws.integers(0, 256, (count, *SHAPES[model])).astype(np.uint8)
    return LearningTask(
        model=MODELS[model](),
        classes=2,
        image_shape=SHAPES[model],
        rows=np.arange(count),
        labels=draws.integers(0, 2, count),
        groups={},
        feed=ResidentFeed(np.arange(count), images),
        keys=TrialKeys(seed_key(0, "data"), seed_key(0, "train"), seed_key(0, "secret")),
        device=device,
    )


def seconds_of(kind: str, performance: dict[str, Any], task: LearningTask) -> tuple[float, float]:
    """Train, and return the seconds of an epoch, and by how many the first took longer on the clock."""
    given = {"name": kind, "kind": kind, "epochs": EPOCHS, "batch_size": BATCH, "performance": performance}
    learner = build_learner(TypeAdapter(AnyLearner).validate_python(given | EXTRA[kind]), task)
    spent, clock = [], time.process_time if task.device.type == "cpu" else time.perf_counter
    walls = []
    for _ in range(EPOCHS):
        began = clock()
        walls.append(learner.step().seconds)
        if task.device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(clock() - began)
    return min(spent[1:]), walls[0] - min(walls[1:])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--learner", choices=CHOICES, default="sgd")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    print(f"{chosen.learner} on {chosen.device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for model in chosen.models:
        task, base = task_of(model, torch.device(chosen.device)), 0.0
        for performance in CHOICES[chosen.learner]:
            seconds, first = seconds_of(chosen.learner, performance, task)
            rate = task.size / seconds
            base = base or rate
            words = ", ".join(f"{name}: {value}" for name, value in performance.items()) or "float32"
            print(f"{model:9} {words:42} {rate:9,.0f} examples/s  x{rate / base:.2f}  first +{first:.1f} s")


if __name__ == "__main__":
    main()
