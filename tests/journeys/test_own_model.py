"""A network, a learner and a metric of one's own, in a folder elsewhere: run, killed, their files gone, resumed."""

import json
import shutil
import time
from pathlib import Path

import torch

from fairsweep.sweeps.syntax.sweep_file import SweepSource

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/own-model"


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


def test_an_own_network_is_resumed_after_a_kill_without_its_file(user, prepared, commands, tiny):
    prepare, _ = commands(EXAMPLE / "sweep.yaml")
    prepared(prepare)
    folder = user.folder / "examples/own-model"
    folder.mkdir(parents=True)
    files = [Path(shutil.copy(file, folder / file.name)) for file in EXAMPLE.glob("*.py")]
    content = tiny(EXAMPLE / "sweep.yaml") | {"checkpoints": {"every": 1, "seconds": 0, "keep_final_weights": True}}
    content["learners"][0] |= {"epochs": 6, "performance": {"gradient_mode": "bookkeeping"}}
    content["evaluation"] = {"balance": ["tone", "smiling"], "per_cell": 2}
    content["resources"] = {"cpu": 1, "max_concurrent": 1}
    user.write("examples/own-model/sweep.yaml", content)
    user.write("calm.yaml", content | {"name": "calm", "output": "runs/own-calm"})
    assert "own-calm" in user.fairsweep("plan", "calm.yaml")

    folder = user.folder / "runs/own-model"
    driver = user.start("run", "examples/own-model/sweep.yaml")
    until = time.monotonic() + 200
    while not list(folder.glob("trials/*/checkpoints/*")) and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    driver.kill()
    assert driver.wait() == -9, (user.folder / "started.log").read_text()
    user.fairsweep("run", "calm.yaml", "--quiet")
    for file in files:
        file.unlink()
    user.fairsweep("resume", folder)
    undisturbed, resumed = weights(user.folder / "runs/own-calm"), weights(folder)
    assert len(resumed) == 6
    assert resumed.keys() == undisturbed.keys()
    for trial, state in resumed.items():
        assert all(torch.equal(value, undisturbed[trial][name]) for name, value in state.items()), trial
    record = json.loads(next(folder.glob("trials/focal*/config.json")).read_text())
    assert record["learner"]["source"] == (EXAMPLE / "learner.py").read_text()
    assert record["model"]["source"] == (EXAMPLE / "network.py").read_text()
    assert "screening_cost" in json.loads(user.python(ELSEWHERE, folder))
    report = user.fairsweep("report", folder)
    assert "Screening cost by tone" in (folder / "report.html").read_text(), report
    assert SweepSource.read(EXAMPLE / "sweep.yaml").content["model"]["name"] == record["model"]["name"]
