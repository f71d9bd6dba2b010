"""What a user does with a trained model: predicts a folder of photographs, exports it, loads it in a notebook."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

IN_A_NOTEBOOK = """
import json, sys
import torch
from fairsweep import analysis, sweeps
from fairsweep.datasets import PreparedDataset

results = analysis.load("runs/used")
images = PreparedDataset.open("data/faces").shard_images(0)[:8]
found = {}
for name in results.trials["trial"]:
    model = sweeps.load_model("runs/used", name)
    found[model.facts.learner] = [model.probabilities(images).tolist(), str(model)]
print(json.dumps(found))
"""
WITH_TORCH_ALONE = """
import json, sys
import numpy, torch
model = torch.export.load(sys.argv[1]).module()
images = torch.from_numpy(numpy.load(sys.argv[2]))
print(json.dumps(torch.softmax(model(images), dim=1).tolist()))
"""


@pytest.fixture(scope="module")
def used(user, prepared):
    """A sweep of two learners, run once."""
    prepared(["prepare", "faces", "--to", "data/faces"])
    optimizer = {"name": "sgd", "lr": 0.1}
    inner = {"kind": "sgd", "batch_size": 16, "optimizer": optimizer}
    learners = [
        {"name": "plain", "kind": "sgd", "epochs": 1, "batch_size": 16, "optimizer": optimizer},
        {"name": "parts", "kind": "sisa", "shards": 2, "slices": 1, "unsliced_epochs": 1, "inner": inner},
    ]
    content = {
        "name": "used",
        "dataset": {"path": "data/faces", "label": "smiling", "groups": ["tone"]},
        "imbalance": {"attribute": "tone", "majority": "light", "share": 0.5, "size": 60},
        "model": {"name": "linear"},
        "learners": learners,
        "resources": {"max_concurrent": 1},  # every worker is a process that takes seconds
    }
    user.fairsweep("run", user.write("used.yaml", content), "--quiet")
    return user


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_model_is_used_after_the_sweep(used, tmp_path):
    photos = used.folder / "new photos"
    photos.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number, size in enumerate(((300, 200), (64, 64), (90, 400))):
        Image.fromarray(random.integers(0, 255, (*size, 3), np.uint8)).save(photos / f"{number}.png")
    (photos / "broken.jpg").write_bytes(b"no picture")
    (photos / "notes.txt").write_text("no picture either")

    said = used.fairsweep("predict", "runs/used", "plain", "--images", "new photos", "--to", "guesses.csv")
    assert "weights after iteration 1 of 1, the last" in said
    assert "wrote 3 predictions of smiling to guesses.csv" in said
    found = rows(used.folder / "guesses.csv")
    assert [row["file"] for row in found] == ["0.png", "1.png", "2.png", "broken.jpg"]
    assert all(abs(float(r["probability_no"]) + float(r["probability_yes"]) - 1) < 1e-5 for r in found[:3])
    assert found[3]["prediction"] == ""
    assert "not an image" in found[3]["damaged"]

    used.fairsweep("predict", "runs/used", "parts", "--images", "data/faces", "--to", "parts.csv")
    notebook = json.loads(used.python(IN_A_NOTEBOOK))
    assert set(notebook) == {"plain", "parts"}
    by_row = [[float(row["probability_no"]), float(row["probability_yes"])] for row in rows(used.folder / "parts.csv")]
    np.testing.assert_allclose(by_row[:8], notebook["parts"][0], atol=1e-6)
    assert "images 32x32x3 -> smiling" in notebook["parts"][1]

    said = used.fairsweep("export", "runs/used", "parts", "--to", "model.pt2")
    assert "to logits of smiling (no, yes)" in said
    images = used.folder / "images.npy"
    used.python(
        "import sys, numpy; from fairsweep.datasets import PreparedDataset as P; "
        "numpy.save(sys.argv[1], P.open('data/faces').shard_images(0)[:8])",
        images,
    )
    alone = json.loads(used.python(WITH_TORCH_ALONE, used.folder / "model.pt2", images))
    np.testing.assert_allclose(alone, notebook["parts"][0], atol=1e-6)


def test_mistakes_with_a_trained_model_are_one_line_each(used):
    for words, said in (
        (["predict", "runs/used", "plane", "--images", "data/faces", "--to", "a.csv"], "known: parts_s0"),
        (["predict", "runs/used", "plain", "--images", "nowhere", "--to", "a.csv"], "there is nothing at nowhere"),
    ):
        assert said in used.error(*words)
