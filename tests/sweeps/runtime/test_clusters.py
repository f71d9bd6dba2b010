"""Clusters: two raylets with addresses, working folders and caches of their own, as real processes on this machine.

What this does not show: a network between the nodes, a file system that only one of them has (both see this machine's;
outputs go to an S3 server, and caches apart), clocks that differ.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from pyarrow import fs

from fairsweep import analysis
from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.runtime.node_view import Wanted, look
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.trial.trial import Trial

PRIVATE = {"kind": "dpsgd", "epochs": 12, "batch_size": 24, "noise_multiplier": 1.0}
FORGETFUL = {
    "name": "forgetful",
    "kind": "sisa",
    "shards": 3,
    "slices": 2,
    "epochs": 4,
    "inner": {"kind": "sgd", "batch_size": 16},
    "shard_resources": {"cpu": 1, "workers": 2},
    "resources": {"cpu": 1},
}
FEDERATED = {
    "name": "federated",
    "kind": "dpfedavg",
    "rounds": 8,
    "sampling_rate": 0.5,
    "noise_multiplier": 1.0,
    "clients": {"partition": "iid", "count": 8},
    "resources": {"cpu": 1, "workers": 2, "worker_cpu": 1},
}
DRIVER = """
import dataclasses, json, os, sys, time
from pathlib import Path
from fairsweep.sweeps.execution import tasks
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.adapter import TrialTask

@dataclasses.dataclass(frozen=True)
class SlowTask(TrialTask):
    slow: float = float(os.environ.get("SLOW", "0"))
    def open(self):
        trial = super().open()
        iterate = trial.iterate
        def slow_iterate():
            time.sleep(self.slow)
            return iterate()
        trial.iterate = slow_iterate
        return trial

tasks.TrialTask = SlowTask
if __name__ == "__main__":
    from fairsweep.sweeps.copies import publishing
    if os.environ.get("OFTEN"):
        publishing.publisher_of = lambda uri, mode: publishing.TrialPublisher(uri, seconds=1.0)
    Sweep.from_mapping(json.loads(Path(sys.argv[1]).read_text())).run(quiet=True, address=sys.argv[2])
"""


def test_what_a_node_does_not_see_is_said_with_the_remedy(toy, toy_path, tmp_path):
    (tmp_path / "probe").touch()
    here = (str(toy_path), toy.info.content_hash)
    assert look(Wanted(str(tmp_path / "probe"), None, (here,))) == []
    missing = look(Wanted(None, None, ((str(tmp_path / "nothing"), toy.info.content_hash),)))
    assert [c.place for c in missing] == [("dataset", "path")]
    assert "copy it there, or give its URI" in missing[0].message
    other = look(Wanted(None, None, ((str(toy_path), "another"),)))
    assert "has another dataset" in other[0].message
    apart = look(Wanted(str(tmp_path / "elsewhere" / "probe"), None, (here,)))
    assert [c.place for c in apart] == [("output",)]
    assert "give a folder that all nodes share, or a URI" in apart[0].message
    unreachable = look(Wanted(None, "s3://bucket/x?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1", ()))
    assert "cannot reach the output" in unreachable[0].message


def test_a_client_needs_an_output_that_the_cluster_sees(mapping):
    with pytest.raises(SweepError, match=r"do not see folders of this machine.*output: s3://"):
        run_sweep(Sweep.from_mapping(mapping), address="ray://127.0.0.1:1", quiet=True)


def test_the_cluster_that_the_environment_names_is_as_good_as_one_that_is_given(mapping, monkeypatch):
    """What this machine lacks is no reason to refuse: Ray joins that cluster, whose machines are asked."""
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:1")
    mapping["resources"] = {"gpu": 512}
    with pytest.raises(SweepError, match="do not see folders of this machine"):
        run_sweep(Sweep.from_mapping(mapping), quiet=True)


# --- two raylets ---


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Node:
    """A raylet in processes of its own; the head also has the cluster's bookkeeping."""

    def __init__(self, work, name, address, head=None, cpus=2, environment=None):
        self.work, self.name = work, name
        folder = work / name
        folder.mkdir(exist_ok=True)
        port = free_port()
        self.address = head.address if head else f"{address}:{port}"
        self.client = f"ray://{address}:{free_port()}"
        if head:
            place = [f"--address={head.address}"]
        else:
            place = ["--head", f"--port={port}", f"--ray-client-server-port={self.client.rpartition(':')[2]}"]
            place += [f"--temp-dir={environment['RAY_TMPDIR']}", "--include-dashboard=false"]
        command = [Path(sys.executable).with_name("ray"), "start", "--block", f"--num-cpus={cpus}", "--num-gpus=0"]
        command += [f"--node-ip-address={address}", "--object-store-memory=100000000", *place]
        own = {"FAIRSWEEP_CACHE": str(folder / "cache")}
        with (work / f"{name}.log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=folder, env=environment | own
            )

    def wait(self):
        deadline = time.monotonic() + 300
        while "Ray runtime started" not in (self.work / f"{self.name}.log").read_text():
            assert (self.process.poll(), time.monotonic() < deadline) == (None, True)
            time.sleep(0.2)
        return self

    def power_off(self):
        """All its processes at once, as when a machine loses power."""
        if self.process.poll() is not None:
            return
        family = psutil.Process(self.process.pid).children(recursive=True)
        for member in [psutil.Process(self.process.pid), *family]:
            if member.is_running():
                member.kill()
        self.process.wait()
        psutil.wait_procs(family, timeout=60)


@pytest.fixture
def store(monkeypatch):
    """An S3 server on this machine, for the outputs; its address."""
    moto_server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    options = "endpoint_override={}:{}&scheme=http&region=us-east-1".format(*running.get_host_and_port())
    fs.FileSystem.from_uri(f"s3://runs?{options}&allow_bucket_creation=true")[0].create_dir("runs")
    yield f"s3://runs/toy?{options}"
    running.stop()


@pytest.fixture
def cluster(tmp_path, tmp_path_factory):
    """Starts nodes; ends them all."""
    nodes = []
    short = Path("/tmp") / f"fs-{os.getpid()}"  # sockets need short paths
    # A Ray that other tests share has switched clusters off in this process.
    without = ("FAIRSWEEP_CACHE", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {"RAY_TMPDIR": str(short), "HOME": str(tmp_path)}
    environment |= {"RAY_AUTH_MODE": "disabled"}

    def start(name, address, head=None, cpus=2):
        nodes.append(Node(tmp_path, name, address, head, cpus, environment))
        return nodes[-1].wait()

    start.environment = environment
    yield start
    for node in nodes:
        node.power_off()
    import shutil

    shutil.rmtree(short, ignore_errors=True)


def drive(work, mapping, node, environment, slow=0.0):
    (work / "driver.py").write_text(DRIVER)
    (work / "sweep.json").write_text(json.dumps(mapping))
    (work / "laptop").mkdir(exist_ok=True)
    environment = environment | {"SLOW": str(slow), "OFTEN": "1", "FAIRSWEEP_CACHE": str(work / "laptop" / "cache")}
    with (work / "driver.log").open("a") as log:
        command = [sys.executable, work / "driver.py", work / "sweep.json", node.address]
        return subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, cwd=work / "laptop", env=environment
        )


def finish(process, work):
    assert process.wait(timeout=1200) == 0, (work / "driver.log").read_text()[-4000:]


def states(uri):
    """Iterations done of each trial that is published, by name and state."""
    try:
        trials = analysis.load(uri).trials
    except (OSError, ValueError, KeyError):
        return {}
    return {row["trial"]: row["state"] for _, row in trials.iterrows()} if len(trials) else {}


def assert_undisturbed(uri, mapping, toy_path, tmp_path, count):
    """Every trial is done, with the cells of one that ran alone without Ray."""
    trials = expand(Sweep.from_mapping(mapping), PreparedDataset.open(toy_path))
    place = analysis.load(uri).location
    assert len(trials) == count
    for trial in trials:
        alone = Trial(trial.config, tmp_path / "alone" / trial.trial).run()
        there = place / "trials" / trial.folder_name / "cells.parquet"
        assert read_cells(there.path, there.filesystem).table == read_cells(alone / "cells.parquet").table, trial.label


def wait_until(condition, process, work, what):
    deadline = time.monotonic() + 500
    while not condition():
        assert process.poll() is None, (work / "driver.log").read_text()[-4000:]
        assert time.monotonic() < deadline, f"{what}: {(work / 'driver.log').read_text()[-4000:]}"
        time.sleep(0.2)


def small(mapping, uri, learners):
    mapping["imbalance"]["share"] = 0.9
    return mapping | {"output": uri, "seeds": 1, "learners": learners, "checkpoints": {"seconds": 0}}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_lost_node_and_a_restarted_head_lose_nothing(mapping, toy_path, store, cluster, tmp_path, capsys):
    """Sisa and DP-FedAvg over both nodes; the second node is lost and replaced; then the head, with the driver."""
    spread = [FORGETFUL, FEDERATED]
    private = [
        PRIVATE | {"name": f"private{number}", "l2_clip_norm": 1.0 + number, "resources": {"cpu": 1}}
        for number in range(2)
    ]
    mapping = small(mapping, store, [*spread, *private])
    head = cluster("head", "127.0.0.1")
    second = cluster("second", "127.0.0.2", head)
    process = drive(tmp_path, mapping, head, cluster.environment, slow=0.3)
    wait_until(lambda: "running" in states(store).values(), process, tmp_path, "no trial was published")
    second.power_off()
    lost = time.monotonic()
    cluster("third", "127.0.0.3", head)
    before = states(store)
    wait_until(
        lambda: list(states(store).values()).count("done") > list(before.values()).count("done"),
        process,
        tmp_path,
        "no trial ended after a node was lost",
    )
    recovered = time.monotonic() - lost
    # The head goes, and the driver with it.
    done = [name for name, state in states(store).items() if state == "done"]
    attempts = {row["trial"]: row for row in _published(store)}
    head.power_off()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    restarted = time.monotonic()
    again = cluster("head2", "127.0.0.1")
    cluster("fourth", "127.0.0.2", again)
    finish(drive(tmp_path, mapping, again, cluster.environment), tmp_path)
    whole = time.monotonic() - restarted
    assert set(states(store).values()) == {"done"}
    after = {row["trial"]: row for row in _published(store)}
    assert {name: after[name] for name in done} == {name: attempts[name] for name in done}
    with capsys.disabled():
        sys.stdout.write(
            f"\nnode lost: the next trial ended after {recovered:.0f} s; head restarted: whole after {whole:.0f} s "
            f"({len(done)} of 4 trials were done)\n"
        )
    assert_undisturbed(store, mapping, toy_path, tmp_path, 4)
    # Three CPUs on nodes of two: whoever worked on the other node has decoded the images there.
    caches = [tmp_path / name / "cache" / "resident" for name in ("second", "third", "fourth")]
    assert any(list(cache.glob("*.npy")) for cache in caches)


def _published(uri):
    """Name and numbers of each trial that is published."""
    folders = analysis.load(uri).folders
    return [
        {"trial": f.name, "state": f.stage, "attempt": f.state.attempt, "iteration": f.state.iteration}
        for f in folders
        if f.state
    ]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_client_hands_the_sweep_to_the_cluster(mapping, toy_path, store, cluster, tmp_path):
    head = cluster("head", "127.0.0.1")
    mapping = small(mapping, store, [{"name": "plain", "kind": "sgd", "epochs": 2}])
    head.address = head.client
    finish(drive(tmp_path, mapping, head, cluster.environment), tmp_path)
    assert_undisturbed(store, mapping, toy_path, tmp_path, 1)
