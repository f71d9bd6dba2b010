"""Machines on which trials keep failing are left out; the last one goes on."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fairsweep.sweeps import nodes
from fairsweep.sweeps.nodes import NodeWatch
from fairsweep.trainables.state import TrialState

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
        entries["t"] = SimpleNamespace(file=SimpleNamespace(read=lambda: state))
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
        "failures in a row on the machine 10.0.0.0 (node aaaaaaaa): 3; it is left out of this run; "
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
from fairsweep.sweeps.nodes import NodeWatch
from fairsweep.trainables.state import TrialState
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
entries = {"t": SimpleNamespace(file=SimpleNamespace(read=lambda: state))}
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


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_placed_on_a_machine_that_is_left_out(tmp_path):
    """Two raylets on this machine stand in for two machines."""
    answer = subprocess.run([sys.executable, "-c", CLUSTER], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["left_out"] == 1.0
    assert found["bad"] not in found["nodes"]
    assert found["after"] == 2.0
