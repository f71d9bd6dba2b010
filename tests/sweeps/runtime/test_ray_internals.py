"""What fairsweep changes inside Ray: each change holds for its context, and a Ray without the name is refused."""

from contextlib import suppress

import pytest
import ray
from ray._private import ray_constants
from ray.air._internal import usage
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController

from fairsweep.sweeps.runtime import ray_internals
from fairsweep.sweeps.syntax.errors import SweepError

CHANGES = {
    "usage_uncounted": (usage, "tag_callbacks"),
    "memory_kills_as_deaths": (RayActorManager, "_actor_task_failed"),
    "keys_stay": (class_cache, "ENV_VARS_TO_PROPAGATE"),
    "trials_unwritten": (TuneController, "_get_trial_checkpoints"),
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
