import json
import time

import pytest
import wandb

from fairsweep.sweeps.tracking import wandb_key
from fairsweep.sweeps.tracking.following import Follower, Records
from fairsweep.sweeps.tracking.journal import Journal, Sent
from fairsweep.sweeps.tracking.wandb_key import wandb_environment, wandb_mode

from .wandb_log import LoggedRun


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def logs(folder):
    """Every offline run, once all of it is on disk: W&B's own process writes on after a run is finished."""
    end = time.monotonic() + 120
    while True:
        found = {path.stem.removeprefix("run-"): LoggedRun(path) for path in folder.rglob("offline-run-*/run-*.wandb")}
        if all(log.exit_code is not None for log in found.values()):
            return found
        assert time.monotonic() < end
        time.sleep(0.05)


def follow(sweep):
    said = []
    follower = Follower("wandb", Records.of(sweep.folder), said.append)
    follower.look()
    return follower, said


def test_the_reader_reads_what_wandb_writes(tmp_path):
    long = "x" * 70_000  # over several blocks
    run = wandb.init(
        project="p",
        id="abc",
        name="n",
        config={"a": {"b": 1}, "long": long},
        mode="offline",
        dir=tmp_path,
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off"),
    )
    for step in range(3):
        run.log({"loss": 1 / (step + 1), "deep/name": step}, step=step)
    run.summary["best"] = 7
    run.finish(exit_code=3)
    (log,) = logs(tmp_path).values()
    assert (log.run.run_id, log.run.display_name, log.run.project) == ("abc", "n", "p")
    assert (log.config["a"], log.config["long"]) == ({"b": 1}, long)
    assert [row["deep/name"] for row in log.history] == [0, 1, 2]
    assert [row["loss"] for row in log.history] == [1, 0.5, 1 / 3]
    assert log.summary["best"] == 7
    assert log.exit_code == 3


def test_a_run_for_each_trial_and_one_for_the_sweep(recorded):
    sweep = recorded({"wandb": {"project": "fair", "entity": "lab", "tags": ["try"]}})
    sweep.write("private-eps3_share.9_s0-aaaaaaaa", 5, "done")
    sweep.write("private-eps3_share.9_s1-bbbbbbbb", 2, "failed", error="OSError: gone")
    sweep.write("plain_s0-cccccccc", 2)
    follower, said = follow(sweep)
    assert len(logs(sweep.folder)) == 2  # the third runs
    follower.finish()
    by_name = {log.run.display_name: log for log in logs(sweep.folder).values()}
    assert set(by_name) == {"private-eps3_share.9_s0-aaaaaaaa", "private-eps3_share.9_s1-bbbbbbbb", "toy"}
    done = by_name["private-eps3_share.9_s0-aaaaaaaa"]
    assert (done.run.project, done.run.entity, done.run.job_type) == ("fair", "lab", "private-eps3")
    assert done.run.run_group == "toy: private-eps3_share.9"
    assert set(done.run.tags) == {"toy", "try"}
    assert done.run.run_id == Records.of(sweep.folder).sweep.run_id("aaaaaaaa of private-eps3_share.9_s0-aaaaaaaa")
    assert done.config["learner"]["lr"] == 0.1
    steps = [row["_step"] for row in done.history]
    assert steps == [1, 2, 3, 4, 5]
    assert [row["train/loss"] for row in done.history] == pytest.approx([0.5 / i for i in steps])
    assert done.history[-1]["cells/_type"] == "table-file"
    assert done.history[-1]["confusion/tone/_type"] == "image-file"
    assert done.summary["state"] == "done"
    failed = by_name["private-eps3_share.9_s1-bbbbbbbb"]
    assert (failed.exit_code, failed.summary["error"]) == (1, "OSError: gone")
    assert by_name["toy"].run.job_type == "sweep"
    assert "wandb sync --yes" in said[-1]


class ResumedRun:
    """What W&B's client says of a run of which the server has steps 0 to 2; see `test_wandb_online`."""

    step, starting_step = 0, 3

    def __init__(self):
        self.summary, self.logged = {}, []

    def log(self, content, step):
        self.logged += [(step, name) for name in content if name in ("train/loss", "cells")]

    def finish(self, exit_code):
        pass


@pytest.mark.parametrize(
    ("iterations", "state", "expected"),
    [
        (4, "running", [(3, "train/loss"), (4, "train/loss")]),  # the journal says that 3 was sent: the server lacks it
        (2, "done", [(3, "cells")]),
        (2, "failed", []),  # a retry needs step 3
    ],
)
def test_online_the_server_says_what_is_missing(recorded, monkeypatch, iterations, state, expected):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    run = ResumedRun()
    monkeypatch.setattr("fairsweep.sweeps.tracking.wandb_runs.wandb.init", lambda **_: run)
    sweep = recorded({"wandb": True, "pictures": False})
    sweep.write("plain_s0-cccccccc", iterations, state)
    Journal(sweep.folder / "tracking/wandb.jsonl").note(
        "cccccccc of plain_s0-cccccccc", Sent(min(3, iterations), "running")
    )
    _, said = follow(sweep)
    assert said == []
    assert run.logged == expected


def test_a_trial_that_goes_on_takes_the_place_of_its_run(recorded):
    sweep = recorded({"wandb": True, "pictures": False})
    sweep.write("plain_s0-cccccccc", 2, "failed", error="killed")
    follow(sweep)
    (before,) = logs(sweep.folder).items()
    sweep.write("plain_s0-cccccccc", 5, "done", attempt=2)
    follow(sweep)
    (after,) = logs(sweep.folder).items()
    assert before[0] == after[0]
    assert [row["_step"] for row in after[1].history] == [1, 2, 3, 4, 5]
    assert len(list((sweep.folder / "tracking/wandb").glob("offline-run-*"))) == 1
    table = json.loads(next((sweep.folder / "tracking/wandb").rglob("cells*.table.json")).read_text())
    assert table["columns"][:3] == ["iteration", "split", "tone"]


def test_online_only_with_a_key(tmp_path):
    home = {"HOME": str(tmp_path)}
    assert wandb_mode("auto", home) == ("offline", "")
    assert wandb_mode("online", home)[0] == "offline"
    assert "no key found" in wandb_mode("online", home)[1]
    assert wandb_mode("auto", home | {"WANDB_API_KEY": "k"}) == ("online", "")
    assert wandb_mode("offline", home | {"WANDB_API_KEY": "k"}) == ("offline", "")
    assert wandb_mode("auto", home | {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"})[0] == "offline"
    assert wandb_mode("auto", home | {"WANDB_MODE": "disabled"})[0] == "disabled"
    (tmp_path / ".netrc").write_text("machine wandb.example\n login user\n password k\n")
    assert wandb_mode("auto", home)[0] == "offline"
    assert wandb_mode("auto", home | {"WANDB_BASE_URL": "https://wandb.example"})[0] == "online"


def test_a_key_that_only_the_notebook_can_read_is_handed_on(monkeypatch):
    assert wandb_environment() == {}
    monkeypatch.setattr(wandb_key, "_notebook_secret", lambda: "k")
    assert wandb_environment() == {"WANDB_API_KEY": "k"}
    monkeypatch.setenv("WANDB_API_KEY", "mine")
    assert wandb_environment() == {}
