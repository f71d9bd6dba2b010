"""A folder of somebody else names whatever it likes: reading it contacts nothing, resuming it asks first."""

import http.server
import json
import threading

import numpy as np
import pyarrow as pa
import pytest

from fairsweep import analysis
from fairsweep.analysis.records.cell_records import count_cells, write_cells
from fairsweep.analysis.records.file_names import CELLS, CONFIG, DATA, REPORT, STATE, SWEEP_JSON, SWEEP_YAML, TRIALS
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.sweeps.store.trusted_addresses import (
    named_addresses,
    remember_addresses,
    remember_public,
    settle_addresses,
    shows_public,
)
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError


@pytest.fixture
def server():
    """Counts who asks it anything; answers nothing of use."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            asked.append(f"{self.command} {self.path}")
            self.send_error(404)

        def log_message(self, *_):
            pass

    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_port, asked
        listening.shutdown()


@pytest.fixture
def remote(server):
    """Remote places of every kind, all at the server."""
    port, _ = server
    options = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    return {
        "dataset": f"s3://bucket/faces?{options}",
        "mirror": f"s3://bucket/mirror?{options}",
        "mlflow": f"http://127.0.0.1:{port}",
    }


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """This user has run nothing yet."""
    monkeypatch.setenv("FAIRSWEEP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def foreign(tmp_path, mapping, toy):
    """Writes a folder as somebody else would hand it out, with results and whatever its files are to name."""

    def write(path, **sections):
        folder = tmp_path / "downloaded"
        trial = folder / TRIALS / "sgd_s0"
        trial.mkdir(parents=True)
        tone, label = np.repeat([0, 1], 20), np.tile([0, 1], 20)
        cells = count_cells(iteration=1, split="test", groups={"tone": tone}, label=label, prediction=label)
        vocabularies = [Vocabulary("tone", ("light", "dark")), Vocabulary("smiling", ("no", "yes"))]
        write_cells(trial / CELLS, pa.concat_tables([cells]), vocabularies, "smiling")
        config = {"learner": {"name": "sgd", "kind": "sgd"}, "seeds": {"data": 0, "train": 0}, "replicate": 0}
        write_json(trial / CONFIG, config | {"setting": "a", "trial": "a"})
        write_json(trial / STATE, {"trial": "a", "state": "done", "iteration": 1, "iterations": 1})
        write_json(trial / DATA, {"size": 100, "counts": [], "hashes": {"test": "same"}})
        sweep = Sweep.from_mapping(mapping | sections)
        resolved = sweep.model_dump(mode="json") | {"dataset": {**mapping["dataset"], "path": str(path)}}
        dataset = {"name": "faces", "path": str(path), "content_hash": toy.info.content_hash}
        described = {"name": "toy", "trials": 1, "dataset": dataset | {"label": "smiling", "groups": ["tone"]}}
        write_json(folder / SWEEP_JSON, described | {"sweep": resolved, "versions": {}})
        (folder / SWEEP_YAML).write_text(json.dumps(resolved))
        return folder

    return write


def test_reading_somebody_elses_folder_asks_no_server(fairsweep, foreign, remote, server):
    tracking = {"mlflow": {"uri": remote["mlflow"]}}
    folder = foreign(remote["dataset"], mirror={"to": remote["mirror"]}, tracking=tracking)
    for command in (("report", folder), ("ls", folder), ("ls", folder.parent), ("compare", folder, folder)):
        code, _, err = fairsweep(*command)
        assert (code, err) == (0, ""), command
    assert fairsweep("watch", folder, "--once")[0] == 0
    assert len(analysis.load(folder).trials) == 1
    assert "<img" not in (folder / REPORT).read_text()
    assert server[1] == []


def test_a_name_makes_no_dataset_public(fairsweep, foreign, toy_path, toy):
    folder = foreign(toy_path)
    assert fairsweep("report", folder)[0] == 0
    assert "<img" not in (folder / REPORT).read_text()
    assert fairsweep("report", folder, "--pictures")[0] == 0
    assert "<img" in (folder / REPORT).read_text()
    remember_public(toy.info.content_hash)  # as `prepare faces` does
    assert fairsweep("report", folder)[0] == 0
    assert "<img" in (folder / REPORT).read_text()
    assert not shows_public({"path": "s3://bucket/faces", "content_hash": toy.info.content_hash})


@pytest.mark.parametrize("command", [("resume",), ("retry-failed",), ("extend", "--seeds", "3", "--yes")])
def test_a_dataset_that_only_the_folder_names_is_asked_for_first(fairsweep, foreign, remote, server, command):
    folder = foreign(remote["dataset"])
    write_json(
        folder / TRIALS / "sgd_s0" / STATE,
        {"trial": "a", "state": "failed", "error": "x", "iteration": 1, "iterations": 1},
    )
    for flags in ((), ("--no-contact",)):
        code, out, err = fairsweep(command[0], folder, *command[1:], *flags)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "needs the dataset s3://bucket/faces" in err
        assert "add --contact if you trust it" in err
    assert server[1] == []
    fairsweep(command[0], folder, *command[1:], "--contact")
    assert server[1] != []


def test_mirrors_and_trackers_of_others_are_used_only_where_asked(fairsweep, foreign, remote, server, toy_path):
    tracking = {"mlflow": {"uri": remote["mlflow"]}, "files": True}
    folder = foreign(toy_path, mirror={"to": remote["mirror"]}, tracking=tracking)
    code, out, err = fairsweep("resume", folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for words in (
        "the mirror s3://bucket/mirror",
        f"the MLflow server {remote['mlflow']}",
        "--contact",
        "--no-contact",
    ):
        assert words in err
    code, out, err = fairsweep("track", folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"the MLflow server {remote['mlflow']}" in err
    assert server[1] == []


def test_a_user_who_named_a_place_is_not_asked_again(mapping):
    tracking = {"mlflow": {"uri": "http://tracking.lab:5000"}, "wandb": {"entity": "lab"}, "files": True}
    sweep = Sweep.from_mapping(mapping | {"mirror": {"to": "/mnt/drive/toy"}, "tracking": tracking})
    assert [place.role for place in named_addresses(sweep)] == ["mirror", "MLflow server", "W&B account"]
    with pytest.raises(SweepError, match=r"mirror /mnt/drive/toy and the MLflow .* and the W&B account lab"):
        settle_addresses(sweep, contact=None)
    without = settle_addresses(sweep, contact=False)
    assert without.mirror is None
    assert without.tracking.names == ("files",)
    remember_addresses(sweep)  # as `fairsweep run FILE` does
    assert settle_addresses(sweep, contact=None) is sweep
    other = sweep.model_copy(update={"mirror": sweep.mirror.model_copy(update={"to": "/mnt/drive/other"})})
    assert settle_addresses(other, contact=False).tracking == sweep.tracking
    assert settle_addresses(other, contact=None, named=("/mnt/drive/other",)) == other


def test_what_is_remembered_holds_no_addresses(mapping, tmp_path):
    sweep = Sweep.from_mapping(mapping | {"tracking": {"mlflow": {"uri": "http://tracking.lab:5000"}}})
    remember_addresses(sweep)
    assert named_addresses(sweep)[0].is_known
    assert "lab" not in (tmp_path / "cache" / "known-places").read_text()


def test_without_a_cache_that_can_be_written_nothing_is_remembered_and_nothing_fails(mapping, monkeypatch):
    monkeypatch.setenv("FAIRSWEEP_CACHE", "/proc/nowhere")
    sweep = Sweep.from_mapping(mapping | {"mirror": {"to": "/mnt/drive/toy"}})
    remember_addresses(sweep)
    with pytest.raises(SweepError, match="--contact"):
        settle_addresses(sweep, contact=None)
