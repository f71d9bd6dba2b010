"""Changes to a sweep file on the command line, and limits on how many trials a sweep may have."""

import re
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from fairsweep.sweeps.cli.app import app
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.overrides import edited, parse_change, read_changed

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
TEXT = """\
name: toy   # a comment
learners:
  - {name: private, kind: dpsgd, epsilon: 3.0}   # another
  - {name: "tuned", kind: sgd}
"""


def change(text, *changes):
    return edited(text, [parse_change(one) for one in changes])


def test_a_change_changes_one_value_and_keeps_comments_and_quotes():
    assert change(TEXT, "learners.0.epsilon=5") == TEXT.replace("epsilon: 3.0}", "epsilon: 5}  ")
    assert change(TEXT, "learners.private.epsilon=1.5") == TEXT.replace("epsilon: 3.0", "epsilon: 1.5")


@pytest.mark.parametrize(
    ("asked", "place", "value"),
    [
        ("seeds=3", ("seeds",), 3),
        ("imbalance.share={grid: [0.5, 0.9]}", ("imbalance", "share"), {"grid": [0.5, 0.9]}),
        ("imbalance.majority=no", ("imbalance", "majority"), "no"),
        ("learners.tuned.optimizer.lr=0.1", ("learners", 1, "optimizer", "lr"), 0.1),
        ("imbalance=null", ("imbalance",), None),
    ],
)
def test_values_are_yaml_and_sections_are_made(asked, place, value):
    node = YAML(typ="safe", pure=True).load(change(TEXT, asked))
    for part in place:
        node = node[part]
    assert node == value


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("seeds", "a change is written PLACE=VALUE, for example"),
        ("=3", "a change is written"),
        ("learners.7.epsilon=3", r"^learners\[7\]: there is no entry 7 here; there are 0 \(private\), 1 \(tuned\)"),
        ("name.first=3", "^name: name has no fields, so 'first' cannot be changed"),
        ("seeds=[1", "the value of seeds must be YAML"),
        ("seeds=" + "[" * 10_000, "nested at most 32 deep"),
    ],
)
def test_a_change_that_cannot_be_made_is_one_line(asked, message):
    with pytest.raises(SweepError, match=message):
        change(TEXT, asked)


@pytest.fixture
def file(mapping, tmp_path):
    path = tmp_path / "my sweep.yaml"
    with path.open("w") as stream:
        YAML(typ="safe", pure=True).dump(mapping, stream)
    return path


@pytest.mark.parametrize("example", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda example: example.stem)
def test_an_example_under_another_name_has_a_folder_of_its_own(example):
    """In the folder of the example its trials would become former ones of the same sweep."""
    again = read_changed(example, [], name="again", seeds=None, trials_at_most=None)
    assert Sweep.from_mapping(again.content).folder.name == "again"


def test_what_is_stored_is_what_ran(file):
    source = read_changed(file, ["learners.0.noise_multiplier=2"], name="again", seeds=3, trials_at_most=None)
    assert (source.content["name"], source.content["seeds"]) == ("again", 3)
    sweep = Sweep.from_mapping(source.content)
    assert (sweep.seeds, sweep.learners[0].raw["noise_multiplier"]) == (3, 2)
    assert "noise_multiplier: 2" in source.text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            ["learners.private.noise_multiplier=-2"],
            r"on the command line: learners\[0\].noise_multiplier: ",
        ),
        (["imbalance={attribute: tone, majority: light, share: 7}"], "on the command line: imbalance"),
        (["seeds=1", "--trials-at-most", "2"], "on the command line: trials_at_most: "),
        (["learners.2.batch_size=500", "dataset.label=smilling"], "on the command line: dataset.label: "),
        (["--output", "/proc/nowhere/out"], "on the command line: output: "),
        (["wandb={api_key: 0123456789abcdef0123456789abcdef}"], "on the command line: wandb.*environment"),
        (
            ["learners.0.epsilon=3"],
            r".*my sweep.yaml, line \d+, with learners\[0\].epsilon as on the command line: learners\[0\]: ",
        ),
    ],
)
def test_what_is_wrong_with_a_change_is_said_of_the_command_line(file, asked, said):
    error = CliRunner().invoke(app, ["plan", str(file), *asked]).exception
    assert re.match(said, str(error)), error
    assert "0123456789" not in str(error)


def test_what_is_wrong_elsewhere_keeps_its_line_of_the_file(file):
    file.write_text(file.read_text().replace("batch_size: 24", "batch_sise: 24"))
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "batch_sise" in text)
    error = CliRunner().invoke(app, ["plan", str(file), "dataset={path: x, label: y, groups: [z]}"]).exception
    assert str(error).startswith(f"{file}, line {line}: learners[0].batch_sise: ")


def test_plan_and_dry_run_take_changes_and_start_nothing(file, tmp_path):
    asked = [str(file), "learners.2.epochs=5", "--seeds", "3", "--name", "again"]
    planned, dry = (CliRunner().invoke(app, command) for command in (["plan", *asked], ["run", *asked, "--dry-run"]))
    assert planned.exit_code == dry.exit_code == 0
    assert planned.output == dry.output
    assert "again: 18 trials" in planned.output
    assert not (tmp_path / "out").exists()


def test_the_version_is_printed():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output.split()[0]) == (0, "fairsweep")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("seeds",), 1_000_000_000),
        (("seeds",), {"data": 1_000_000, "train": 1_000_000}),
        (("search",), {"algorithm": "random", "samples": 1_000_000_000}),
        (("imbalance", "share"), {"grid": [i / 100_000 for i in range(100_000)]}),
    ],
)
def test_a_slip_that_makes_many_trials_is_refused_at_once(mapping, place, value):
    node = mapping
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    began = time.perf_counter()
    with pytest.raises(
        SweepError, match=r"^trials_at_most: a sweep has at most 100,000 trials, but this one would have"
    ):
        Sweep(**mapping)
    assert time.perf_counter() - began < 2


def test_a_grid_of_many_dimensions_is_refused_at_once(mapping):
    mapping["learners"][2] |= {"optimizer": {"name": "sgd", "lr": {"grid": [i / 1000 for i in range(1, 1000)]}}}
    mapping["learners"][2]["epochs"] = {"grid": list(range(1, 1000))}
    with pytest.raises(SweepError, match="trials-at-most"):
        Sweep(**mapping)
    del mapping["learners"][2]["optimizer"]
    mapping["trials_at_most"] = 1_000
    with pytest.raises(SweepError, match="at most 1,000 trials, but this one would have 4,004"):
        Sweep(**mapping)
    mapping["trials_at_most"] = 4_004
    assert Sweep(**mapping).trials_at_most == 4_004


def test_absurd_folds_are_refused_at_once(mapping):
    mapping["split"] = {"kind": "folds", "folds": 1_000_000_000}
    with pytest.raises(SweepError, match="at most 1,000 folds"):
        Sweep(**mapping)
