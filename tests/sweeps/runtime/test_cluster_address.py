"""Joining a cluster: a wrong address, port or token, and a head that dies, are one line in seconds."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import pytest
import ray
from ray.exceptions import AuthenticationError

from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.runtime import cluster_address
from fairsweep.sweeps.runtime.cluster import check_nodes
from fairsweep.sweeps.runtime.cluster_address import check_address, reaching
from fairsweep.sweeps.runtime.head_monitor import monitored_head
from fairsweep.sweeps.runtime.launch import terminable
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.paths import resume_command


def refused(address):
    began = time.monotonic()
    with pytest.raises(SweepError) as error:
        check_address(address)
    assert time.monotonic() - began < 10
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens(free_port, scheme, monkeypatch):
    address = f"{scheme}127.0.0.1:{free_port}"
    assert f"no Ray cluster can be reached at {address} (Connection refused): give the address" in refused(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert "RAY_ADDRESS names it; unset RAY_ADDRESS to run on this machine" in refused(address)


@pytest.mark.parametrize("address", ["foo", "foo:bar", "foo:99999999", ":6379", "ray://foo"])
def test_what_is_no_address(address):
    assert f"must be HOST:PORT, ray://HOST:PORT or auto, but got {address!r}" in refused(address)


def test_another_server_at_the_port():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = refused(f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "is not a Ray head; its port is 6379 unless" in said


def test_a_server_that_says_nothing(monkeypatch):
    monkeypatch.setattr(cluster_address, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "(no answer)" in refused(f"127.0.0.1:{server.getsockname()[1]}")


def test_a_head_answers(ray_address):
    check_address(ray_address)


def test_a_dead_cluster_stops_a_run_before_anything_is_written(mapping, free_port, monkeypatch, tmp_path):
    sweep = Sweep.from_mapping(mapping)
    with pytest.raises(SweepError, match="no Ray cluster can be reached"):
        run_sweep(sweep, address=f"127.0.0.1:{free_port}", quiet=True)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    with pytest.raises(SweepError, match="unset RAY_ADDRESS"):
        run_sweep(sweep, quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error", [AuthenticationError("Unauthenticated"), ConnectionError("InvalidAuthToken: Unauthenticated")]
)
def test_a_head_that_wants_a_token(error):
    message = r"requires a token: copy ~/\.ray/auth_token .* RAY_AUTH_MODE=token"
    with pytest.raises(SweepError, match=message), reaching("127.0.0.1:6379"):
        raise error


def test_other_refusals_are_one_line():
    message = r"cannot be joined \(Version mismatch: Ray 2\.1 Python 3\.9\)"
    with pytest.raises(SweepError, match=message), reaching("127.0.0.1:6379"):
        raise RuntimeError("Version mismatch:\n  Ray 2.1\n  Python 3.9")


def test_a_single_node_is_asked_too(ray_session, mapping, tmp_path):
    """As KubeRay's layout has it: a head without CPUs, and one worker."""
    other = types.SimpleNamespace(info=types.SimpleNamespace(content_hash="another"))
    with pytest.raises(SweepError, match=r"dataset\.path: node .* has another dataset at "):
        check_nodes(Sweep.from_mapping(mapping), tmp_path, [other])


def test_a_head_that_dies_ends_the_driver_with_a_line(monkeypatch):
    said = []
    server = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(ray, "get_runtime_context", lambda: types.SimpleNamespace(gcs_address=address))

    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as where a script has started the driver in the background

    def drive():
        with terminable(), monitored_head(said.append, "go on", gone_seconds=0.2):
            time.sleep(0.5)
            assert said == []
            server.close()
            time.sleep(10)

    try:
        with pytest.raises(KeyboardInterrupt):
            drive()
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert said == [f"the head of the cluster at {address} has died or cannot be reached: start it again, then go on"]


def test_the_command_that_goes_on_names_the_cluster():
    assert resume_command("runs/a b", "10.0.0.1:6379") == "fairsweep resume 'runs/a b' --address 10.0.0.1:6379"
    assert resume_command("runs/a", None) == "fairsweep resume runs/a"


ASK = """
import os, sys, time
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.runtime.launch import connected

began = time.monotonic()
try:
    with connected(sys.argv[1]):
        print("joined", flush=True)
except SweepError as error:
    print(f"{time.monotonic() - began:.1f} {error}", flush=True)
os._exit(0)
"""
HEAD = """
import subprocess, sys
import ray
from fairsweep.sweeps.runtime.local_ray import private_ray

with private_ray() as options:
    ray.init(**options, logging_level="ERROR")
    subprocess.run([sys.executable, "-c", sys.argv[1], ray.get_runtime_context().gcs_address], check=True)
    ray.shutdown()
"""
WRONG = f"import os\nos.environ['RAY_AUTH_TOKEN'] = '{'f' * 64}'\n"


@pytest.mark.slow
def test_a_wrong_token_is_told_in_seconds():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
    answer = subprocess.run(
        [sys.executable, "-c", HEAD, WRONG + ASK],
        env=environment | {"RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    seconds, _, said = answer.stdout.partition(" ")
    assert "requires a token" in said
    assert float(seconds) < 12
