"""Commands that only read results run where what trains, spreads and searches is not installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from fairsweep.analysis.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[2]

BARRED = """
import sys

BARRED = ("cmaes", "dp_accounting", "matplotlib", "mlflow", "opacus", "optuna", "ray", "scikit_posthocs",
          "statsmodels", "tensorboardX", "torch", "torchvision", "wandb")
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *where: None if name.partition(".")[0] in BARRED else find(name, *where)
from fairsweep.sweeps.cli import main

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
         f"stop {toy}", f"describe {data}", f"report {toy}", f"compare {toy} {again} --html c.html", "init folder"]
for line in lines:
    print(line, call(line.split()), file=sys.stderr)

from fairsweep import analysis
from fairsweep.sweeps.live_page import serving
from fairsweep.sweeps.watch import WatchedSweep
from urllib.request import urlopen
with serving(WatchedSweep(toy), 0) as address:
    print("ui", urlopen(address).status, file=sys.stderr)
print("load", len(analysis.load(toy).trials), file=sys.stderr)
"""
REFUSED = """
for line in (f"plan {sys.argv[1]}/sweep.yaml", f"run {sys.argv[1]}/sweep.yaml", f"resume {sys.argv[1]}", "schema",
             "prepare faces --to faces"):
    print(line.split()[0], call(line.split()))
"""


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
    assert len(ended) == 14, answer.stderr
    assert (toy / "report.html").is_file()
    assert (tmp_path / "c.html").is_file()


def test_what_needs_more_says_what_to_install(finished_once, tmp_path):
    answer = run_barred(REFUSED, tmp_path, finished_once)
    assert answer.stdout.split() == ["plan", "2", "run", "2", "resume", "2", "schema", "2", "prepare", "2"], (
        answer.stderr
    )
    lines = answer.stderr.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert re.fullmatch(
            r"fairsweep: fairsweep (plan|run|resume|schema|prepare) needs \w+, which is not installed: "
            r"pip install 'fairsweep\[train\]'",
            line,
        )


MISSING = """
from fairsweep import sweeps
from fairsweep.analysis import comparisons, trends
from fairsweep.analysis.figures.render import render
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
    assert set(extras) - {"all", "analysis", "dev"} == set(re.findall(r"[\w-]+", everything)) - {"fairsweep"}


def name_of(requirement):
    return re.match(r"[\w-]+", requirement).group()
