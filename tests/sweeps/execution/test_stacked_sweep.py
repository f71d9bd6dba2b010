"""Sweeps whose trials train side by side: who is put together, what the driver sees of each, and when a worker dies."""

import dataclasses
import os
from types import SimpleNamespace

import pytest
import torch
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from fairsweep import analysis
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.sweeps.execution import tasks, trial_queue
from fairsweep.sweeps.execution.stacking import in_stacks
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.planning.machines import Machine, beside, check_resources
from fairsweep.sweeps.runtime.each_trial import EachScheduled, EachTrial
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.views.progress import Progress
from fairsweep.trainables.adapter import SweepTrainable, TrialTask

PRIVATE = {
    "name": "private",
    "kind": "dpsgd",
    "epochs": 3,
    "batch_size": 24,
    "noise_multiplier": 1.0,
    "performance": {"gradient_mode": "bookkeeping"},
}
PLAIN = {"name": "plain", "kind": "sgd", "epochs": 3, "batch_size": 24, "optimizer": {"lr": {"grid": [0.1, 0.2]}}}


@dataclasses.dataclass(frozen=True)
class DyingTask(TrialTask):
    """A trial that takes its worker process down after its first iteration, whenever it gets there."""

    def open(self):
        trial = super().open()
        if self.config.learner.kind == "dpsgd":
            save = trial._save_if_due

            def dying_save(metrics):
                if trial.config.seeds.train == 0:
                    os._exit(9)
                save(metrics)

            trial._save_if_due = dying_save
        return trial


@dataclasses.dataclass(frozen=True)
class CrowdedTask(TrialTask):
    """A trial that finds no room the first time: two of them as they are opened, the third in its first iteration."""

    def open(self):
        trial = super().open()
        marker, number = self.folder / "crowded", trial.config.seeds.train
        if not marker.exists():
            marker.touch()
            if number < 2:
                with trial._failing():
                    raise torch.OutOfMemoryError("no room") if number else OSError("no files left")
            trial.learner.predict = None  # a TypeError as it is evaluated
        return trial


class Boards:
    """The boards of the sweeps that have run."""

    def __init__(self, monkeypatch):
        self.all, boards = [], self

        class Kept(Progress):
            def __init__(self, *given, **fields):
                super().__init__(*given, **fields)
                boards.all.append(self)

        monkeypatch.setattr(trial_queue, "Progress", Kept)

    def stages(self):
        (board,) = self.all
        return {row.label: row.stage for row in board.rows.values()}


@pytest.fixture
def boards(monkeypatch):
    return Boards(monkeypatch)


@pytest.fixture
def run(mapping, toy, ray_session, tmp_path):
    """Runs learners' trials; returns results, and states and folders by label."""

    def go(learners, name="out", **fields):
        content = {"seeds": 3, "imbalance": None, "checkpoints": {"seconds": 0}, **fields}
        sweep = Sweep.from_mapping(mapping | content | {"learners": learners, "output": str(tmp_path / name)})
        results = sweep.run(quiet=True)
        entries = Ledger(tmp_path / name).entries()
        labels = {trial.trial: trial.label for trial in expand(sweep, toy)}
        return results, {labels[trial]: entry for trial, entry in entries.items()}

    return go


def processes(tmp_path, name="out"):
    return [path for path in (tmp_path / name / ".tune" / "run").iterdir() if path.is_dir()]


def test_a_stacked_sweep_has_the_results_of_its_trials_alone(run, tmp_path):
    alone, _ = run([PRIVATE, PLAIN], "alone", resources={"max_concurrent": 1})
    stacked, entries = run([PRIVATE, PLAIN], resources={"max_concurrent": 1, "stack": "auto"})
    assert {entry.state.state for entry in entries.values()} == {"done"}
    assert len(processes(tmp_path)) == 2  # one for each learner
    assert len(processes(tmp_path, "alone")) == 9
    assert list(alone.trials["trial"]) == list(stacked.trials["trial"])  # it is no part of the identity
    ours, theirs = (results.rates(["accuracy"], by=("tone",), at="all") for results in (stacked, alone))
    assert ours["value"].tolist() == pytest.approx(theirs["value"].tolist(), abs=1e-9)
    spent, as_before = (results.trials["epsilon"].tolist() for results in (stacked, alone))
    assert spent == pytest.approx(as_before, nan_ok=True)
    assert stacked.problems.empty
    # Nothing is left to run, stacked or not.
    run([PRIVATE, PLAIN], resources={"max_concurrent": 1})
    assert {entry.state.run for entry in Ledger(tmp_path / "out").entries().values()} == {1}


def test_a_scheduler_ends_trials_of_a_stack_one_by_one(run, tmp_path):
    rates = {"grid": [0.3, 0.2, 0.1, 1e-8, 1e-9]}
    learner = PLAIN | {"epochs": 4, "optimizer": {"lr": rates}}
    scheduler = {"kind": "asha", "objectives": [{"max": "accuracy"}], "reduction": 2}
    _, entries = run([learner], seeds=1, scheduler=scheduler, resources={"max_concurrent": 1, "stack": 5})
    assert len(processes(tmp_path)) == 1
    states = [entry.state for entry in entries.values()]
    assert {(state.state, state.by) for state in states} == {("done", None), ("stopped", "scheduler")}
    assert all((entry.folder / "predictions.parquet").exists() for entry in entries.values())


@pytest.mark.parametrize("retries", [0, 1])
def test_one_that_takes_its_worker_down_fails_alone_and_the_others_are_done(run, monkeypatch, boards, retries):
    monkeypatch.setattr(tasks, "TrialTask", DyingTask)
    fields = {"resources": {"max_concurrent": 1, "stack": "auto"}, "failures": {"retries": retries}}
    _, entries = run([PRIVATE], **fields)
    states = {label: entry.state for label, entry in entries.items()}
    (failed,) = [label for label, state in states.items() if state.state != "done"]
    assert failed.endswith("s0")
    assert states[failed].state == "failed"
    assert all(state.iteration == 3 for label, state in states.items() if label != failed)
    assert boards.stages() == {label: state.state for label, state in states.items()}


def test_what_had_ended_when_the_worker_died_is_shown_as_it_ended(run, monkeypatch, boards):
    """Its last report was lost with the worker."""
    monkeypatch.setattr(tasks, "TrialTask", DyingTask)
    short = PRIVATE | {"name": "short", "l2_clip_norm": 2.0}
    fields = {"resources": {"max_concurrent": 1, "stack": "auto"}, "failures": {"retries": 0}}
    _, entries = run([PRIVATE | {"epochs": 1}, short | {"epochs": 1}], seeds=1, **fields)
    states = {label: entry.state.state for label, entry in entries.items()}
    assert boards.stages() == states
    assert set(states.values()) == {"done"}


def test_what_finds_no_room_beside_others_trains_alone(run, monkeypatch, boards):
    monkeypatch.setattr(tasks, "TrialTask", CrowdedTask)
    fields = {"resources": {"max_concurrent": 1, "stack": "auto"}, "failures": {"retries": 0}}
    _, entries = run([PRIVATE], **fields)
    assert {entry.state.state for entry in entries.values()} == {"done"}
    assert {entry.state.iteration for entry in entries.values()} == {3}
    assert set(boards.stages().values()) == {"done"}


def test_two_learners_are_one_stack_each_and_no_process_idles(mapping, toy, tmp_path):
    def dealt(stack, at_once, seeds=5, feed="resident", **fields):
        content = mapping | {"learners": [PRIVATE | fields], "seeds": seeds, "imbalance": None}
        trials = expand(Sweep.from_mapping(content | {"resources": {"stack": stack}}), toy)
        made = {t.trial: TrialTask(t.config, tmp_path / t.trial, 1, feed=FeedChoice(feed)) for t in trials}
        found = in_stacks(trials, made, at_once)
        order = [one.config.trial for _, task in found for one in (task, *task.others)]
        assert order == [trial.trial for trial in trials]
        assert all(not other.others for _, task in found for other in task.others)
        assert [name for name, _ in found] == [task.config.trial for _, task in found]
        return [1 + len(task.others) for _, task in found]

    assert dealt(1, 2) == [1] * 5
    assert dealt("auto", 2) == [2, 3]
    assert dealt("auto", 1) == [5]
    assert dealt("auto", 8) == [1] * 5
    assert dealt("auto", 2, seeds=36) == [9] * 4
    assert dealt(2, 1) == [2, 1, 2]
    assert dealt("auto", 2, feed="stream") == [1] * 5
    assert dealt("auto", 2, optimizer={"name": "adam"}) == [1] * 5


def test_a_number_where_trials_must_train_alone_is_refused_with_the_reason(mapping):
    learners = [PRIVATE | {"optimizer": {"name": "adam"}}]
    with pytest.raises(SweepError, match=r"stack: 4 .* 'private' must train alone: adam .* write stack: auto"):
        Sweep.from_mapping(mapping | {"learners": learners, "resources": {"stack": 4}}).run(quiet=True)
    with pytest.raises(SweepError, match="stack must be at least 1, or auto, but got 0"):
        Sweep.from_mapping(mapping | {"resources": {"stack": 0}})


def test_a_sweep_without_stacks_asks_nothing_of_its_networks(mapping, toy, monkeypatch):
    def fail(config):
        raise AssertionError("it looks at a network, or opens a dataset")

    monkeypatch.setattr("fairsweep.sweeps.planning.machines.why_alone", fail)
    monkeypatch.setattr("fairsweep.trainables.stacks.stack_choice.why_alone", fail)
    trials = expand(Sweep.from_mapping(mapping), toy)
    check_resources(trials, [Machine(2, 0)])
    assert beside(trials) == 1


class Told(tune.Callback):
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def on_trial_start(self, iteration, trials, trial, **info):
        self.told.append(("start", trial.config["trial"]))

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.told.append(("result", trial.config["trial"], result["iteration"]))

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.told.append(("complete", trial.config["trial"], trial.last_result["iteration"]))

    def on_trial_recover(self, iteration, trials, trial, **info):
        self.told.append(("recover", trial.config["trial"]))

    def on_trial_error(self, iteration, trials, trial, **info):
        self.told.append(("error", trial.config["trial"]))


def task(name, *others):
    return SimpleNamespace(config=SimpleNamespace(trial=name), others=others)


def told_of(callback, event, stack, *result):
    getattr(callback, event)(0, [], stack, *result)
    found, callback.inner.told = callback.inner.told, []
    return found


def test_a_callback_is_told_of_each_trial_of_a_stack_and_once_of_a_workers_death():
    callback = EachTrial(Told())
    stack = SimpleNamespace(trial_id="1", config={"task": task("a", task("b"), task("c"))}, error_file=None)
    going, over = {"iteration": 1, "done": False}, {"iteration": 2, "done": True}
    assert told_of(callback, "on_trial_start", stack) == [("start", name) for name in "abc"]
    assert told_of(callback, "on_trial_result", stack, {"trials": [("a", going), ("b", over)]}) == [
        ("result", "a", 1),
        ("result", "b", 2),
        ("complete", "b", 2),
    ]
    assert told_of(callback, "on_trial_recover", stack) == [("recover", "a")]
    assert told_of(callback, "on_trial_start", stack) == [("start", "a"), ("start", "c")]
    # A worker that starts anew says once more what had ended.
    assert told_of(callback, "on_trial_result", stack, {"trials": [("b", over), ("a", over)]}) == [
        ("result", "a", 2),
        ("complete", "a", 2),
    ]
    assert told_of(callback, "on_trial_error", stack) == [("recover", "c")]
    # One that leaves its stack has not ended.
    left = SimpleNamespace(trial_id="3", config={"task": task("a", task("b"))}, error_file=None)
    again = {"done": True, "failed": 1.0, "again": True}
    assert told_of(callback, "on_trial_result", left, {"trials": [("a", again), ("b", going)]}) == [("result", "b", 1)]
    assert told_of(callback, "on_trial_start", left) == [("start", "b")]
    single = SimpleNamespace(trial_id="2", config={"trial": "d", "task": task("d")}, last_result=over)
    assert told_of(callback, "on_trial_result", single, over) == [("result", "d", 2)]
    assert told_of(callback, "on_trial_complete", single) == [("complete", "d", 2)]
    assert told_of(callback, "on_trial_error", single) == [("error", "d")]


def test_a_scheduler_sees_the_results_of_each_trial_of_a_stack():
    class Seen(FIFOScheduler):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_trial_result(self, controller, trial, result):
            self.seen.append((trial.config["trial"], result["iteration"]))
            return FIFOScheduler.CONTINUE

        def on_trial_complete(self, controller, trial, result):
            self.seen.append((trial.config["trial"], "complete"))

    inner = Seen()
    scheduler = EachScheduled(inner)
    stack = SimpleNamespace(trial_id="1", config={"task": task("a", task("b"))}, error_file=None)
    going, over = {"iteration": 1, "done": False}, {"iteration": 2, "done": True}
    assert scheduler.on_trial_result(None, stack, {"trials": [("a", going), ("b", over)]}) == FIFOScheduler.CONTINUE
    scheduler.on_trial_complete(None, stack, {"trials": [("a", over)]})
    assert inner.seen == [("a", 1), ("b", "complete"), ("a", "complete")]


def test_a_tuner_of_ones_own_takes_no_notice_of_stacks(toy_path, tmp_path):
    config = {
        "dataset": str(toy_path),
        "label": "smiling",
        "groups": ["tone"],
        "output": str(tmp_path),
        "learner": {"kind": "sgd", "epochs": 1, "batch_size": 24},
    }
    actor = SweepTrainable(config)
    result = actor.train()
    assert (result["done"], result["failed"], "trials" in result) == (True, 0.0, False)
    actor.stop()
    assert not analysis.load(tmp_path).trials.empty
