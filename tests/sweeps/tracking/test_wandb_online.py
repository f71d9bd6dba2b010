"""The tracker's process online, against a stub server: `wandb_server` says what that shows and what not."""

import json
import time

import pytest

from fairsweep.analysis.records.files import write_json
from fairsweep.sweeps.tracking.following import Follower, Records
from fairsweep.sweeps.tracking.tracker_process import tracked

from .wandb_server import ENTITY, serving

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef" * 2 + "01234567"
TRIAL = "private-eps3_share.9_s0-aaaaaaaa"
SECTION = {"wandb": {"project": "fair", "entity": ENTITY, "tags": ["try"]}, "every_seconds": 0.5}


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    with serving() as stub:
        monkeypatch.setenv("WANDB_BASE_URL", stub.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield stub


def until(holds):
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def track(sweep, meanwhile=lambda: None):
    """Track with a process of its own while something happens; returns what it said."""
    said = []
    with tracked(Records.of(sweep.folder).section, sweep.folder, said.append):
        meanwhile()
    return said


def run_of(server, sweep, name=TRIAL):
    identity = Records.of(sweep.folder).sweep
    return server.runs.get(("fair", identity.run_id(f"{name[-8:]} of {name}" if name else "sweep")))


def losses(run):
    return [(row["_step"], row["train/loss"]) for row in run.rows if "train/loss" in row]


EXPECTED = [(i, pytest.approx(0.5 / i)) for i in range(1, 6)]


def test_a_run_grows_online_and_is_continued_when_its_trial_is(recorded, server):
    sweep = recorded(SECTION | {"wait_seconds": 200.0})
    sweep.write(TRIAL, 2)
    assert track(sweep, lambda: until(lambda: run_of(server, sweep))) == []
    run = run_of(server, sweep)
    assert losses(run) == EXPECTED[:2]
    assert (run.exit_code, run.resumed_at, server.key) == (0, [], KEY)
    assert {name: run.fields[name] for name in ("entity", "displayName", "jobType", "groupName")} == {
        "entity": ENTITY,
        "displayName": TRIAL,
        "jobType": "private-eps3",
        "groupName": "toy: private-eps3_share.9",
    }
    assert set(run.fields["tags"]) == {"toy", "try"}
    assert run.config["learner"]["value"]["lr"] == 0.1

    sweep.write(TRIAL, 1, attempt=2)  # from an earlier checkpoint
    sweep.write(TRIAL, 5, "done", attempt=2)
    assert track(sweep) == []
    assert losses(run) == EXPECTED
    assert (run.exit_code, run.resumed_at, run.summary["state"]) == (0, [2], "done")
    assert run.rows[-1]["cells"]["_type"] == "table-file"
    assert json.loads(run.files[run.rows[-1]["cells"]["path"]])["columns"][-1] == "count"
    assert run.files[run.rows[-1]["confusion/tone"]["path"]].startswith(b"\x89PNG")
    assert len(server.artifacts) == 3  # the table of cells, and twice that of trials
    whole = run_of(server, sweep, None)
    assert (whole.fields["jobType"], whole.fields["displayName"]) == ("sweep", "toy")
    assert whole.rows[-1]["trials"]["nrows"] == 1
    assert len(server.runs) == 2
    assert server.unknown == []


def test_what_a_server_that_fails_did_not_take_is_sent_when_it_works_again(recorded, server):
    sweep = recorded(SECTION | {"wait_seconds": 3.0})
    sweep.write(TRIAL, 2)

    def fail():
        until(lambda: run_of(server, sweep))
        server.failing.set()
        sweep.write(TRIAL, 3)
        journal = sweep.folder / "tracking/wandb.jsonl"
        until(lambda: '"iteration": 3' in (journal.read_text() if journal.exists() else ""))

    # The client has logged three iterations; the server has none of the last one when the process must end.
    said = track(sweep, fail)
    assert "fairsweep track" in said[-1]
    assert server.failed > 0
    assert (3, pytest.approx(0.5 / 3)) not in losses(run_of(server, sweep))

    content = sweep.description()
    content["sweep"]["tracking"]["wait_seconds"] = 200.0
    write_json(sweep.folder / "sweep.json", content)
    sweep.write(TRIAL, 5, "done")

    def recover():
        failed = server.failed
        until(lambda: server.failed > failed)
        server.failing.clear()

    assert track(sweep, recover) == []
    run = run_of(server, sweep)
    assert losses(run) == EXPECTED
    assert (run.exit_code, run.summary["state"]) == (0, "done")
    assert run.rows[-1]["cells"]["_type"] == "table-file"


def look(sweep):
    """What one start of the tracker sends, in this process and without the sweep's own run."""
    said = []
    follower = Follower("wandb", Records.of(sweep.folder), said.append)
    assert follower.look(), said
    follower._tracker.close()


def test_an_end_that_is_seen_only_later_takes_no_step_from_what_follows(recorded, server):
    """The tracker of each state is another one: W&B's client then holds the last step for taken."""
    sweep = recorded(SECTION)
    sweep.write(TRIAL, 2)
    look(sweep)
    sweep.write(TRIAL, 2, "failed", error="no memory")
    look(sweep)
    run = run_of(server, sweep)
    assert (run.exit_code, run.summary["error"]) == (1, "no memory")
    sweep.write(TRIAL, 5, attempt=2)
    look(sweep)
    assert losses(run) == EXPECTED
    assert "cells" not in run.rows[-1]
    sweep.write(TRIAL, 5, "done", attempt=2)
    look(sweep)
    assert losses(run) == EXPECTED
    assert run.rows[-1]["cells"]["_type"] == "table-file"
    assert run.rows[-1]["confusion/tone"]["_type"] == "image-file"
    assert (run.exit_code, run.summary["state"]) == (0, "done")
