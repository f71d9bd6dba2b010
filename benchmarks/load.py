"""What it takes to load a large sweep: 5,000 trials x 20 evaluations x 28 groups, with fairsweep and with Ray Tune.

Both folders are made up here and hold the same results. Ours is written by the writers of the records; Tune's has what
its logger leaves: ``experiment_state-*.json``, and ``result.json`` of each trial with the accuracy of every group as a
metric, which is the most that Tune can be given to know about groups. Each is loaded by a process of its own:

    first   `analysis.load` of a folder that nobody has opened yet, accuracy by group of each trial's last evaluation
            with its interval and n, and means over replicates with theirs. It leaves the cache behind
    last    the same once more: what every later look at the sweep takes
    all     beyond that accuracy by group with its interval at every evaluation of every trial, and the accuracy gap
            with simultaneous intervals, averaged over replicates
    tune    `ResultGrid` and `get_dataframe`: the metrics of each trial's last result, and their means over replicates.
            No intervals and no counts; `get_dataframe` has no other evaluations

Peak memory is that of the process, what importing the libraries takes included; seconds leave the imports out.

    python benchmarks/load.py [--trials 5000] [--folder FOLDER]

With a folder, what was written is kept and used again.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

import numpy as np
import pyarrow as pa

from fairsweep.analysis.records.cell_records import write_cells
from fairsweep.analysis.records.file_names import CELLS, CONFIG, DATA, PRIVACY, STATE, TRIALS
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.records.record_cache import CACHE
from fairsweep.analysis.records.vocabularies import Vocabulary

EVALUATIONS = 20
REPLICATES = 10
PER_CELL = 63
RACE = Vocabulary("race", ("white", "black", "asian", "indian"))
AGE = Vocabulary("age_bin", tuple(f"age{i}" for i in range(7)))
LABEL = Vocabulary("label", ("no", "yes"))
GROUPS = [f"{race} & {age}" for race in RACE.values for age in AGE.values]


def correct(trial):
    """Correct predictions of one trial, int64 [evaluations, groups, labels]."""
    rng = np.random.default_rng(trial)
    truth = 0.7 + 0.2 * np.linspace(0, 1, EVALUATIONS)[:, None, None] - 0.1 * rng.random((1, len(GROUPS), 2))
    return rng.binomial(PER_CELL, truth)


def settings(trial):
    """Learner, share and replicate of a trial: five learners, levels as many as it takes, ten replicates."""
    setting, replicate = divmod(trial, REPLICATES)
    level, learner = divmod(setting, 5)
    return f"learner{learner}", round(0.5 + 0.004 * level, 3), replicate


def our_cells(trial):
    """All evaluations of one trial as `count_cells` lays them out."""
    hits = correct(trial)
    counts = np.empty((*hits.shape, 2), np.int64)
    for label in (0, 1):
        counts[:, :, label, label] = hits[:, :, label]
        counts[:, :, label, 1 - label] = PER_CELL - hits[:, :, label]
    counts = counts.reshape(EVALUATIONS, len(RACE.values), len(AGE.values), 2, 2)
    iteration, race, age, label, prediction = np.nonzero(counts)
    columns = {"iteration": (iteration + 1).astype(np.int32), "split": pa.array(["test"] * len(race), pa.string())}
    codes = {"race": race, "age_bin": age, "label": label, "prediction": prediction}
    columns |= {name: values.astype(np.int16) for name, values in codes.items()}
    return pa.table(columns | {"count": counts[iteration, race, age, label, prediction]})


def write_ours(root, trial):
    learner, share, replicate = settings(trial)
    imbalance = {"attribute": "race", "majority": "white", "share": share, "size": 10_000, "label_balanced": True}
    config = {
        "format_version": 1,
        "learner": {"name": learner, "kind": "dpsgd", "epochs": EVALUATIONS, "epsilon": 3.0, "noise_multiplier": None}
        | {"l2_clip_norm": 1.0, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "twin_of": None},
        "model": {"name": "cnn", "norm": "group", "width": 16, "pretrained": None},
        "imbalance": imbalance,
        "dataset": {"path": "data", "name": "made-up", "label": "label", "groups": ["race", "age_bin"]},
        "evaluation": {"balance": ["race", "age_bin", "label"], "per_cell": PER_CELL},
        "seeds": {"data": replicate, "train": replicate},
        "replicate": replicate,
        "mode": "research",
    }
    config["setting"] = hashlib.sha256(f"{learner} {share}".encode()).hexdigest()[:16]
    config["trial"] = hashlib.sha256(f"{learner} {share} {replicate}".encode()).hexdigest()[:16]
    folder = root / TRIALS / f"{learner}_share{share}_s{replicate}-{config['trial'][:8]}"
    folder.mkdir(parents=True)
    counts = [
        {"race": race, "age_bin": age, "label": label, "count": 150}
        for race in range(4)
        for age in range(7)
        for label in (0, 1)
    ]
    minority = {"attribute": "race", "values": list(RACE.values[1:]), "count": round(10_000 * (1 - share))}
    state = {
        "trial": config["trial"],
        "state": "done",
        "run": 1,
        "attempt": 1,
        "iteration": EVALUATIONS,
        "iterations": EVALUATIONS,
    }
    write_json(folder / CONFIG, config)
    write_json(folder / DATA, {"size": 10_000, "counts": counts, "hashes": {}, "minority": minority})
    write_json(folder / STATE, state | {"metrics": {}, "seconds": 100.0, "error": None})
    spent = {"unit": "example", "delta": 1e-5, "epsilon": {"pld": 2.99, "rdp": 3.3}, "noise_multiplier": 1.1}
    write_json(folder / PRIVACY, spent | {"sampling_rate": 0.01, "steps": 2000, "events": []})
    write_cells(folder / CELLS, our_cells(trial), [RACE, AGE, LABEL], "label")


def write_tune(root, trials):
    """An experiment as Tune leaves it: its own classes write the state, and its logger's lines are JSON."""
    from ray.train._internal.storage import StorageContext
    from ray.tune import PlacementGroupFactory
    from ray.tune.experiment import Trial

    root.mkdir(parents=True)
    storage = StorageContext(storage_path=str(root.parent), experiment_dir_name=root.name)
    resources = PlacementGroupFactory([{"CPU": 1}])
    states = []
    for number in range(trials):
        learner, share, replicate = settings(number)
        name = f"{number:05d}"
        trial_storage = StorageContext(str(root.parent), root.name, trial_dir_name=f"trial_{name}")
        config = {"learner": learner, "share": share, "replicate": replicate}
        trial = Trial("made-up", config=config, trial_id=name, stub=True, storage=trial_storage)
        trial.placement_group_factory = resources
        accuracies = correct(number).sum(-1) / (2 * PER_CELL)
        lines = [
            {f"accuracy/{group}": value for group, value in zip(GROUPS, row.tolist(), strict=True)}
            | {"timestamp": 1_700_000_000 + i, "checkpoint_dir_name": None, "done": i == EVALUATIONS - 1}
            | {"training_iteration": i + 1, "trial_id": name, "date": "2026-01-01_00-00-00", "time_this_iter_s": 5.0}
            | {"time_total_s": 5.0 * (i + 1), "pid": 1, "hostname": "host", "node_ip": "127.0.0.1", "config": config}
            | {"time_since_restore": 5.0 * (i + 1), "iterations_since_restore": i + 1}
            for i, row in enumerate(accuracies)
        ]
        folder = Path(trial.storage.trial_fs_path)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        trial.run_metadata.last_result = lines[-1]
        trial.set_status("TERMINATED")
        states.append(trial.get_json_state())
    from ray.tune.utils.serialization import TuneFunctionEncoder

    content = {"trial_data": states, "runner_data": {}, "stats": {}}
    (root / "experiment_state-2026-01-01_00-00-00.json").write_text(json.dumps(content, cls=TuneFunctionEncoder))
    return storage


# --- what is timed, each in a process of its own ---


def measure_ours(folder, *, every):
    from fairsweep import analysis
    from fairsweep.analysis.results import replicates, results  # noqa: F401 - imports are not timed

    by = ("race", "age_bin")
    start, cpu = time.perf_counter(), time.process_time()
    found = analysis.load(folder / "ours")
    rates = found.rates(["accuracy"], by=by)
    frames = [rates, analysis.average(rates)]
    if every:
        gaps = found.disparities(["accuracy_difference"], by=by, expected_if_equal=False)
        frames += [found.rates(["accuracy"], by=by, at="all"), gaps, analysis.average(gaps)]
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "rows": [len(frame) for frame in frames],
    }


def measure_tune(folder):
    from ray.tune.analysis import ExperimentAnalysis
    from ray.tune.result_grid import ResultGrid

    start, cpu = time.perf_counter(), time.process_time()
    frame = ResultGrid(ExperimentAnalysis(str(folder / "tune"))).get_dataframe()
    columns = [name for name in frame.columns if name.startswith("accuracy/")]
    means = frame.groupby(["config/learner", "config/share"])[columns].mean().stack()
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "rows": [len(frame) * len(columns), len(means)],
    }


MEASURES = {
    "first": lambda folder: measure_ours(folder, every=False),
    "last": lambda folder: measure_ours(folder, every=False),
    "all": lambda folder: measure_ours(folder, every=True),
    "tune": measure_tune,
}


def in_a_process(name, folder):
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(answer.stderr)
    return json.loads(answer.stdout.splitlines()[-1])


def write(folder, trials):
    if not (folder / "ours").exists():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda trial: write_ours(folder / "ours", trial), range(trials)))
    if not (folder / "tune").exists():
        write_tune(folder / "tune", trials)


def compare(folder, trials):
    write(folder, trials)
    (folder / "ours" / CACHE).unlink(missing_ok=True)
    print(f"{trials:,} trials x {EVALUATIONS} evaluations x {len(GROUPS)} groups, {os.cpu_count()} cores")
    found = {name: in_a_process(name, folder) for name in MEASURES}
    for name, row in found.items():
        rows = " + ".join(f"{count:,}" for count in row["rows"])
        times = f"{row['seconds']:7.2f} s, {row['cpu']:6.2f} s of CPU"
        print(f"{name:6}{times}, peak {row['peak_mib']:6,.0f} MiB, rows {rows}")
    for name in ("first", "last", "all"):
        wall, cpu = (found["tune"][what] / found[name][what] for what in ("seconds", "cpu"))
        print(f"{name}: {wall:.1f} times as fast as tune, {cpu:.1f} times by CPU time")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", choices=sorted(MEASURES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        row = MEASURES[options.measure](options.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(row | {"peak_mib": peak}))
    elif options.folder:
        compare(options.folder, options.trials)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), options.trials)


if __name__ == "__main__":
    main()
