"""The command line: bad input is one line and exit code 2, with nothing started and nothing overwritten."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ruamel.yaml import YAML
from typer.testing import CliRunner

from fairsweep import analysis
from fairsweep.analysis.report.report_content import collect
from fairsweep.datasets.sources import SOURCES
from fairsweep.datasets.sources.options import option_words
from fairsweep.sweeps.cli import app as cli

ROOT = Path(__file__).resolve().parents[3]
# One trial at a time, in one worker: each further one is a process that imports torch.
ONE_WORKER = {"max_concurrent": 1}
COMMANDS = (
    "prepare",
    "plan",
    "run",
    "resume",
    "report",
    "privacy",
    "compare",
    "show",
    "ls",
    "stop",
    "retry-failed",
    "extend",
)


@pytest.fixture
def sweep_file(mapping, tmp_path):
    """Writes a sweep file with some places changed."""

    def write(*changes):
        for place, value in changes:
            node = mapping
            for part in place[:-1]:
                node = node[part]
            node[place[-1]] = value
        YAML().dump(mapping, tmp_path / "sweep.yaml")
        return tmp_path / "sweep.yaml"

    return write


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text_with_an_example(command):
    answer = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert answer.exit_code == 0
    assert f"fairsweep {command}" in answer.output
    assert "Example" in answer.output


def test_the_help_lists_the_commands():
    answer = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert all(command in answer.output for command in COMMANDS)


BAD = {
    "unknown key": ((("sede",), 3), "did you mean 'seeds'?"),
    "wrong type": ((("learners", 0, "epochs"), "three"), "whole number"),
    "unknown value": ((("imbalance", "majority"), "lihgt"), "did you mean 'light'?"),
    "share outside": ((("imbalance", "share"), 1.2), "less than or equal to 1"),
    "too many images": ((("imbalance", "size"), 100_000), "largest size possible"),
    "unknown attribute": ((("dataset", "groups"), ["tome"]), "did you mean 'tone'?"),
    "missing dataset": ((("dataset", "path"), "nowhere"), "fairsweep prepare"),
    "batch norm": ((("model",), {"name": "cnn", "norm": "batch"}), "BatchNorm"),
    "one label": ((("imbalance",), {"attribute": "smiling", "keep": {"yes": 0}}), "all 254 have smiling = no"),
    "too few to test": ((("evaluation",), {"balance": ["tone"], "per_cell": 900}), "the largest per_cell possible"),
    "two budgets": ((("learners", 0, "epsilon"), 3.0), "exactly one of epsilon"),
    "wandb key": ((("wandb",), {"api_key": "0123456789abcdef" * 2}), "environment"),
    "no folder": ((("output",), "/proc/nowhere/out"), "cannot be written to"),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case, command, fairsweep, sweep_file, tmp_path, monkeypatch):
    def never(*_, **__):
        pytest.fail("Ray was started")

    monkeypatch.setattr(ray, "init", never)
    change, words = BAD[case]
    file = sweep_file(change)
    code, out, err = fairsweep(command, file)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert words in err
    assert "0123456789" not in err
    assert not (tmp_path / "out").exists()
    if case != "no folder":
        assert f"{file}, line " in err


def test_a_half_written_dataset_is_refused(fairsweep, sweep_file, toy_path, tmp_path):
    (tmp_path / "half" / "shards").mkdir(parents=True)
    code, _, err = fairsweep("run", sweep_file((("dataset", "path"), str(tmp_path / "half"))))
    assert code == 2
    assert "half" in err
    assert err.count("\n") == 1


def test_a_folder_with_something_else_is_not_touched(fairsweep, sweep_file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("chapter 1")
    code, _, err = fairsweep("run", sweep_file())
    assert code == 2
    assert "is not a sweep folder" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_folder_in_use_is_refused(fairsweep, sweep_file, tmp_path, mapping):
    from fairsweep.sweeps.store.output import OutputFolder

    with OutputFolder.at(mapping["output"]).held():
        code, _, err = fairsweep("run", sweep_file())
    assert code == 2
    assert "in use by another running sweep" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Missing argument"),
        (["run", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "sweep.yaml", "--colour"], "--colour"),
        (["resume", "nowhere"], "is not a sweep folder"),
        (["report", "nowhere"], "is not a sweep folder"),
        (["show", "nowhere"], "fairsweep prepare"),
        (["fly"], "fly"),
        (["prepare", "cats", "--to", "x"], "cats"),
    ],
)
def test_a_wrong_call_is_one_line_too(fairsweep, arguments, words):
    code, out, err = fairsweep(*arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1, err


def test_options_are_explained_with_their_defaults_and_named_as_they_are_typed(fairsweep):
    code, out, _ = fairsweep("prepare", "utkface", "--options")
    assert code == 0
    assert "--raw" not in out
    assert "--hold-out.test (default: 0.2)\n    Share of all examples that become the test split" in out
    assert "--age-edges (default: 2,9,20,27,45,65,120)\n    Largest age of each bin in years" in out
    assert "--balanced-test.per-cell (default: none)\n    Examples of each combination" in out
    code, out, _ = fairsweep("prepare", "folder", "--options")
    assert "`user` says whose an image is" in out
    for kind in SOURCES.values():
        assert all(option_words(kind).values()), kind
    _, out, _ = fairsweep("prepare", "--help")
    assert all(name in out for name in SOURCES)
    code, _, err = fairsweep("prepare", "utkface", "--from", "x", "--to", "y", "--image-sise", "3")
    assert code == 2
    assert "utkface has no option --image-sise: did you mean '--image-size'?" in err
    code, _, err = fairsweep("prepare", "utkface", "--from", "x", "--to", "y", "--zzz", "3")
    assert "known: --from, --image-size" in err
    assert "--raw" not in err


def test_run_report_and_resume(fairsweep, sweep_file, tmp_path, ray_session):
    learners = [{"name": "plain", "kind": "sgd", "epochs": 1}]
    file = sweep_file((("learners",), learners), (("seeds",), 1), (("resources",), ONE_WORKER))
    code, out, err = fairsweep("run", file)
    assert code == 0
    # The answer, the best and the worst group of the learner, and the report; the tables on demand.
    *_, answer, groups, report = out.splitlines()
    headline = collect(analysis.load(tmp_path / "out")).findings.headline.statement
    assert answer == f"{headline.verdict}: {headline.text}"
    assert "plain" in headline.text
    assert re.fullmatch(r"  plain: best \S+ [\d.]+%, worst \S+ [\d.]+% \(share 0\.9\)", groups)
    assert report.endswith(f"(all numbers: fairsweep report {tmp_path / 'out'} --table)")
    assert "Accuracy by tone" not in out
    assert "Accuracy by tone" in fairsweep("report", tmp_path / "out", "--table")[1]
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in out
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000
    assert "[2/2] plain_share.9_s0: validation accuracy" in err or "[2/2] plain_share.5_s0: validation accuracy" in err
    assert (tmp_path / "out" / "sweep.yaml").read_text() == file.read_text()
    code, again, _ = fairsweep("report", tmp_path / "out")
    assert (code, again) == (0, out)
    code, _, err = fairsweep("resume", tmp_path / "out")
    assert code == 0
    assert "nothing to run" in err
    code, out, _ = fairsweep("plan", file)
    assert code == 0
    assert "2 trials of 2 settings, 0 of them to run" in out
    assert "Nothing was started." in out
    assert "Feed: resident (0.1 MB of decoded images" in out


def test_a_sweep_with_failures_says_so_and_exits_with_1(fairsweep, sweep_file, ray_session):
    bad = {
        "name": "bad",
        "kind": "sgd",
        "epochs": 3,
        "batch_size": 24,
        "optimizer": {"name": "sgd", "lr": 1e30, "weight_decay": 1e10},
    }
    code, out, err = fairsweep("run", sweep_file((("learners",), [bad]), (("seeds",), 1), (("resources",), ONE_WORKER)))
    assert code == 1
    assert "2 failed" in out
    assert "DivergedError" in out
    assert "retry with: fairsweep retry-failed" in out
    assert "bad_share.5_s0 failed" in err


def test_the_installed_command_refuses_bad_input_in_seconds_without_ray(sweep_file, tmp_path):
    """The real command, in a process of its own; what it imports to say no does not include Ray's start."""
    file = sweep_file((("resources",), {"gpu": 512}))
    command = Path(sys.executable).with_name("fairsweep")
    answer = subprocess.run(
        [command, "run", file],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=os.environ | {"TERM": "dumb"},
    )
    assert answer.returncode == 2, answer.stderr
    assert "gpu=512" in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_workers_do_not_import_from_the_folder_of_the_driver(tmp_path, ray_address):
    """A driver that starts in a folder with a package named `datasets`, as in a clone of this repository."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("raise RuntimeError('imported from the driver folder')")
    script = tmp_path / "drive.py"
    script.write_text(
        "import ray\n"
        "from fairsweep.sweeps.runtime.launch import connected\n"
        "with connected(None):\n"
        "    @ray.remote\n"
        "    def look():\n"
        "        import importlib.util, os, sys\n"
        "        spec = importlib.util.find_spec('datasets')\n"
        "        return spec and spec.origin, os.getcwd(), sys.path\n"
        "    print(*ray.get(look.remote()), sep='|')\n"
    )
    environment = os.environ | {"RAY_ADDRESS": ray_address}
    answer = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert answer.returncode == 0, answer.stderr
    origin, folder, path = answer.stdout.strip().splitlines()[-1].split("|")
    assert str(tmp_path) not in origin
    assert folder != str(tmp_path)
    assert str(tmp_path) not in path
