"""Heads on the features of a frozen body: kept once for a machine, and the same numbers without."""

import json
import shutil
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fairsweep.datasets.feeds.eviction import LIMIT_VARIABLE
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.datasets.feeds.machine_copy import CACHE_VARIABLE
from fairsweep.trainables import load_model
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.gradient_modes import GRADIENT_MODES
from fairsweep.trainables.federated.dpfedavg import Dpfedavg, make_trainer
from fairsweep.trainables.learning.learner import TrialKeys
from fairsweep.trainables.models import frozen_body
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.own import OwnModel
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.sgd.sgd_learner import SgdConfig
from fairsweep.trainables.stacks import trial_stack
from fairsweep.trainables.stacks.stack import step_together
from fairsweep.trainables.stacks.stack_choice import stack_size, why_alone
from fairsweep.trainables.stacks.trial_stack import TrialStack
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.trial.trial_data import TrialData, learning_task

CLIENTS = {"partition": "iid", "count": 6}
SGD = {"kind": "sgd", "epochs": 2, "batch_size": 32, "optimizer": {"momentum": 0.9}}
DPSGD = {"kind": "dpsgd", "epochs": 2, "batch_size": 32, "noise_multiplier": 1.0}
LEARNERS = {
    "sgd": SGD | {"ema": 0.9},
    "dpsgd plain": DPSGD | {"noise_multiplier": 0.0, "l2_clip_norm": None, "clipping": "none"},
    **{f"dpsgd {mode}": DPSGD | {"performance": {"gradient_mode": mode}} for mode in GRADIENT_MODES},
    "dpfedavg": {"kind": "dpfedavg", "rounds": 2, "clients": CLIENTS, "sampling_rate": 0.7, "noise_multiplier": 0.8},
    "sisa": {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 1, "inner": {"kind": "sgd", "batch_size": 32}},
    "pbt": {
        "kind": "pbt",
        "population": 2,
        "inner": SGD,
        "explore": {"optimizer.lr": {"low": 0.01, "high": 0.1}},
    },
}
TIMED = {"seconds", "checksum", "memory"}
IMBALANCE = {"attribute": "tone", "majority": "light", "share": 0.8, "size": 60}


@pytest.fixture(scope="module")
def body(own, tmp_path_factory):
    """Makes a model whose body has given weights: ``body(**fields)``."""
    file = tmp_path_factory.mktemp("weights") / "body.pt"
    torch.save(build_model(own(norm="batch"), (8, 8, 1), 2, bytes(range(32))).state_dict(), file)
    return lambda function="Net", **fields: own(
        function, **{"weights": file, "norm": "frozen", "train": "head"} | fields
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The machine's cache: lists the features that it has."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return lambda: sorted((tmp_path / "cache").glob("*/*features*.npy"))


@pytest.fixture
def trained(make_config, body, tmp_path):
    """Trains a trial, and returns what it left, times aside, and its state before the last iteration."""

    def train(learner, name, model=None):
        config = make_config(learner, model=model or body(head={"hidden": [4], "dropout": [0.3]}), imbalance=IMBALANCE)
        trial = Trial(config, tmp_path / name, checkpoints=CheckpointPolicy(seconds=0))
        trial.iterate()
        state = trial.state()
        folder = trial.run()
        return folder, _plain(state), {path.name: _content(path) for path in folder.iterdir() if path.is_file()}

    return train


def _content(path):
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return repr([{name: value for name, value in row.items() if name not in TIMED} for row in table.to_pylist()])
    if path.suffix == ".pt":
        return _plain(torch.load(path, weights_only=True))
    return None if path.suffix != ".json" or path.name == "state.json" else _plain(json.loads(path.read_text()))


def _plain(value):
    """Return a tree without times, its tensors as bytes."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name not in TIMED}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value)


def _cases():
    """All learners; of the ways to one private gradient, and of populations, the gate takes few."""
    gate = ("sgd", "dpsgd bookkeeping", "dpfedavg", "sisa")
    return [
        pytest.param(learner, id=name, marks=() if name in gate else pytest.mark.slow)
        for name, learner in LEARNERS.items()
    ]


@pytest.mark.parametrize("learner", _cases())
def test_records_checkpoints_and_predictions_are_those_without_the_cache(learner, trained, cache, monkeypatch):
    _, state, records = trained(learner, "kept")
    (features,) = cache()
    features.unlink()
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    _, other_state, other = trained(learner, "computed")
    assert cache() == []
    assert other_state == state
    assert other == records
    assert {"cells.parquet", "predictions.parquet", "weights.pt"} <= set(records)


@pytest.mark.parametrize(("learner", "config"), [(SGD, SgdConfig), (LEARNERS["dpsgd hooks"], DpsgdConfig)])
def test_numbers_are_those_of_whole_passes_up_to_rounding(learner, config, trained, cache, monkeypatch):
    folder, _, _ = trained(learner, "features")
    assert len(cache()) == 1
    monkeypatch.setattr(config, "takes_features", False)
    whole, _, _ = trained(learner, "whole")
    one, other = (torch.load(path / "weights.pt", weights_only=True) for path in (folder, whole))
    assert {name for name in other if name.startswith("fc.")} == set(one)  # the body is its file's
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learner", ["sgd", "sisa"])
def test_a_kept_head_predicts_with_the_body_of_its_file_and_no_other(learner, trained, body, cache, toy, tmp_path):
    file = tmp_path / "published.pt"
    shutil.copy(body().weights, file)
    folder, _, _ = trained(LEARNERS[learner], "one", body(weights=file))
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    table = table[(table["iteration"] == table["iteration"].max()) & (table["split"] == "test")]
    images = toy.shard_images(0)[toy.rows_of(table["id"].to_numpy())]
    recorded = np.exp(np.stack(table["log_probabilities"].to_numpy()))
    np.testing.assert_allclose(load_model(folder).probabilities(images), recorded, atol=1e-5)
    weights = torch.load(file, weights_only=True)
    torch.save({name: value + 1 for name, value in weights.items()}, file)
    with pytest.raises(ValueError, match="trained on features of a frozen body, so the file"):
        load_model(folder)


def test_trials_that_differ_in_head_seed_and_learner_share_one_entry(trained, body, cache, monkeypatch):
    passes = []
    of_blocks = frozen_body.BodyFeatures.of_blocks
    monkeypatch.setattr(frozen_body.BodyFeatures, "of_blocks", lambda *given: passes.append(1) or of_blocks(*given))
    trained(SGD, "one", body(head={"hidden": [4]}))
    trained(LEARNERS["dpsgd hooks"], "two", body(head={"hidden": [8], "dropout": [0.5]}))
    assert (len(cache()), len(passes)) == (1, 1)


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_damaged_entry_is_built_again(kept, trained, cache):
    _, _, records = trained(SGD, "one")
    (path,) = cache()
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[: int(kept * len(whole))])
    _, _, again = trained(SGD, "two")
    assert again == records
    assert path.read_bytes() == whole


def test_other_weights_and_other_norms_have_entries_of_their_own(trained, body, own, cache, tmp_path):
    other = tmp_path / "other.pt"
    torch.save(build_model(own(norm="batch"), (8, 8, 1), 2, bytes(32)).state_dict(), other)
    for number, model in enumerate((body(), body(weights=other), body(norm="group"), body(args={"dropout": 0.1}))):
        trained(SGD, str(number), model)
    assert len(cache()) == 4


def test_a_body_that_must_see_images_says_why(make_config, body, own, toy):
    from fairsweep.trainables.trial.trial_data import frozen_body_of

    def reason(learner=SGD, **fields):
        found = frozen_body_of(make_config(learner, model=body(**fields)), toy)
        assert found.tail is None
        return found.reason

    assert frozen_body_of(make_config(SGD, model=body()), toy).tail.shape == (8, 1, 1)
    assert reason(train="all") == ""
    assert "augmentation" in reason(SGD | {"augmentation": {"flip": True}})
    assert "augmentation" in reason(LEARNERS["sisa"] | {"inner": {"kind": "sgd", "augmentation": {"flip": True}}})
    assert "no given weights" in reason(weights=None)
    assert "only the whole network in common" in reason(train=["second", "fc"])
    assert "is not the last thing" in reason(function="scaled")
    assert "is not the last thing" in reason(function="peeking")
    assert reason(function="mixing")


def test_workers_of_a_federated_learner_train_the_same_part(make_config, body, cache):
    config = make_config(LEARNERS["dpfedavg"], model=body(), imbalance=IMBALANCE)
    keys = TrialKeys(bytes(32), bytes(32), bytes(32))
    task = learning_task(config, TrialData.open(config, FeedChoice()), keys, torch.device("cpu"))
    learner = Dpfedavg(config.learner, task)
    found = make_trainer(config.learner, task, learner.execution).sums(
        torch.zeros(18), 0, np.arange(3), Clipping("flat", 1.0)
    )  # eight features for each of two classes, and a bias
    assert found.total.norm() > 0
    assert learner.predict(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 2)


def test_features_of_an_image_do_not_depend_on_its_block(body):
    model = body()
    tail = frozen_body.find_body(model, (8, 8, 1), 2).tail
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1)).astype(np.uint8)
    features = frozen_body.BodyFeatures(model, tail, (8, 8, 1), 2, torch.device("cpu"))
    whole = np.concatenate(features.of_blocks([images[:32], images[32:]]))
    np.testing.assert_array_equal(features.of_blocks([images[5:20]])[0], whole[5:20])
    network = build_model(model, (8, 8, 1), 2, bytes(32)).eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
        of_features = network.get_submodule(tail.name)(torch.from_numpy(whole))
    torch.testing.assert_close(of_features, logits)


HEADED = """
from torch import nn

def net(image_shape, classes):
    head = nn.Sequential(nn.Flatten(), nn.Linear(36, classes))
    return nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), head)
"""


@pytest.mark.parametrize("learner", [SGD, DPSGD | {"performance": {"gradient_mode": "bookkeeping"}}])
def test_heads_of_several_trials_train_side_by_side_on_features(make_config, body, cache, tmp_path, learner):
    plain = {"name": "nets/headed.py:net", "source": HEADED}
    torch.save(build_model(OwnModel(**plain), (8, 8, 1), 2, bytes(32)).state_dict(), tmp_path / "body.pt")
    model = OwnModel(**plain, weights=tmp_path / "body.pt", train="head", head={"hidden": [4]})
    configs = [make_config(learner, model=model, seeds={"data": 1, "train": seed}) for seed in range(3)]
    assert [stack_size(config, "auto") for config in configs] == [16] * 3
    assert "more than linear layers" in why_alone(make_config(learner, model=body()))  # its head has dropout
    alone = [Trial(config, tmp_path / f"alone{number}").run() for number, config in enumerate(configs)]
    folders = {config.trial: tmp_path / f"beside{number}" for number, config in enumerate(configs)}

    def closed(config):
        return SimpleNamespace(open=lambda: Trial(config, folders[config.trial]), outcome=lambda: None)

    stack = TrialStack({config.trial: closed(config) for config in configs}, (), scheduled=False)
    steps = []
    with patch.object(trial_stack, "step_together", lambda given: steps.append(len(given)) or step_together(given)):
        while not stack.done:
            stack.iterate()
    assert steps == [3, 3]
    assert len(cache()) == 1
    for one, other in zip(alone, folders.values(), strict=True):
        assert _content(one / "cells.parquet") == _content(other / "cells.parquet")
        weights = [torch.load(folder / "weights.pt", weights_only=True) for folder in (one, other)]
        for name, value in weights[0].items():
            torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-6)
