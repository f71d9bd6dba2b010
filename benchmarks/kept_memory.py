"""What workers save by keeping the memory that a step gives back: CPU seconds of steps in processes with and without.

    python benchmarks/kept_memory.py [--rounds 3]

The variables of glibc are those that `fairsweep run` gives its workers. Each side is a process of its own that trains
the same `cnn` on the same images, on one thread; the sides take turns, and medians over the rounds are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.sweeps.runtime.launch import WORKER_ENVIRONMENT
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.bookkeeping import Bookkeeping
from fairsweep.trainables.privacy.clipping import Clipping

KEPT = {name: value for name, value in WORKER_ENVIRONMENT.items() if name.startswith("MALLOC_")}
BATCHES, STEPS = (64, 256), 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measured()))
        return
    bare = {name: value for name, value in os.environ.items() if name not in KEPT}
    sides: dict[str, list[dict[str, float]]] = {"default": [], "kept": []}
    for _ in range(arguments.rounds):
        for name, environment in (("default", bare), ("kept", bare | KEPT)):
            command = [sys.executable, "-W", "ignore", __file__, "--side"]
            answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            sides[name].append(json.loads(answer.stdout))
    for step in sides["kept"][0]:
        default, kept = (statistics.median(found[step] for found in sides[name]) for name in ("default", "kept"))
        print(f"{step:26} {default:7.2f} ms, {kept:7.2f} ms kept: {default / kept:.2f}")


def measured() -> dict[str, float]:
    """Return the median CPU milliseconds of a step, plain and private, of each batch size, at 28 x 28."""
    torch.set_num_threads(1)
    found = {}
    for batch in BATCHES:
        model = build_model(MODELS["cnn"](), (28, 28, 3), 2, seed_key(0, "benchmark"))
        inputs, labels = torch.randn(batch, 3, 28, 28), torch.randint(0, 2, (batch,))
        parameters = list(model.parameters())
        mode, sums = Bookkeeping(model), [torch.zeros_like(p) for p in parameters]
        steps = {
            "plain": lambda: torch.autograd.grad(F.cross_entropy(model(inputs), labels), parameters),  # noqa: B023
            "private": lambda: mode.add_clipped(inputs, labels, Clipping("flat", 1.0), sums),  # noqa: B023
        }
        for name, step in steps.items():
            seconds = []
            for _ in range(STEPS):
                began = time.process_time()
                step()
                seconds.append(time.process_time() - began)
            found[f"{name} step, batch {batch}"] = statistics.median(seconds) * 1e3
    return found


if __name__ == "__main__":
    main()
