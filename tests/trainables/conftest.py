"""A tiny prepared dataset, and trials on it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared
from fairsweep.trainables.trial.trial_config import DatasetReference, TrialConfig
from fairsweep.trainables.unlearning.sisa import Sisa


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory):
    """480 images of 8x8 whose brightness in the upper half says the label, noisier for the tone dark."""
    rng = np.random.default_rng(1)
    count = 480
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


@pytest.fixture(scope="session")
def make_config(toy):
    """Makes a trial's config: ``make_config(learner, **other_fields)``."""

    def make(learner, **fields):
        reference = DatasetReference(
            path=toy.path, name="toy", content_hash=toy.info.content_hash, label="smiling", groups=("tone",)
        )
        return TrialConfig(**{"dataset": reference, "model": {"name": "linear"}, "learner": learner, **fields})

    return make


@pytest.fixture(scope="session")
def sgd():
    return {"kind": "sgd", "epochs": 3, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}


@pytest.fixture(scope="session")
def dpsgd():
    return {
        "kind": "dpsgd",
        "epochs": 3,
        "batch_size": 32,
        "noise_multiplier": 1.0,
        "optimizer": {"name": "adam", "lr": 0.01},
        "performance": {"gradient_mode": "hooks"},
    }


@pytest.fixture(scope="session")
def make_task():
    """Makes a learner's task on made-up images: ``make_task(model, n=…, size=…, trial=…, **fields)``."""
    import torch

    from fairsweep.datasets.feeds.resident import ResidentFeed
    from fairsweep.datasets.selection.randomness import derive, seed_key
    from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
    from fairsweep.trainables.models.model import ModelConfig
    from fairsweep.trainables.models.models import MODELS

    def make(model="linear", n=64, size=8, channels=1, classes=2, trial=0, seed=1, **fields):
        random = np.random.default_rng(7)
        labels = random.integers(0, classes, n)
        images = random.integers(0, 160, (n, size, size, channels))
        images[:, : size // 2] += (40 * labels)[:, None, None, None]
        given = {
            "model": model if isinstance(model, ModelConfig) else MODELS[model](),
            "classes": classes,
            "image_shape": (size, size, channels),
            "rows": np.arange(n)[::-1].copy(),
            "labels": labels[::-1].copy(),
            "groups": {"tone": (np.arange(n) % 3 == 0).astype(np.int16)},
            "feed": ResidentFeed(np.arange(n) * 5 + 2, images.astype(np.uint8)),
            "keys": TrialKeys(
                data=seed_key(seed, "data"),
                train=seed_key(seed, "train"),
                secret=derive(seed_key(0, "secret"), "trial", trial),
            ),
            "device": torch.device("cpu"),
            "value_names": {"label": tuple(map(str, range(classes))), "tone": ("light", "dark")},
            **fields,
        }
        return LearningTask(**given)

    return make


@pytest.fixture(scope="session")
def own():
    """Makes a model of one's own: ``own("Net", norm=…)``, a name in ``models/own_networks.py``."""
    from fairsweep.trainables.models.own import OwnModel

    source = (Path(__file__).parent / "models/own_networks.py").read_text()
    return lambda function="Net", **fields: OwnModel(**{"name": f"nets/mine.py:{function}", "source": source} | fields)


@pytest.fixture(scope="session")
def make_sisa(make_task):
    """Makes a learner: ``make_sisa(config, n=…, folder=…, placement=…)``."""

    def make(given, n=60, placement=None, **fields):
        ids = np.arange(n)[::-1] * 5 + 2
        task = make_task("linear", n=n, ids=fields.pop("ids", ids), **fields)
        return Sisa(given, task, placement=placement)

    return make
