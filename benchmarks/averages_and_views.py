"""What an average of weights and several views of an example cost: times of an epoch, over those of the plain training.

    python benchmarks/averages_and_views.py                      # cnn on the CPU, one thread
    python benchmarks/averages_and_views.py --models resnet18 --examples 128 --batch 32
    python benchmarks/averages_and_views.py --device cuda --examples 16384 --batch 1024

The sides take turns, an epoch each, and ratios are those of medians over the rounds. On the CPU the processor's time
counts, which other work on the machine changes little. Needs neither ray nor a prepared dataset.
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.sgd.sgd_learner import Sgd, SgdConfig

KEY = seed_key(0, "benchmark")
AUGMENTATION = {"flip": True, "crop": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="cnn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--batch", type=int, default=256, help="(expected) batch size")
    parser.add_argument("--examples", type=int, default=1024, help="training examples, an epoch of each side a round")
    parser.add_argument("--mode", default="bookkeeping", help="gradient mode of dpsgd")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {arguments.threads} thread(s)"
    print(f"{place}; torch {torch.__version__}; {arguments.examples} images of {arguments.size} x {arguments.size}")
    for name in arguments.models.split(","):
        compare(name, sides(make_task(name, arguments, device), arguments), arguments.rounds, device)


def make_task(model: str, arguments: argparse.Namespace, device: torch.device) -> LearningTask:
    draws, count, size = generator(KEY, "images"), arguments.examples, arguments.size
    images = draws.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return LearningTask(
        model=MODELS[model](),
        classes=2,
        image_shape=(size, size, 3),
        rows=np.arange(count),
        labels=draws.integers(0, 2, count),
        groups={},
        feed=ResidentFeed(np.arange(count), images),
        keys=TrialKeys(data=KEY, train=KEY, secret=KEY),
        device=device,
        diagnostics=False,
    )


def sides(task: LearningTask, arguments: argparse.Namespace) -> dict[str, Sgd | Dpsgd]:
    shared: dict[str, Any] = {"epochs": arguments.rounds + 1, "batch_size": arguments.batch}
    shared |= {"augmentation": AUGMENTATION, "optimizer": {"lr": 0.05, "momentum": 0.9}}
    private = {"noise_multiplier": 1.0, "performance": {"gradient_mode": arguments.mode}}

    def dpsgd(**fields: Any) -> Dpsgd:
        return Dpsgd(DpsgdConfig(**shared | private | fields), task)

    return {
        "sgd": Sgd(SgdConfig(**shared), task),
        "sgd, ema": Sgd(SgdConfig(**shared, ema=0.99), task),
        "dpsgd": dpsgd(),
        "dpsgd, ema": dpsgd(ema=0.99),
        "dpsgd, 4 views": dpsgd(augmentation_multiplicity=4),
        "dpsgd, 8 views": dpsgd(augmentation_multiplicity=8),
    }


def compare(model: str, learners: dict[str, Sgd | Dpsgd], rounds: int, device: torch.device) -> None:
    """Let the sides take turns; the first round warms up. Print each side's time over that of its plain training."""
    seconds: dict[str, list[float]] = {name: [] for name in learners}
    for turn in range(rounds + 1):
        for name, learner in learners.items():
            began = now(device)
            learner.step()
            if turn > 0:
                seconds[name].append(now(device) - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"\n{model}: seconds an epoch, median of {rounds} (smallest to largest), and its ratio to the plain training")
    for name, values in seconds.items():
        ratio = medians[name] / medians[name.partition(",")[0]]
        print(f"  {name:16} {medians[name]:8.3f}  ({min(values):.3f} to {max(values):.3f})  {ratio:5.2f} x")


def now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
