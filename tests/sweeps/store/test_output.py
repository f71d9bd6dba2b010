import errno
import os
import shutil
import subprocess
import sys

import pytest

from fairsweep.analysis.records.files import read_json
from fairsweep.sweeps.store import output
from fairsweep.sweeps.store.description import git_commit, versions
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError


def check(folder, needed_bytes=0, name="toy", content=("c",), trials=("a",)):
    OutputFolder.at(folder).check(name=name, content=content, trials=trials, needed_bytes=needed_bytes)


@pytest.fixture
def described(tmp_path):
    output = OutputFolder.at(tmp_path / "out")
    with output.held():
        output.describe("name: toy\n", {"name": "toy"}, {"content_hash": "c"}, trials=3)
    return output


def test_a_check_leaves_nothing_behind(tmp_path):
    check(tmp_path / "new" / "deeper")
    (tmp_path / "empty").mkdir()
    check(tmp_path / "empty")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_the_same_sweep_is_taken_and_others_are_refused(described):
    check(described.path)
    with pytest.raises(SweepError, match="another dataset"):
        check(described.path, content=("d",))
    with pytest.raises(SweepError, match="holds the sweep 'toy'"):
        check(described.path, name="other")
    described.ledger.queue([])
    (described.path / "trials" / "x").mkdir(parents=True)
    (described.path / "trials" / "x" / "state.json").write_text('{"trial": "a"}')
    check(described.path, name="other")  # a renamed sweep that shares a trial


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(SweepError, match="is not a sweep folder"):
        check(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(SweepError, match="is a file"):
        check(tmp_path / "thesis.tex")


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SweepError, match="cannot be written to"):
        check(tmp_path / "file" / "out")
    with pytest.raises(SweepError, match="cannot be written to"):
        check("/proc/nowhere/out")


def test_a_folder_without_room_is_refused_with_the_numbers(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(SweepError, match=r"needs about [\d,]+ MB, but [\d,]+ MB are free"):
        check(tmp_path / "out", needed_bytes=free * 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_refused(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("this machine does not mount small disks")
    try:
        with pytest.raises(SweepError, match=r"No space left on device|needs about"):
            check(disk / "out", needed_bytes=1)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_one_driver_at_a_time(tmp_path):
    output = OutputFolder.at(tmp_path / "out")
    script = (
        "import sys; from fairsweep.sweeps.store.output import OutputFolder\n"
        "with OutputFolder.at(sys.argv[1]).held(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, output.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SweepError, match="in use by another running sweep"), output.held():
            pass
        other.kill()
        other.wait()
        with output.held():  # the lock of a killed driver is free
            pass


def test_sweep_json_says_how_to_repeat_the_sweep(described):
    first = read_json(described.path / "sweep.json")
    assert (described.path / "sweep.yaml").read_text() == "name: toy\n"
    assert first["versions"].keys() >= {"python", "fairsweep", "torch", "ray", "opacus", "numpy"}
    assert first["git"] == git_commit()
    described.describe(None, {"name": "toy", "seeds": 2}, {"content_hash": "c"}, trials=4)
    second = read_json(described.path / "sweep.json")
    assert second["created"] == first["created"]
    assert second["trials"] == 4
    assert "seeds: 2" in (described.path / "sweep.yaml").read_text()


def test_versions_are_those_that_are_installed():
    import torch

    assert versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert git_commit() is None
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *command], check=True)
    assert git_commit()["changed"] is False
    assert len(git_commit()["commit"]) == 40


def test_a_disk_that_fills_up_is_the_cause_whatever_it_broke(tmp_path, monkeypatch):
    """Tune answers a full disk with an EOFError from one of its files."""
    folder = OutputFolder.at(tmp_path / "out")
    monkeypatch.setattr(output, "_is_full", lambda _: True)
    with pytest.raises(SweepError, match="is full; free some space and resume with: fairsweep resume"), folder.held():
        raise EOFError("Ran out of input")
    monkeypatch.setattr(output, "_is_full", lambda _: False)
    with pytest.raises(EOFError), folder.held():
        raise EOFError("Ran out of input")
    assert folder.holder() is None


def test_full_is_what_takes_no_more(tmp_path, monkeypatch):
    assert not output._is_full(tmp_path)
    assert list(tmp_path.iterdir()) == []

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output.os, "fsync", full)
    assert output._is_full(tmp_path)
    assert list(tmp_path.iterdir()) == []
