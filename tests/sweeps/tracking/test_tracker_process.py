"""Sweeps with a tracker that hangs, or is killed, or is not there: nothing changes but what people are told."""

import os
import signal
import socket
import threading
import time

import psutil
import pytest

from fairsweep.analysis.records.files import write_json
from fairsweep.sweeps.spec.tracking_section import TrackingSection
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.tracking.tracker_process import tracked


def trackers_of(process):
    return [
        child
        for child in psutil.Process(process).children()
        if "fairsweep.sweeps.tracking.tracker_main" in child.cmdline()
    ]


@pytest.fixture
def silent_server(monkeypatch):
    """Takes connections and never answers: W&B's client waits."""
    server = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    yield server
    server.close()


def run(mapping, folder, tracking):
    mapping = mapping | {"output": str(folder), "tracking": tracking, "seeds": 1}
    Sweep.from_mapping(mapping).run()
    return {path.parent.name: path.read_bytes() for path in (folder / "trials").rglob("cells.parquet")}


def test_a_tracker_that_is_killed_is_said_once_and_nothing_waits_for_it(tmp_path):
    write_json(tmp_path / "sweep.json", {"name": "toy", "sweep": {"tracking": {"files": {}, "every_seconds": 60.0}}})
    said = []
    with tracked(TrackingSection(files={}), tmp_path, said.append):
        (tracker,) = trackers_of(os.getpid())
        tracker.send_signal(signal.SIGKILL)
        end = time.monotonic() + 120
        while not said and time.monotonic() < end:
            time.sleep(0.05)
    assert len(said) == 1
    assert "tracking exited unexpectedly (exit status -9); the sweep goes on" in said[0]
    assert trackers_of(os.getpid()) == []


def test_without_trackers_no_process_is_started(tmp_path):
    with tracked(None, tmp_path, print), tracked(TrackingSection(), tmp_path, print):
        assert trackers_of(os.getpid()) == []


@pytest.mark.slow
def test_results_are_the_same_whatever_becomes_of_the_tracker(mapping, tmp_path, silent_server, capfd):
    plain = run(mapping, tmp_path / "plain", None)

    began = time.monotonic()
    section = {"wandb": {}, "tensorboard": {}, "wait_seconds": 5.0, "every_seconds": 1.0}
    assert run(mapping, tmp_path / "hangs", section) == plain
    hanging = time.monotonic() - began
    said = " ".join(capfd.readouterr().err.split())
    assert "not sent to wandb yet" in said
    assert "fairsweep track" in said
    assert trackers_of(os.getpid()) == []
    assert len(list((tmp_path / "hangs/tracking/tensorboard").iterdir())) == len(plain) + 1
    assert hanging < 600

    def kill():
        while not (found := trackers_of(os.getpid())):
            time.sleep(0.05)
        found[0].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert run(mapping, tmp_path / "killed", {"files": {}}) == plain
    killer.join()
    assert "tracking exited unexpectedly" in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "killed/tracking/files/trials.csv").exists()
