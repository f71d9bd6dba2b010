"""A release of the winner alone at the command line, killed on the way: of the draws that lose nothing is left."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.analysis.records.files import read_json
from fairsweep.datasets.storage.prepared import Attribute, write_prepared

SWEEP = {
    "name": "secret",
    "dataset": {"path": "data/secret", "label": "smiling", "groups": ["tone"]},
    "model": {"name": "linear"},
    "learners": [
        {"kind": "dpsgd", "epochs": 20, "batch_size": 16, "noise_multiplier": 1.0, "delta": 1e-3}
        | {"l2_clip_norm": {"loguniform": [0.1, 2.0]}, "performance": {"gradient_mode": "hooks"}}
    ],
    "search": {"release": "winner", "draws": {"poisson": 8}},
    "privacy": {"mode": "release"},
    "output": "runs/secret",
}


@pytest.fixture
def alone(user, cache_folder):
    """The same user, without a cluster, with a folder for temporary files that lies close at hand."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"FAIRSWEEP_CACHE": str(cache_folder), "TERM": "dumb", "COLUMNS": "200"}
    return type(user)(user.folder, environment)


def traces(folders, names):
    """Which files hold one of some names, in what they are called or in what they say."""
    found = []
    for folder in folders:
        for path in (path for path in Path(folder).rglob("*") if path.is_file()):
            content = path.read_bytes()
            found += [(path, name) for name in names if name in str(path) or name.encode() in content]
    return found


@pytest.mark.slow
def test_a_winner_survives_a_kill_and_leaves_no_trace_of_the_others(alone):
    rng = np.random.default_rng(3)
    label, tone = rng.integers(0, 2, 240), rng.integers(0, 2, 240)
    split = np.array(["train", "train", "validation", "test"])[np.arange(240) % 4]
    columns = {"id": np.arange(240), "smiling": label.astype(np.int16), "tone": tone.astype(np.int16), "split": split}
    attributes = [Attribute(name="smiling", values=("no", "yes")), Attribute(name="tone", values=("light", "dark"))]
    images = rng.integers(0, 255, (240, 8, 8, 1)).astype(np.uint8)
    write_prepared(
        alone.folder / "data/secret", name="toy", attributes=attributes, examples=pa.table(columns), images=images
    )
    sweep, out = alone.write("secret.yaml", SWEEP), alone.folder / "runs/secret"
    said = alone.fairsweep("plan", sweep)
    assert "a secret number of draws (poisson, mean 8), of which the best is published" in said
    assert "the winner alone, K poisson" in said
    running = alone.start("run", sweep)
    hidden = out / ".winner/draws/trials"
    while not any(read_json(path)["state"] == "done" for path in hidden.glob("*/state.json")):
        assert running.poll() is None, "the run has ended before it could be killed"
        time.sleep(0.1)
    running.kill()
    running.wait()
    draws = {path.name for path in hidden.iterdir()}
    left = (out / ".winner/outside.txt").read_text().split()
    assert [path for path in left if Path(path).exists()]  # a kill leaves Ray's logs
    assert "charged" in alone.fairsweep("privacy", out).lower()
    time.sleep(2)
    alone.fairsweep("resume", out)
    (winner,) = (out / "trials").iterdir()
    losers = draws - {winner.name}
    assert losers
    names = {name for folder in losers for name in (folder, folder.rsplit("-", 1)[-1])}
    assert traces([out], names) == []
    assert not (out / ".winner").exists()
    assert not [path for path in left if Path(path).exists()]
    log = (alone.folder / "started.log").read_text()
    assert not [name for name in names if name in log]
    listed = json.dumps(alone.listed(out)) + alone.fairsweep("privacy", out)
    assert not [name for name in names if name in listed]
    assert "the winner of a secret number of draws, poisson with mean 8" in listed
    assert "nothing to run" not in alone.fairsweep("report", out)
    before = {path: path.read_bytes() for path in winner.iterdir() if path.is_file()}
    alone.fairsweep("resume", out)
    assert {path: path.read_bytes() for path in winner.iterdir() if path.is_file()} == before
