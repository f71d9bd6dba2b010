import threading
import time

import pytest

from fairsweep.sweeps.tracking import following
from fairsweep.sweeps.tracking.following import Follower, Records
from fairsweep.sweeps.tracking.journal import Journal, Sent
from fairsweep.sweeps.tracking.tracker_main import track


class Listener:
    """A tracker that remembers what it is told."""

    is_live = True

    def __init__(self):
        self.steps, self.ended, self.sweeps = {}, [], 0

    def send(self, report, after):
        self.steps.setdefault(report.name, []).extend(i for i in report.series if i > after)
        if report.has_ended:
            self.ended.append((report.name, report.state.state))

    def send_sweep(self, report):
        self.sweeps += 1

    def close(self):
        pass


@pytest.fixture
def listener(monkeypatch):
    tracker = Listener()
    monkeypatch.setattr(following, "open_tracker", lambda kind, place: tracker)
    return tracker


OWN = """
class Lines:
    is_live = True

    def __init__(self, place):
        self._file = place.folder / "lines.txt"

    def send(self, report, after):
        with self._file.open("a") as file:
            file.writelines(f"{report.name} {i}\\n" for i in report.series if i > after)

    def send_sweep(self, report):
        with self._file.open("a") as file:
            file.write("end\\n")

    def close(self):
        pass
"""


def test_a_tracker_of_ones_own_needs_its_file_no_more(recorded, tmp_path):
    sweep = recorded({"own": ["gone/my.py:Lines"]}, own_code={"gone/my.py": OWN})
    sweep.write("sgd_s0-aaaaaaaa", 2, "done")
    for _ in range(2):
        one = follower(sweep, "gone/my.py:Lines")
        one.finish()
        assert one.is_finished
    lines = (sweep.folder / "tracking/lines.txt").read_text().splitlines()
    assert lines == ["sgd_s0-aaaaaaaa 1", "sgd_s0-aaaaaaaa 2", "end", "end"]


def follower(sweep, kind="files", said=None):
    return Follower(kind, Records.of(sweep.folder), (said if said is not None else []).append)


def test_every_iteration_is_sent_once_however_often_the_tracker_starts_anew(recorded, listener):
    sweep = recorded(["files"])
    for iterations in (0, 2, 2, 3):
        sweep.write("sgd_s0-aaaaaaaa", iterations)
        follower(sweep).look()
    sweep.write("sgd_s0-aaaaaaaa", 1, attempt=2)  # resumed from an earlier checkpoint
    follower(sweep).look()
    sweep.write("sgd_s0-aaaaaaaa", 5, "done", attempt=2)
    for _ in range(2):
        follower(sweep).look()
    assert listener.steps == {"sgd_s0-aaaaaaaa": [1, 2, 3, 4, 5]}
    assert listener.ended == [("sgd_s0-aaaaaaaa", "done")]


def test_a_trial_that_failed_and_is_retried_ends_twice(recorded, listener):
    sweep = recorded(["files"])
    sweep.write("sgd_s0-aaaaaaaa", 2, "failed", error="no memory")
    one = follower(sweep)
    one.look()
    sweep.write("sgd_s0-aaaaaaaa", 2, "queued", attempt=2)
    one.look()
    sweep.write("sgd_s0-aaaaaaaa", 5, "done", attempt=3)
    one.look()
    assert listener.ended == [("sgd_s0-aaaaaaaa", "failed"), ("sgd_s0-aaaaaaaa", "done")]
    assert listener.steps["sgd_s0-aaaaaaaa"] == [1, 2, 3, 4, 5]


def test_what_a_tracker_could_not_take_is_said_once_and_sent_later(recorded, listener, monkeypatch):
    sweep = recorded(["files"])
    sweep.write("sgd_s0-aaaaaaaa", 5, "done")
    said = []
    one = follower(sweep, said=said)
    monkeypatch.setattr(listener, "send", lambda report, after: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert not one.look()
    assert not one.look()
    assert len(said) == 1
    assert "files is not reachable (OSError: [Errno 28] No space left)" in said[0]
    assert f"fairsweep track {sweep.folder}" in said[0]
    monkeypatch.undo()
    monkeypatch.setattr(following, "open_tracker", lambda kind, place: listener)
    one.finish()
    assert one.is_finished
    assert listener.steps == {"sgd_s0-aaaaaaaa": [1, 2, 3, 4, 5]}
    assert listener.sweeps == 1


def test_a_tracker_that_hangs_holds_up_neither_the_end_nor_another(recorded, listener, monkeypatch):
    sweep = recorded(["tensorboard", "files"])
    sweep.write("sgd_s0-aaaaaaaa", 5, "done")
    hangs = Listener()
    release = threading.Event()
    hangs.send = lambda report, after: release.wait(60)
    monkeypatch.setattr(following, "open_tracker", lambda kind, place: hangs if kind == "tensorboard" else listener)
    said, finishing = [], threading.Event()
    finishing.set()
    began = time.monotonic()
    assert not track(sweep.folder, said.append, finishing, lambda: 1.0)
    assert time.monotonic() - began < 30
    release.set()
    assert listener.ended == [("sgd_s0-aaaaaaaa", "done")]
    assert [line for line in said if "1 trial is not sent to tensorboard yet" in line]


def test_a_tracker_that_takes_ended_trials_only_gets_no_others(recorded, listener):
    listener.is_live = False
    sweep = recorded(["files"])
    sweep.write("sgd_s0-aaaaaaaa", 3)
    one = follower(sweep)
    one.look()
    assert listener.steps == {}
    sweep.write("sgd_s0-aaaaaaaa", 5, "stopped", by="scheduler")
    one.look()
    assert listener.steps == {"sgd_s0-aaaaaaaa": [1, 2, 3, 4, 5]}


def test_a_journal_survives_a_line_that_was_cut_short(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.note("a", Sent(3, "running", 1))
    with path.open("a") as file:
        file.write('{"trial": "b", "itera')
    journal = Journal(path)
    assert journal["a"] == Sent(3, "running", 1)
    assert journal["b"] == Sent()
    journal.note("b", Sent(5, "done", 2))
    assert Journal(path)["b"] == Sent(5, "done", 2)
