"""What SISA's requests cost, against the paper's formula and against training everything again.

    python benchmarks/sisa.py            # about two minutes on one core
    python benchmarks/sisa.py --plot retraining.html
    python benchmarks/sisa.py --workers 2   # also: the same shards on 1 and 2 workers

Three tables. The first counts, for uniform requests one at a time, the examples that are trained again and compares
their mean with Bourtoule et al. 2021 (arXiv 1912.03817, section V-B2), over shards and slices. The second measures the
time to serve 1, 8, 16 and 256 uniform requests, each count at once, against training one model of the whole again, in
one run (for 8 requests at S = 20, R = 50 on Purchase the paper reports 4.63). The third measures shards on workers.
Images are made up: nothing here depends on what is on them.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.unlearning.sisa import Sisa
from fairsweep.trainables.unlearning.sisa_config import SisaConfig
from fairsweep.trainables.unlearning.unlearning_costs import expected_examples


def make_task(model: str, examples: int, size: int, seed: int = 0) -> LearningTask:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (examples, size, size, 1), dtype=np.uint8)
    return LearningTask(
        model=MODELS[model](),
        classes=2,
        image_shape=(size, size, 1),
        rows=np.arange(examples),
        labels=random.integers(0, 2, examples),
        groups={},
        feed=ResidentFeed(np.arange(examples), images),
        keys=TrialKeys(seed_key(seed, "data"), seed_key(seed, "train"), derive(seed_key(seed, "secret"), "trial")),
        device=torch.device("cpu"),
        ids=np.arange(examples),
    )


def config(shards: int, slices: int, unsliced_epochs: int, batch_size: int = 32, **fields) -> SisaConfig:
    inner = {"kind": "sgd", "batch_size": batch_size, "optimizer": {"lr": 0.05}}
    given = {"shards": shards, "slices": slices, "unsliced_epochs": unsliced_epochs, "inner": inner}
    return SisaConfig.model_validate(given | fields)


def trained(given: SisaConfig, task: LearningTask) -> Sisa:
    learner = Sisa(given, task)
    while learner.iteration < learner.iterations:
        learner.step()
    return learner


def compare_with_formula(requests: int) -> list[dict]:
    rows = []
    examples = 1000
    for shards in (1, 5, 10, 20):
        for slices in (1, 5):
            given = config(shards, slices, 3, batch_size=250, requests={"count": requests})
            learner = trained(given, make_task("linear", examples, 4, seed=shards * 10 + slices))
            costs = np.array([served.work.examples for served in learner.served])
            full = np.array([served.full.examples for served in learner.served])
            # Each request finds one example fewer than the one before.
            expected = expected_examples(examples - (requests + 1) / 2, shards, slices, given.slice_epochs)
            rows.append(
                {
                    "shards": shards,
                    "slices": slices,
                    "measured": costs.mean(),
                    "error": costs.std(ddof=1) / np.sqrt(requests),
                    "expected": expected,
                    "speedup": full.mean() / costs.mean(),
                }
            )
    return rows


def time_requests(model: str, examples: int, size: int, counts: tuple[int, ...]) -> list[dict]:
    rows = []
    for shards, slices, epochs in ((20, 1, 6), (20, 5, 6), (20, 50, 26)):
        given = config(shards, slices, epochs)
        task = make_task(model, examples, size)
        state = trained(given, task).state()
        for count in counts:
            learner = Sisa(given, task)
            learner.load(state)
            learner.predict(task.feed.images(task.rows[:1]))  # models are loaded before the clock starts
            asked = np.random.default_rng(count).choice(examples, count, replace=False)
            began = time.perf_counter()
            served = learner.forget(asked)
            seconds = time.perf_counter() - began
            kept = task.subset(np.flatnonzero(~np.isin(task.ids, asked)))
            began = time.perf_counter()
            trained(config(1, 1, epochs), kept)
            whole = time.perf_counter() - began
            rows.append(
                {
                    "shards": shards,
                    "slices": slices,
                    "requests": count,
                    "seconds": seconds,
                    "whole": whole,
                    "speedup": whole / seconds,
                    "by examples": served.full.examples / served.work.examples,
                }
            )
    return rows


def time_workers(model: str, examples: int, size: int, most: int, folder: Path) -> list[dict]:
    """Seconds to train all shards by workers, after they have started; images are shared through the object store."""
    import ray
    from ray.util import placement_group, remove_placement_group

    from fairsweep.trainables.unlearning.shard_actors import ActorPool
    from fairsweep.trainables.unlearning.sisa_config import inner_of

    given = config(4, 2, 6, shard_resources={"cpu": 1})
    task = make_task(model, examples, size)
    images = task.feed.images(task.rows)
    ids = task.ids
    task = replace(task, open_feed=lambda: ResidentFeed(ids, images))
    ray.init(num_cpus=most + 1, include_dashboard=False, log_to_driver=False)
    rows = []
    for workers in (1, most):
        group = placement_group([{"CPU": 1}] * (1 + workers))
        group.wait(60)

        def make(config, task, store, group=group):
            return ActorPool(task, inner_of(config, task.size), store, config.shard_resources, group)

        learner = Sisa(given, replace(task, folder=folder / str(workers)), make_pool=make)
        learner.step()  # starts the workers
        began = time.perf_counter()
        learner.step()
        rows.append({"workers": workers, "seconds": time.perf_counter() - began})
        learner.close()
        remove_placement_group(group)
    ray.shutdown()
    return rows


def show(title: str, rows: list[dict]) -> None:
    print(f"\n{title}")
    print("  ".join(f"{name:>11}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{v:11.4g}" if isinstance(v, float) else f"{v:11}" for v in row.values()))


def plot(rows: list[dict], path: Path) -> None:
    import plotly.graph_objects as go

    figure = go.Figure()
    for slices in sorted({row["slices"] for row in rows}):
        own = [row for row in rows if row["slices"] == slices]
        x = [row["shards"] for row in own]
        bars = {"type": "data", "array": [2 * row["error"] for row in own]}
        figure.add_scatter(
            x=x, y=[row["measured"] for row in own], error_y=bars, mode="markers", name=f"measured, R = {slices}"
        )
        figure.add_scatter(x=x, y=[row["expected"] for row in own], mode="lines", name=f"expected, R = {slices}")
    figure.update_layout(
        title="Examples trained again for one uniform request (bars: two standard errors)",
        xaxis_title="shards",
        yaxis_title="examples, with repetition",
        yaxis_type="log",
    )
    figure.write_html(path, include_plotlyjs="cdn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=40, help="requests of each setting of the first table")
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0, help="also time shards on 1 and on this many workers")
    parser.add_argument("--plot", type=Path, help="draw the first table into this HTML file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = compare_with_formula(chosen.requests)
    show(f"Examples trained again for one uniform request, mean of {chosen.requests}", rows)
    if chosen.plot is not None:
        plot(rows, chosen.plot)
    timed = time_requests(chosen.model, chosen.examples, chosen.size, (1, 8, 16, 256))
    show("Seconds to serve so many uniform requests at once, against training one model of the whole again", timed)
    if chosen.workers:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            timed = time_workers(chosen.model, chosen.examples, chosen.size, chosen.workers, Path(folder))
        show("Seconds for the second slice of four shards", timed)


if __name__ == "__main__":
    main()
