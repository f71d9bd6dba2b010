"""TensorBoard, MLflow and plain files, each read back by what people read it with."""

import csv
import io
import json
import sys

import pytest
from PIL import Image

from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.tracking.following import Follower, Records

TRIAL = "plain_s0-cccccccc"


def follow(sweep, kind, *, finish=False):
    said = []
    follower = Follower(kind, Records.of(sweep.folder), said.append)
    follower.finish() if finish else follower.look()
    assert said == []
    follower._tracker.close()


def grow(sweep, kind):
    """A trial that is killed after 2 iterations, goes on after 1, and ends; the tracker starts anew each time."""
    for iterations, state, attempt in ((2, "running", 1), (1, "running", 2), (4, "running", 2), (5, "done", 2)):
        sweep.write(TRIAL, iterations, state, attempt)
        follow(sweep, kind)
    follow(sweep, kind, finish=True)


def test_tensorboard_shows_each_iteration_once(recorded):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    sweep = recorded(["tensorboard"])
    grow(sweep, "tensorboard")
    events = accumulator.EventAccumulator(str(sweep.folder / "tracking/tensorboard" / TRIAL)).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(i, pytest.approx(0.5 / i)) for i in range(1, 6)]
    assert "test/worst_group_accuracy/tone" in events.Tags()["scalars"]
    (picture,) = events.Images("confusion/tone")
    assert picture.step == 5
    assert Image.open(io.BytesIO(picture.encoded_image_string)).size == (picture.width, picture.height)
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert '"lr": 0.1' in texts["config/text_summary"]
    assert "| iteration | split | tone | label | prediction | count |" in texts["cells/text_summary"]
    whole = accumulator.EventAccumulator(str(sweep.folder / "tracking/tensorboard/sweep")).Reload()
    assert "trends/accuracy/tone" in whole.Tags()["images"]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own call of SQLAlchemy
def test_mlflow_continues_the_run_of_a_resumed_trial(recorded):
    mlflow = pytest.importorskip("mlflow")
    sweep = recorded(["mlflow"])
    grow(sweep, "mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{sweep.folder}/tracking/mlflow.db")
    experiment = client.get_experiment_by_name("toy")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {TRIAL, "toy"}
    run = runs[TRIAL]
    assert run.info.status == "FINISHED"
    assert run.data.params["learner.lr"] == "0.1"
    assert run.data.tags["learner"] == "plain"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(i, pytest.approx(0.5 / i)) for i in range(1, 6)]
    files = sweep.folder / "tracking/mlflow"
    assert len(list(files.rglob("cells.csv"))) == 1
    assert len(list(files.rglob("confusion/tone.png"))) == 1
    assert len(list(files.rglob("trials.csv"))) == 1


def test_files_are_what_a_spreadsheet_opens(recorded):
    sweep = recorded(["files"])
    grow(sweep, "files")
    folder = sweep.folder / "tracking/files"
    rows = list(csv.DictReader((folder / TRIAL / "metrics.csv").read_text().splitlines()))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4, 5]
    assert float(rows[-1]["test/accuracy"]) == pytest.approx(sweep.expected)
    cells = list(csv.DictReader((folder / TRIAL / "cells.csv").read_text().splitlines()))
    assert sum(int(row["count"]) for row in cells if row["split"] == "test") == 40
    assert json.loads((folder / TRIAL / "summary.json").read_text())["summary"]["state"] == "done"
    with Image.open(folder / TRIAL / "confusion_tone.png") as picture:
        assert picture.width > 100
    assert [row["trial"] for row in csv.DictReader((folder / "trials.csv").read_text().splitlines())] == [TRIAL]


@pytest.mark.parametrize("written", ["tensorboard", ["tensorboard"], {"tensorboard": True}, {"tensorboard": {}}])
def test_a_tracker_is_named_by_a_word(mapping, written):
    sweep = Sweep.from_mapping(mapping | {"tracking": written})
    assert sweep.tracking.names == ("tensorboard",)
    assert Sweep.from_mapping(sweep.model_dump(mode="json")).tracking == sweep.tracking


def test_what_cannot_be_tracked_is_refused_before_the_sweep_starts(mapping, monkeypatch):
    with pytest.raises(SweepError, match="unknown key 'tensorbord'"):
        Sweep.from_mapping(mapping | {"tracking": {"tensorbord": True}})
    with pytest.raises(SweepError, match="there is no metric 'acuracy'"):
        Sweep.from_mapping(mapping | {"tracking": {"files": True, "metrics": ["acuracy"]}})
    for name, package in (("mlflow", "mlflow"), ("tensorboard", "tensorboardX"), ("wandb", "wandb")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(SweepError, match=rf"{package}, which is not installed: pip install 'fairsweep\[{name}\]'"):
            Sweep.from_mapping(mapping | {"tracking": [name]})
    assert Sweep.from_mapping(mapping | {"tracking": {"mlflow": False}}).tracking.names == ()
