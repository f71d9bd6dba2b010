"""A sweep's copy on a drive that refuses locks, maps and renames, and on S3; going on from it elsewhere."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from pyarrow import fs

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.files import write_json
from fairsweep.datasets.storage.location import Location
from fairsweep.sweeps.copies.mirror import Mirror, sweep_files, trial_files
from fairsweep.sweeps.copies.restoring import fetch_sweep, is_mirror
from fairsweep.sweeps.copies.resuming import resume_mirror
from fairsweep.sweeps.store.folder_copy import CopyError, FolderCopy, StaleCopyError, list_files, write_file
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.storage_uri import MirrorSection
from fairsweep.trainables.trial.checkpoint import CheckpointFolder
from fairsweep.trainables.trial.state import TrialStateFile

# In a process where this ran, no file of a drive can be locked, renamed, linked or mapped.
REFUSING = """
import fcntl, mmap, os, sys
from pathlib import Path
drive = os.path.realpath(sys.argv[2])

def inside(file):
    name = os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else os.path.realpath(os.fspath(file))
    return name.startswith(drive)

def refusing(function, which):
    def refuse(*arguments, **options):
        if any(inside(arguments[i]) for i in which):
            raise OSError(95, "Operation not supported", str(arguments[0]))
        return function(*arguments, **options)
    return refuse

for name in ("rename", "replace", "link"):
    setattr(os, name, refusing(getattr(os, name), (0, 1)))
for name in ("flock", "lockf"):
    setattr(fcntl, name, refusing(getattr(fcntl, name), (0,)))
map_any, map_file = mmap.mmap, refusing(mmap.mmap, (0,))
mmap.mmap = lambda file, *rest, **options: (map_any if file < 0 else map_file)(file, *rest, **options)
"""

DRIVER = (
    REFUSING
    + """
import dataclasses, json, time
from fairsweep.sweeps.execution import tasks
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.adapter import TrialTask

@dataclasses.dataclass(frozen=True)
class SlowTask(TrialTask):
    def open(self):
        trial = super().open()
        step = trial._learner.step
        def slow_step():
            time.sleep(float(os.environ["SLOW"]))
            return step()
        trial._learner.step = slow_step
        return trial

tasks.TrialTask = SlowTask
if __name__ == "__main__":
    Sweep.from_mapping(json.loads(Path(sys.argv[1]).read_text())).run(quiet=True)
"""
)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Breaking(FolderCopy):
    """A copy whose drive goes away after a number of writes, half through the last one."""

    def __init__(self, place, left):
        super().__init__(place)
        self.left = left

    def _write(self, source, at):
        self._use(at, source.read_bytes())
        return super()._write(source, at)

    def _write_manifest(self, manifest):
        self._use(".copy/000009-0.json", b'{"number": 99')
        return super()._write_manifest(manifest)

    def _use(self, at, content):
        self.left -= 1
        if self.left < 0:
            write_file(self.place, at, content[: len(content) // 2])
            raise CopyError("the drive is gone")


@pytest.fixture
def trial(tmp_path):
    """Two versions of a trial's folder: the second has other contents, one file more and one less."""
    versions = []
    for number, names in ((1, ("a", "b/c", "old")), (2, ("a", "b/c", "new"))):
        folder = tmp_path / f"v{number}"
        (folder / "b").mkdir(parents=True)
        for name in names:
            (folder / name).write_text(f"{name} of version {number} " * 9)
        (folder / "same").write_text("the same")
        versions.append(folder)
    return versions


def test_a_copy_is_the_old_or_the_new_version_whenever_it_is_cut_short(trial, tmp_path):
    old, new = (contents(folder) for folder in trial)
    found = []
    for left in range(12):
        place = Location.of(tmp_path / f"copy{left}")
        FolderCopy(place).publish({name: trial[0] / name for name in old})
        try:
            Breaking(place, left).publish({name: trial[1] / name for name in new})
        except CopyError:
            pass
        else:
            break
        fetched = tmp_path / f"fetched{left}"
        assert FolderCopy(place).fetch(fetched)
        found.append(contents(fetched))
        # Whoever comes next repairs it.
        FolderCopy(place).publish({name: trial[1] / name for name in new})
        assert {n: c for n, c in contents(tmp_path / f"copy{left}").items() if not n.startswith(".copy/")} == new
        assert len(list((tmp_path / f"copy{left}" / ".copy").iterdir())) == 1
    assert found[0] == old
    assert found[-1] == new
    assert all(one in (old, new) for one in found)
    assert found == sorted(found, key=lambda one: one == new)


def test_a_first_copy_that_is_cut_short_is_no_copy(trial, tmp_path):
    files = {name: trial[0] / name for name in contents(trial[0])}
    for left in range(len(files) + 1):
        place = Location.of(tmp_path / f"copy{left}")
        with pytest.raises(CopyError):
            Breaking(place, left).publish(files)
        assert FolderCopy(place).newest() is None
        assert not FolderCopy(place).fetch(tmp_path / f"fetched{left}")


def test_a_file_whose_content_has_changed_makes_a_copy_invalid(trial, tmp_path):
    place = Location.of(tmp_path / "copy")
    FolderCopy(place).publish({name: trial[0] / name for name in contents(trial[0])})
    text = (tmp_path / "copy" / "a").read_text()
    (tmp_path / "copy" / "a").write_text(text.replace("a of", "b of"))
    assert not FolderCopy(place).fetch(tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_what_is_the_same_is_not_written_again_and_what_others_put_there_stays(trial, tmp_path):
    place = Location.of(tmp_path / "copy")
    files = {name: trial[0] / name for name in contents(trial[0])}
    assert FolderCopy(place).publish(files) == 4
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    assert FolderCopy(place).publish(files) == 0
    (trial[0] / "same").write_text("not any more")
    assert FolderCopy(place).publish(files) == 1
    assert (tmp_path / "copy" / "notes.txt").read_text() == "mine"
    assert FolderCopy(place).publish({"only": trial[0] / "a"}) == 1
    assert set(list_files(place, apart=(".copy",))) == {"only", "notes.txt"}


def test_an_owner_that_was_followed_by_another_is_refused(trial, tmp_path):
    place = Location.of(tmp_path / "copy")
    files = {name: trial[0] / name for name in contents(trial[0])}
    FolderCopy(place).publish(files, owner=(2, 5))
    with pytest.raises(StaleCopyError, match=r"\(2, 4\) must not"):
        FolderCopy(place).publish(files, owner=(2, 4))
    assert FolderCopy(place).publish({"a": trial[1] / "a"}, owner=(3, 6), add=True) == 1
    assert set(FolderCopy(place).newest().files) == set(files)


@pytest.fixture
def folder(tmp_path):
    """An output folder with a trial that is done and one that runs."""
    output = tmp_path / "local"
    for name, state in (("ended", "done"), ("going", "running")):
        file = TrialStateFile(output / "trials" / name)
        file.queue(name)
        file.mark({"state": state})
        (file.folder / "secret.key").write_bytes(b"s" * 32)
    checkpoints = CheckpointFolder(output / "trials" / "going" / "checkpoints")
    checkpoints.save(3, {"at": 3})
    write_json(output / "sweep.json", {"name": "toy"})
    (output / ".driver.json").write_text("{}")
    (output / ".tune").mkdir()
    (output / ".tune" / "junk").write_text("")
    return output


def test_a_mirror_holds_what_a_resume_needs_and_no_secret(folder, tmp_path):
    said = []
    mirror = Mirror(folder, str(tmp_path / "drive"), said.append)
    with mirror.following(600):
        pass  # once, at the end
    CheckpointFolder(folder / "trials" / "going" / "checkpoints").save(4, {"at": 4})
    assert mirror.copy()
    assert fetch_sweep(str(tmp_path / "drive"), tmp_path / "back") == 2
    expected = {f"trials/{n}/{k}": p for n in ("ended", "going") for k, p in trial_files(folder / "trials" / n).items()}
    assert contents(tmp_path / "back") == {k: p.read_bytes() for k, p in (expected | sweep_files(folder)).items()}
    assert CheckpointFolder(tmp_path / "back" / "trials" / "going" / "checkpoints").newest().state == {"at": 4}
    assert not list((tmp_path / "drive").rglob("secret.key"))
    assert not said
    # A folder that holds its sweep is left as it is.
    shutil.rmtree(tmp_path / "back" / "trials" / "going")
    assert fetch_sweep(str(tmp_path / "drive"), tmp_path / "back") == 0


def test_in_release_mode_a_running_trial_stays_where_its_secret_is(folder, tmp_path):
    assert Mirror(folder, str(tmp_path / "drive"), print, ended_only=True).copy()
    assert fetch_sweep(str(tmp_path / "drive"), tmp_path / "back") == 1
    assert [path.name for path in (tmp_path / "back" / "trials").iterdir()] == ["ended"]


def test_a_drive_that_fails_is_said_once_and_copied_to_when_it_is_back(folder, tmp_path):
    (tmp_path / "drive").write_text("no folder")
    said = []
    mirror = Mirror(folder, str(tmp_path / "drive"), said.append)
    with mirror.following(0.01):
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(said) == 1
        assert "continues without it" in said[0]
        (tmp_path / "drive").unlink()
    assert len(said) == 1
    assert fetch_sweep(str(tmp_path / "drive"), tmp_path / "back") == 2


def test_a_fetch_that_is_killed_goes_on(folder, tmp_path, monkeypatch):
    assert Mirror(folder, str(tmp_path / "drive"), print).copy()

    def killed(self, folder, names=None, listing=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FolderCopy, "fetch", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch_sweep(str(tmp_path / "drive"), tmp_path / "back")
    assert fetch_sweep(str(tmp_path / "drive"), tmp_path / "back") == 2
    assert (tmp_path / "back" / "sweep.json").exists()


def test_credentials_stay_out_of_the_sweep_file():
    with pytest.raises(ValueError, match="AWS_ACCESS_KEY_ID"):
        MirrorSection(to="s3://key:word@bucket/x")


@pytest.fixture(scope="module")
def s3_server():
    moto_server = pytest.importorskip("moto.server")
    logger = logging.getLogger("werkzeug")
    level = logger.level
    logger.setLevel(logging.ERROR)
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "{}:{}".format(*running.get_host_and_port())
    running.stop()
    logger.setLevel(level)


def test_a_mirror_on_s3(folder, tmp_path, s3_server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    options = f"endpoint_override={s3_server}&scheme=http&region=us-east-1"
    s3, _ = fs.FileSystem.from_uri(f"s3://mirrors?{options}&allow_bucket_creation=true")
    s3.create_dir("mirrors")
    uri = f"s3://mirrors/toy?{options}"
    mirror = Mirror(folder, uri, print)
    assert mirror.copy()
    CheckpointFolder(folder / "trials" / "going" / "checkpoints").save(4, {"at": 4})
    TrialStateFile(folder / "trials" / "going").mark({"iteration": 4})
    assert mirror.copy()
    assert fetch_sweep(uri, tmp_path / "back") == 2
    assert TrialStateFile(tmp_path / "back" / "trials" / "going").read().iteration == 4
    assert CheckpointFolder(tmp_path / "back" / "trials" / "going" / "checkpoints").newest().state == {"at": 4}


def drive(work, *, slow):
    with (work / "driver.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, work / "driver.py", work / "sweep.json", work / "drive"],
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=work,
            env=os.environ | {"SLOW": str(slow)},
        )


def end_family(process):
    import psutil

    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for member in family:
        if member.is_running():
            member.kill()
    psutil.wait_procs(family, timeout=300)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_machine_that_vanishes_with_its_disk_loses_no_finished_trial(mapping, tmp_path, capsys):
    """As on Colab: the process and the local folder are gone, the drive stays, and the same cell runs again."""
    learner = {"name": "private", "kind": "dpsgd", "epochs": 24, "batch_size": 24, "noise_multiplier": 1.0}
    mapping["learners"] = [learner | {"performance": {"gradient_mode": "hooks"}}]
    mapping |= {
        "checkpoints": {"seconds": 0},
        "resources": {"cpu": 1},
        "mirror": {"to": str(tmp_path / "drive"), "minutes": 0.01},
    }
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "sweep.json").write_text(json.dumps(mapping))
    process = drive(tmp_path, slow=0.3)
    deadline = time.monotonic() + 300

    def mirrored():
        try:
            entries = Ledger(tmp_path / "drive").entries().values() if (tmp_path / "drive").exists() else ()
        except SweepError:
            return False  # read while it was written: the drive renames nothing, whole is what a manifest names
        whole = [e for e in entries if list((e.folder / ".copy").glob("*.json"))]
        # Far from its end, so that it still runs when the machine vanishes.
        going = [e for e in whole if e.state.state == "running" and 2 < e.state.iteration <= 12]
        return any(e.state.ended for e in whole) and going

    while not mirrored():
        assert (process.poll(), time.monotonic() < deadline) == (None, True), (tmp_path / "driver.log").read_text()[
            -3000:
        ]
        time.sleep(0.05)
    end_family(process)
    shutil.rmtree(tmp_path / "out")
    began = time.monotonic()
    assert fetch_sweep(str(tmp_path / "drive"), tmp_path / "look") >= 2
    before = {e.state.trial: e.state for e in Ledger(tmp_path / "look").entries().values()}
    done = {trial: state for trial, state in before.items() if state.ended}
    assert drive(tmp_path, slow=0).wait(timeout=900) == 0, (tmp_path / "driver.log").read_text()[-3000:]
    seconds = time.monotonic() - began
    after = {e.state.trial: e for e in Ledger(tmp_path / "out").entries().values()}
    assert {e.state.state for e in after.values()} == {"done"}
    assert len(after) == 4
    # What was done was not done again, and what ran went on from its checkpoint.
    assert {trial: after[trial].state for trial in done} == done
    assert any(state.iteration > 2 for trial, state in before.items() if trial not in done)
    mapping_alone = mapping | {"output": str(tmp_path / "alone"), "mirror": None}
    (tmp_path / "sweep.json").write_text(json.dumps(mapping_alone))
    assert drive(tmp_path, slow=0).wait(timeout=900) == 0
    for trial, entry in Ledger(tmp_path / "alone").entries().items():
        cells = read_cells(entry.folder / "cells.parquet").table
        assert read_cells(after[trial].folder / "cells.parquet").table == cells
    # The drive has all of it too.
    assert fetch_sweep(str(tmp_path / "drive"), tmp_path / "last") == 4
    assert {e.state.state for e in Ledger(tmp_path / "last").entries().values()} == {"done"}
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(done)} of 4 trials were done and {len(before)} on the drive; whole again after {seconds:.1f} s\n"
        )


def test_resuming_a_mirror_needs_a_folder_to_work_in(tmp_path, folder):
    Mirror(folder, str(tmp_path / "drive"), print).copy()
    assert is_mirror(tmp_path / "drive")
    assert not is_mirror(folder)
    with pytest.raises(SweepError, match="holds no complete copy"):
        resume_mirror(str(tmp_path / "nothing"), tmp_path / "there")
