"""Heads of resnet18 on features of its frozen body against passes through it, and private heads an hour.

    python benchmarks/frozen_features.py                  # an epoch of each learner, the two sides in turn
    python benchmarks/frozen_features.py --sweep 40       # so many private trials through `fairsweep run`, end to end
    python benchmarks/frozen_features.py --trials 10       # in this process, each beside one that draws a whole
                                                           # network, and one whose gradients come by hooks

Made-up images and weights: nothing here depends on their values. The sides take turns, an epoch each, and medians are
compared: a busy machine slows both. The cost of the features, paid once for each machine, is printed beside them.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.datasets.storage.prepared import Attribute, write_prepared
from fairsweep.sweeps.planning.preflight import check_sweep, privacy_plans
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.layers.head import freeze
from fairsweep.trainables.learners import build_learner
from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
from fairsweep.trainables.models import network as network_module
from fairsweep.trainables.models.frozen_body import BLOCK, BodyFeatures, find_body
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.resnet18 import ResNet18Config
from fairsweep.trainables.privacy.flat_chain import FlatChain
from fairsweep.trainables.sgd.sgd_learner import SgdConfig
from fairsweep.trainables.trial.trial import Trial

KEY = seed_key(0, "benchmark")
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sweep", type=int, default=0, metavar="TRIALS")
    parser.add_argument("--trials", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FAIRSWEEP_CACHE"] = f"{folder}/cache"
        images = generator(KEY, "images").integers(0, 256, (given.examples, given.size, given.size, 3), dtype=np.uint8)
        shape = (given.size, given.size, 3)
        weights = Path(folder, "body.pth")
        torch.save(build_model(ResNet18Config(norm="batch"), shape, 2, KEY).state_dict(), weights)
        model = ResNet18Config(pretrained=weights, norm="frozen", train="head")
        if given.sweep:
            run_sweep(Sweep.from_mapping(head_sweep(images, weights, Path(folder), given.sweep)), len(images))
        elif given.trials:
            run_trials(
                SweepSpec.from_mapping(head_sweep(images, weights, Path(folder), given.trials + 1)), Path(folder)
            )
        else:
            compare(model, images, given)


def compare(model: ResNet18Config, images: np.ndarray, given: argparse.Namespace) -> None:
    """Print the time of an epoch on either side."""
    torch.set_num_threads(1)
    count, shape = len(images), images.shape[1:]
    tail = find_body(model, shape, 2).tail
    began = time.perf_counter()
    body = BodyFeatures(model, tail, shape, 2, CPU)
    features = np.concatenate(body.of_blocks([images[start : start + BLOCK] for start in range(0, count, BLOCK)]))
    print(f"features of {count} images of {shape}: {(time.perf_counter() - began) / count * 1e3:.1f} ms an image, once")
    keys = TrialKeys(data=KEY, train=KEY, secret=KEY)
    labels, rows = np.arange(count) % 2, np.arange(count)
    feeds = {"images": ResidentFeed(rows, images), "features": ResidentFeed(rows, features)}
    task = LearningTask(model, 2, shape, rows, labels, {}, feeds["images"], keys, CPU, diagnostics=False)
    tasks = {"images": task, "features": replace(task, feed=feeds["features"], tail=tail)}
    for config in (
        SgdConfig(epochs=given.rounds + 1, batch_size=given.batch),
        DpsgdConfig(epochs=given.rounds + 1, batch_size=given.batch, noise_multiplier=1.0),
    ):
        learners = {name: build_learner(config, one) for name, one in tasks.items()}
        seconds: dict[str, list[float]] = {name: [] for name in learners}
        for number in range(given.rounds + 1):
            for name, learner in learners.items():
                spent = learner.step().seconds
                seconds[name] += [spent] if number else []  # the first warms up
        whole, kept = (statistics.median(seconds[name]) / count * 1e6 for name in ("images", "features"))
        print(
            f"{config.kind}: {whole:,.0f} us an example with the body, {kept:,.1f} on features: {whole / kept:,.0f} x"
        )


def head_sweep(images: np.ndarray, weights: Path, folder: Path, trials: int) -> dict:
    """Prepare the images, and return a sweep of private heads."""
    count = len(images)
    splits = np.array(["train", "train", "validation", "test"])[np.arange(count) % 4]
    columns = {"id": np.arange(count), "split": splits}
    codes = {name: generator(KEY, name).integers(0, 2, count).astype(np.int16) for name in ("smiling", "tone")}
    attributes = [Attribute(name="smiling", values=("no", "yes")), Attribute(name="tone", values=("light", "dark"))]
    path = write_prepared(
        folder / "data", name="made-up", attributes=attributes, examples=pa.table(columns | codes), images=images
    )
    return {
        "name": "heads",
        "output": str(folder / "out"),
        "dataset": {"path": str(path), "label": "smiling", "groups": ["tone"]},
        "model": {"name": "resnet18", "pretrained": str(weights), "norm": "frozen", "train": "head"},
        "learners": [{"kind": "dpsgd", "epochs": 10, "batch_size": 64, "epsilon": 3.0, "optimizer": {"lr": 0.1}}],
        "seeds": trials,
    }


def run_sweep(sweep: Sweep, count: int) -> None:
    """Print how many private trials an hour run, records and report included."""
    began = time.perf_counter()
    sweep.run()
    seconds = time.perf_counter() - began
    hourly = sweep.seeds / seconds * 3600
    print(f"{sweep.seeds} private heads, 10 epochs of {count // 2} examples: {seconds:.0f} s, {hourly:,.0f} an hour")


def run_trials(sweep: SweepSpec, folder: Path) -> None:
    """Print the CPU time of a trial, of one that draws and keeps a whole network, and of one that calls autograd.

    All three have the same records, to the last byte.
    """
    torch.set_num_threads(1)
    plan = check_sweep(sweep)
    plans = privacy_plans(plan, plan.trials)
    hooked = partial(patch.object, FlatChain, "of", lambda model: None)
    sides = {"whole": whole_networks, "hooked": hooked, "shared": nullcontext}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number, trial in enumerate(plan.trials):
        for name, side in sides.items():
            began = time.process_time()
            with side():
                Trial(trial.config, folder / name / str(number), plan=plans[trial.trial]).run()
            spent[name] += [time.process_time() - began] if number else []  # the first warms up
        for file in ("cells.parquet", "predictions.parquet", "privacy.json"):
            if len({(folder / name / str(number) / file).read_bytes() for name in sides}) > 1:
                raise SystemExit(f"{file} of trial {number} differs")
    whole, hooked_ms, shared = (statistics.median(spent[name]) * 1e3 for name in sides)
    sizes = [sum(f.stat().st_size for f in (folder / name / "1").iterdir()) / 1e6 for name in ("whole", "shared")]
    print(f"records equal to the last byte; folder of a trial: {sizes[0]:.2f} MB whole, {sizes[1]:.2f} MB shared")
    print(f"CPU time of a trial: {whole:.0f} ms whole, {shared:.0f} ms shared: {whole / shared:.1f} x")
    print(f"gradients by hooks {hooked_ms:.0f} ms, written out {shared:.0f} ms: {hooked_ms / shared:.2f} x")


@contextmanager
def whole_networks() -> Iterator[None]:
    """Let networks draw all their weights before the file replaces them, and keep them all."""

    def build(config: ResNet18Config, shape: tuple[int, int, int], classes: int, key: bytes) -> nn.Module:
        drawn = ResNet18Config(norm="batch").build(shape, classes, key)
        drawn.load_state_dict(torch.load(config.pretrained, weights_only=True))
        freeze(drawn, config.train, None)
        return drawn

    def kept(network: Network) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in network._whole.state_dict().items()}

    with patch.object(network_module, "build_model", build), patch.object(Network, "weights", kept):
        yield


if __name__ == "__main__":
    main()
