"""Compares initial weights of `cnn`, PyTorch's default against He's, on drawn faces: accuracies paired by replicate.

Both sides draw the same training sets and are tested on the same images. What has run already is not run again.

    python benchmarks/initial_weights.py --to FOLDER                        # about half an hour on two cores
    python benchmarks/initial_weights.py --to FOLDER --seeds 2 --few 2      # fewer replicates
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from fairsweep.sweeps import Sweep
from fairsweep.sweeps.syntax.sweep_file import SweepSource

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ADAM = {"name": "tuned", "kind": "sgd", "epochs": 8, "batch_size": 128, "optimizer": {"name": "adam", "lr": 1e-3}}


def example(name: str) -> dict[str, Any]:
    """Return the content of an example's sweep file."""
    return SweepSource.read(EXAMPLES / f"{name}.yaml").content


def learners_of(name: str) -> list[dict[str, Any]]:
    """Return the learners that a comparison takes from an example."""
    found: list[dict[str, Any]] = example(name)["learners"]
    if name == "quickstart":
        return [*found[:2], ADAM]
    learner = dict(found[0])
    if name == "faces-fedavg":
        learner["clients"] = learner["clients"] | {"alpha": 100}
        return [learner, found[1]]
    learner.pop("requests")
    return [learner]


def compare(name: str, folder: Path, shares: list[float], seeds: int) -> None:
    """Run an example's learners from both kinds of initial weights, and print the differences."""
    base = example("quickstart")
    base["dataset"] |= {"path": str(folder / "faces")}
    base["imbalance"] |= {"share": {"grid": shares}}
    base |= {"model": {"name": "cnn", "initial": {"grid": ["torch", "he"]}}, "learners": learners_of(name)}
    sweep = Sweep.from_mapping(base | {"name": f"initial-{name}", "seeds": seeds, "output": str(folder / name)})
    results = sweep.run()
    initial = {one.folder_name: (one.config or {})["model"].get("initial", "he") for one in results.folders}
    rates = results.rates(["accuracy"], by="tone")
    keys = [rates[key] for key in ("learner", "share", "group", "replicate")]
    both = rates.pivot_table(values="value", index=keys, columns=rates["trial"].map(initial)) * 100
    each = both.assign(difference=both["torch"] - both["he"]).groupby(level=["learner", "share", "group"], sort=False)
    table = each.mean().assign(error=each["difference"].sem(), seeds=each.size())
    print(table.round(1).to_string(), flush=True)


def main() -> None:
    """Compare under the quickstart's learners, under federated averaging and under SISA."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10, help="replicates of the quickstart's learners")
    parser.add_argument("--few", type=int, default=3, help="replicates of federated averaging and of SISA")
    given = parser.parse_args()
    folder = given.to.resolve()
    if not (folder / "faces").exists():
        command = Path(sys.executable).with_name("fairsweep")
        subprocess.run([command, "prepare", "faces", "--to", folder / "faces"], check=True)
    pd.options.display.width = 120
    compare("quickstart", folder, [0.9, 0.99], given.seeds)
    compare("faces-fedavg", folder, [0.9], given.few)
    compare("faces-sisa", folder, [0.9], given.few)


if __name__ == "__main__":
    main()
