"""A stream of more images than memory holds, in a process and with a Ray of its own."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.datasets.layout import Attribute
from fairsweep.datasets.writing import write_prepared

MEGABYTE = 2**20
# The smallest object store that Ray takes.
STORE = 80 * MEGABYTE
COUNT, SHAPE = 20_480, (64, 64, 3)
TOTAL = COUNT * 64 * 64 * 3
LIMIT = 64 * MEGABYTE

RUN = """
import json, pathlib, sys, threading
import numpy as np, psutil, ray
from fairsweep.datasets.prepared import PreparedDataset
from fairsweep.datasets.sampling import Poisson
from fairsweep.datasets.stream import StreamFeed, StreamLimits

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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    images.reshape(COUNT, -1)[:, :4] = np.arange(COUNT, dtype=np.uint32)[:, None].view(np.uint8)
    examples = pa.table({"id": np.arange(COUNT), "label": np.arange(COUNT) % 2, "split": ["train"] * COUNT})
    attributes = [Attribute(name="label", values=("no", "yes"))]
    path = tmp_path_factory.mktemp("large") / "noise"
    return write_prepared(path, name="noise", attributes=attributes, examples=examples, images=images)


@pytest.mark.slow
@pytest.mark.parametrize("scratch", [0, 10 * TOTAL], ids=["read again", "through the disk"])
def test_three_times_the_object_store_streams_through_in_bounded_memory(dataset, tmp_path, scratch, record_property):
    assert TOTAL >= 3 * STORE
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(RUN), *map(str, (dataset, STORE, LIMIT, scratch))],
        env=os.environ | {"FAIRSWEEP_CACHE": str(tmp_path), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    for name, value in found.items():
        record_property(name, value)
    sys.stdout.write(f"{found}\n")
    assert found["wrong"] == 0
    assert found["seen"] > 0.9 * COUNT
    # Nothing went to Ray's own spill folder: what is not read yet waits in the shards, not in memory.
    assert not found["spilled"]
    assert found["buffers"] <= LIMIT
    # The process's own memory grows by buffers, a batch of 512 and its checks, and positions: not by images.
    assert found["peak"] - found["before"] <= LIMIT + 32 * MEGABYTE
    assert (found["passes"] > 3) == (scratch == 0)
