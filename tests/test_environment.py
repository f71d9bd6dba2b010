"""The packages on other machines: beside packages of the same names, without ray, without torch."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_python(code, cwd, blocked=(), **environment):
    """Run code in a fresh interpreter in which the blocked top-level packages cannot be imported."""
    guard = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {set(blocked)!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", (guard if blocked else "") + textwrap.dedent(code)],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("package", "blocked"),
    [("datasets", ["ray"]), ("datasets", ["ray", "torch"]), ("trainables", ["ray"]), ("analysis", ["ray", "torch"])],
)
def test_every_module_that_promises_it_imports_without(package, blocked, tmp_path):
    code = f"""
    import importlib, pkgutil
    import fairsweep.{package} as package
    names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    spread = ("adapter", "cohort_workers", "shard_actors")  # what hands work to other processes
    names = [n for n in names if n.rpartition(".")[2] not in spread]
    for name in names:
        importlib.import_module(name)
    print("imported", len(names))
    """
    result = run_python(code, tmp_path, blocked)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("imported ")


def test_a_worker_started_from_the_repository_root_does_not_see_our_folders(ray_address):
    code = """
    import importlib.util
    import ray
    from fairsweep.sweeps.runtime.launch import connected

    def where(name):
        import importlib.util, sys
        spec = importlib.util.find_spec(name)
        return list(sys.path), None if spec is None else str(spec.origin or list(spec.submodule_search_locations))

    with connected(None):
        for name in ("datasets", "sweeps", "analysis", "trainables", "fairsweep.datasets"):
            path, origin = ray.get(ray.remote(where).remote(name))
            print(name, origin, sep="=")
        print("path", path, sep="=")
    """
    result = run_python(code, ROOT, RAY_ADDRESS=ray_address)
    assert result.returncode == 0, result.stderr
    found = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    assert Path(found["fairsweep.datasets"]).resolve() == ROOT / "datasets" / "__init__.py"
    for name in ("datasets", "sweeps", "analysis", "trainables"):
        assert not found[name].startswith(str(ROOT)), f"a worker imports our {name}/ as a top-level package"
    assert repr(str(ROOT)) not in found["path"]
