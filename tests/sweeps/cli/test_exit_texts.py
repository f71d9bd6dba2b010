"""What a mistake prints: our words, not those of the libraries below."""

import re
import tomllib
from pathlib import Path

import pytest

from fairsweep.datasets.sources import SOURCES
from fairsweep.sweeps.execution.profiling import _time_needed
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": "two"}, r"seeds must be a number, or .* but got 'two'"),
        ({"seeds": 1.5}, r"seeds must be a number"),
        ({"checkpoints": {"minutes": "five"}}, r"^checkpoints"),
        ({"checkpoints": 5}, r"checkpoints: must be a mapping \(key: value\), but got 5"),
        ({"learners": 3}, r"learners.*must be a list, but got 3"),
        ({"failures": {"retries": "many"}}, r"failures.retries: must be a whole number, but got 'many'"),
        ({"name": 3}, r"name: must be text, but got 3"),
        ({"dataset": {"path": "x", "label": ["a"], "groups": []}}, r"must be text"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_our_words(mapping, change, said):
    with pytest.raises(SweepError) as refused:
        Sweep.from_mapping(mapping | change)
    text = str(refused.value)
    assert re.search(said, text)
    assert not re.search("parse|nput should|valid (number|integer|string|dictionary|list)|instance of", text)


@pytest.mark.parametrize(("given", "said"), [({}, "but got neither"), ({"epsilon": 3, "noise_multiplier": 1}, "both")])
def test_a_private_learner_without_its_budget_names_no_none(mapping, given, said):
    mapping["learners"] = [{"name": "private", "kind": "dpsgd", "epochs": 1, "batch_size": 24, **given}]
    with pytest.raises(SweepError, match=said) as refused:
        Sweep.from_mapping(mapping)
    assert "None" not in str(refused.value)


def test_a_command_without_arguments_shows_help_and_no_empty_line(fairsweep):
    _, out, err = fairsweep()
    assert "Usage" in out + err
    assert "fairsweep: \n" not in out + err


def test_help_names_every_source_and_all_that_is_studied(fairsweep):
    shown = " ".join(fairsweep("prepare", "--help")[1].replace("│", " ").split())
    assert all(name in shown for name in SOURCES)
    top = " ".join(fairsweep("--help")[1].split())
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["description"]
    readme = (ROOT / "README.md").read_text().split("One answer needs")[0]
    for text in (top, described, readme):
        assert re.search("private|privacy", text)
        assert "federated" in text
        assert re.search("forget|unlearning", text)


@pytest.mark.parametrize(
    ("hours", "text"), [(0.001, "less than a minute"), (0.05, "about 3 min 00 s"), (2.5, "about 2 h 30 min")]
)
def test_short_times_are_told_in_minutes(hours, text):
    assert _time_needed(hours) == text


def test_only_what_an_index_has_is_installed_by_name():
    for path in (*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("examples/*.ipynb")):
        text = path.read_text()
        assert not re.search(r"pip install (-\S+ )*fairsweep(\s|==|$)", text, re.MULTILINE), path
        assert 'SOURCE = \\"fairsweep\\"' not in text, path


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        *(
            [command, LONG]
            for command in ("report", "privacy", "ls", "stop", "retry-failed", "prune", "resume", "track", "show")
        ),
        *([command, LONG] for command in ("describe", "plan", "run")),
        ["compare", LONG, LONG],
        ["extend", LONG, "--seeds", "3"],
        ["watch", LONG, "--once"],
        ["ui", LONG, "--no-browser"],
        ["forget", LONG, "--ids", "ids.csv"],
        ["init", "faces", "--to", LONG],
        ["prepare", "faces", "--to", LONG],
        ["prepare", "folder", "--from", LONG, "--to", "data"],
    ],
    ids=lambda words: words[0],
)
def test_a_name_that_no_file_system_takes_ends_in_one_clear_line(fairsweep, words):
    code, out, err = fairsweep(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "at most 255 bytes" in err
    assert "Errno" not in err
