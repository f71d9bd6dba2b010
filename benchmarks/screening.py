"""Screening of private candidates at a small batch and equal total noise, beside full runs: prints tables.

Candidates for DP-SGD on drawn faces differ in learning rate and clipping norm. Each is trained in full, with batches of
expected size B and the noise multiplier s of its epsilon, and screened: batches of B/8, noise s/8, as many steps, the
same learning rate, so that each update has the same noise (Sander et al. 2023, arXiv 2210.03403). A screening run is
not private: its epsilon is far larger. Ranks are of the worse-off tone's accuracy on the validation split, choices
are judged on the test split, in full runs of other seeds. CPU seconds are those of whole trials, evaluation and records
included. What has run already is not run again.

    python benchmarks/screening.py --to FOLDER                # about 12 CPU minutes
    python benchmarks/screening.py --to FOLDER --minutes 7    # a part; the next call goes on
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau, spearmanr

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.sweeps.planning.preflight import check_sweep, privacy_plans
from fairsweep.sweeps.runtime.launch import WORKER_ENVIRONMENT
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.trial import Trial

SMALLER = 8
FULL = {"epochs": SMALLER, "batch_size": 256, "epsilon": 3.0}
SCREENED = {"epochs": 1, "batch_size": 256 // SMALLER}
RATES, NORMS = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2], [0.1, 0.3, 1.0, 3.0]


def search(folder: Path, seeds: int, learner: dict[str, Any]) -> SweepSpec:
    """Return a sweep of every learning rate with every clipping norm."""
    private = {"kind": "dpsgd", "performance": {"gradient_mode": "bookkeeping"}}  # what `auto` takes, and measures
    varied = {"l2_clip_norm": {"grid": NORMS}, "optimizer": {"name": "sgd", "lr": {"grid": RATES}, "momentum": 0.9}}
    drawn = {"balance": ["tone", "smiling"], "per_cell": 250}
    return SweepSpec.from_mapping(
        {
            "name": "screening",
            "dataset": {"path": str(folder / "faces"), "label": "smiling", "groups": ["tone"]},
            "imbalance": {"attribute": "tone", "majority": "light", "share": 0.9, "size": 4000, "label_balanced": True},
            "model": {"name": "cnn"},
            "learners": [private | varied | learner],
            "evaluation": drawn | {"validation": drawn},
            "seeds": seeds,
            "output": str(folder / "out"),
        }
    )


def run(planned: Any, plan: Any) -> dict[str, Any]:
    """Run a trial: the worst tone's accuracy and CPU seconds after each epoch, and that accuracy on the test split."""
    worst, seconds, began = [], [], time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(planned.config, folder, plan=plan, checkpoints=CheckpointPolicy(keep_final_weights=False))
        while not trial.done:
            worst.append(trial.iterate()["worst_group"])
            seconds.append(time.process_time() - began)
        trial.close()
        cells = read_cells(Path(folder) / "cells.parquet").table.to_pandas()
    last = cells[(cells["split"] == "test") & (cells["iteration"] == len(worst))]
    right = last["count"].where(last["label"] == last["prediction"], 0).groupby(last["tone"]).sum()
    test = float((right / last.groupby("tone")["count"].sum()).min())
    return {"worst": worst, "seconds": seconds, "test": test}


def measure(folder: Path, seeds: int, minutes: float) -> pd.DataFrame | None:
    """Run what has not run yet, both sides in turns, and return all; None where time ended before."""
    ends, kept = time.monotonic() + 60 * minutes, folder / "screening.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    full = check_sweep(search(folder, seeds, FULL))
    plans = privacy_plans(full, full.trials)
    noise = next(iter(plans.values())).noise_multiplier / SMALLER
    small = check_sweep(search(folder, seeds, SCREENED | {"noise_multiplier": noise}))
    plans |= privacy_plans(small, small.trials)
    run(small.trials[0], plans[small.trials[0].trial])  # warms up
    pairs = sorted(zip(full.trials, small.trials, strict=True), key=lambda pair: pair[0].config.seeds.train)
    for pair in pairs:
        for side, planned in zip(("full", "screened"), pair, strict=True):
            learner = planned.config.learner
            key = {"side": side, "lr": learner.optimizer.lr, "norm": learner.l2_clip_norm}
            key["seed"] = planned.config.seeds.train
            if any(key.items() <= one.items() for one in done):
                continue
            if time.monotonic() > ends:
                return None
            done.append(key | run(planned, plans[planned.trial]))
            with kept.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
    return pd.DataFrame(done)


def show_ranks(name: str, one: np.ndarray, last: np.ndarray, *, same: bool) -> None:
    """Print how values of candidates by seed agree in rank with full runs, of the same or of other seeds."""
    seeds, better = range(last.shape[1]), last.mean(axis=1) >= np.median(last.mean(axis=1))
    pairs = [(one[:, s], last[:, t]) for s in seeds for t in seeds if (s == t) == same]
    each = [spearmanr(*pair).statistic for pair in pairs]
    draws = np.random.default_rng(0).integers(0, len(one), (1000, len(one)))
    means = [np.mean([spearmanr(a[draw], b[draw]).statistic for a, b in pairs]) for draw in draws]
    low, high = np.nanquantile(means, [0.025, 0.975])
    kendall = np.mean([kendalltau(*pair).statistic for pair in pairs])
    half = np.mean([spearmanr(a[better], b[better]).statistic for a, b in pairs])
    seeded = f"{min(each):.2f} to {max(each):.2f}"
    print(f"{name} | {np.mean(each):.2f} | {seeded} | {low:.2f} to {high:.2f} | {kendall:.2f} | {half:.2f}")


def halving(worst: np.ndarray, seconds: np.ndarray) -> tuple[int, float]:
    """Return whom successive halving at a sixth of the epochs chooses, and its CPU seconds."""
    alive, spent = np.arange(len(worst)), np.zeros(len(worst))
    for epochs, stay in ((1, len(worst) // 6), (2, len(worst) // 12), (4, 1)):
        spent[alive] = seconds[alive, epochs - 1]
        alive = alive[np.argsort(-worst[alive, epochs - 1], kind="stable")[:stay]]
    return int(alive[0]), float(spent.sum())


def show(found: pd.DataFrame) -> None:
    """Print how screening ranks, what it costs, and what is lost by choosing with it."""
    tables = found.pivot_table(index=["lr", "norm"], columns=["side", "seed"], aggfunc="first")
    worst, seconds, test = (np.array(tables[name]["full"].to_numpy().tolist()) for name in ("worst", "seconds", "test"))
    screened, spent = (np.array(tables[name]["screened"].to_numpy().tolist())[..., 0] for name in ("worst", "seconds"))
    last, total, seeds = worst[..., -1], seconds[..., -1].sum(), range(worst.shape[1])
    print(f"{len(last)} candidates, {len(seeds)} seeds; worst tone in full runs {last.min():.2f} to {last.max():.2f}\n")
    print("rank with full runs | Spearman | by seed | 95% over candidates | Kendall | Spearman, better half")
    show_ranks("screened", screened, last, same=True)
    show_ranks("screened, other seed", screened, last, same=False)
    show_ranks("full, other seed", last, last, same=False)
    for epochs in (1, 2, 4):
        show_ranks(f"full, epoch {epochs} of {SMALLER}", worst[..., epochs - 1], last, same=True)
    ratio = spent / seconds[..., -1]
    print(f"\nCPU seconds, screened / full: {spent.sum() / total:.3f}; by trial {ratio.min():.3f} to {ratio.max():.3f}")
    others = np.array([test[:, [t for t in seeds if t != s]].mean(axis=1) for s in seeds]).T
    halved = [halving(worst[:, s], seconds[:, s]) for s in seeds]
    print("\nchosen by | CPU seconds / full | worst tone on test, % | by seed | below the best of all")
    for name, share, choices in (
        ("screened", spent.sum() / total, screened.argmax(axis=0)),
        ("successive halving", sum(one for _, one in halved) / total, [one for one, _ in halved]),
        ("full", 1.0, last.argmax(axis=0)),
    ):
        got = 100 * others[choices, list(seeds)]
        lost = (100 * others.max(axis=0) - got).mean()
        print(f"{name} | {share:.3f} | {got.mean():.1f} | {got.min():.1f} to {got.max():.1f} | {lost:.1f}")
    print(f"chance | 0 | {100 * others.mean():.1f} | | {100 * (others.max(axis=0) - others.mean(axis=0)).mean():.1f}")


def main() -> None:
    """Run what is left within the minutes that are given, and print the tables when all has run."""
    if any(os.environ.get(name) != value for name, value in WORKER_ENVIRONMENT.items()):  # as a worker's process
        os.execve(sys.executable, sys.orig_argv, os.environ | WORKER_ENVIRONMENT)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60.0, help="of the clock; no trial starts later")
    given = parser.parse_args()
    folder = given.to.resolve()
    torch.set_num_threads(1)
    if not (folder / "faces").exists():
        command = Path(sys.executable).with_name("fairsweep")
        subprocess.run([command, "prepare", "faces", "--to", folder / "faces"], check=True)
    found = measure(folder, given.seeds, given.minutes)
    if found is None:
        print("time ended before all had run: the next call goes on")
    else:
        show(found)


if __name__ == "__main__":
    main()
