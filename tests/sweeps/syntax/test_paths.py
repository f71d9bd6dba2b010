"""Where the paths of a sweep file point, and names that become folders."""

import os
from pathlib import Path

import numpy as np
import pytest

from fairsweep import analysis
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.paths import settle_paths, shown_from_here, with_stored_paths


def test_every_path_is_settled_against_the_working_folder_and_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    settled = settle_paths(
        {
            "dataset": {"path": "~/faces"},
            "evaluation": {"dataset": Path("others")},
            "model": {"pretrained": {"grid": ["a.pt", "~/b.pt"]}},
            "learners": [{"requests": {"file": "ids.csv"}}, {"kind": "sgd"}],
            "search": {"storage": "search.db"},
            "feed": {"scratch_dir": "~/scratch"},
            "mirror": {"to": "~/drive"},
            "output": "~/out",
        }
    )
    here, home = str(tmp_path), str(tmp_path / "home")
    assert settled["dataset"]["path"] == f"{home}/faces"
    assert settled["evaluation"]["dataset"] == tmp_path / "others"
    assert settled["model"]["pretrained"] == {"grid": [f"{here}/a.pt", f"{home}/b.pt"]}
    assert settled["learners"][0]["requests"]["file"] == f"{here}/ids.csv"
    assert settled["search"]["storage"] == f"{here}/search.db"
    assert settled["feed"]["scratch_dir"] == f"{home}/scratch"
    assert (settled["mirror"]["to"], settled["output"]) == (f"{home}/drive", f"{home}/out")


@pytest.mark.parametrize("uri", ["s3://bucket/x", "sqlite:///search.db", "postgresql://host/db"])
def test_uris_stay(uri):
    content = {"output": uri, "search": {"storage": uri}, "mirror": {"to": uri}, "dataset": {"path": uri}}
    assert settle_paths(content) == content


def test_a_sweep_of_python_is_settled_and_another_working_folder_changes_nothing(mapping, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mapping["dataset"]["path"] = os.path.relpath(mapping["dataset"]["path"])
    mapping["output"], mapping["feed"] = "out", {"scratch_dir": "scratch"}
    sweep = Sweep(**mapping)
    assert sweep.dataset.path.is_absolute()
    assert (sweep.folder, sweep.feed.scratch_dir) == (tmp_path / "out", tmp_path / "scratch")
    record = shown_from_here(sweep.model_dump(mode="json"))
    assert record["output"] == "out"
    record = {"sweep": record, "dataset": {"path": str(sweep.dataset.path)}}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = Sweep.from_mapping(with_stored_paths(record) | {"output": str(sweep.folder)})
    assert again == sweep


def test_a_path_of_nobody_is_one_line(mapping):
    mapping["output"] = "~nobody-of-this-name/out"
    with pytest.raises(SweepError, match=r"^output: '~nobody-of-this-name/out' is not a valid path on this machine"):
        Sweep(**mapping)


@pytest.mark.parametrize("place", ["nowhere/" + "x" * 256, "é" * 200, "a/" * 3_000, "a/" * 1_780])
def test_a_path_that_is_too_long_is_one_line(mapping, place):
    with pytest.raises(SweepError, match=r"^output: .* at most [0-9,]+ bytes, .* choose a shorter one$"):
        OutputFolder.at(Sweep(**mapping | {"output": place}).folder).check(
            name="toy", content=(), trials=(), needed_bytes=0
        )
    with pytest.raises(SweepError, match="choose a shorter one"):
        OutputFolder.at("x" * 256)


@pytest.mark.parametrize("name", [".hidden", "../x", "a/b", "a b", "x" * 81, "nul\0", "[red]"])
def test_names_that_no_folder_should_have_are_refused(mapping, name):
    mapping["learners"][2]["name"] = name
    with pytest.raises(SweepError, match=r"^learners\[2\]\.name: the name of a learner names folders: it must have"):
        Sweep(**mapping)
    mapping["learners"][2]["name"], mapping["name"] = "größe-2.5_a", name
    assert Sweep(**mapping).name == name  # a title only: the output is given
    del mapping["output"]
    with pytest.raises(SweepError, match=r"^name: the name of a sweep"):
        Sweep(**mapping)


def test_python_gets_the_lines_that_a_file_gets(mapping):
    mapping["seeds"] = 0
    with pytest.raises(SweepError) as of_python:
        Sweep(**mapping)
    with pytest.raises(SweepError) as of_mapping:
        Sweep.from_mapping(mapping)
    assert str(of_python.value) == str(of_mapping.value)
    assert "\n" not in str(of_python.value)
    assert "pydantic" not in str(of_python.value)


def test_numbers_of_numpy_and_ranges_are_numbers(mapping):
    mapping["imbalance"]["share"] = {"grid": np.linspace(0.5, 0.9, 3)}
    mapping["imbalance"]["size"] = np.int64(120)
    mapping["learners"][2]["epochs"] = {"grid": range(1, 4)}
    mapping["learners"][0]["noise_multiplier"] = np.float32(1.5)
    mapping["seeds"] = np.int64(2)
    sweep = Sweep(**mapping)
    assert sweep.imbalance.raw["share"] == {"grid": [0.5, 0.7, 0.9]}
    assert sweep.learners[2].raw["epochs"] == {"grid": [1, 2, 3]}
    assert (sweep.seeds, type(sweep.seeds)) == (2, int)


def test_trial_folders_that_are_left_out_are_counted(tmp_path):
    for name in (".hidden_s0-12345678", ".staging"):
        (tmp_path / "trials" / name).mkdir(parents=True)
    (tmp_path / "trials" / ".hidden_s0-12345678" / "state.json").write_text("{}")
    problems = analysis.load(tmp_path).problems
    assert problems["message"].str.contains(r"1 trial folders are left out.*\.hidden_s0-12345678").any()
