"""What launching a trial costs: 60 short trials with fairsweep and with plain Ray Tune, in one run.

Every variant trains the same learner on the same images for the same iterations and evaluates it as often:

    bare      in a loop in one process, without Ray: what the work itself takes
    default   plain Tune, a function trainable, all settings at their default
    reused    plain Tune, a class trainable with reset_config and reuse_actors=True, else at the defaults
    ours      Sweep.run: preflight, ledger, records and checkpoints included
    empty     plain Tune at its defaults around a function that does nothing and imports nothing

Overhead for each trial = wall time / trials - work / slots. It is given twice: over the whole run, and without the
start-up (from the end of the first trial on), which every launch pays once and not by the trial.

    python benchmarks/trial_overhead.py [--trials 60] [--iterations 3]
"""

import argparse
import contextlib
import io
import logging
import os
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

import numpy as np
import pyarrow as pa
import ray
from ray import tune

from fairsweep.datasets import Attribute, PreparedDataset, ResidentFeed, write_prepared
from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.sweeps import Sweep
from fairsweep.sweeps.runtime import launch
from fairsweep.trainables import MODELS, LearningTask, TrialKeys, build_learner
from fairsweep.trainables.sgd.sgd_learner import SgdConfig

SLOTS = 2
IMAGES = 800


def prepared(folder):
    """A small made-up dataset; the work of a trial shall be short."""
    rng = np.random.default_rng(0)
    examples = pa.table(
        {
            "id": np.arange(IMAGES),
            "label": rng.integers(0, 2, IMAGES).astype(np.int16),
            "group": rng.integers(0, 2, IMAGES).astype(np.int16),
            "split": np.array(["train", "train", "validation", "test"])[np.arange(IMAGES) % 4],
        }
    )
    attributes = [Attribute(name=name, values=("no", "yes")) for name in ("label", "group")]
    images = rng.integers(0, 256, (IMAGES, 8, 8, 1)).astype(np.uint8)
    return write_prepared(folder, name="small", attributes=attributes, examples=examples, images=images)


class Work:
    """The training function: what each variant does in a trial."""

    def __init__(self, path, seed, iterations):
        import torch

        dataset = PreparedDataset.open(path)
        rows = dataset.split("train")
        self.evaluated = [dataset.split("validation"), dataset.split("test")]
        self.feed = ResidentFeed.open(dataset)
        task = LearningTask(
            model=MODELS["linear"](),
            classes=2,
            image_shape=dataset.info.image_shape,
            rows=rows,
            labels=dataset.codes("label")[rows].astype(np.int64),
            groups={"group": dataset.codes("group")[rows]},
            feed=self.feed,
            keys=TrialKeys(seed_key(seed, "data"), seed_key(seed, "train"), seed_key(seed, "secret")),
            device=torch.device("cpu"),
        )
        self.learner = build_learner(SgdConfig(epochs=iterations, batch_size=64), task)

    def iterate(self):
        report = self.learner.step()
        for rows in self.evaluated:
            self.learner.predict(self.feed.images(rows))
        return {"loss": report.loss, "done": self.learner.iteration >= self.learner.iterations}

    def run(self):
        while not self.iterate()["done"]:
            pass


def train(config):
    work = Work(config["path"], config["seed"], config["iterations"])
    done = False
    while not done:
        metrics = work.iterate()
        done = metrics["done"]
        tune.report({"loss": metrics["loss"]})


def do_nothing(config):
    for _ in range(config["iterations"]):
        tune.report({"loss": 0.0})


class Reused(tune.Trainable):
    def setup(self, config):
        self.work = Work(config["path"], config["seed"], config["iterations"])

    def step(self):
        return self.work.iterate()

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir):
        return None

    def load_checkpoint(self, checkpoint):
        return None


class Clock(tune.Callback):
    """When trials end."""

    def __init__(self):
        self.ends = []

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.ends.append(time.monotonic())


@contextlib.contextmanager
def silent():
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def plain(trainable, trials, iterations, path, folder, *, reuse):
    clock = Clock()
    began = time.monotonic()
    with silent():
        tune.Tuner(
            trainable,
            param_space={"seed": tune.grid_search(list(range(trials))), "path": str(path), "iterations": iterations},
            tune_config=tune.TuneConfig(reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=str(folder), callbacks=[clock]),
        ).fit()
    return time.monotonic() - began, clock.ends[-1] - clock.ends[0]


def ours(trials, iterations, path, folder):
    clock = Clock()
    original = launch.run_trials

    def clocked(*arguments, callbacks=(), **keywords):
        original(*arguments, callbacks=[*callbacks, clock], **keywords)

    from fairsweep.sweeps.execution import run

    run.run_trials = clocked
    sweep = Sweep(
        name="overhead",
        dataset={"path": path, "label": "label", "groups": ["group"]},
        model={"name": "linear"},
        learners=[{"name": "sgd", "kind": "sgd", "epochs": iterations, "batch_size": 64}],
        seeds=trials,
        output=folder / "ours",
    )
    began = time.monotonic()
    sweep.run(quiet=True)
    return time.monotonic() - began, clock.ends[-1] - clock.ends[0]


def bare(trials, iterations, path):
    Work(path, trials, iterations).run()  # imports and caches
    began = time.monotonic()
    for seed in range(trials):
        Work(path, seed, iterations).run()
    return (time.monotonic() - began) / trials


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--iterations", type=int, default=3)
    options = parser.parse_args()
    trials, iterations = options.trials, options.iterations
    with tempfile.TemporaryDirectory(prefix="fairsweep-overhead-") as name:
        folder = Path(name)
        os.environ["FAIRSWEEP_CACHE"] = str(folder / "cache")
        path = prepared(folder / "data")
        work = bare(trials, iterations, path)
        ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        runs = {
            "ours": lambda: ours(trials, iterations, path, folder),
            "reused": lambda: plain(Reused, trials, iterations, path, folder / "reused", reuse=True),
            "empty": lambda: plain(do_nothing, trials, iterations, path, folder / "empty", reuse=False),
            "default": lambda: plain(train, trials, iterations, path, folder / "default", reuse=False),
        }
        print(f"{trials} trials of {iterations} iterations, {SLOTS} slots; the work of a trial: {work:.3f} s")
        overhead = {}
        for variant, run in runs.items():
            wall, steady = run()
            ideal = 0.0 if variant == "empty" else work / SLOTS
            overhead[variant] = (wall / trials - ideal, steady / (trials - 1) - ideal)
            print(
                f"{variant:8} {wall:7.1f} s   overhead {overhead[variant][0]:.3f} s a trial, "
                f"{overhead[variant][1]:.3f} s after the start-up",
                flush=True,
            )
        for other, target in (("default", 1 / 10), ("empty", 1 / 10), ("reused", 1 / 2)):
            whole, after = (ours_ / theirs for ours_, theirs in zip(overhead["ours"], overhead[other], strict=True))
            print(f"ours / {other:8} {whole:.3f}, {after:.3f} after the start-up (target {target:g})")


if __name__ == "__main__":
    main()
