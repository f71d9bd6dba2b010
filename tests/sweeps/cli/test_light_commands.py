"""Commands load no more than they need, and those that only read results run where what trains is not installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fairsweep.analysis.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[3]

BARRED = """
import sys

BARRED = ("cmaes", "dp_accounting", "matplotlib", "mlflow", "opacus", "optuna", "ray", "scikit_posthocs",
          "statsmodels", "tensorboardX", "torch", "torchvision", "wandb")
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *where: None if name.partition(".")[0] in BARRED else find(name, *where)
from fairsweep.sweeps.cli.app import main

def call(words):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        return end.code
"""
COMMANDS = """
toy, again, data = sys.argv[1:]
lines = ["--help", "--version", f"ls {toy}", f"ls {toy} --json", "ls .", f"watch {toy} --once", f"prune {toy}",
         f"stop {toy}", f"describe {data}", f"report {toy}", f"check {toy}", f"privacy {toy}",
         f"compare {toy} {again} --html c.html", "init folder", "schema"]
for line in lines:
    print(line, call(line.split()), file=sys.stderr)

from fairsweep import analysis
from fairsweep.sweeps.views.live_page import serving
from fairsweep.sweeps.views.watch import WatchedSweep
from urllib.request import urlopen
with serving(WatchedSweep(toy), 0) as address:
    print("ui", urlopen(address).status, file=sys.stderr)
print("load", len(analysis.load(toy).trials), file=sys.stderr)
"""
REFUSED = """
for line in (f"plan {sys.argv[1]}/sweep.yaml", f"run {sys.argv[1]}/sweep.yaml", f"resume {sys.argv[1]}",
             "prepare faces --to faces"):
    print(line.split()[0], call(line.split()))
"""


LOADED = """
import atexit, sys

# At the end of the process, for completion ends it in a way of its own.
atexit.register(lambda: print("loaded", *sorted(sys.modules), file=sys.__stderr__))
from fairsweep.sweeps.cli.app import main

sys.argv[0] = "fairsweep"  # completion is asked for by that name
main()
"""
HEAVY = {
    "dp_accounting",
    "jinja2",
    "matplotlib",
    "opacus",
    "optuna",
    "pandas",
    "plotly",
    "ray",
    "scipy",
    "torch",
    "torchvision",
}
READING = {"numpy", "pyarrow", "ruamel"}  # not pydantic: typer looks at it where it parses arguments
COMPLETION = {"_FAIRSWEEP_COMPLETE": "complete_bash", "COMP_WORDS": "fairsweep w", "COMP_CWORD": "1"}


def loaded_by(words, folder, **environment):
    """What a command prints in a fresh process, and the modules that it has loaded at the end."""
    command = [sys.executable, "-W", "ignore", "-c", LOADED, *words]
    shown = {"capture_output": True, "text": True, "env": os.environ | environment}
    answer = subprocess.run(command, cwd=folder, check=False, timeout=300, **shown)
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("loaded ")]
    assert answer.returncode == 0, answer.stderr
    return answer.stdout, set(line.split()[1:])


@pytest.mark.parametrize(
    ("words", "environment", "printed"),
    [
        (["--help"], {}, "Usage"),
        (["run", "--help"], {}, "Usage"),
        (["--version"], {}, "fairsweep"),
        (["schema"], {}, "json-schema.org"),
        ([], COMPLETION, "watch"),
    ],
    ids=["help", "help of a command", "version", "schema", "completion"],
)
def test_what_reads_no_folder_loads_nothing_to_read_with(words, environment, printed, tmp_path):
    output, loaded = loaded_by(words, tmp_path, **environment)
    assert printed in output
    assert loaded & (HEAVY | READING) == set()


@pytest.mark.parametrize(
    "words", [["ls"], ["ls", "."], ["ls", "toy", "--json"], ["ls", "toy"], ["watch", "toy", "--once"]]
)
def test_a_look_at_a_sweep_loads_neither_what_trains_nor_what_analyses(words, finished_once, tmp_path):
    shutil.copytree(finished_once, tmp_path / "toy")
    output, loaded = loaded_by(words, tmp_path)
    assert "forgets" in output or "toy" in output
    assert loaded & HEAVY == set()
    assert {name for name in loaded if name.startswith("fairsweep.datasets.sources")} == set()


def test_a_plan_loads_no_plots_and_no_report(finished_once, tmp_path):
    output, loaded = loaded_by(["plan", str(finished_once / "sweep.yaml")], tmp_path)
    assert "Nothing was started" in output
    assert loaded & {"plotly", "jinja2", "matplotlib", "statsmodels"} == set()
    ours = ("fairsweep.analysis.figures", "fairsweep.analysis.figures.plots", "fairsweep.analysis.report.report_page")
    assert {name for name in loaded if name.startswith(ours)} == set()


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("fairsweep.trainables.adapter", HEAVY - {"pandas", "ray", "torch"} | {"sklearn", "torch._dynamo", "wandb"}),
        ("fairsweep.sweeps.execution.run", HEAVY - {"pandas", "ray", "torch"} | {"sklearn", "torch._dynamo", "wandb"}),
        ("fairsweep.sweeps.runtime.node_view", HEAVY | {"ray.data", "ray.tune", "fairsweep.sweeps.spec"}),
    ],
)
def test_a_process_loads_only_what_its_work_needs(module, without, tmp_path):
    """Each trial's worker, the driver, and each node that is asked what it sees pay for what these modules load."""
    code = f"import sys, {module}; print(*sys.modules)"
    shown = {"capture_output": True, "text": True, "timeout": 300}
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=False, **shown)
    assert answer.returncode == 0, answer.stderr
    assert set(answer.stdout.split()) & without == set()


PACKAGES = """
import importlib, sys
from fairsweep import analysis, datasets, sweeps, trainables

print(*sorted({name.partition(".")[0] for name in sys.modules}))
for package in (datasets, analysis, trainables, sweeps):
    assert set(package.__all__) <= set(dir(package)), package
    for name in package.__all__:
        assert getattr(package, name) is not None
from fairsweep.datasets import prepare
assert callable(prepare)
try:
    datasets.prepared_dataset
except AttributeError as error:
    print(error)
"""


def test_packages_load_their_names_when_they_are_used(tmp_path):
    shown = {"capture_output": True, "text": True, "timeout": 300}
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", PACKAGES], cwd=tmp_path, check=False, **shown)
    assert answer.returncode == 0, answer.stderr
    loaded, unknown = answer.stdout.splitlines()
    assert set(loaded.split()) & (HEAVY | READING) == set()
    assert "has no attribute 'prepared_dataset'; it has" in unknown


def run_barred(code, folder, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", BARRED + code, *map(str, arguments)]
    shown = {"capture_output": True, "text": True, "env": os.environ | {"COLUMNS": "200"}}
    return subprocess.run(command, cwd=folder, check=False, timeout=300, **shown)


def test_results_are_read_without_torch_ray_and_optuna(finished_once, toy_path, tmp_path):
    toy, again = (shutil.copytree(finished_once, tmp_path / name) for name in ("toy", "again"))
    answer = run_barred(COMMANDS, tmp_path, toy, again, toy_path)
    assert answer.returncode == 0, answer.stderr
    ended = [line.rsplit(" ", 1) for line in answer.stderr.splitlines() if line.rsplit(" ", 1)[-1].isdigit()]
    assert [words for words, code in ended[:-2] if code != "0"] == [], answer.stderr
    assert ended[-2:] == [["ui", "200"], ["load", "2"]], answer.stderr
    assert len(ended) == 17, answer.stderr
    assert (toy / "report.html").is_file()
    assert (tmp_path / "c.html").is_file()


def test_what_needs_more_says_what_to_install(finished_once, tmp_path):
    answer = run_barred(REFUSED, tmp_path, finished_once)
    assert answer.stdout.split() == ["plan", "2", "run", "2", "resume", "2", "prepare", "2"], answer.stderr
    lines = answer.stderr.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert re.fullmatch(
            r"fairsweep: fairsweep (plan|run|resume|prepare) needs \w+, which is not installed: "
            r"pip install 'fairsweep\[train\]'",
            line,
        )


MISSING = """
from fairsweep import sweeps
from fairsweep.analysis.inference import comparisons, trends
from fairsweep.analysis.drawing.render import render
import pandas as pd

for ask in (lambda: sweeps.run_sweep, lambda: comparisons.compare_over_datasets(pd.DataFrame([[1.0] * 3] * 3)),
            lambda: trends.mixed_trend(None), lambda: render(None, "matplotlib")):
    try:
        ask()
    except ImportError as error:
        print(error)
"""


def test_the_library_says_what_to_install(tmp_path):
    answer = run_barred(MISSING, tmp_path)
    asked = [line.partition(" needs ")[0] for line in answer.stdout.splitlines()]
    extras = [line.rpartition("[")[2] for line in answer.stdout.splitlines()]
    assert asked == ["fairsweep.sweeps.run_sweep", "compare_over_datasets", "mixed_trend", "backend='matplotlib'"], (
        answer
    )
    assert extras == ["train]'", "statistics]'", "statistics]'", "matplotlib]'"]


def test_every_optional_package_has_its_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {"dp_accounting": "dp-accounting", "mlflow": "mlflow-skinny", "scikit_posthocs": "scikit-posthocs"}
    base = {name_of(line) for line in project["dependencies"]}
    for package, extra in EXTRAS.items():
        name = names.get(package, package)
        assert name in {name_of(line) for line in extras[extra]}, package
        assert name not in base, package
    (everything,) = extras["all"]
    assert set(extras) - {"all", "analysis", "dev", "testing"} == set(re.findall(r"[\w-]+", everything)) - {"fairsweep"}


def name_of(requirement):
    return re.match(r"[\w-]+", requirement).group()
