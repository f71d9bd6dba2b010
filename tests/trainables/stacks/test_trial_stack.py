"""Trials that train side by side leave what each would leave alone, and none takes another down."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.trial_state import read_state
from fairsweep.trainables.adapter import SweepTrainable, TrialTask
from fairsweep.trainables.learning.trial_watch import Ending
from fairsweep.trainables.stacks import trial_stack
from fairsweep.trainables.stacks.stack_choice import SIZE, stack_size, why_alone
from fairsweep.trainables.stacks.trial_stack import TrialStack
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.state import StaleAttemptError, TrialStateFile

PRIVATE = {
    "kind": "dpsgd",
    "epochs": 3,
    "batch_size": 32,
    "noise_multiplier": 1.0,
    "performance": {"gradient_mode": "bookkeeping"},
}
PLAIN = {"kind": "sgd", "epochs": 3, "batch_size": 32, "optimizer": {"lr": 0.1}}


@pytest.fixture
def make_tasks(make_config, tmp_path):
    """Makes tasks of learners, in folders of their own."""

    def make(learners, where="stacked", **fields):
        configs = [make_config(learner, seeds={"data": 1, "train": n}) for n, learner in enumerate(learners)]
        folders = [tmp_path / where / config.trial for config in configs]
        return [
            TrialTask(
                config,
                folder,
                run=TrialStateFile(folder).queue(config.trial).run,
                report_seconds=0,
                checkpoints=CheckpointPolicy(seconds=0),
                **fields,
            )
            for config, folder in zip(configs, folders, strict=True)
        ]

    return make


def stack_of(tasks, **fields):
    return TrialStack(
        {task.config.trial: task for task in tasks}, (ValueError, RuntimeError), scheduled=False, **fields
    )


def finish(stack):
    found = {}
    while not stack.done:
        found |= stack.iterate()
    return found


@pytest.fixture
def together(monkeypatch):
    """How many trials took each iteration together."""
    sizes, original = [], trial_stack.step_together
    monkeypatch.setattr(
        trial_stack, "step_together", lambda learners: sizes.append(len(learners)) or original(learners)
    )
    return sizes


def test_each_trial_is_recorded_as_if_it_had_run_alone(make_tasks, together):
    learners = [PRIVATE, PRIVATE | {"noise_multiplier": 2.0}, PRIVATE | {"epochs": 2}, PLAIN, PLAIN | {"epochs": 2}]
    alone, beside = make_tasks(learners, "alone"), make_tasks(learners)
    for task in alone:
        task.open().run()
    found = finish(stack_of(beside))
    assert together == [3, 2, 3, 2, 2]
    for one, other in zip(alone, beside, strict=True):
        assert sorted(path.name for path in one.folder.iterdir()) == sorted(p.name for p in other.folder.iterdir())
        assert read_cells(one.folder / "cells.parquet").table == read_cells(other.folder / "cells.parquet").table
        for name in ("config.json", "data.json"):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
        if one.config.learner.kind == "dpsgd":
            assert (one.folder / "privacy.json").read_bytes() == (other.folder / "privacy.json").read_bytes()
        weights = [torch.load(task.folder / "weights.pt", weights_only=True) for task in (one, other)]
        assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) < 1e-6
        predicted = [pq.read_table(task.folder / "predictions.parquet").to_pandas() for task in (one, other)]
        np.testing.assert_allclose(
            *(np.stack(table["log_probabilities"].to_numpy()) for table in predicted), rtol=0, atol=1e-5
        )
        states = [read_state(task.folder / "state.json") for task in (one, other)]
        assert {state.state for state in states} == {"done"}
        assert states[0].metrics.keys() == states[1].metrics.keys()
        assert found[other.config.trial]["failed"] == 0
        assert found[other.config.trial]["accuracy"] == states[0].metrics["accuracy"]


def test_no_two_trials_of_a_stack_share_a_secret(make_tasks):
    """Trials that differ in nothing but their seed of the data get noise of their own: else it would cancel."""
    tasks = make_tasks([PRIVATE | {"l2_clip_norm": 1e-9}] * 2)
    finish(stack_of(tasks))
    one, other = (torch.load(task.folder / "weights.pt", weights_only=True) for task in tasks)
    assert all(not torch.equal(one[name], other[name]) for name in one)


def test_one_that_diverges_fails_alone(make_tasks):
    wild = PLAIN | {"optimizer": {"lr": 1e30, "weight_decay": 1e10}}
    alone = make_tasks([PLAIN], "alone")
    alone[0].open().run()
    tasks = make_tasks([PLAIN, wild])
    found = finish(stack_of(tasks))
    assert [found[task.config.trial]["failed"] for task in tasks] == [0, 1]
    assert read_state(tasks[1].folder / "state.json").state == "failed"
    assert "DivergedError" in read_state(tasks[1].folder / "state.json").error
    assert read_cells(tasks[0].folder / "cells.parquet").table == read_cells(alone[0].folder / "cells.parquet").table


def test_one_that_has_failed_is_not_trained_again_when_the_worker_starts_anew(make_tasks, monkeypatch):
    wild = PLAIN | {"optimizer": {"lr": 1e30, "weight_decay": 1e10}}
    tasks = make_tasks([PLAIN, wild])
    first = stack_of(tasks)
    while first.iterate()[tasks[0].config.trial]["iteration"] < 2:
        pass
    first.close()
    before = read_state(tasks[1].folder / "state.json")
    assert before.state == "failed"
    found = finish(stack_of(tasks))
    assert [found[task.config.trial]["failed"] for task in tasks] == [0, 1]
    assert read_state(tasks[1].folder / "state.json") == before


def test_one_that_another_driver_takes_over_ends_alone_and_writes_no_more(make_tasks):
    tasks = make_tasks([PLAIN] * 3)
    stack = stack_of(tasks)
    stack.iterate()
    TrialStateFile(tasks[1].folder).queue(tasks[1].config.trial)
    before = read_state(tasks[1].folder / "state.json")
    found = finish(stack)
    assert [found[task.config.trial]["failed"] for task in tasks] == [0, 1, 0]
    assert read_state(tasks[1].folder / "state.json") == before


@pytest.mark.parametrize("scheduled", [False, True])
def test_one_that_the_user_stops_ends_alone(make_tasks, scheduled):
    tasks = make_tasks([PLAIN] * 3)
    stack = TrialStack({task.config.trial: task for task in tasks}, (StaleAttemptError,), scheduled=scheduled)
    stack.iterate()
    before = read_state(tasks[1].folder / "state.json")
    stopped = {"state": "stopped", "by": "user", "run": before.run + 2, "attempt": before.attempt + 2}
    TrialStateFile(tasks[1].folder).mark(stopped)
    found = finish(stack)
    assert [found[task.config.trial]["failed"] for task in tasks] == [0, 1, 0]
    assert read_state(tasks[1].folder / "state.json").state == "stopped"


def test_what_may_lie_in_the_company_sends_a_trial_away_and_leaves_the_others(make_tasks, monkeypatch):
    tasks = make_tasks([PLAIN] * 3)
    stack = TrialStack({task.config.trial: task for task in tasks}, (ValueError,), scheduled=False)
    stack.iterate()
    crowded = stack._open[tasks[1].config.trial]
    monkeypatch.setattr(crowded.learner, "predict", lambda images: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    found = finish(stack)
    assert found[tasks[1].config.trial] == {"done": True, "failed": 1.0, "again": True}
    assert [found[task.config.trial]["failed"] for task in tasks] == [0, 1, 0]
    alone = tasks[1].open()  # it goes on from its checkpoint
    assert alone.iteration == 1
    alone.run()
    assert read_state(tasks[1].folder / "state.json").state == "done"


def test_one_that_cannot_be_opened_leaves_the_others_alone(make_tasks, toy):
    tasks = make_tasks([PLAIN] * 3)
    broken = tasks[0].config.model_copy(
        update={"dataset": tasks[0].config.dataset.model_copy(update={"content_hash": "another"})}
    )
    tasks[0] = replace(tasks[0], config=broken)
    found = finish(stack_of(tasks))
    assert [found[task.config.trial]["failed"] for task in tasks] == [1, 0, 0]


def test_what_is_cut_short_goes_on_from_the_checkpoints_and_reports_what_had_ended(make_tasks, together):
    learners = [PRIVATE, PRIVATE | {"epochs": 1}, PRIVATE | {"noise_multiplier": 2.0}]
    alone, tasks = make_tasks(learners, "alone"), make_tasks(learners)
    for task in alone:
        task.open().run()
    first = stack_of(tasks)
    first.iterate()
    first.close()  # as far as a killed worker came
    ended = read_state(tasks[1].folder / "state.json")
    assert ended.state == "done"
    found = finish(stack_of(tasks))
    assert together == [3, 2, 2]
    assert found[tasks[1].config.trial] == {**ended.metrics, "done": True, "failed": 0.0, "stopped": 0.0}
    assert read_state(tasks[1].folder / "state.json") == ended
    for one, other in zip(alone, tasks, strict=True):
        assert read_cells(one.folder / "cells.parquet").table == read_cells(other.folder / "cells.parquet").table
        weights = [torch.load(task.folder / "weights.pt", weights_only=True) for task in (one, other)]
        assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) < 1e-6


def test_a_scheduler_and_a_rule_end_single_trials(make_tasks, together):
    class Rule:
        def __init__(self, ends):
            self.ends, self.most_steps = ends, None

        def begin(self, words):
            return self

        def see(self, cells, predictions, known):
            return {"watched": 0.5}

        def verdict(self, **_):
            return Ending("enough") if self.ends else None

    tasks = make_tasks([PLAIN] * 3, scheduled=True)
    tasks = [replace(task, watch=Rule(ends=number == 1)) for number, task in enumerate(tasks)]
    stack = TrialStack({task.config.trial: task for task in tasks}, (ValueError,), scheduled=True)
    first = stack.iterate()
    assert [first[task.config.trial]["done"] for task in tasks] == [False, True, False]
    TrialStateFile(tasks[0].folder).mark({"stop_at": 1, "reason": "others did better"})
    second = stack.iterate()
    assert second[tasks[0].config.trial]["stopped"] == 1.0
    finish(stack)
    states = [read_state(task.folder / "state.json") for task in tasks]
    assert [(state.state, state.by, state.iteration) for state in states] == [
        ("stopped", "scheduler", 1),
        ("stopped", "stopper", 1),
        ("done", None, 3),
    ]
    assert together == [3]


def test_where_steps_taken_together_fail_no_trial_is_blamed(make_tasks, monkeypatch):
    def fail(learners):
        raise ValueError("no memory")

    tasks = make_tasks([PLAIN] * 2)
    monkeypatch.setattr(trial_stack, "step_together", fail)
    stack = TrialStack({task.config.trial: task for task in tasks}, (ValueError,), scheduled=False)
    with pytest.raises(RuntimeError, match="a step of 2 trials together failed: no memory"):
        stack.iterate()
    assert {read_state(task.folder / "state.json").state for task in tasks} == {"running"}


def test_trials_of_other_models_or_kinds_share_a_process_and_take_steps_of_their_own(make_config, tmp_path, together):
    adam = PLAIN | {"optimizer": {"name": "adam"}}
    configs = [make_config(adam), make_config(PLAIN), make_config(PRIVATE), make_config(PLAIN | {"epochs": 2})]
    tasks = [
        TrialTask(c, tmp_path / c.trial, run=TrialStateFile(tmp_path / c.trial).queue(c.trial).run) for c in configs
    ]
    found = finish(stack_of(tasks))
    assert together == [2, 2]
    assert all(metrics["failed"] == 0 for metrics in found.values())


def test_an_actor_trains_a_stack_and_then_a_single_trial(make_tasks, together):
    *stacked, last = make_tasks([PRIVATE, PRIVATE, PLAIN])
    first = replace(stacked[0], others=(stacked[1],))
    actor = SweepTrainable({"trial": first.config.trial, "task": first})
    seen, result = {}, {"done": False}
    while not result["done"]:
        result = actor.train()
        json.dumps(result["trials"])
        seen |= dict(result["trials"])
    assert [seen[task.config.trial]["done"] for task in stacked] == [True, True]
    assert together == [2, 2, 2]
    assert actor.reset({"trial": last.config.trial, "task": last})
    while not (result := actor.train())["done"]:
        pass
    assert result["failed"] == 0
    assert "trials" not in result
    actor.stop()


def test_how_many_train_together(make_config):
    def size(learner, asked, **fields):
        return stack_size(make_config(learner, **fields), asked)

    assert size(PLAIN, "auto") == SIZE
    assert (size(PLAIN, 4), size(PLAIN, 1)) == (4, 1)
    assert size(PLAIN | {"batch_size": 257}, "auto") == 1
    assert size(PLAIN | {"batch_size": 257}, 4) == 4
    few = PRIVATE | {"performance": {"physical_batch_size": 3}}
    assert (size(few, "auto"), size(few, 2)) == (3, 2)
    for alone in (PLAIN | {"optimizer": {"name": "adam"}}, PLAIN | {"ema": 0.5}):
        assert size(alone, "auto") == 1
        assert why_alone(make_config(alone))
    assert size(PLAIN, "auto", model={"name": "cnn"}) == 1
    assert "cnn" in why_alone(make_config(PLAIN, model={"name": "cnn"}))
    # Without given weights of its body every batch goes through the whole network.
    assert "cnn" in why_alone(make_config(PLAIN, model={"name": "cnn", "train": "head"}))
    for precision in ({"precision": "bfloat16"}, {"compile": True}):
        assert "precision" in why_alone(make_config(PLAIN | {"performance": precision}))
    assert "sisa" in why_alone(make_config({"kind": "sisa", "shards": 2, "inner": {"kind": "sgd"}}))
