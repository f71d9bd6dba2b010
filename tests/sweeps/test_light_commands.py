"""Commands that only read results run where what trains, spreads and searches is not installed."""

import os
import shutil
import subprocess
import sys

BARRED = """
import sys

BARRED = ("cmaes", "dp_accounting", "matplotlib", "mlflow", "opacus", "optuna", "ray", "scikit_posthocs",
          "statsmodels", "tensorboardX", "torch", "torchvision", "wandb")
sys.modules |= dict.fromkeys(BARRED)  # each import of one raises ModuleNotFoundError
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
