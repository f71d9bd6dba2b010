"""Machines on which trials keep failing are left out; the last one goes on."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fairsweep.sweeps import nodes
from fairsweep.sweeps.ledger import Entry, Ledger
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
import dataclasses, json, os, signal, sys, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from fairsweep.sweeps import launch, tasks
from fairsweep.sweeps.spec import Sweep
from fairsweep.trainables.adapter import TrialTask

work = Path(sys.argv[1])

@dataclasses.dataclass(frozen=True)
class FragileTask(TrialTask):
    def open(self):
        trial = super().open()
        node = ray.get_runtime_context().get_node_id()
        work = self.folder.parents[2]
        with (work / "starts.log").open("a") as log:
            log.write(json.dumps({"node": node, "trial": self.config.trial}) + "\\n")
        if node == (work / "bad").read_text():
            os._exit(9)
        step = trial._learner.step
        def slow_step():
            time.sleep(2)
            return step()
        trial._learner.step = slow_step
        return trial

tasks.TrialTask = FragileTask
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
(work / "bad").write_text(other.node_id)
try:
    with launch.connected(cluster.address):
        Sweep.from_mapping(json.loads((work / "sweep.json").read_text())).run()
        time.sleep(2)
        free = ray.available_resources().get("CPU", 0)
        print("free", free)
finally:
    cluster.shutdown()
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_machine_on_which_workers_die_is_left_out(mapping, tmp_path):
    """Two raylets on this machine stand in for two machines; on one of them every worker dies as soon as it starts."""
    mapping["learners"] = [{"name": "tuned", "kind": "sgd", "epochs": 3, "batch_size": 24}]
    mapping |= {"seeds": 8, "failures": {"retries": 2, "node_failures": 2}}
    (tmp_path / "cluster.py").write_text(CLUSTER)
    (tmp_path / "sweep.json").write_text(json.dumps(mapping))
    ended = subprocess.run(
        [sys.executable, "cluster.py", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "failures in a row on the machine" in ended.stderr
    bad = (tmp_path / "bad").read_text()
    starts = [json.loads(line) for line in (tmp_path / "starts.log").read_text().splitlines()]
    there = sum(start["node"] == bad for start in starts)
    assert 2 <= there <= 4  # those that were on their way there when it was left out
    entries: dict[str, Entry] = Ledger(tmp_path / "out").entries()
    assert {entry.state.state for entry in entries.values()} == {"done"}
    assert len(entries) == 16
    assert "free 2.0" in ended.stdout  # what was reserved has been given back
