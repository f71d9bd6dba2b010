"""A whole study, from its file to its answer: the quickstart by `fairsweep run`, and as it is written by hand today.

By hand: Ray Tune with a function trainable, Opacus's PrivacyEngine (Poisson batches, calibrated noise), DataLoaders
over images in memory or PNG files, fairlearn's MetricFrame after every epoch. Both sides train the same network on the
same images, levels, epochs and budget, two trials at once, and evaluate the same validation and test images after each
epoch; ours also writes records, checkpoints, diagnostics and the report. The sides take turns; what is compared is the
time by the clock and the CPU seconds of each side's processes, Ray's included.

    python benchmarks/study.py --work FOLDER                  # 18 trials a side: three levels and learners, two seeds
    python benchmarks/study.py --work FOLDER --images files   # by hand from PNG files
    python benchmarks/study.py --work FOLDER --initial ours   # by hand from our initial weights
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import numpy as np
import psutil
import yaml

QUICKSTART = Path(__file__).resolve().parents[1] / "examples" / "quickstart.yaml"
_SET_CHILD_SUBREAPER = 36  # prctl(2)


def main() -> None:
    arguments = parse()
    if arguments.side:
        by_hand(arguments)
        return
    # Ray's daemons would leave the tree when what started them ends: they become this process's own children.
    if ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise SystemExit("the CPU seconds of Ray's daemons can be counted on Linux only")
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    config = study(work, arguments.seeds)
    draw(config, work)
    sides: dict[str, list[tuple[float, float]]] = {"by hand": [], "fairsweep": []}
    for number in range(arguments.rounds):
        config["output"] = str(work / f"ours-{number}")
        file = work / f"study-{number}.yaml"
        file.write_text(yaml.safe_dump(config))
        ours = [str(Path(sys.executable).with_name("fairsweep")), "run", str(file)]
        theirs = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--side", str(work / f"hand-{number}")]
        turns = [("by hand", theirs), ("fairsweep", ours)]
        for name, command in turns if number % 2 else reversed(turns):
            sides[name].append(timed(command, work))
            wall, cpu = sides[name][-1]
            print(f"round {number + 1}, {name:9} {wall:7.1f} s by the clock {cpu:7.1f} s of CPU", flush=True)
    walls, cpus = ({name: sum(run[i] for run in runs) for name, runs in sides.items()} for i in (0, 1))
    print(f"by hand / fairsweep: {walls['by hand'] / walls['fairsweep']:.2f} by the clock, "
          f"{cpus['by hand'] / cpus['fairsweep']:.2f} by CPU seconds")  # fmt: skip
    compare(work, arguments.rounds)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and results")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--images", choices=("memory", "files"), default="memory", help="where the hand's images lie")
    parser.add_argument("--initial", choices=("torch", "ours"), default="torch", help="the hand's initial weights")
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def study(work: Path, seeds: int) -> dict:
    """The quickstart with fewer seeds, its data under the work folder."""
    config = yaml.safe_load(QUICKSTART.read_text())
    data = work / "faces"
    if not data.exists():
        fairsweep = Path(sys.executable).with_name("fairsweep")
        subprocess.run([fairsweep, "prepare", "faces", "--to", data], check=True, stdout=subprocess.DEVNULL)
    config["dataset"]["path"], config["seeds"] = str(data), seeds
    return config


def draw(config: dict, work: Path) -> None:
    """Write the images as arrays and as PNG files, and the rows of each training set: the draws of both sides."""
    import torchvision.io
    from torch import from_numpy

    from fairsweep.datasets import PreparedDataset, ResidentFeed
    from fairsweep.datasets.selection.evaluation import EvaluationConfig, evaluation_rows
    from fairsweep.datasets.selection.imbalance import ShareImbalance, plan_training
    from fairsweep.datasets.selection.randomness import seed_key

    dataset = PreparedDataset.open(config["dataset"]["path"])
    images = ResidentFeed.open(dataset).images(np.arange(len(dataset.ids)))
    label, evaluation = config["dataset"]["label"], EvaluationConfig(**config["evaluation"])
    arrays = {"images": images, "label": dataset.codes(label).astype(np.int64), "tone": dataset.codes("tone")}
    for split in ("validation", "test"):
        arrays[split] = evaluation_rows(dataset, evaluation, split)
    for share in config["imbalance"]["share"]["grid"]:
        imbalance = ShareImbalance(**{**config["imbalance"], "share": share})
        for seed in range(config["seeds"]):
            plan = plan_training(dataset, imbalance, label=label, data_key=seed_key(seed, "data"))
            arrays[f"train-{share}-{seed}"] = plan.rows
    np.savez(work / "arrays.npz", **arrays)
    files = work / "png"
    if not files.exists():
        files.mkdir()
        for row, image in enumerate(images):
            torchvision.io.write_png(from_numpy(image).permute(2, 0, 1), str(files / f"{row}.png"))


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds by the clock and CPU seconds of a command and of every process that it started, as last seen alive.

    Raylets ignore what their workers used when they end, so the tree is looked at ten times a second.
    """
    used: dict[tuple[int, float], float] = {}
    began = time.monotonic()
    with (folder / "output.log").open("a") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as run:
        while run.poll() is None:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    used[process.pid, process.create_time()] = times.user + times.system
            time.sleep(0.1)
    wall = time.monotonic() - began
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {run.returncode}: see {folder / 'output.log'}")
    return wall, sum(used.values())


def by_hand(arguments: argparse.Namespace) -> None:
    """The study as a script: every learner, level and seed, two at once."""
    import ray
    from ray import tune

    config = yaml.safe_load(QUICKSTART.read_text())
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    space = {
        "learner": tune.grid_search(["private", "matched", "tuned"]),
        "share": tune.grid_search(config["imbalance"]["share"]["grid"]),
        "seed": tune.grid_search(list(range(arguments.seeds))),
        "work": str(arguments.work.resolve()),
        "images": arguments.images,
        "initial": arguments.initial,
    }
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=space,
        run_config=tune.RunConfig(storage_path=str(arguments.side), name="study", verbose=0),
    )
    grid = tuner.fit()
    columns = ["config/learner", "config/share", "config/seed", "accuracy", "light", "dark"]
    arguments.side.mkdir(parents=True, exist_ok=True)
    grid.get_dataframe()[columns].to_csv(arguments.side / "results.csv", index=False)


def train(config: dict) -> None:
    """One trial, as one writes it with Opacus."""
    import warnings

    import torch
    import torchvision.io
    from fairlearn.metrics import MetricFrame
    from opacus import PrivacyEngine
    from ray import tune
    from torch.utils.data import DataLoader, Dataset, TensorDataset

    from fairsweep.datasets.selection.randomness import seed_key
    from fairsweep.trainables.models.cnn import CnnConfig
    from fairsweep.trainables.models.model import build_model

    warnings.filterwarnings("ignore")
    torch.manual_seed(config["seed"])
    work, learner = Path(config["work"]), config["learner"]
    with np.load(work / "arrays.npz") as arrays:
        rows = arrays[f"train-{config['share']}-{config['seed']}"]
        labels, tones = torch.from_numpy(arrays["label"]), arrays["tone"]
        evaluated = {split: arrays[split] for split in ("validation", "test")}
        images = torch.from_numpy(arrays["images"]) if config["images"] == "memory" else None

    class Faces(Dataset):
        """PNG files and their labels."""

        def __init__(self, rows):
            self.rows = rows

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, index):
            row = int(self.rows[index])
            image = torchvision.io.read_image(str(work / "png" / f"{row}.png"))
            return image.float() / 127.5 - 1, labels[row]

    def dataset(rows):
        if images is None:
            return Faces(rows)
        return TensorDataset(images[rows].permute(0, 3, 1, 2).float() / 127.5 - 1, labels[rows])

    if config["initial"] == "ours":
        model = build_model(CnnConfig(initial="torch"), (32, 32, 3), 2, seed_key(config["seed"], "train"))
    else:
        model = CnnConfig().network((32, 32, 3), 2)
    epochs = 8
    if learner == "tuned":
        tuned = next(one for one in yaml.safe_load(QUICKSTART.read_text())["learners"] if one["name"] == learner)
        epochs, batch = tuned["epochs"], tuned["batch_size"]
        optimizer = torch.optim.Adam(model.parameters(), lr=float(tuned["optimizer"]["lr"]))
    else:
        optimizer, batch = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9), 256
    loader = DataLoader(dataset(rows), batch_size=batch, shuffle=True)
    tests = {split: DataLoader(dataset(chosen), batch_size=512) for split, chosen in evaluated.items()}
    if learner == "private":
        model, optimizer, loader = PrivacyEngine().make_private_with_epsilon(
            module=model, optimizer=optimizer, data_loader=loader,
            target_epsilon=3.0, target_delta=1e-5, epochs=epochs, max_grad_norm=1.0,
        )  # fmt: skip
    loss_of = torch.nn.CrossEntropyLoss()
    for _ in range(epochs):
        model.train()
        for batch_images, batch_labels in loader:
            optimizer.zero_grad()
            loss_of(model(batch_images), batch_labels).backward()
            optimizer.step()
        model.eval()
        reported = {}
        for split, chosen in evaluated.items():
            with torch.no_grad():
                predicted = torch.cat([model(part).argmax(1) for part, _ in tests[split]]).numpy()
            truth = labels[chosen].numpy()
            frame = MetricFrame(
                metrics=lambda truth, predicted: (truth == predicted).mean(),
                y_true=truth, y_pred=predicted, sensitive_features=tones[chosen],
            )  # fmt: skip
            prefix = "" if split == "test" else f"{split}_"
            reported |= {f"{prefix}accuracy": frame.overall}
            reported |= {f"{prefix}{name}": frame.by_group[code] for code, name in enumerate(("light", "dark"))}
        tune.report(reported)


def compare(work: Path, rounds: int) -> None:
    """Print both sides' accuracy of each group, by learner and level."""
    import pandas as pd

    from fairsweep import analysis

    hand = pd.concat([pd.read_csv(work / f"hand-{number}" / "results.csv") for number in range(rounds)])
    hand.columns = ["learner", "share", "seed", "accuracy", "light", "dark"]
    ours = pd.concat(analysis.load(work / f"ours-{number}").frame("accuracy", by="tone") for number in range(rounds))
    ours = ours[ours["split"] == "test"].pivot_table(
        index=["learner", "share", "replicate"], columns="group", values="value", aggfunc="mean"
    )
    print("accuracy in points by group, mean (standard error over seeds):")
    for (learner, share), theirs in hand.groupby(["learner", "share"]):
        told = [f"{learner:8} share {share:<5g}"]
        for group in ("light", "dark"):
            told.append(group)
            for name, values in (
                ("by hand", theirs.groupby("seed")[group].mean()),
                ("fairsweep", ours.loc[(learner, share), group]),
            ):
                told.append(f"{name} {100 * values.mean():.1f} ({100 * values.sem():.1f})")
        print("  ".join(told))


if __name__ == "__main__":
    main()
