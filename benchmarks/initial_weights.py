"""Compares initial weights of `cnn`, PyTorch's default against He's: accuracies by group, paired by replicate.

Both sides draw the same training sets and are tested on the same images. What has run already is not run again.

    python benchmarks/initial_weights.py --to FOLDER                        # about half an hour on two cores
    python benchmarks/initial_weights.py --to FOLDER --seeds 2 --few 2      # fewer replicates
    python benchmarks/initial_weights.py --to FOLDER --only mnist-class8    # the rare digit under DP-SGD
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


def on_faces(name: str, folder: Path, shares: list[float]) -> dict[str, Any]:
    """Return a sweep of an example's learners on drawn faces."""
    base = example("quickstart")
    base["dataset"] |= {"path": str(prepared("faces", folder))}
    base["imbalance"] |= {"share": {"grid": shares}}
    return base | {"learners": learners_of(name)}


def on_digits(folder: Path) -> dict[str, Any]:
    """Return a sweep of DP-SGD on digits, one of which is rare."""
    base = example("mnist-class8")
    base["dataset"] |= {"path": str(prepared("mnist", folder))}
    return base | {"learners": base["learners"][:1]}


def prepared(source: str, folder: Path) -> Path:
    """Return a source's prepared dataset, made at the first call."""
    if not (folder / source).exists():
        command = Path(sys.executable).with_name("fairsweep")
        subprocess.run([command, "prepare", source, "--to", folder / source], check=True)
    return folder / source


def compare(name: str, folder: Path, base: dict[str, Any], seeds: int, by: str = "tone") -> None:
    """Run a sweep from both kinds of initial weights, and print the differences."""
    base |= {"model": {"name": "cnn", "initial": {"grid": ["torch", "he"]}}, "seeds": seeds}
    sweep = Sweep.from_mapping(base | {"name": f"initial-{name}", "output": str(folder / name)})
    results = sweep.run()
    initial = {one.folder_name: (one.config or {})["model"].get("initial", "he") for one in results.folders}
    rates = results.rates(["accuracy"], by=by)
    keys = [rates[key] for key in ("learner", "level", "group", "replicate")]
    both = rates.pivot_table(values="value", index=keys, columns=rates["trial"].map(initial)) * 100
    each = both.assign(difference=both["torch"] - both["he"]).groupby(level=both.index.names[:-1], sort=False)
    table = each.mean().assign(error=each["difference"].sem(), seeds=each.size())
    print(table.round(1).to_string(), flush=True)


def main() -> None:
    """Compare on faces under the quickstart's learners, federated averaging and SISA, and on digits under DP-SGD."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10, help="replicates of the quickstart's learners")
    parser.add_argument("--few", type=int, default=3, help="replicates of federated averaging and of SISA")
    parser.add_argument("--only", nargs="*", help="the examples to compare on; all if left out")
    given = parser.parse_args()
    folder = given.to.resolve()
    pd.options.display.width = 120
    sweeps = {
        "quickstart": lambda: compare("quickstart", folder, on_faces("quickstart", folder, [0.9, 0.99]), given.seeds),
        "faces-fedavg": lambda: compare("faces-fedavg", folder, on_faces("faces-fedavg", folder, [0.9]), given.few),
        "faces-sisa": lambda: compare("faces-sisa", folder, on_faces("faces-sisa", folder, [0.9]), given.few),
        "mnist-class8": lambda: compare("mnist-class8", folder, on_digits(folder), given.seeds, by="digit"),
    }
    for name in given.only or sweeps:
        sweeps[name]()


if __name__ == "__main__":
    main()
