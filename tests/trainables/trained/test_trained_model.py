"""What a trial leaves predicts what the trial recorded, whichever method trained it."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fairsweep.analysis.records.files import RecordError, read_json, write_json
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.trainables import export_model, load_model
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.trial import Trial

FEDERATED = {"rounds": 2, "rounds_per_iteration": 1, "sampling_rate": 0.3, "clients": {"count": 12}}
FEDERATED |= {"local": {"epochs": 1, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.1}}}
INNER = {"kind": "sgd", "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.1}}
SISA = {"kind": "sisa", "shards": 3, "slices": 2, "unsliced_epochs": 2, "inner": INNER}


@pytest.fixture(scope="module")
def trained(make_config, tmp_path_factory, sgd, dpsgd):
    """Gives the folder of a finished trial of a learner; each trains once."""
    known = {}
    learners = {
        "sgd": sgd | {"ema": 0.9},
        "dpsgd": dpsgd,
        "dpfedavg": {"kind": "dpfedavg", "noise_multiplier": 1.0, "ema": 0.5, **FEDERATED},
        "mean-probability": SISA,
        "majority-vote": SISA | {"aggregation": "majority-vote", "weighting": "size", "inner": INNER | {"ema": 0.9}},
        "mean-logit": SISA | {"aggregation": "mean-logit", "weighting": "validation-accuracy"},
    }

    def train(name):
        if name not in known:
            config = make_config(learners[name])
            known[name] = Trial(config, tmp_path_factory.mktemp(name)).run()
        return known[name]

    return train


KINDS = ["sgd", "dpsgd", "dpfedavg", "mean-probability", "majority-vote", "mean-logit"]


def last_predictions(folder, dataset):
    """Images of the last recorded evaluation, and the probabilities recorded for them."""
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    table = table[(table["iteration"] == table["iteration"].max()) & (table["split"] == "test")]
    rows = dataset.rows_of(table["id"].to_numpy())
    return dataset.shard_images(0)[rows], np.exp(np.stack(table["log_probabilities"].to_numpy()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_predicts_what_its_trial_recorded(trained, toy, kind):
    folder = trained(kind)
    images, recorded = last_predictions(folder, toy)
    model = load_model(folder)
    np.testing.assert_allclose(model.probabilities(images), recorded, atol=1e-6)
    assert model.facts.classes == ("no", "yes")
    assert ", the last" in model.facts.weights
    assert ("ema 0." in model.facts.weights) == (kind in ("sgd", "dpfedavg", "majority-vote"))
    assert not model.training


@pytest.mark.parametrize("kind", ["majority-vote", "mean-probability"])
def test_shards_of_an_earlier_version_are_weighted_by_their_placement(trained, toy, tmp_path, kind):
    folder = shutil.copytree(trained(kind), tmp_path / "trial")
    write_json(
        folder / "cost.json", {k: v for k, v in read_json(folder / "cost.json").items() if k != "aggregate_weights"}
    )
    write_json(folder / "data.json", {k: v for k, v in read_json(folder / "data.json").items() if k != "image_shape"})
    images, recorded = last_predictions(folder, toy)
    np.testing.assert_allclose(load_model(folder).probabilities(images), recorded, atol=1e-6)


def test_an_exported_model_needs_torch_alone(trained, toy, tmp_path):
    script = """
import json, sys
import numpy, torch
files = {"fairsweep.json": ""}
found = []
for path in sys.argv[2:]:
    module = torch.export.load(path, extra_files=files).module()
    images = torch.from_numpy(numpy.load(sys.argv[1]))
    found.append([module(images).tolist(), module(images[:1]).tolist(), json.loads(files["fairsweep.json"])])
print(json.dumps([found, sorted(name for name in sys.modules if name.startswith("fairsweep"))]))
"""
    images, _ = last_predictions(trained("sgd"), toy)
    np.save(tmp_path / "images.npy", images)
    kinds = ("dpsgd", "majority-vote")
    paths = [export_model(load_model(trained(kind)), tmp_path / f"{kind}.pt2") for kind in kinds]
    command = [sys.executable, "-W", "error", "-I", "-c", script, tmp_path / "images.npy", *paths]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    found, ours = json.loads(answer.stdout)
    assert ours == []
    for kind, (logits, one, facts) in zip(kinds, found, strict=True):
        with torch.inference_mode():
            expected = load_model(trained(kind))(torch.from_numpy(images))
        torch.testing.assert_close(torch.tensor(logits), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(torch.tensor(one), expected[:1], rtol=0, atol=1e-5)
        assert facts["classes"] == ["no", "yes"]
        assert facts["image_shape"] == [8, 8, 1]


def test_what_cannot_be_loaded_is_said(make_config, sgd, trained, toy_path, tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_model(tmp_path)
    bare = Trial(make_config(sgd), tmp_path / "bare", checkpoints=CheckpointPolicy(keep_final_weights=False)).run()
    with pytest.raises(ValueError, match="kept no weights"):
        load_model(bare)
    trial = Trial(make_config(sgd), tmp_path / "running")
    trial.iterate()
    trial.close()
    with pytest.raises(ValueError, match="has not ended yet"):
        load_model(tmp_path / "running")
    folder = shutil.copytree(trained("sgd"), tmp_path / "damaged")
    content = bytearray((folder / "weights.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "weights.pt").write_bytes(content)
    with pytest.raises(RecordError, match=r"weights\.pt is damaged"):
        load_model(folder)
    with pytest.raises(ValueError, match=r"uint8 \[B, 8, 8, 1\]"):
        load_model(trained("sgd")).probabilities(np.zeros((2, 9, 8, 1), np.uint8))
    with pytest.raises(ValueError, match=r"\.pt2"):
        export_model(load_model(trained("sgd")), tmp_path / "model.onnx")
    assert PreparedDataset.open(toy_path)


def test_a_network_of_ones_own_loads_and_exports_from_the_records_alone(own, make_config, sgd, toy, tmp_path):
    """Its source lies in the records: no file is needed."""
    folder = Trial(make_config(sgd | {"epochs": 1}, model=own(norm="group")), tmp_path / "own").run()
    images, recorded = last_predictions(folder, toy)
    model = load_model(folder)
    np.testing.assert_allclose(model.probabilities(images), recorded, atol=1e-6)
    assert export_model(model, tmp_path / "own.pt2").stat().st_size > 1000
