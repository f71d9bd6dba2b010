"""What fairsweep changes inside Ray: each change holds for its context, and a Ray without the name is refused."""

import random
from contextlib import suppress

import pytest
import ray
from ray._private import ray_constants
from ray.air._internal import usage
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.schedulers import FIFOScheduler

from fairsweep.sweeps.runtime import ray_internals
from fairsweep.sweeps.syntax.errors import SweepError

CHANGES = {
    "usage_uncounted": (usage, "tag_callbacks"),
    "memory_kills_as_deaths": (RayActorManager, "_actor_task_failed"),
    "keys_stay": (class_cache, "ENV_VARS_TO_PROPAGATE"),
    "trials_unwritten": (TuneController, "_get_trial_checkpoints"),
    "ended_unseen": (FIFOScheduler, "choose_trial_to_run"),
    "loopback_only": (ray_constants, "ENABLE_RAY_CLUSTER"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_version_of_ray_without_the_name_is_refused(monkeypatch, change):
    owner, name = CHANGES[change]
    monkeypatch.delattr(owner, name)
    monkeypatch.setattr(ray, "__version__", "9.9.9")
    with (
        pytest.raises(SweepError, match=rf"{name}, which ray 9\.9\.9 does not have: install ray==") as refused,
        getattr(ray_internals, change)(),
    ):
        pass
    assert owner.__name__ in str(refused.value)


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_there_is_there_again_also_after_an_error(change, monkeypatch):
    owner, name = CHANGES[change]
    # Another test of this process may have started Ray on loopback already.
    monkeypatch.setattr(owner, name, before := True if name == "ENABLE_RAY_CLUSTER" else getattr(owner, name))
    with suppress(KeyboardInterrupt), getattr(ray_internals, change)():
        assert getattr(owner, name) is not before
        raise KeyboardInterrupt
    assert getattr(owner, name) is before


def test_tune_hands_no_keys_on(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    with ray_internals.tune_changed():
        assert not {name for name in class_cache.ENV_VARS_TO_PROPAGATE if "AWS" in name}
        assert "RAY_CHDIR_TO_TRIAL_DIR" in class_cache.ENV_VARS_TO_PROPAGATE


def test_tune_counts_no_callbacks():
    with ray_internals.tune_changed():
        assert usage.tag_callbacks(["anything"]) is False


@pytest.mark.parametrize(
    ("error", "seen"),
    [(OutOfMemoryError("node 1\nand a long table"), RayActorError), (KeyError("other"), KeyError)],
)
def test_a_worker_killed_for_memory_has_died_to_tune(monkeypatch, error, seen):
    handled = []
    monkeypatch.setattr(RayActorManager, "_actor_task_failed", lambda *arguments: handled.append(arguments))
    with ray_internals.tune_changed():
        RayActorManager._actor_task_failed("manager", "task", error)
    assert handled[0][:2] == ("manager", "task")
    assert isinstance(handled[0][2], seen)
    assert "long table" not in str(handled[0][2])


def test_ray_takes_the_folder_for_its_temporary_files(tmp_path):
    assert ray_internals.temporary_folder(str(tmp_path)) == {"_temp_dir": str(tmp_path)}
    assert "``_temp_dir``" in ray.init.__doc__


class Trial:
    """What of Tune's trials its scheduler looks at; counts how often."""

    looks = 0

    def __init__(self, number):
        self.trial_id, self.now = f"id {number}", "PENDING"

    @property
    def status(self):
        Trial.looks += 1
        return self.now


class Controller:
    """Tune's, as its scheduler knows it."""

    def __init__(self):
        self.trials = []

    def get_trials(self):
        return self.trials

    def get_live_trials(self):
        return {trial for trial in self.trials if trial.now not in ("TERMINATED", "ERROR")}


def test_the_trial_that_starts_next_is_the_one_that_tune_chooses():
    rng, controller, tune = random.Random(3), Controller(), FIFOScheduler.choose_trial_to_run
    with ray_internals.tune_changed():
        for number in range(300):
            controller.trials += [Trial(number)] if rng.random() < 0.2 else []
            for trial in controller.trials:
                if rng.random() < 0.3:
                    trial.now = rng.choice(["PENDING", "PAUSED", "RUNNING", "TERMINATED", "ERROR"])
            expected = tune(scheduler := FIFOScheduler(), controller)
            assert scheduler.choose_trial_to_run(controller) is expected


def test_trials_that_have_ended_are_not_looked_at_at_every_step():
    counts = []
    for count in (50, 500):
        Trial.looks, controller, running = 0, Controller(), []
        with ray_internals.tune_changed():
            for number in range(count):  # two at once
                controller.trials.append(Trial(number))
                running.append(FIFOScheduler().choose_trial_to_run(controller))
                running[-1].now = "RUNNING"
                if len(running) > 2:
                    running.pop(0).now = "TERMINATED"
        counts.append(Trial.looks)
    assert counts[1] <= 11 * counts[0]
