"""A stream of more images than memory holds, in a process and with a Ray of its own."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.datasets.storage.layout import Attribute
from fairsweep.datasets.storage.writing import write_prepared

MEGABYTE = 2**20
# The smallest object store that Ray takes.
STORE = 80 * MEGABYTE
COUNT, SHAPE = 20_480, (64, 64, 3)
TOTAL = COUNT * 64 * 64 * 3
LIMIT = 64 * MEGABYTE
# Evaluation sets of 1,024 images each: 24 MB of the 32 that are kept.
SPLITS = np.repeat(["train", "validation", "test"], [COUNT - 2048, 1024, 1024])

RUN = """
import json, pathlib, sys, threading
import numpy as np, psutil, ray
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.datasets.selection.sampling import Poisson
from fairsweep.datasets.feeds.stream import StreamFeed, StreamLimits

path, store, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
spill = pathlib.Path("spilled")
ray.init(
    num_cpus=2, object_store_memory=store, object_spilling_directory=str(spill.absolute()), include_dashboard=False,
    log_to_driver=False,
)
dataset = PreparedDataset.open(path)
count = len(dataset)
me, peak, spilled, done = psutil.Process(), 0, False, threading.Event()

def watch():
    global peak, spilled
    while not done.wait(0.02):
        peak = max(peak, me.memory_full_info().uss)
        spilled = spilled or any(path.is_file() for path in spill.rglob("*"))

with StreamFeed.open(dataset, StreamLimits(memory_bytes=limit, scratch_bytes=int(sys.argv[4]))) as feed:
    # Once through the machinery before measuring, so that libraries and threads are there.
    feed.images(np.arange(10))
    before = me.memory_full_info().uss
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    seen = wrong = 0
    for batch in feed.batches(np.arange(count), Poisson(count, 512 / count, 40, bytes(32))):
        # Every image holds its id in its first bytes.
        ids = batch.images.reshape(len(batch), -1)[:, :4].copy().view(np.uint32)[:, 0]
        wrong += int((ids != batch.ids).sum())
        seen += len(batch)
    done.set()
    watcher.join()
    usage = feed.usage
print(json.dumps({
    "seen": seen, "wrong": wrong, "before": before, "peak": peak, "passes": usage.passes,
    "buffers": usage.peak_memory_bytes, "scratch": usage.peak_scratch_bytes, "spilled": spilled,
}))
"""

# A whole trial, twice: from the resident copy, and from a stream, each in a worker of its own.
TRIAL = """
import json, pathlib, sys, threading
import numpy as np, ray
from fairsweep.datasets.feeds.feed_choice import FeedChoice, open_feed
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.datasets.feeds.stream import StreamLimits
from fairsweep.trainables.trial.trial_config import DatasetReference, TrialConfig

path, store, limit, scratch = sys.argv[1], *map(int, sys.argv[2:5])
spill = pathlib.Path("spilled")
ray.init(
    num_cpus=2, object_store_memory=store, object_spilling_directory=str(spill.absolute()), include_dashboard=False,
    log_to_driver=False,
)
info = PreparedDataset.open(path).info
config = TrialConfig(
    dataset=DatasetReference(
        path=path, name=info.name, content_hash=info.content_hash, label="smiling", groups=("smiling",)
    ),
    model={"name": "linear"},
    learner={"kind": "dpsgd", "epochs": 2, "batch_size": 512, "noise_multiplier": 1.0,
             "performance": {"gradient_mode": "hooks"}},
)

@ray.remote(num_cpus=1, max_calls=1)
def run(config, folder, choice):
    from fairsweep.trainables.trial.trial import Trial

    def anonymous():
        # The process's own memory: without files that are mapped and without the object store.
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    peak, done = 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, anonymous())

    # Once through Ray Data, so that its libraries and threads are there in both.
    with open_feed(PreparedDataset.open(config.dataset.path), stream) as feed:
        feed.images(np.arange(10))
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    trial = Trial(config, folder, feed=choice)
    trial.run()
    done.set()
    watcher.join()
    found = {
        "peak": peak, "training": len(trial._data.training),
        "evaluated": sum(len(s.rows) for s in trial._data.evaluations.values()),
    }
    if choice.kind == "stream":
        usage = trial._data.feeds["train"].usage
        found |= {"passes": usage.passes, "images": usage.images, "buffers": usage.peak_memory_bytes}
    return found

stream = FeedChoice("stream", StreamLimits(memory_bytes=limit, scratch_bytes=scratch))
folders = [str(pathlib.Path(name).absolute()) for name in ("resident", "streamed")]
resident = ray.get(run.remote(config, folders[0], FeedChoice()))
found = ray.get(run.remote(config, folders[1], stream))
spilled = sum(path.stat().st_size for path in spill.rglob("*") if path.is_file())
print(json.dumps(found | {"before": resident["peak"], "spilled": spilled}))
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    images.reshape(COUNT, -1)[:, :4] = np.arange(COUNT, dtype=np.uint32)[:, None].view(np.uint8)
    examples = pa.table({"id": np.arange(COUNT), "smiling": np.arange(COUNT) % 2, "split": SPLITS})
    attributes = [Attribute(name="smiling", values=("no", "yes"))]
    path = tmp_path_factory.mktemp("large") / "noise"
    return write_prepared(path, name="noise", attributes=attributes, examples=examples, images=images)


@pytest.mark.slow
@pytest.mark.parametrize("scratch", [0, 10 * TOTAL], ids=["read again", "through the disk"])
def test_three_times_the_object_store_streams_through_in_bounded_memory(dataset, tmp_path, scratch, record_property):
    assert TOTAL >= 3 * STORE
    found = measured(RUN, dataset, tmp_path, scratch, record_property)
    # Nothing went to Ray's own spill folder: what is not read yet waits in the shards, not in memory.
    assert not found["spilled"]
    assert found["wrong"] == 0
    assert found["seen"] > 0.9 * COUNT
    assert (found["passes"] > 3) == (scratch == 0)


@pytest.mark.slow
def test_it_streams_through_a_trial_too(dataset, tmp_path, record_property):
    """What the stream takes beyond the same trial with a resident feed is bounded; the numbers are the same."""
    found = measured(TRIAL, dataset, tmp_path, 10 * TOTAL, record_property)
    assert found["training"] * 64 * 64 * 3 > 2.5 * STORE
    # Evaluation sets are read once for both evaluations; Poisson batches of two epochs draw each image twice or so.
    drawn = found["images"] - found["evaluated"]
    assert 1.2 * found["training"] < drawn < 2.2 * found["training"]
    for name in ("cells.parquet", "predictions.parquet"):
        assert (tmp_path / "resident" / name).read_bytes() == (tmp_path / "streamed" / name).read_bytes()


def measured(script, dataset, folder, scratch, record_property):
    """Runs a script with a Ray of its own and returns what it says; checks that its memory stayed bounded."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, (dataset, STORE, LIMIT, scratch))],
        env=os.environ | {"FAIRSWEEP_CACHE": str(folder), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    for name, value in found.items():
        record_property(name, value)
    sys.stdout.write(f"{found}\n")
    assert found["buffers"] <= LIMIT
    # The process's own memory grows by buffers, a batch of 512 and its checks, and positions: not by images.
    assert found["peak"] - found["before"] <= LIMIT + 32 * MEGABYTE < TOTAL
    return found
