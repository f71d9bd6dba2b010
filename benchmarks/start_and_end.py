"""Where the CPU seconds of a short sweep go: until its first trial runs, until its last has ended, and after that.

    fairsweep   `fairsweep run` of four trials, `sgd` and `dpsgd` on two seeds, on 400 small images
    plain       a script of Ray Tune: a class trainable that imports PyTorch and does nothing, four trials, two at once

Each is a process of its own. Seconds are those of the driver, of the workers, and of Ray's own processes together; what
Tune's side spends is what nobody can save who starts Ray Tune with PyTorch.

    python benchmarks/start_and_end.py [--rounds 1]
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from fairsweep.datasets import Attribute, write_prepared

IMAGES, TRIALS = 400, 4
SWEEP = """
name: start
dataset: {path: DATA, label: label, groups: [group]}
model: {name: cnn}
learners:
  - {name: open, kind: sgd, epochs: 1, batch_size: 64}
  - {name: private, kind: dpsgd, epochs: 1, batch_size: 64, epsilon: 3.0, delta: 1.0e-5, l2_clip_norm: 1.0}
seeds: 2
resources: {cpu: 1}
output: runs
"""
PLAIN = """
import os, sys, time
from pathlib import Path
import ray, torch
from ray import tune
class Nothing(tune.Trainable):
    def step(self):
        import torch
        Path(self.config["folder"], f"began-{self.config['seed']}").touch()
        Path(self.config["folder"], f"ended-{self.config['seed']}").touch()
        return {"loss": float(torch.zeros(())), "done": True}
    def reset_config(self, new_config):
        self.config = new_config
        return True
    def save_checkpoint(self, checkpoint_dir): pass
    def load_checkpoint(self, checkpoint): pass
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
tune.Tuner(Nothing, param_space={"seed": tune.grid_search(list(range(4))), "folder": sys.argv[1]},
    tune_config=tune.TuneConfig(reuse_actors=True),
    run_config=tune.RunConfig(storage_path=sys.argv[1] + "/tune", verbose=0)).fit()
"""


def prepared(folder):
    rng = np.random.default_rng(0)
    codes = {name: rng.integers(0, 2, IMAGES).astype(np.int16) for name in ("label", "group")}
    split = np.array(["train", "train", "validation", "test"])[np.arange(IMAGES) % 4]
    attributes = [Attribute(name=name, values=("no", "yes")) for name in codes]
    images = rng.integers(0, 256, (IMAGES, 28, 28, 1)).astype(np.uint8)
    examples = pa.table({"id": np.arange(IMAGES), **codes, "split": split})
    return write_prepared(folder, name="small", attributes=attributes, examples=examples, images=images)


def our_stages(folder):
    """How many trials have begun and ended."""
    states = []
    for path in folder.rglob("state.json"):
        try:
            states.append(json.loads(path.read_text())["state"])
        except (OSError, ValueError, KeyError):
            continue
    return len(states) - states.count("queued"), states.count("done")


def plain_stages(folder):
    return tuple(len(list(folder.glob(f"{what}-*"))) for what in ("began", "ended"))


def spent(driver, seen):
    """Add up the CPU seconds of a driver, of workers and of Ray's own processes; those that have ended count on."""
    processes = [driver]
    with contextlib.suppress(psutil.Error):
        processes += driver.children(recursive=True)
    for process in processes:
        try:
            name = process.cmdline()[:1] or [""]
            times = process.cpu_times()
        except (psutil.Error, IndexError):
            continue
        kind = "driver" if process == driver else "workers" if seen.get(process.pid, ("",))[0] == "workers" else "Ray"
        if name[0].startswith("ray::") and not name[0].endswith("Agent"):
            kind = "workers"
        seen[process.pid] = (kind, times.user + times.system)
    return {kind: sum(s for k, s in seen.values() if k == kind) for kind in ("driver", "workers", "Ray")}


def measure(command, folder, stages):
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    environment["FAIRSWEEP_CACHE"] = str(folder / "cache")
    began = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen(command, cwd=folder, env=environment, **quiet)
    driver, seen, found = psutil.Process(started.pid), {}, {}
    while started.poll() is None:
        now = spent(driver, seen)
        begun, ended = stages(folder)
        moment = "end" if ended >= TRIALS else "trials" if begun else "start"
        found[moment] = (time.monotonic() - began, now)
        time.sleep(0.05)
    if started.returncode:
        raise SystemExit(f"{command} ended with {started.returncode}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="+", default=["fairsweep", "plain"])
    options = parser.parse_args()
    totals = {}
    with tempfile.TemporaryDirectory(prefix="fairsweep-start-") as name:
        data = prepared(Path(name, "data"))
        for number in range(options.rounds):
            for side in options.sides:
                folder = Path(name, f"{side}{number}")
                folder.mkdir()
                (folder / "sweep.yaml").write_text(SWEEP.replace("DATA", str(data)))
                command, stages = {
                    "fairsweep": (
                        [sys.executable, "-m", "fairsweep.sweeps", "run", "sweep.yaml", "--quiet"],
                        our_stages,
                    ),
                    "plain": ([sys.executable, "-W", "ignore", "-c", PLAIN, str(folder)], plain_stages),
                }[side]
                found = measure(command, folder, stages)
                before = dict.fromkeys(("driver", "workers", "Ray"), 0.0)
                for moment, (seconds, now) in found.items():
                    parts = ", ".join(f"{kind} {now[kind] - before[kind]:5.2f}" for kind in now)
                    print(f"{side:10} {moment:7} until {seconds:5.1f} s   CPU seconds: {parts}", flush=True)
                    before = now
                totals.setdefault(side, []).append((sum(found["start"][1].values()), sum(before.values())))
    if len(totals) > 1:
        (start, whole) = (np.median(totals["plain"], axis=0) / np.median(totals["fairsweep"], axis=0)).tolist()
        print(f"plain / fairsweep: {start:.2f} until the first trial runs, {whole:.2f} in all, by CPU seconds")


if __name__ == "__main__":
    main()
