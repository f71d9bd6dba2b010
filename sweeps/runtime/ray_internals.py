"""Private names of Ray that fairsweep uses: this is the only module that knows them.

Each change lasts as long as its context, and each was made only after Ray's public switches did not serve; the reason
stands with it. A version of Ray that lacks one of the names is refused before anything starts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError

from fairsweep.sweeps.syntax.errors import unknown_version

_TESTED = "2.60.0"
_SWITCH_PREFIXES = ("RAY_", "TUNE_", "TRAIN_")


@contextmanager
def tune_changed() -> Iterator[None]:
    """Tune as a sweep needs it: see the five functions below."""
    with ExitStack() as stack:
        for change in (usage_uncounted, memory_kills_as_deaths, keys_stay, trials_unwritten, ended_unseen):
            stack.enter_context(change())
        yield


@contextmanager
def usage_uncounted() -> Iterator[None]:
    """Tune does not count whose callbacks it is given.

    It imports W&B, MLflow and Comet for that, which takes two seconds, also where RAY_USAGE_STATS_ENABLED is 0.
    """
    with _replaced("ray.air._internal.usage", "tag_callbacks", lambda _: lambda *_arguments, **_options: False):
        yield


@contextmanager
def memory_kills_as_deaths() -> Iterator[None]:
    """Let Tune take a worker that Ray's memory monitor kills for one that died.

    Tune ends the whole run with "Caught unexpected exception" otherwise: it knows errors of actors and of tasks, and
    ``OutOfMemoryError`` is neither. Callbacks do not see it, and ``FailureConfig`` has no word for it.
    """

    def as_death(handle: Callable[..., None]) -> Callable[..., None]:
        def handle_death(manager: object, tracked_actor_task: object, exception: Exception) -> None:
            if isinstance(exception, OutOfMemoryError):
                cause = str(exception).splitlines()[0]
                exception = RayActorError(error_msg=f"Ray killed the worker for lack of memory on its node: {cause}")
            handle(manager, tracked_actor_task, exception)

        return handle_death

    manager = "ray.air.execution._internal.actor_manager:RayActorManager"
    with _replaced(manager, "_actor_task_failed", as_death):
        yield


@contextmanager
def keys_stay() -> Iterator[None]:
    """Tune copies its own switches to workers, and no keys.

    It would copy AWS keys from the driver's environment into the runtime environment of each actor, and Ray writes
    runtime environments into logs that anybody may read. What is copied cannot be chosen, and keys that are taken out
    of the driver's environment are lacking there. Workers have the environment of their node: on this machine it is
    the driver's.
    """
    own = lambda names: {name for name in names if name.startswith(_SWITCH_PREFIXES)}  # noqa: E731
    with _replaced("ray.tune.execution.class_cache", "ENV_VARS_TO_PROPAGATE", own):
        yield


@contextmanager
def trials_unwritten() -> Iterator[None]:
    """Tune writes no trials into its state of the experiment, which nothing reads: the ledger is the truth.

    As it ends it would write all of them, pickled: a tenth of the CPU time that the driver has for a short trial. Its
    public switches only say how often it writes in between.
    """
    with _replaced(
        "ray.tune.execution.tune_controller:TuneController", "_get_trial_checkpoints", lambda _: lambda _controller: {}
    ):
        yield


@contextmanager
def ended_unseen() -> Iterator[None]:
    """Tune's scheduler looks for the first trial that waits among those that have not ended, not among all of the run.

    It does so at each of Tune's steps: a quarter of the driver's CPU time for a short trial, once there are 10,000.
    """
    places: dict[str, int] = {}

    def choose(_scheduler: object, controller: Any) -> Any:  # noqa: ANN401 - Tune's
        for trial in controller.get_trials()[len(places) :]:
            places[trial.trial_id] = len(places)
        for status in ("PENDING", "PAUSED"):
            if waiting := [trial for trial in controller.get_live_trials() if trial.status == status]:
                return min(waiting, key=lambda trial: places[trial.trial_id])
        return None

    with _replaced("ray.tune.schedulers:FIFOScheduler", "choose_trial_to_run", lambda _: choose):
        yield


@contextmanager
def loopback_only() -> Iterator[None]:
    """Keep a Ray that is started on the loopback interface.

    Ray replaces 127.0.0.1, also where ``_node_ip_address`` asks for it, by an outside address, unless the variable
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER is 0 when Ray is imported, which may be long before a sweep starts.
    """
    with _replaced("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", lambda _: False):
        yield


def temporary_folder(path: str) -> dict[str, Any]:
    """Return the option with which `ray.init` writes its logs and sockets to a folder.

    The documents name it, underscore and all. RAY_TMPDIR would do as well, but is inherited by what the driver starts.
    """
    return {"_temp_dir": path}


@contextmanager
def _replaced(place: str, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """Put in the place of something of Ray's what ``change`` makes of it, until the context ends.

    Args:
        place: a module, or ``module:class``.
        name: what is replaced there.
        change: gets what is there now.

    Raises:
        SweepError: if this version of Ray has no such thing.
    """
    module, _, inner = place.partition(":")
    try:
        owner = importlib.import_module(module)
        owner = getattr(owner, inner) if inner else owner
        before = vars(owner)[name]  # what a class has of its own, to be given back
    except (ImportError, AttributeError, KeyError) as error:
        raise unknown_version("ray", ray.__version__, f"{place.replace(':', '.')}.{name}", _TESTED) from error
    setattr(owner, name, change(before))
    try:
        yield
    finally:
        setattr(owner, name, before)
