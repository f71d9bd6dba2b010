"""What is installed without extras opens what others ran: in an environment of its own, with pip and a registry."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOAD = "import sys; from fairsweep import analysis; print(len(analysis.load(sys.argv[1]).trials))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a function that runs a program of an environment with nothing but the base installation."""
    folder = tmp_path_factory.mktemp("base installation")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.startswith(("analysis/", "datasets/", "trainables/", "sweeps/")) or "/" not in name:
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    programs = folder / "venv" / "bin"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program, *words, **options):
        command = [programs / program, *map(str, words)]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=folder, env=environment, timeout=600, check=False, **options
        )

    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=300)
    done = run("python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", folder / "source")
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_base_installation_opens_what_others_ran(installed, faces, tmp_path):
    missing = installed("python", "-c", "import torch")
    assert "No module named 'torch'" in missing.stderr
    loaded = installed("python", "-c", LOAD, faces.folder)
    assert (loaded.returncode, loaded.stdout.strip()) == (0, "18"), loaded.stderr
    page = tmp_path / "report.html"
    for words in (
        ("ls", faces.folder),
        ("report", faces.folder, "--to", page),
        ("compare", faces.folder, faces.folder),
        ("watch", faces.folder, "--once"),
        ("--version",),
        ("schema",),
    ):
        answer = installed("fairsweep", *words)
        assert answer.returncode == 0, (words, answer.stderr)
        assert "Traceback" not in answer.stderr
    assert page.stat().st_size > 100_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_needs_more_says_which_extra(installed, tmp_path):
    for words in (
        ("run", tmp_path / "sweep.yaml"),
        ("plan", tmp_path / "sweep.yaml"),
        ("prepare", "faces", "--to", "x"),
    ):
        answer = installed("fairsweep", *words)
        assert answer.returncode == 2, (words, answer.stderr)
        assert "pip install 'fairsweep[train]'" in answer.stderr
        assert "Traceback" not in answer.stderr
