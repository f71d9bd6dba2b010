"""Machines on which trials keep failing are left out; the last one goes on."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from fairsweep.analysis.records.trial_state import TrialState
from fairsweep.sweeps.runtime import nodes
from fairsweep.sweeps.runtime.nodes import NodeWatch

MACHINES = [
    {"NodeID": name * 8, "Alive": True, "Resources": {"CPU": 2.0}, "NodeManagerAddress": f"10.0.0.{number}"}
    for number, name in enumerate("abc")
]


@pytest.fixture
def watch(monkeypatch):
    """A watch over trials of which each says where it ran, and what it failed of."""
    monkeypatch.setattr(nodes.ray, "nodes", lambda: MACHINES)
    reserved = []
    monkeypatch.setattr(nodes, "reserve", lambda node, resources: reserved.append((node, resources)) or [])
    said, entries = [], {}
    watcher = NodeWatch(3, entries, said.append)

    def tell(node, error=None, ended="error"):
        state = TrialState(trial="t", node=node * 8, error=error)
        entries["t"] = SimpleNamespace(now=lambda: state)
        trial = SimpleNamespace(config={"trial": "t"}, last_result={"failed": ended == "failed"})
        hook = {"error": watcher.on_trial_error, "recover": watcher.on_trial_recover}
        hook.get(ended, watcher.on_trial_complete)(0, [], trial)

    watcher.tell, watcher.reserved, watcher.said = tell, reserved, said
    return watcher


def test_failures_in_a_row_leave_a_machine_out(watch):
    watch.tell("a", ended="recover")
    watch.tell("a", "OSError: no such device", ended="failed")
    watch.tell("b")
    assert watch.left_out == ()
    watch.tell("a", "OSError: no such device")
    assert watch.left_out == ("a" * 8,)
    assert watch.reserved == [("a" * 8, {"CPU": 2.0})]
    assert watch.said == [
        "failures in a row on the machine 10.0.0.0 (node aaaaaaaa): 3; it is excluded from this run; "
        "last cause: OSError: no such device"
    ]
    watch.tell("a")  # one that still ran there
    assert len(watch.reserved) == 1


def test_a_success_between_them_counts(watch):
    for _ in range(4):
        watch.tell("a")
        watch.tell("a")
        watch.tell("a", ended="done")
    assert watch.left_out == ()


@pytest.mark.parametrize("cause", ["DivergedError: nan", "ValueError: batch", "OutOfMemoryError: CUDA out of memory"])
def test_what_lies_in_the_trial_is_no_fault_of_the_machine(watch, cause):
    for _ in range(5):
        watch.tell("a", cause, ended="failed")
    assert watch.left_out == ()


def test_the_last_machine_goes_on(watch):
    for name in "abc":
        for _ in range(5):
            watch.tell(name)
    assert watch.left_out == ("a" * 8, "b" * 8)


def test_none_leaves_out_none(watch):
    watch._most = None
    for _ in range(9):
        watch.tell("a")
    assert watch.left_out == ()


CLUSTER = """
import json, sys, tempfile, time
import ray
from ray.cluster_utils import Cluster
from fairsweep.sweeps.runtime.nodes import NodeWatch
from fairsweep.analysis.records.trial_state import TrialState
from types import SimpleNamespace

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
bad = cluster.add_node(num_cpus=1).node_id
ray.init(address=cluster.address, log_to_driver=False)

def free(count):
    deadline = time.monotonic() + 120
    while ray.available_resources().get("CPU", 0) != count and time.monotonic() < deadline:
        time.sleep(0.2)
    return ray.available_resources().get("CPU", 0)

@ray.remote(num_cpus=1)
def where():
    return ray.get_runtime_context().get_node_id()

state = TrialState(trial="t", node=bad)
entries = {"t": SimpleNamespace(now=lambda: state)}
watch = NodeWatch(1, entries, lambda line: None)
try:
    watch.on_trial_recover(0, [], SimpleNamespace(config={"trial": "t"}))
    while_left_out = free(1.0)
    nodes = ray.get([where.remote() for _ in range(4)])
    watch.release()
    print(json.dumps({"bad": bad, "left_out": while_left_out, "nodes": nodes, "after": free(2.0)}))
finally:
    ray.shutdown()
    cluster.shutdown()
"""


SWEEP = """
import dataclasses, json, sys, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from fairsweep.sweeps.execution import tasks
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.adapter import TrialTask

@dataclasses.dataclass(frozen=True)
class LoggedTask(TrialTask):
    def open(self):
        trial = super().open()
        here, log = ray.get_runtime_context().get_node_id(), self.folder.parents[2] / "log.jsonl"
        (node,) = (node for node in ray.nodes() if node["NodeID"] == here)
        with log.open("a") as file:
            file.write(json.dumps([here, self.config.trial]) + chr(10))
        step = trial._learner.step

        def fail():
            raise OSError("no such device")

        def wait_for(failures, seconds):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and sum(here not in line for line in log.open()) < failures:
                time.sleep(0.1)

        def slow_step():
            wait_for(2, 300)  # failures of the other machine; after them it would have time for more
            if trial.iteration == 0 and sum(here in line for line in log.open()) == 1:
                wait_for(5, 60)
            return step()

        trial._learner.step = fail if "bad" in node["Resources"] else slow_step
        return trial

tasks.TrialTask = LoggedTask
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0, "include_dashboard": False})
try:
    bad = cluster.add_node(num_cpus=1, num_gpus=0, resources={"bad": 1}).node_id
    results = run_sweep(Sweep.from_mapping(json.loads(Path(sys.argv[1]).read_text())), address=cluster.address)
    print(json.dumps({"bad": bad, "states": list(results.trials["state"])}))
finally:
    cluster.shutdown()
"""


@pytest.fixture
def alone(tmp_path):
    """Runs a script in a process whose Ray has a folder of its own: its `ray_current_cluster` would draw others in."""
    short = Path(tempfile.mkdtemp(prefix="fs-"))  # sockets need short paths

    def run(script, *arguments):
        environment = os.environ | {"RAY_TMPDIR": str(short), "TERM": "dumb", "COLUMNS": "200"}
        answer = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert answer.returncode == 0, answer.stderr[-3000:]
        return json.loads(answer.stdout.splitlines()[-1]), answer.stderr

    yield run
    shutil.rmtree(short, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_placed_on_a_machine_that_is_left_out(alone):
    """Two raylets on this machine stand in for two machines."""
    found, _ = alone(CLUSTER)
    assert found["left_out"] == 1.0
    assert found["bad"] not in found["nodes"]
    assert found["after"] == 2.0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_leaves_out_a_machine_on_which_every_trial_fails(alone, mapping, tmp_path):
    """Failing at once, it would take trial after trial from the other one, and use up their retries."""
    mapping["learners"] = [{"name": "plain", "kind": "sgd", "epochs": 2, "batch_size": 24}]
    mapping |= {"seeds": 4, "failures": {"node_failures": 2, "retries": 4}}
    (tmp_path / "sweep.json").write_text(json.dumps(mapping))
    found, said = alone(SWEEP, str(tmp_path / "sweep.json"))
    attempts = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    on_bad = [number for number, (node, _) in enumerate(attempts) if node == found["bad"]]
    # All eight trials end, none of them there.
    assert found["states"] == ["done"] * 8
    assert len(attempts) - len(on_bad) == len({trial for _, trial in attempts}) == 8
    # Two failures in a row, and at most what had a place there already.
    assert 2 <= len(on_bad) <= 4, attempts
    (line,) = (line for line in said.splitlines() if "failures in a row on the machine" in line)
    assert f"(node {found['bad'][:8]}): 2; it is excluded from this run; last cause: OSError: no such device" in line
