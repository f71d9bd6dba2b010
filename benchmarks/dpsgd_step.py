"""Training speed in examples per second: ours, plain PyTorch and Opacus's default, side by side in one run.

    python benchmarks/dpsgd_step.py                                # cnn and resnet18 on the CPU, one thread
    python benchmarks/dpsgd_step.py --device cuda --batch 1024 --examples 16384
    python benchmarks/dpsgd_step.py --physical 16,32,64,128,256    # also: the effect of the physical batch size

The sides take turns, an epoch each, and medians over the rounds are compared: a busy machine slows all of them alike.
On one thread of a CPU the processor's time counts, which other work on the machine changes less than the clock's.
Needs neither ray nor a prepared dataset.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.dpsgd.gradient_modes import GRADIENT_MODES, PerformanceConfig, physical_batch_size
from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
from fairsweep.trainables.models.inputs import normalise, to_device
from fairsweep.trainables.models.model import ModelConfig, build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.models.optimizers import SgdOptimizer
from fairsweep.trainables.sgd.sgd_learner import Sgd, SgdConfig

KEY = seed_key(0, "benchmark")
OPTIMIZER = SgdOptimizer(lr=0.05, momentum=0.9)
Epoch = Callable[[], int]  # trains one epoch and returns how many examples it saw


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    print(f"{describe(device)}; torch {torch.__version__}, {arguments.threads} thread(s)")
    measured = {}
    for name in arguments.models.split(","):
        model = MODELS[name]()
        batch = arguments.batch or (256 if name == "cnn" else 32)
        examples = arguments.examples or (4096 if name == "cnn" else 128)
        task = make_task(model, examples, arguments.size, device, diagnostics=False)
        measured[name] = compare(name, sides(task, batch, arguments), arguments.rounds, device)
        if arguments.physical and device.type == "cpu":
            measured[f"{name} by physical batch"] = compare_physical(task, batch, arguments, device)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(measured, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="cnn,resnet18")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--batch", type=int, help="(expected) batch size; default 256 for cnn, 32 for resnet18")
    parser.add_argument("--examples", type=int, help="training examples, an epoch of each side a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--modes", action="store_true", help="also every gradient mode of ours")
    parser.add_argument("--physical", help="comma-separated physical batch sizes to try")
    parser.add_argument("--json", help="write the medians to this file")
    return parser.parse_args()


def describe(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU {torch.backends.cpu.get_cpu_capability()}"
    )


def make_task(model: ModelConfig, examples: int, size: int, device: torch.device, diagnostics: bool) -> LearningTask:
    draws = generator(KEY, "images")
    images = draws.integers(0, 256, (examples, size, size, 3), dtype=np.uint8)
    labels = draws.integers(0, 2, examples)
    groups = {name: draws.integers(0, 2, examples).astype(np.int16) for name in ("tone", "shape")}
    return LearningTask(
        model=model,
        classes=2,
        image_shape=(size, size, 3),
        rows=np.arange(examples),
        labels=labels,
        groups=groups,
        feed=ResidentFeed(np.arange(examples), images),
        keys=TrialKeys(data=KEY, train=KEY, secret=KEY),
        device=device,
        diagnostics=diagnostics,
    )


def private_config(batch: int, rounds: int, mode: str = "auto", physical: int | None = None) -> DpsgdConfig:
    return DpsgdConfig(
        epochs=rounds + 1,  # the first epoch warms up
        batch_size=batch,
        noise_multiplier=1.0,
        l2_clip_norm=1.0,
        optimizer=OPTIMIZER,
        performance=PerformanceConfig(gradient_mode=mode, physical_batch_size=physical),
    )


def sides(task: LearningTask, batch: int, arguments: argparse.Namespace) -> dict[str, Epoch]:
    """Returns what is compared. Each side trains a model of its own, on the same images."""
    config = private_config(batch, arguments.rounds)
    research = LearningTask(**{**vars(task), "diagnostics": True})
    chosen: dict[str, Epoch] = {
        "plain PyTorch loop": plain_loop(task, batch),
        "sgd": epochs_of(Sgd(SgdConfig(epochs=arguments.rounds + 1, batch_size=batch, optimizer=OPTIMIZER), task)),
        "dpsgd's twin": epochs_of(Dpsgd(config.twin("twin"), task)),
        "dpsgd": epochs_of(Dpsgd(config, task)),
        "dpsgd with diagnostics": epochs_of(Dpsgd(config, research)),
        "Opacus default": opacus_default(task, batch),
    }
    if arguments.modes:
        for mode in GRADIENT_MODES:
            chosen[f"dpsgd {mode}"] = epochs_of(Dpsgd(private_config(batch, arguments.rounds, mode), task))
    return chosen


def epochs_of(learner: Sgd | Dpsgd) -> Epoch:
    return lambda: learner.step().examples


def plain_loop(task: LearningTask, batch: int) -> Epoch:
    """The loop that anyone would write: shuffled tensors in memory, forward, backward, step."""
    model = build_model(task.model, task.image_shape, task.classes, KEY).to(task.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    inputs, labels = tensors(task)

    def epoch() -> int:
        for chosen in torch.randperm(task.size, device=task.device).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
        return task.size

    return epoch


def opacus_default(task: LearningTask, batch: int) -> Epoch:
    """Opacus as its documentation shows it: `make_private` with its defaults, hooks and Poisson sampling."""
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    model = build_model(task.model, task.image_shape, task.classes, KEY).to(task.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(TensorDataset(*(tensor.cpu() for tensor in tensors(task))), batch_size=batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, optimizer, loader = PrivacyEngine().make_private(
            module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
        )

    def epoch() -> int:
        seen = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for inputs, labels in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(inputs.to(task.device)), labels.to(task.device)).backward()
                optimizer.step()
                seen += len(labels)
        return seen

    return epoch


def tensors(task: LearningTask) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = normalise(to_device(task.feed.images(task.rows), task.device))
    return inputs, torch.from_numpy(task.labels).to(task.device)


def compare_physical(
    task: LearningTask, batch: int, arguments: argparse.Namespace, device: torch.device
) -> dict[str, float]:
    sizes = [int(size) for size in arguments.physical.split(",")]
    default = physical_batch_size(PerformanceConfig(), task.model, device)
    learners = {
        f"dpsgd, {size} at once{' (default)' if size == default else ''}": epochs_of(
            Dpsgd(private_config(max(sizes), arguments.rounds, physical=size), task)
        )
        for size in sizes
    }
    return compare(f"{task.model.name} by physical batch", learners, arguments.rounds, device)


def compare(title: str, chosen: dict[str, Epoch], rounds: int, device: torch.device) -> dict[str, float]:
    """Lets the sides take turns; prints and returns the median examples per second of each."""
    rates: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(rounds + 1):
        for name, epoch in chosen.items():
            rate = timed(epoch, device)
            if turn > 0:
                rates[name].append(rate)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    references = [name for name in ("Opacus default", "plain PyTorch loop") if name in medians]
    print(f"\n{title}: examples per second, median of {rounds} (smallest to largest)")
    for name, values in rates.items():
        ratios = "".join(f"  {medians[name] / medians[reference]:6.2f} x {reference}" for reference in references)
        print(f"  {name:32} {medians[name]:9.0f}  ({min(values):.0f} to {max(values):.0f}){ratios}")
    return medians


def timed(epoch: Epoch, device: torch.device) -> float:
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    now = time.process_time if alone else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = now()
    examples = epoch()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return examples / (now() - began)


if __name__ == "__main__":
    main()
