"""A network, a learner and a metric of one's own, in a folder elsewhere: run, killed, their files gone, resumed."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fairsweep.sweeps.syntax.sweep_file import SweepSource

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/own-model"
FILES = ("network.py", "learner.py", "metrics.py")
PACKAGE = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "own-faces"
version = "1"
[tool.setuptools]
packages = ["own_faces"]
"""

# Somebody who has the output folder alone, and neither torch nor ray.
ELSEWHERE = """
import json, sys
from fairsweep import analysis
frame = analysis.load(sys.argv[1]).rates(by="tone")
assert not {"torch", "ray"} & sys.modules.keys()
print(json.dumps(sorted(set(frame["metric"]))))
"""


def weights(folder):
    """The final weights of each trial."""
    return {
        path.parent.name: torch.load(path, map_location="cpu", weights_only=True)
        for path in folder.glob("trials/*/weights.pt")
    }


@pytest.fixture
def by_file(user, tmp_path):
    """The user, where the files of the example lie, and how a sweep file names what is in one."""
    folder = user.folder / "examples/own-model"
    folder.mkdir(parents=True)
    for file in FILES:
        shutil.copy(EXAMPLE / file, folder / file)
    return user, folder, "examples/own-model/{}.py:"


@pytest.fixture
def by_package(user, tmp_path):
    """The same with an installed package, on a Ray of the user's own: its workers have what the driver has."""
    source, site = tmp_path / "source", tmp_path / "site"
    (source / "own_faces").mkdir(parents=True)
    for file in FILES:
        shutil.copy(EXAMPLE / file, source / "own_faces" / file)
    (source / "own_faces/__init__.py").touch()
    (source / "pyproject.toml").write_text(PACKAGE)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return user.having(PYTHONPATH=path, RAY_ADDRESS=None), site / "own_faces", "own_faces.{}:"


@pytest.mark.parametrize("installed", ["by_file", pytest.param("by_package", marks=pytest.mark.slow)])
def test_own_code_is_resumed_after_a_kill(request, installed, prepared, commands, tiny, tmp_path):
    """A file may be gone by then; a package's module must be there."""
    user, place, named = request.getfixturevalue(installed)
    prepare, _ = commands(EXAMPLE / "sweep.yaml")
    prepared(prepare)
    content = tiny(EXAMPLE / "sweep.yaml") | {"checkpoints": {"every": 1, "seconds": 0, "keep_final_weights": True}}
    content["model"]["name"] = named.format("network") + "Faces"
    if installed == "by_package":
        content["model"]["args"]["width"] = 8
    content["learners"][0] |= {"epochs": 6, "performance": {"gradient_mode": "bookkeeping"}}
    content["learners"][2]["kind"] = named.format("learner") + "Focal"
    content["metrics"] = [named.format("metrics") + "screening_cost"]
    content["evaluation"] = {"balance": ["tone", "smiling"], "per_cell": 2}
    content["resources"] = {"cpu": 1, "max_concurrent": 1}
    folder, calm = (user.folder / f"runs/{name}-{installed}" for name in ("own", "own-calm"))
    user.write("own.yaml", content | {"output": str(folder)})
    user.write("calm.yaml", content | {"name": "calm", "output": str(calm)})
    assert f"own-calm-{installed}" in user.fairsweep("plan", "calm.yaml")

    driver = user.start("run", "own.yaml")
    until = time.monotonic() + 200
    while not list(folder.glob("trials/*/checkpoints/*")) and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    driver.kill()
    assert driver.wait() == -9, (user.folder / "started.log").read_text()
    user.fairsweep("run", "calm.yaml", "--quiet")
    if installed == "by_file":
        shutil.rmtree(place)
    user.fairsweep("resume", folder)
    undisturbed, resumed = weights(calm), weights(folder)
    assert len(resumed) == (6 if installed == "by_file" else 3)
    assert resumed.keys() == undisturbed.keys()
    for trial, state in resumed.items():
        assert all(torch.equal(value, undisturbed[trial][name]) for name, value in state.items()), trial
    record = json.loads(next(folder.glob("trials/focal*/config.json")).read_text())
    assert record["learner"]["kind"] == content["learners"][2]["kind"]
    assert record["learner"].get("source") == ((EXAMPLE / "learner.py").read_text() if installed == "by_file" else None)
    assert record["model"]["source"] == (EXAMPLE / "network.py").read_text()
    assert "screening_cost" in json.loads(user.python(ELSEWHERE, folder))
    report = user.fairsweep("report", folder)
    assert "Screening cost by tone" in (folder / "report.html").read_text(), report
    assert SweepSource.read(EXAMPLE / "sweep.yaml").content["model"]["name"] == "examples/own-model/network.py:Faces"
