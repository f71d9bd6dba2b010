"""A run loads no more than it uses: an option that a sweep does not have is not imported by it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from fairsweep import sweeps

SCRIPT = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
from fairsweep.sweeps.execution import run
from fairsweep.sweeps.sweep import Sweep

def run_trials(take, ended, **_):
    while (found := take()) is not None:
        ended(found[0], False)

run.connected, run.run_trials = lambda *_, **__: nullcontext(True), run_trials  # trials are not what is looked at
Sweep.from_mapping(json.loads(Path(sys.argv[1]).read_text())).run(quiet=True)
print(json.dumps(sorted(sys.modules)))
"""
OPTIONAL = {
    "ask_tell",
    "cluster",
    "display",
    "guided_trials",
    "head_monitor",
    "mirror",
    "nodes",
    "oom_retry",
    "publishing",
    "remote_output",
    "remote_states",
    "restoring",
    "scheduler",
    "search_space",
    "study",
    "tracker_process",
    "undefined_objectives",
    "undefined_values",
}


def test_a_plain_run_imports_none_of_the_options(mapping, tmp_path):
    assert {path.stem for path in Path(sweeps.__path__[0]).rglob("*.py")} >= OPTIONAL
    (tmp_path / "sweep.json").write_text(json.dumps(mapping))
    command = [sys.executable, "-P", "-c", SCRIPT, str(tmp_path / "sweep.json")]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert found.returncode == 0, found.stderr
    loaded = json.loads(found.stdout.splitlines()[-1])
    ours = {name.rpartition(".")[2] for name in loaded if name.startswith("fairsweep.sweeps.")}
    assert ours >= {"run", "trial_queue", "listed_trials", "run_callbacks"}
    assert not ours & OPTIONAL
    assert not {"optuna", "wandb", "mlflow", "tensorboard", "plotly"} & set(loaded)
