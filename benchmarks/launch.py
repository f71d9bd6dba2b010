"""What launching trials costs, both sides in one run: trials that do nothing, tracking, slots kept busy, growth.

    noop         trials of nothing: fairsweep, plain Ray Tune (a function, all defaults), a reused class trainable, and
                 Optuna alone
    tracking     the same with and without TensorBoard and offline W&B, and the tracker's own time by trial
    utilisation  trials that sleep a second on simulated slots: share of the slots' time that they fill
    growth       driver seconds by trial as sweeps grow; of a size that is given twice the mean, as the load changes

fairsweep's trials go through its whole launch path (preflight, ledger, tasks, Tune, records, results); only training is
left out: each writes the records of one iteration. "After the start" counts from the end of the first trial.

    python benchmarks/launch.py noop tracking [--trials 100] [--slots 2]
    python benchmarks/launch.py utilisation --trials 1000 --slots 8 --sleep 1
    python benchmarks/launch.py growth --trials 1000 10000 1000 --slots 2
"""

import argparse
import contextlib
import io
import logging
import os
import resource
import tempfile
import time
import warnings
from dataclasses import dataclass, fields
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

import numpy as np
import pyarrow as pa
import ray
from ray import tune

from fairsweep.analysis.records.cell_records import count_cells, write_cells
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.records.training_records import training_table, write_training
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.datasets import Attribute, write_prepared
from fairsweep.sweeps import Sweep
from fairsweep.sweeps.execution import run
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.trial.state import TrialStateFile

IMAGES = 400


@dataclass(frozen=True)
class IdleTask(TrialTask):
    """A task whose trial does nothing but sleep, and records one iteration."""

    sleep: float = 0.0

    def open(self):
        return IdleTrial(self)


class IdleTrial:
    def __init__(self, task):
        self.task = task
        self.attempt = TrialStateFile(task.folder).begin(task.config.trial, task.run)

    def iterate(self):
        task, folder = self.task, self.task.folder
        time.sleep(task.sleep)
        with self.attempt.owned():
            write_json(folder / "config.json", task.config.record())
            write_json(folder / "data.json", {"size": IMAGES // 2, "counts": []})
            codes = np.arange(100) % 2
            cells = [
                count_cells(iteration=1, split=split, groups={"group": codes}, label=codes, prediction=codes)
                for split in ("validation", "test")
            ]
            words = [Vocabulary(name, ("no", "yes")) for name in ("group", "label")]
            write_cells(folder / "cells.parquet", pa.concat_tables(cells), words, "label")
            row = {"iteration": 1, "loss": 0.5, "seconds": task.sleep, "examples": 1}
            write_training(folder / "training.parquet", training_table([row]))
        metrics = {"iteration": 1, "iterations": 1, "loss": 0.5, "accuracy": 1.0, "worst_group": 1.0, "done": 1.0}
        self.attempt.update(state="done", iteration=1, iterations=1, metrics=metrics, seconds=task.sleep)
        return metrics

    def close(self):
        pass


class Clock(tune.Callback):
    """When trials start and end."""

    def __init__(self):
        self.began, self.ends, self.driver = time.monotonic(), [], []

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.ends.append(time.monotonic())
        self.driver.append(cpu())

    @property
    def first(self):
        return self.ends[0] - self.began

    @property
    def steady(self):
        return (self.ends[-1] - self.ends[0]) / max(1, len(self.ends) - 1)


class Idle(tune.Trainable):
    def step(self):
        time.sleep(self.config["sleep"])
        return {"loss": 0.0, "done": True}

    def reset_config(self, new_config):
        self.config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir):
        return None

    def load_checkpoint(self, checkpoint):
        return None


def idle(config):
    time.sleep(config["sleep"])
    tune.report({"loss": 0.0})


@contextlib.contextmanager
def silent():
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def prepared(folder):
    rng = np.random.default_rng(0)
    codes = {name: rng.integers(0, 2, IMAGES).astype(np.int16) for name in ("label", "group")}
    split = np.array(["train", "train", "validation", "test"])[np.arange(IMAGES) % 4]
    attributes = [Attribute(name=name, values=("no", "yes")) for name in codes]
    images = rng.integers(0, 256, (IMAGES, 8, 8, 1)).astype(np.uint8)
    examples = pa.table({"id": np.arange(IMAGES), **codes, "split": split})
    return write_prepared(folder, name="small", attributes=attributes, examples=examples, images=images)


def ours(data, output, trials, sleep=0.0, tracking=None):
    """Wall seconds of `Sweep.run`, driver CPU seconds, and the clock."""
    clock = Clock()
    original = run.run_trials

    def idling(take, *others, callbacks=(), **keywords):
        def take_idle():
            if (taken := take()) is None:
                return None
            trial, task = taken
            return trial, IdleTask(**{f.name: getattr(task, f.name) for f in fields(TrialTask)}, sleep=sleep)

        original(take_idle, *others, callbacks=[*callbacks, clock], **keywords)

    run.run_trials = idling
    began, before = time.monotonic(), cpu()
    try:
        Sweep(
            name="launch",
            dataset={"path": data, "label": "label", "groups": ["group"]},
            model={"name": "linear"},
            learners=[{"name": "sgd", "kind": "sgd", "epochs": 1, "batch_size": 64}],
            seeds=trials,
            output=output,
            tracking=tracking,
        ).run(quiet=True)
    finally:
        run.run_trials = original
    return time.monotonic() - began, cpu() - before, clock


def plain(trainable, folder, trials, sleep=0.0, *, reuse=False):
    """As `ours`, of a trainable on plain Ray Tune."""
    clock, before = Clock(), cpu()
    with silent():
        tune.Tuner(
            trainable,
            param_space={"seed": tune.grid_search(list(range(trials))), "sleep": sleep},
            tune_config=tune.TuneConfig(reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=str(folder), callbacks=[clock]),
        ).fit()
    return time.monotonic() - clock.began, cpu() - before, clock


def optuna_alone(trials):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    began = time.monotonic()
    optuna.create_study().optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=trials)
    return time.monotonic() - began


def cpu():
    """CPU seconds of this process, its threads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def noop(data, folder, options):
    trials, rounds = options.trials[0], range(options.rounds)
    sides = {
        "ours": lambda number: ours(data, folder / f"ours{number}", trials),
        "reused": lambda number: plain(Idle, folder / f"reused{number}", trials, reuse=True),
        "default": lambda number: plain(idle, folder / f"default{number}", trials),
    }
    runs = {name: [] for name in options.sides}
    for number in rounds:
        for name in options.sides:
            wall, driver, clock = sides[name](number)
            runs[name].append((wall / trials, clock.steady, driver / trials, clock.first))
    found = {name: np.median(rows, axis=0) for name, rows in runs.items()}
    print(f"noop: {trials} trials of nothing on {options.slots} slots, {options.rounds} rounds; seconds by trial")
    for name, (whole, steady, driver, first) in found.items():
        print(
            f"  {name:8} {whole:.4f}   after the start {steady:.4f}   driver CPU {driver:.4f}   "
            f"first trial ended after {first:.1f} s"
        )
    print(f"  optuna   {optuna_alone(trials) / trials:.4f}   (study.optimize in one process: no workers, no records)")
    for name, target in (("default", 1 / 10), ("reused", 1 / 2)):
        if name in found:
            whole, steady, driver = (found["ours"] / found[name])[:3]
            print(
                f"  ours / {name:8} {whole:.3f}   after the start {steady:.3f}   driver CPU {driver:.3f}   "
                f"(target {target:g})"
            )


def tracking(data, folder, options):
    trials, sleep = options.trials[0], options.sleep
    sections = {
        "off": None,
        "scalars": {"tensorboard": True, "wandb": {"mode": "offline"}, "pictures": False},
        "scalars and pictures": {"tensorboard": True, "wandb": {"mode": "offline"}},
    }
    print(f"tracking: {trials} trials that sleep {sleep:g} s on {options.slots} slots; seconds by trial")
    base = None
    for name, section in sections.items():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall, driver, clock = ours(data, folder / name.replace(" ", "-"), trials, sleep, section)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
        ending = time.monotonic() - clock.ends[-1]
        trials_wall = clock.ends[-1] - clock.began
        base = base or (wall, trials_wall)
        print(
            f"  {name:20} whole {wall / trials:.4f} ({wall / base[0] - 1:+.1%})   until the last trial ended "
            f"{trials_wall / trials:.4f} ({trials_wall / base[1] - 1:+.1%})   then {ending:.1f} s   driver CPU "
            f"{driver / trials:.4f}   tracker CPU {spent / trials if section else 0:.4f}",
            flush=True,
        )


def utilisation(data, folder, options):
    trials, sleep, slots = options.trials[0], options.sleep or 1.0, options.slots
    wall, driver, clock = ours(data, folder / "ours", trials, sleep)
    filled = trials * sleep / slots
    between = clock.ends[-1] - clock.ends[0]
    steady = (trials - slots) * sleep / slots / between
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"utilisation: {trials} trials of {sleep:g} s on {slots} simulated slots ({os.cpu_count()} real CPUs)")
    print(f"  wall {wall:.1f} s, least possible {filled:.1f} s: {filled / wall:.1%} of the slots' time")
    print(f"  from the end of the first trial to that of the last: {min(1.0, steady):.1%} (target 95%)")
    print(f"  driver: {driver:.1f} s CPU ({driver / trials * 1e3:.1f} ms by trial), peak memory {peak:.0f} MiB")


def growth(data, folder, options):
    print(f"growth: trials of nothing on {options.slots} slots, one sweep each")
    ours(data, folder / "first", options.slots)  # what is loaded once is no growth
    by_trial = {}
    for number, trials in enumerate(options.trials):
        wall, driver, clock = ours(data, folder / f"{number}-{trials}", trials)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        half = len(clock.ends) // 2
        by_trial.setdefault(trials, []).append(driver / trials)
        halves = [(seen[-1] - seen[half]) / (seen[half] - seen[0]) for seen in (clock.ends, clock.driver)]
        print(
            f"  {trials:6} trials: wall {wall:.1f} s, driver CPU {driver / trials * 1e3:.2f} ms by trial, second half "
            f"/ first half {halves[0]:.2f} by the clock, {halves[1]:.2f} by CPU, peak memory so far {peak:.0f} MiB",
            flush=True,
        )
    most, fewest = (np.mean(by_trial[trials]) for trials in (max(by_trial), min(by_trial)))
    print(f"  driver CPU by trial, most trials / fewest: {most / fewest:.3f}")


PARTS = {"noop": noop, "tracking": tracking, "utilisation": utilisation, "growth": growth}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--trials", type=int, nargs="+", default=[100])
    parser.add_argument("--sides", nargs="+", default=["ours", "reused", "default"], help="of noop; ours is needed")
    parser.add_argument("--rounds", type=int, default=1, help="of noop, in turns; medians are printed")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--sleep", type=float, default=0.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fairsweep-launch-") as name:
        folder = Path(name)
        os.environ["FAIRSWEEP_CACHE"] = str(folder / "cache")
        data = prepared(folder / "data")
        # A Ray of its own, also where another one runs on the machine.
        ray.init(
            address="local",
            num_cpus=options.slots,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        load = os.getloadavg()[0]
        print(f"load of the machine before: {load:.1f} on {os.cpu_count()} CPUs")
        for part in options.parts:
            PARTS[part](data, folder / part, options)
        print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
