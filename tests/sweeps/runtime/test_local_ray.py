"""A sweep on this machine, run from the command line: what it listens on, and what of the user's secrets it writes."""

import ipaddress
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import ray
from ruamel.yaml import YAML

from fairsweep.sweeps.runtime import launch, local_ray
from fairsweep.sweeps.syntax.errors import SweepError

MARK = "5ec2e7d0"
SECRETS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "GCP_SERVICE_ACCOUNT", "CLOUDSDK_AUTH_ACCESS_TOKEN"),
    *("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_KEY", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_SAS_TOKEN"),
    *("HF_TOKEN", "COMET_API_KEY", "RAY_AUTH_TOKEN", "SSH_PASSPHRASE"),
)


class Run:
    """A sweep in a process of its own, looked at until it ends."""

    def __init__(self, work, file):
        # Short, for the sockets of Ray lie in it.
        self.temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
        self.folders = [self.temporary, work]
        self.listening = {}
        self.leaks = set()
        self.searched = {}
        self.modes = set()
        secrets = {name: MARK + name for name in SECRETS} | {"WANDB_API_KEY": MARK * 5, "WANDB_MODE": "offline"}
        places = {"HOME": str(work / "home"), "TMPDIR": str(self.temporary), "FAIRSWEEP_CACHE": str(work / "cache")}
        command = [sys.executable, "-P", "-m", "fairsweep.sweeps", "run", str(file)]
        with (work / "printed.txt").open("wb") as printed:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
            environment |= secrets | places
            process = subprocess.Popen(command, cwd=work, env=environment, stdout=printed, stderr=subprocess.STDOUT)
            while process.poll() is None:
                self._look(process.pid)
                time.sleep(0.3)
        self.code = process.returncode
        self.printed = (work / "printed.txt").read_text()
        self.searched.clear()
        self._search()

    def _look(self, pid):
        try:
            tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in tree:
            try:
                sockets = process.net_connections(kind="inet")
                name = " ".join(process.cmdline())
            except psutil.Error:
                continue
            found = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
            self.listening.setdefault(name, set()).update(found)
        self.modes |= {path.stat().st_mode & 0o777 for path in self.temporary.glob("fairsweep-*")}
        self._search()

    def _search(self):
        for folder in self.folders:
            for path in folder.rglob("*"):
                try:
                    status = path.stat()
                    version = (status.st_mtime_ns, status.st_size)
                    if not path.is_file() or self.searched.get(path) == version:
                        continue
                    self.searched[path] = version
                    if MARK.encode() in path.read_bytes():
                        self.leaks.add(str(path.relative_to(folder)))
                except OSError:
                    continue  # gone by now


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_path):
    work = tmp_path_factory.mktemp("work")
    (work / "home").mkdir()
    sweep = {
        "name": "toy",
        "dataset": {"path": str(toy_path), "label": "smiling", "groups": ["tone"]},
        "model": {"name": "linear"},
        "learners": [{"name": "plain", "kind": "sgd", "epochs": 1, "batch_size": 120}],
        "tracking": ["tensorboard", "wandb", "mlflow", "files"],
        "output": str(work / "out"),
    }
    YAML().dump(sweep, work / "sweep.yaml")
    return Run(work, work / "sweep.yaml")


def test_nothing_of_a_local_sweep_can_be_reached_from_outside(run):
    assert run.code == 0, run.printed
    for part in ("gcs_server", "raylet/raylet", "ray::"):
        assert any(part in name and found for name, found in run.listening.items()), (part, run.listening)
    outside = {
        (name, address)
        for name, found in run.listening.items()
        for address in found
        if not (ipaddress.ip_address(address.removeprefix("::ffff:"))).is_loopback
    }
    assert not outside


def test_no_secret_of_the_environment_is_written_anywhere(run):
    assert run.code == 0, run.printed
    assert (run.folders[1] / "out" / "tracking").is_dir()
    assert not run.leaks


def test_the_logs_of_a_local_ray_are_for_the_user_alone_and_end_with_it(run):
    assert run.modes == {0o700}
    assert not list(run.temporary.glob("**/session_*"))
    assert not (run.folders[1] / "home" / ".ray").exists()


def test_a_ray_that_others_can_reach_is_refused(monkeypatch):
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "192.0.2.7")
    with pytest.raises(SweepError, match=r"loopback interface, but Ray .* took 192\.0\.2\.7: install ray=="):
        local_ray.check_loopback()


def test_a_long_path_for_temporary_files_still_leaves_room_for_sockets(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 60) / ("y" * 60)
    long.mkdir(parents=True)
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with local_ray.private_ray() as options:
        assert len(options["_temp_dir"]) < 40
        assert options["object_spilling_directory"].startswith(str(long))
    assert not list(long.iterdir())
    monkeypatch.setattr(local_ray, "_SHORT_FOLDERS", ("/nowhere",))
    message = r"at most 20 bytes.* \(\d+ bytes\), and /nowhere cannot be written to: set RAY_TMPDIR"
    with pytest.raises(SweepError, match=message), local_ray.private_ray():
        pass


@pytest.mark.parametrize(
    "error",
    [
        Exception("The current node timed out during startup.\nSome of the raylet failed to startup."),
        RuntimeError("Failed to start GCS server"),
        TimeoutError(),
        ConnectionError("ray.init: connection timed out"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_ray_that_does_not_come_up_is_one_line_with_a_remedy(monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(SweepError, match="Ray could not be started on this machine") as told, launch.connected(None):
        pass
    assert "\n" not in str(told.value)
    assert (str(error).split("\n")[0] or "TimeoutError") in str(told.value)
    assert "run the same command again" in str(told.value)
