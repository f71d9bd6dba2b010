"""Commands on sweeps that exist: what lies where, stopping, trying again, growing."""

import json
import threading
import time
from types import SimpleNamespace

import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from fairsweep.analysis.records.failed_trials import retry_command
from fairsweep.analysis.records.files import read_json, write_json, write_parquet
from fairsweep.sweeps.cli import commands
from fairsweep.sweeps.copies.resuming import resume_sweep
from fairsweep.sweeps.execution.extending import Extension, extend_sweep
from fairsweep.sweeps.execution.failures import failed_trials, failure_groups
from fairsweep.sweeps.execution.stop_requests import StopRequests
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.store.difference import changes, difference_of
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.store.listing import list_sweeps, list_trials
from fairsweep.sweeps.store.output import STOP_REQUESTS, OutputFolder
from fairsweep.sweeps.store.requests import find_trial, stop_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.views.progress import Progress
from fairsweep.trainables.trial.state import StaleAttemptError

STATES = ("done", "failed", "failed", "stopped", "running")
CAUSES = {
    1: "DivergedError: the training loss is nan in iteration 3: lower the learning rate, or clip",
    2: "DivergedError: the training loss is nan in iteration 14: lower the learning rate, or clip",
}
TEXT = """# compares two methods
name: toy
dataset: {path: PATH, label: smiling, groups: [tone]}  # faces
imbalance: {attribute: tone, majority: light, share: {grid: [0.5, 0.9]}, size: 120}
model: {name: linear}
learners:
  # the private one
  - {name: private, kind: dpsgd, epochs: 3, batch_size: 24, noise_multiplier: 1.0, performance: {gradient_mode: hooks}}
  - {name: matched, twin_of: private}
  - name: 'tuned'   # quoted
    kind: sgd
    epochs: 3
    batch_size: 24
seeds: 2  # replicates
"""


@pytest.fixture
def trials(mapping, toy):
    return expand(Sweep.from_mapping(mapping), toy)


@pytest.fixture
def left(mapping, trials, tmp_path, toy, toy_path):
    """What a sweep of 12 trials left: five of them were started, and ended each in its way."""
    output = OutputFolder.at(tmp_path / "out")
    output.path.mkdir()
    sweep = Sweep.from_mapping(mapping)
    dataset = {"path": str(toy_path), "content_hash": toy.info.content_hash}
    output.describe(TEXT.replace("PATH", str(toy_path)), sweep.model_dump(mode="json"), dataset, len(trials))
    queued = output.ledger.queue(trials[:5])
    for number, (trial, state) in enumerate(zip(trials, STATES, strict=False)):
        entry = queued[trial.trial]
        write_json(entry.folder / "config.json", trial.config.record())
        entry.file.begin(trial.trial, run=entry.state.run)
        error = CAUSES.get(number)
        by = "user" if state == "stopped" else None
        if state == "done":
            write_json(entry.folder / "data.json", {})
            for name in ("cells", "training", "predictions"):
                write_parquet(entry.folder / f"{name}.parquet", pa.table({}), {})
        changed = {"state": state, "error": error, "traceback": error and f"Traceback\n{error}", "by": by}
        entry.file.mark(changed | ({"reason": "stopped on request"} if by else {}))
    return output.path


def test_ls_counts_trials_by_state(left, tmp_path, fairsweep):
    (line,) = list_sweeps(tmp_path)
    assert (line.name, line.trials, line.holder) == ("toy", 12, None)
    assert line.counts == {"queued": 7, "running": 1, "done": 1, "failed": 2, "stopped": 1}
    code, out, _ = fairsweep("ls", tmp_path)
    assert code == 0
    assert out.splitlines()[1].split()[2:] == ["12", "7", "1", "1", "1", "2"]
    with OutputFolder.at(left).held():
        (held,) = list_sweeps(tmp_path)
        assert held.holder.process > 0
        assert f"process {held.holder.process}" in fairsweep("ls", tmp_path)[1]
    assert fairsweep("ls", left / "trials")[1].startswith("no sweeps in")
    assert fairsweep("ls", tmp_path / "nowhere")[0] == 2


def test_ls_of_one_sweep_lists_its_trials(left, fairsweep):
    lines = list_trials(left)
    assert sorted((line.state, line.attempts) for line in lines) == sorted((state, 1) for state in STATES)
    assert {line.learner for line in lines} <= {"private", "matched", "tuned"}
    code, out, _ = fairsweep("ls", left)
    assert code == 0
    assert "stopped by user" in out
    assert "2 failed: DivergedError" in out
    assert f"fairsweep retry-failed {left}" in out
    content = json.loads(fairsweep("ls", left, "--json")[1])
    assert content["counts"]["failed"] == 2
    assert [group["count"] for group in content["failures"]] == [2]
    assert {line["state"] for line in content["listed"]} == set(STATES)


def test_ls_makes_nothing(left, tmp_path, fairsweep):
    (left / ".lock").unlink(missing_ok=True)
    before = sorted(tmp_path.rglob("*"))
    fairsweep("ls", left)
    assert sorted(tmp_path.rglob("*")) == before


def test_failures_that_differ_in_numbers_are_one_group(left, trials):
    (group,) = failure_groups(left)
    assert group.count == 2
    assert set(group.hashes) == {trials[1].trial, trials[2].trial}
    assert group.traceback.startswith("Traceback")
    ledger = Ledger(left)
    entry = ledger.entries()[trials[4].trial]
    entry.file.mark({"state": "failed", "error": "OutOfMemoryError: CUDA out of memory, 3 GiB"})
    first, second = failure_groups(left)
    assert (first.count, second.count) == (2, 1)
    assert (group.words, first.words, second.words) == ("", "DivergedError", "OutOfMemoryError")
    assert retry_command({}, "runs/a", second.words) == "fairsweep retry-failed runs/a --cause OutOfMemoryError"
    assert failed_trials(left) == set(group.hashes) | {trials[4].trial}
    assert failed_trials(left, "cuda OUT of memory") == {trials[4].trial}
    with pytest.raises(SweepError, match=r"no trial failed of 'disk'; causes: DivergedError"):
        failed_trials(left, "disk")


def test_of_a_guided_search_no_failed_trial_is_proposed_to_run_again(left, mapping, fairsweep):
    mapping["learners"][-1]["optimizer"] = {"lr": {"loguniform": [0.001, 1.0]}}
    mapping["search"] = {"algorithm": "tpe", "samples": 4, "objectives": [{"max": "accuracy"}]}
    output = OutputFolder.at(left)
    output.describe(
        None, Sweep.from_mapping(mapping).model_dump(mode="json"), output.description()["dataset"], len(STATES)
    )
    out = fairsweep("ls", left)[1]
    assert "2 failed: DivergedError" in out
    assert "retry-failed" not in out
    proposed = "fairsweep extend DIR --trials N".replace("DIR", str(left))
    assert out.count(proposed) == 1
    assert [group["retry"] for group in json.loads(fairsweep("ls", left, "--json")[1])["failures"]] == [None]
    # What is proposed is accepted, unlike trying again.
    assert fairsweep("retry-failed", left)[0] == 2
    assert extend_sweep(left, trials=3).sweep.search.samples == 7


def test_stop_of_a_sweep_that_does_not_run_says_so(left, fairsweep):
    assert "no sweep is running" in fairsweep("stop", left)[1]
    assert not list(left.glob(STOP_REQUESTS))
    assert fairsweep("stop", left.parent)[0] == 2


def test_a_request_ends_the_driver_as_ctrl_c_does(left):
    entries = Ledger(left).entries()
    watcher = StopRequests(left, entries)
    with OutputFolder.at(left).held():
        watcher.on_step_begin(0, [])
        asked = stop_sweep(left, wait_seconds=0.3)
        assert (asked.running, asked.ended) == (True, False)
        watcher._due = 0.0
        with pytest.raises(KeyboardInterrupt):
            watcher.on_step_begin(1, [])
    assert not list(left.glob(STOP_REQUESTS))
    assert OutputFolder.at(left).holder() is None


def test_a_request_for_one_trial_takes_it_from_its_worker(left, trials):
    entries = Ledger(left).queue(trials[4:6])
    running = entries[trials[4].trial]
    worker = running.file.begin(trials[4].trial, run=running.state.run)
    watcher = StopRequests(left, entries)
    with OutputFolder.at(left).held():
        found = []
        thread = threading.Thread(target=lambda: found.append(stop_sweep(left, trial=trials[4].trial[:12])))
        thread.start()
        while thread.is_alive():
            watcher.on_step_begin(0, [])
            time.sleep(0.05)
    (became,) = found
    assert became.ended
    assert running.file.read().state == "stopped"
    assert running.file.read().by == "user"
    with pytest.raises(StaleAttemptError):
        worker.update(iteration=1)
    with pytest.raises(StaleAttemptError):  # nor does it start when Tune tries it again
        running.file.begin(trials[4].trial, run=running.state.run)
    assert entries[trials[5].trial].file.read().state == "queued"
    # A stopped trial is not lost: the next run takes it up.
    assert trials[4] in Ledger(left).missing(trials)


def test_the_view_tells_a_stopped_trial_from_a_failed_one(left, trials):
    entries = Ledger(left).queue(trials[4:6])
    progress = Progress(trials[4:6], entries, {}, done_before=0, slots=1)
    became = [
        {"state": "stopped", "by": "user", "reason": "stopped on request"},
        {"state": "failed", "error": "ValueError"},
    ]
    for trial, state in zip(trials[4:6], became, strict=True):
        entries[trial.trial].file.mark(state)
        tune_trial = SimpleNamespace(config={"trial": trial.trial}, last_result={"failed": 1.0})
        progress.on_trial_start(0, [], tune_trial)
        progress.on_trial_complete(1, [], tune_trial)
    rows = [progress.rows[trial.trial] for trial in trials[4:6]]
    assert [(row.stage, row.cause) for row in rows] == [("stopped", "stopped on request"), ("failed", "ValueError")]


def test_a_trial_is_found_by_the_start_of_its_name(left, trials):
    output = OutputFolder.at(left)
    name = Ledger(left).entries()[trials[0].trial].folder.name
    assert find_trial(output, name).state.trial == trials[0].trial
    assert find_trial(output, f"trials/{name[:-1]}").state.trial == trials[0].trial
    with pytest.raises(SweepError, match="give more of the name"):
        find_trial(output, "")
    with pytest.raises(SweepError, match="did you mean"):
        find_trial(output, f"my-{name}")
    # Of a sweep with hundreds of trials all their names would be pages.
    with pytest.raises(SweepError, match=r"no trial 'nobody': `fairsweep ls SWEEP` lists the \d+ that there are$"):
        find_trial(output, "nobody")


def test_changes_are_told_by_place():
    before = {"seeds": 5, "learners": [{"kind": "sgd", "lr": 0.1}, {"name": "b", "kind": "sgd"}], "key": None}
    after = {"seeds": 6, "learners": [{"name": "c", "kind": "sgd"}, {"kind": "sgd", "lr": {"grid": [0.1, 1.0]}}]}
    assert [str(change) for change in changes(before, after)] == [
        "~ seeds: 5 → 6",
        "+ learners[c]: {name: c, kind: sgd}",
        "~ learners[sgd].lr: 0.1 → {grid: [0.1, 1]}",
        "- learners[b]: {name: b, kind: sgd}",
        "- key: null",
    ]


def test_the_difference_to_the_last_run_counts_trials(left, mapping, tmp_path, monkeypatch):
    assert difference_of(Sweep.from_mapping(mapping)).lines() == []
    monkeypatch.chdir(tmp_path)
    sweep, _ = resume_sweep(left)
    assert difference_of(sweep).changes == ()
    mapping["seeds"] = 3
    mapping["imbalance"]["share"]["grid"] = [0.9, 0.99]
    found = difference_of(Sweep.from_mapping(mapping))
    assert [change.place for change in found.changes] == ["imbalance.share.grid", "seeds"]
    # 2 levels x 3 learners x 3 seeds; of the five that have begun, three are at the level that is gone.
    gone = {entry.folder.name for entry in Ledger(left).entries().values() if "share.5" in entry.folder.name}
    assert set(found.left) == gone
    assert len(found.added) == 18 - (5 - len(gone))
    assert (
        found.lines()[-1]
        .strip()
        .startswith(f"adds {len(found.added)} trials; {len(gone)} trials of the previous version")
    )


def test_a_sweep_grows_by_seeds_and_keeps_its_comments(left, toy_path):
    extension = extend_sweep(left, seeds=3)
    assert extension.text == TEXT.replace("PATH", str(toy_path)).replace("seeds: 2", "seeds: 3")
    assert (extension.sweep.seeds, extension.sweep.folder) == (3, left)
    difference = difference_of(extension.sweep)
    assert [str(change) for change in difference.changes] == ["~ seeds: 2 → 3"]
    assert len(difference.added) == 12 - 5 + 6
    assert difference.left == ()


def test_a_search_grows_by_samples_and_keeps_its_draws(mapping, toy, tmp_path, toy_path):
    mapping |= {"search": {"algorithm": "random", "samples": 2}, "seeds": 1}
    mapping["learners"] = [
        {"name": "tuned", "kind": "sgd", "epochs": 1, "optimizer": {"lr": {"loguniform": [0.01, 1]}}}
    ]
    sweep = Sweep.from_mapping(mapping)
    before = {trial.trial for trial in expand(sweep, toy)}
    output = OutputFolder.at(tmp_path / "out")
    output.path.mkdir()
    output.describe(None, sweep.model_dump(mode="json"), {"path": str(toy_path)}, len(before))
    extension = extend_sweep(output.path, trials=3)
    assert extension.sweep.search.samples == 5
    assert YAML(typ="safe").load(extension.text)["search"]["samples"] == 5
    after = {trial.trial for trial in expand(extension.sweep, toy)}
    assert before < after
    assert len(after) == 5 * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "exactly one of --trials and --seeds"),
        (("--seeds", 2), "must exceed the current 2"),
        (("--trials", 4), "enumerates a grid"),
        (("--seeds", 3), "confirm with --yes"),
    ],
)
def test_a_sweep_that_cannot_grow_so_is_left_alone(left, fairsweep, arguments, words):
    before = (left / "sweep.yaml").read_text(), read_json(left / "sweep.json")
    code, _, err = fairsweep("extend", left, *arguments)
    assert code == 2
    assert words in err
    assert ((left / "sweep.yaml").read_text(), read_json(left / "sweep.json")) == before


def test_seeds_that_are_crossed_grow_in_training(mapping, tmp_path, toy_path):
    sweep = Sweep.from_mapping(mapping | {"seeds": {"data": 2, "train": 2}})
    output = OutputFolder.at(tmp_path / "out")
    output.path.mkdir()
    output.describe(None, sweep.model_dump(mode="json"), {"path": str(toy_path)}, 4)
    grown = extend_sweep(output.path, seeds=4).sweep.seeds
    assert grown == sweep.seeds.model_copy(update={"train": 4})


def test_failed_trials_run_again_and_nothing_else_does(left, trials, fairsweep, ray_session):
    failed = failed_trials(left)
    code, _, err = fairsweep("retry-failed", left, "--cause", "loss is nan")
    assert code == 0, err
    assert "1 of 12 trials are done" in err
    assert "2 run now (2 failed)" in err
    states = {trial: entry.state for trial, entry in Ledger(left).entries().items()}
    assert {states[trial].state for trial in failed} == {"done"}
    assert [states[trial.trial].state for trial in trials[3:5]] == ["stopped", "running"]
    assert len(states) == 5
    assert "no failed trials" in fairsweep("retry-failed", left)[1]


def test_extend_shows_the_difference_and_runs_what_it_adds(left, trials, fairsweep, monkeypatch):
    asked = []
    monkeypatch.setattr(Extension, "run", lambda self, **_: asked.append((self.sweep, self.text)))
    monkeypatch.setattr(commands, "_finish", lambda _: None)
    code, _, err = fairsweep("extend", left, "--seeds", 3, "--yes")
    assert code == 0
    assert "~ seeds: 2 → 3" in err
    assert "adds 13 trials" in err  # 6 of the third seed, 7 that were never started
    ((sweep, text),) = asked
    assert sweep.seeds == 3
    assert "seeds: 3  # replicates" in text
