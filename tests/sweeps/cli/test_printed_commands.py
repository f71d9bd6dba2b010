"""Commands that are printed can be pasted into a shell, whatever the folder is called."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from fairsweep.analysis.records.failed_trials import more_seeds_command, more_settings_command, retry_command
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.cli.app import app

ROOT = Path(__file__).parents[3]
FOLDER = "my runs/it's $HOME"


@pytest.mark.parametrize(
    "command",
    [retry_command({}, FOLDER, "out of memory"), more_settings_command(FOLDER), more_seeds_command(FOLDER, 5)],
)
def test_commands_are_quoted(command):
    assert FOLDER in shlex.split(command)


def test_the_command_that_adds_seeds_is_one_of_ours():
    _, command, _, option, value = shlex.split(more_seeds_command(FOLDER, 5))
    parser = get_command(app).commands[command]
    (seeds,) = (one for one in parser.params if option in one.opts)
    assert (seeds.name, value) == ("seeds", "5")


def test_a_cause_is_one_word():
    assert shlex.split(retry_command({}, "runs/x", 'no "such" file')) == [
        *("fairsweep", "retry-failed", "runs/x", "--cause", 'no "such" file')
    ]


def test_the_command_that_makes_a_missing_dataset_is_quoted(tmp_path):
    with pytest.raises(ValueError, match=r"--to '.*/my data'`"):
        PreparedDataset.open(tmp_path / "my data")


def test_no_command_is_printed_with_a_bare_value():
    """Every `fairsweep COMMAND {value}` of the sources quotes its value."""
    bare = re.compile(
        r"(?:fairsweep (?!reads |needs )[a-z-]+|wandb sync)(?: --[a-z]+| [A-Z]+)* \{(?!shlex\.quote\()[^}]*\}"
    )
    sources = [
        path
        for package in ("sweeps", "analysis", "trainables", "datasets")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "starters.py"  # a text whose words are its own
    ]
    assert [f"{path}: {found[0]}" for path in sources for found in bare.finditer(path.read_text())] == []
