"""CPU time of heads' trials that train side by side in one process, against the same trials one after the other.

    python benchmarks/stacked.py                       # heads of resnet18, batch 64, stacks of 4 and 16
    python benchmarks/stacked.py --batch 16 256 --sizes 16

Whole trials: opening, steps, evaluations, records and the end. Both sides run the same trials, in turns; the medians of
their ratios are printed, and by how much weights differ. Images and weights are made up: times depend on no values.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from frozen_features import KEY, head_sweep

from fairsweep.datasets.selection.randomness import generator
from fairsweep.sweeps.planning.preflight import check_sweep, privacy_plans
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.resnet18 import ResNet18Config
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.stacks.trial_stack import TrialStack
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.trial.trial_config import TrialConfig

LEARNERS = {
    "dpsgd": {"kind": "dpsgd", "epsilon": 3.0, "optimizer": {"lr": 0.02, "momentum": 0.5}},
    "sgd": {"kind": "sgd", "optimizer": {"lr": 0.00002}},
}


@dataclass
class Closed:
    config: TrialConfig
    folder: Path
    plan: PrivacyPlan | None

    def open(self) -> Trial:
        return Trial(self.config, self.folder, plan=self.plan)

    def outcome(self) -> None:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--examples", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FAIRSWEEP_CACHE"] = f"{folder}/cache"
        for kind, learner in LEARNERS.items():
            for batch in given.batch:
                for size in given.sizes:
                    fields = learner | {"epochs": given.epochs, "batch_size": batch}
                    compare(Path(folder), f"{kind}{batch}x{size}", fields, given, size)


def compare(folder: Path, name: str, learner: dict, given: argparse.Namespace, size: int) -> None:
    """Print how much CPU time a stack of so many takes beside single trials."""
    images = generator(KEY, "images").integers(0, 256, (given.examples, 32, 32, 3), dtype=np.uint8)
    weights = folder / "body.pth"
    if not weights.exists():
        torch.save(build_model(ResNet18Config(norm="batch"), (32, 32, 3), 2, KEY).state_dict(), weights)
    sweep = head_sweep(images, weights, folder / name, size) | {"learners": [learner]}
    plan = check_sweep(SweepSpec.from_mapping(sweep))
    plans, ratios, apart = privacy_plans(plan, plan.trials), [], 0.0
    for turn in range(given.turns + 1):
        closed = {
            side: [
                Closed(trial.config, folder / name / f"{side}{turn}" / trial.folder_name, plans.get(trial.trial))
                for trial in plan.trials
            ]
            for side in ("alone", "stacked")
        }
        began = time.process_time()
        for trial in closed["alone"]:
            trial.open().run()
        between = time.process_time()
        stack = TrialStack({trial.config.trial: trial for trial in closed["stacked"]}, (), scheduled=False)
        while not stack.done:
            stack.iterate()
        ended = time.process_time()
        ratios += [(between - began) / (ended - between)] if turn else []  # the first warms up
        apart = max(apart, *(difference(one, other) for one, other in zip(*closed.values(), strict=True)))
    print(
        f"{learner['kind']}, batch {learner['batch_size']}, {size} trials: alone / stacked "
        f"{statistics.median(ratios):.2f} by CPU; weights differ by {apart:.1e} at most",
        flush=True,
    )


def difference(one: Closed, other: Closed) -> float:
    """Return by how much the final weights of two trials differ."""
    ours, theirs = (torch.load(side.folder / "weights.pt", weights_only=True) for side in (one, other))
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


if __name__ == "__main__":
    main()
