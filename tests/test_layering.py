"""Who may import whom, read from the source text of the four packages."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("datasets", "trainables", "analysis", "sweeps")
MAY_IMPORT = {
    "datasets": {"datasets"},
    "analysis": {"analysis"},
    "trainables": {"trainables", "datasets", "analysis"},
    "sweeps": {"sweeps", "trainables", "datasets", "analysis"},
}
# The adapter, and what hands work to other processes, may import ray; learners and feeds run without it.
MAY_IMPORT_RAY = {
    "trainables/adapter.py",
    "trainables/trial/cohort_workers.py",
    "trainables/unlearning/shard_actors.py",
    "datasets/preparation/preparing.py",
    "datasets/storage/reading.py",
}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imported_names(path):
    """Absolute dotted names of everything a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(("fairsweep", *path.relative_to(ROOT).parent.parts)).split(".")
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def ours(name):
    parts = name.split(".")
    return parts[1] if parts[0] == "fairsweep" and len(parts) > 1 else None


def top(name):
    return name.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_packages_below_it(package):
    assert modules(package)
    for path in modules(package):
        found = {ours(name) for name in imported_names(path)} - {None}
        assert found <= MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {found - MAY_IMPORT[package]}"


def test_analysis_needs_neither_torch_nor_ray():
    for path in modules("analysis"):
        assert not {top(n) for n in imported_names(path)} & {"torch", "torchvision", "opacus", "ray"}, path


def test_only_the_adapter_and_what_spreads_work_import_ray():
    for path in [*modules("trainables"), *modules("datasets")]:
        if path.relative_to(ROOT).as_posix() not in MAY_IMPORT_RAY:
            assert "ray" not in {top(n) for n in imported_names(path)}, path


def test_nobody_uses_ray_train_and_only_sweeps_starts_ray():
    for package in PACKAGES:
        for path in modules(package):
            assert not any(n == "ray.train" or n.startswith("ray.train.") for n in imported_names(path)), path
            calls = {
                ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
            }
            if package != "sweeps":
                assert not {c for c in calls if c.endswith(("ray.init", "Tuner"))}, path


def test_the_namespace_has_no_package_of_its_own():
    assert not (ROOT / "fairsweep").exists()
    assert not list(ROOT.glob("*/fairsweep/__init__.py"))
