"""A sweep as a submitted job: a head that cannot import fairsweep, a clean folder with own code, and the wheel."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from fairsweep import analysis

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[3]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def node(tmp_path):
    """The environment of a machine that has our dependencies, and not fairsweep."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    inside = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (tmp_path / "venv" / inside / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (tmp_path / "clean").mkdir()
    environment = os.environ | {
        "PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "FAIRSWEEP_CACHE": str(tmp_path / "cache"),
        "PIP_NO_DEPS": "1",  # or Ray installs what the wheel depends on
        "RAY_AUTH_MODE": "token",
        "OMP_NUM_THREADS": "1",
    }
    environment = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}

    def python(*arguments, **options):
        command = [tmp_path / "venv" / "bin" / "python", *map(str, arguments)]
        return subprocess.Popen(command, cwd=tmp_path / "clean", env=environment, text=True, **options)

    assert python("-c", "import fairsweep", stderr=subprocess.DEVNULL).wait() != 0
    return python


@pytest.fixture
def head(node, tmp_path):
    """The address of a head's job server."""
    pytest.importorskip("aiohttp_cors", reason="job servers need ray[default]")
    port, server = free_port(), free_port()
    ray_folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: a socket's path may have 107 characters
    options = ["--port", port, "--dashboard-port", server, "--dashboard-host", "127.0.0.1", "--temp-dir", ray_folder]
    where = ["--head", "--node-ip-address", "127.0.0.1", "--num-cpus", 2, "--disable-usage-stats", "--block"]
    with (tmp_path / "head.log").open("w") as log:
        process = node("-m", "ray.scripts.scripts", "start", *where, *options, stdout=log, stderr=log)
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", server)) == 0:
                    break
            assert process.poll() is None, (tmp_path / "head.log").read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{server}"
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for member in family:
            member.kill()
        process.wait()
        psutil.wait_procs(family, timeout=60)
    shutil.rmtree(ray_folder, ignore_errors=True)


def test_a_job_is_submitted_from_a_clean_folder_with_the_wheel(head, node, mapping, tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    copy = tmp_path / "source"  # a build leaves files in its folder
    subprocess.run(["git", "clone", "--quiet", PROJECT, copy], check=True)
    subprocess.run([*build, "--wheel-dir", tmp_path, copy], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    for file in ("network.py", "learner.py", "metrics.py"):
        shutil.copy(PROJECT / "examples" / "own-model" / file, tmp_path / "clean" / file)
    own = {"model": {"name": "network.py:Faces", "norm": "group"}, "metrics": ["metrics.py:screening_cost"]}
    own["learners"] = [*mapping["learners"], {"name": "focal", "kind": "learner.py:Focal", "epochs": 1}]
    (tmp_path / "clean" / "sweep.yaml").write_text(yaml.safe_dump(mapping | own | {"output": str(tmp_path / "out")}))
    environment = json.dumps({"py_modules": [str(wheel)]})
    submit = ["job", "submit", "--address", head, "--working-dir", ".", "--runtime-env-json", environment, "--"]
    driver = ["python", "-m", "fairsweep.sweeps", "run", "sweep.yaml", "--address", "auto"]
    job = node("-m", "ray.scripts.scripts", *submit, *driver, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = job.communicate(timeout=600)
    assert job.returncode == 0, said
    assert "Report: " in said
    results = analysis.load(tmp_path / "out")
    assert set(results.trials["learner"]) == {learner["name"] for learner in own["learners"]}
    assert set(results.trials["state"]) == {"done"}
    assert results.rates(["screening_cost"], by="tone")["value"].notna().all()
