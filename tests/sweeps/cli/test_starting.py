"""The first hour: starter files, what a dataset holds, the study of CelebA, and a page on this machine alone."""

import http.client
import json
import re
import socket
import urllib.parse
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from fairsweep.datasets.storage.prepared import Attribute, write_prepared
from fairsweep.sweeps.cli.app import app
from fairsweep.sweeps.cli.starters import STARTERS
from fairsweep.sweeps.spec.schema import sweep_schema
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.sweep_file import SweepSource
from fairsweep.sweeps.views.live_page import LOOPBACK, serving
from fairsweep.sweeps.views.watch import WatchedSweep

EXAMPLE = Path(__file__).parents[3] / "examples" / "celeba.yaml"


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("kind", STARTERS)
def test_a_starter_file_is_a_commented_sweep(kind, tmp_path):
    path = tmp_path / "my study.yaml"
    result = invoke("init", kind, "--to", path)
    assert result.exit_code == 0
    assert f"fairsweep plan '{path}'" in result.output
    assert path.read_text().count("#") > 10
    assert f"fairsweep run '{path}'" in path.read_text()
    assert f" {kind}.yaml" not in path.read_text()
    sweep = Sweep.from_yaml(path)
    assert [learner.raw["name"] for learner in sweep.learners] == ["private", "matched", "tuned"]
    jsonschema.validate(json.loads(json.dumps(SweepSource.read(path).content)), sweep_schema())
    again = invoke("init", kind, "--to", path)
    assert isinstance(again.exception, SweepError)
    assert "already exists" in str(again.exception)


def test_an_unknown_starter_names_the_nearest(tmp_path):
    assert "did you mean 'celeba'" in str(invoke("init", "celebra", "--to", tmp_path / "x.yaml").exception)


def test_describe_lists_attributes_with_counts(toy_path):
    result = invoke("describe", toy_path)
    assert result.exit_code == 0
    assert "960" not in result.output
    assert re.search(r"smiling +no +\d+", result.output)
    described = json.loads(invoke("describe", toy_path, "--json").output)
    counts = described["attributes"]["tone"]
    assert sum(counts["light"][s] + counts["dark"][s] for s in ("train", "validation", "test")) == 960


@pytest.fixture(scope="module")
def small_celeba(tmp_path_factory):
    """A small prepared set with CelebA's names and what they are shown by."""
    count = 960
    rows = np.arange(count)
    examples = pa.table(
        {
            "id": rows + 1,
            "male": (rows // 4 % 2).astype(np.int16),
            "smiling": (rows // 8 % 2).astype(np.int16),
            "split": np.array(["train", "train", "validation", "test"])[rows % 4],
        }
    )
    attributes = [
        Attribute(name="male", values=("no", "yes"), display=("female", "male")),
        Attribute(name="smiling", values=("no", "yes"), display=("not smiling", "smiling")),
    ]
    images = np.zeros((count, 32, 32, 3), np.uint8)
    folder = tmp_path_factory.mktemp("data") / "celeba"
    return write_prepared(folder, name="celeba", attributes=attributes, examples=examples, images=images)


def test_the_study_of_the_predecessor_is_planned_whole(small_celeba, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = Sweep.from_yaml(EXAMPLE)
    assert len(sweep.imbalance.raw["share"]["grid"]) == 13
    changes = [f"dataset.path={small_celeba}", "imbalance.size=200", "evaluation.per_cell=20", "seeds=1"]
    result = invoke("plan", EXAMPLE, *changes, "--name", "small")
    assert result.exit_code == 0, result.exception
    assert "65 trials of 65 settings" in result.output
    assert "at share=1.0 no training example is male" in result.output


@pytest.fixture
def board(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"format_version": 1, "name": "a <b>", "trials": 3}))
    return WatchedSweep(tmp_path)


def ask(address, path="/", host=None, method="GET"):
    where = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_live_page_is_on_loopback_read_only_and_answers_no_other_name(board):
    with serving(board) as address:
        assert address.startswith(f"http://{LOOPBACK}:")
        status, text = ask(address)
        assert status == 200
        assert "a &lt;b&gt;" in text
        assert "0/3 trials" in text
        assert ask(address, "/sweep.json")[0] == 404
        assert ask(address, host="evil.example:80")[0] == 404
        assert ask(address, method="POST")[0] == 501
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        with pytest.raises(SweepError, match="give another one with --port"), serving(board, taken.getsockname()[1]):
            pass
