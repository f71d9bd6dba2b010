"""What a run does, whatever its trials come from: the same checks for a list, for guided searches and for a scheduler.

Each algorithm runs one small sweep twice on the session's Ray: it is interrupted in its second trial and gone on with.
"""

import copy
import dataclasses
import io
import json
import time
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import torch

from fairsweep.sweeps.copies.resuming import resume_sweep
from fairsweep.sweeps.execution import tasks
from fairsweep.sweeps.execution.failures import failure_groups
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.store.requests import stop_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import InterruptedSweepError, SweepError
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.learning.gpu_memory import assigned_gpus

OBJECTIVES = [{"max": "accuracy"}]
DRAWN, LISTED = {"loguniform": [0.01, 1.0]}, {"grid": [0.01, 0.1, 0.3, 1.0]}
ALGORITHMS = {
    "grid": (LISTED, {}),
    "random": (DRAWN, {"search": {"algorithm": "random", "samples": 4}}),
    "sobol": (DRAWN, {"search": {"algorithm": "sobol", "samples": 4}}),
    "tpe": (DRAWN, {"search": {"algorithm": "tpe", "samples": 4, "startup_trials": 2, "objectives": OBJECTIVES}}),
    "nsga2": (DRAWN, {"search": {"algorithm": "nsga2", "samples": 4, "population": 2, "objectives": OBJECTIVES}}),
    "asha": (LISTED, {"scheduler": {"kind": "asha", "objectives": OBJECTIVES}}),
}


@dataclasses.dataclass(frozen=True)
class ScriptedTask(TrialTask):
    """By the order in which trials start: the first lacks memory, the second is interrupted, the third cannot work."""

    def open(self):
        trial, gpus = super().open(), assigned_gpus()
        output = self.folder.parents[1]
        log = output.parent / "attempts.jsonl"
        with log.open("a") as file:
            file.write(json.dumps([self.config.trial, gpus]) + "\n")
        started = [json.loads(line)[0] for line in log.read_text().splitlines()]
        place, is_first = list(dict.fromkeys(started)).index(self.config.trial), started.count(self.config.trial) == 1
        step = trial._learner.step

        def scripted_step():
            if place == 0 and gpus < 0.5:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if place == 1 and is_first:
                stop_sweep(output, wait_seconds=0)
                time.sleep(5)
            if place == 2:
                raise ValueError("this setting cannot work")
            return step()

        trial._learner.step = scripted_step
        return trial


def states_in(folder):
    """Whether each trial is done, stopped or failed, by its hash."""
    return {trial: entry.state.state for trial, entry in Ledger(folder).entries().items()}


def is_free(amounts):
    """Whether all CPUs and GPUs become free within a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        free = ray.available_resources()
        if all(free.get(name, 0) == amounts[name] for name in ("CPU", "GPU")):
            return True
        time.sleep(0.1)
    return False


# Settings that are drawn in advance are a list, as a grid is; both guided searches ask as they go: one of each does.
SLOW = {"random", "sobol", "nsga2"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in ALGORITHMS],
)
def course(request, toy_path, tmp_path_factory, ray_session):
    """One sweep of four trials: what each run of it said, and what is left of it."""
    rates, sections = ALGORITHMS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    learner = {"name": "tuned", "kind": "sgd", "epochs": 2, "batch_size": 24, "optimizer": {"name": "sgd", "lr": rates}}
    content = {
        "name": "toy",
        "dataset": {"path": str(toy_path), "label": "smiling", "groups": ["tone"]},
        "imbalance": {"attribute": "tone", "majority": "light", "share": 0.7, "size": 120},
        "model": {"name": "linear"},
        "learners": [learner],
        "resources": {"cpu": 0.5, "gpu": 0.25, "max_concurrent": 1},
        "output": str(folder / "out"),
    } | copy.deepcopy(sections)
    small = content | {"checkpoints": {"budget": "1kB"}}
    with pytest.raises(SweepError) as refused:
        Sweep.from_mapping(small).run(quiet=True)
    untouched = not (folder / "out").exists()
    first, second = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "TrialTask", ScriptedTask)
        with redirect_stderr(first), pytest.raises(InterruptedSweepError) as interrupted:
            Sweep.from_mapping(content).run()
        stopped, freed = states_in(folder / "out"), is_free(ray.cluster_resources())
        with redirect_stderr(second):
            sweep, _ = resume_sweep(folder / "out")
            run_sweep(sweep.model_copy(update={"failures": sweep.failures.model_copy(update={"retries": 1})}))
    attempts = [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]
    return SimpleNamespace(
        content=content,
        output=folder / "out",
        refused=str(refused.value),
        untouched=untouched,
        interrupted=str(interrupted.value),
        stopped=stopped,
        freed=freed,
        states=states_in(folder / "out"),
        attempts=attempts,
        order=list(dict.fromkeys(trial for trial, _ in attempts)),
        first=first.getvalue(),
        second=second.getvalue(),
    )


def test_a_budget_that_cannot_hold_the_checkpoints_is_refused_before_anything_is_written(course):
    assert "the budget for checkpoints must hold about" in course.refused
    assert course.untouched


def test_a_trial_that_lacks_gpu_memory_starts_once_more_with_twice_the_part(course):
    assert [gpus for trial, gpus in course.attempts if trial == course.order[0]] == [0.25, 0.5]
    assert {gpus for trial, gpus in course.attempts if trial != course.order[0]} == {0.25}
    assert course.first.count("ran out of GPU memory: retrying with twice the share of a GPU (gpu=0.5)") == 1


def test_an_interrupted_run_says_how_to_go_on_and_does(course):
    assert course.interrupted.startswith("stopped; resume with: fairsweep resume ")
    assert course.stopped[course.order[0]] == "done"
    assert course.stopped[course.order[1]] == "stopped"
    assert course.states[course.order[0]] == course.states[course.order[1]] == "done"
    assert len(course.states) == len(course.order) == 4
    assert course.freed  # also while somebody looks at the traceback
    # What was done is not done again, and what was cut short once more.
    assert [course.order.index(trial) for trial, _ in course.attempts] == [0, 0, 1, 1, 2, 3]


def test_a_trial_that_fails_is_said_with_its_cause_and_holds_nobody_up(course):
    assert course.states[course.order[2]] == "failed"
    assert course.states[course.order[3]] in ("done", "stopped")
    assert "failed: ValueError: this setting cannot work" in course.second
    (group,) = failure_groups(course.output)
    assert group.hashes == (course.order[2],)
    assert "this setting cannot work" in group.cause


def test_what_has_changed_since_the_last_run_is_said(course):
    assert "Changed since the last run" not in course.first
    assert "Changed since the last run:\n  ~ failures.retries: 2 → 1\n" in course.second


def test_the_folder_of_another_sweep_is_refused_and_stays_as_it_is(course):
    before = (course.output / "sweep.json").read_bytes()
    with pytest.raises(SweepError, match=r"holds the sweep 'toy', which has no trial in common with 'other'"):
        Sweep.from_mapping(course.content | {"name": "other", "privacy": {"key": 7}}).run(quiet=True)
    assert (course.output / "sweep.json").read_bytes() == before
    assert not Path(course.output, ".driver.json").exists()
