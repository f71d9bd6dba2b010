"""A tiny prepared dataset and a small sweep on it."""

import copy
import sys

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.datasets.prepared import Attribute, PreparedDataset, write_prepared
from fairsweep.sweeps import cli

SWEEP = {
    "name": "toy",
    "dataset": {"label": "smiling", "groups": ["tone"]},
    "imbalance": {"attribute": "tone", "majority": "light", "share": {"grid": [0.5, 0.9]}, "size": 120},
    "model": {"name": "linear"},
    "learners": [
        {
            "name": "private",
            "kind": "dpsgd",
            "epochs": 3,
            "batch_size": 24,
            "noise_multiplier": 1.0,
            "performance": {"gradient_mode": "hooks"},
        },
        {"name": "matched", "twin_of": "private"},
        {"name": "tuned", "kind": "sgd", "epochs": 3, "batch_size": 24},
    ],
    "seeds": 2,
}


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory):
    """960 images of 8x8 whose brightness in the upper half says the label, noisier for the tone dark."""
    rng = np.random.default_rng(1)
    count = 960
    label, tone = rng.integers(0, 2, count), rng.integers(0, 2, count)
    images = rng.integers(0, 160, (count, 8, 8, 1))
    images[:, :4] += (40 * label * (2 - tone))[:, None, None, None]
    examples = pa.table(
        {
            "id": np.arange(count) * 3,
            "smiling": label.astype(np.int16),
            "tone": tone.astype(np.int16),
            "split": np.array(["train", "train", "validation", "test"])[np.arange(count) % 4],
        }
    )
    attributes = [Attribute(name="smiling", values=("no", "yes")), Attribute(name="tone", values=("light", "dark"))]
    folder = tmp_path_factory.mktemp("data") / "toy"
    return write_prepared(folder, name="toy", attributes=attributes, examples=examples, images=images.astype(np.uint8))


@pytest.fixture(scope="session")
def toy(toy_path):
    return PreparedDataset.open(toy_path)


@pytest.fixture
def mapping(toy_path, tmp_path):
    """A sweep of 12 trials as plain values; a copy that a test may change."""
    content = copy.deepcopy(SWEEP)
    content["dataset"]["path"] = str(toy_path)
    content["output"] = str(tmp_path / "out")
    return content


@pytest.fixture
def fairsweep(monkeypatch, capsys, tmp_path):
    """Runs the command in this process; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fairsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return call
