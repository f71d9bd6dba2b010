"""Running trials on Ray Tune: a new Tuner for exactly those that are missing, and nothing restored from Tune's files.

What Tune would do a second time is turned off, each by Tune's own switch: its file loggers (our records hold every
number, the CSV, JSON and TensorBoard files of each trial would cost more than launching it), its periodic snapshots of
the experiment (the ledger is the truth), its checkpoints (trials write their own) and its console output. What is left
of Tune's files lies in ``.tune`` in the output folder, of the last run only.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from fairsweep.sweeps.runtime.cluster_address import check_address, cluster_of, is_client, reaching
from fairsweep.sweeps.runtime.each_trial import EachScheduled, EachTrial
from fairsweep.sweeps.runtime.environment_variables import default_variables
from fairsweep.sweeps.runtime.local_ray import check_loopback, private_ray, starting
from fairsweep.sweeps.runtime.ray_internals import tune_changed
from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.trainables.adapter import SweepTrainable, TrialTask

TUNE_FOLDER = ".tune"
_AGAIN = "run the same command again"
_NEVER = str(10**9)
_SWITCHES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": _NEVER,
    # Ctrl-C reaches us as KeyboardInterrupt; Tune would end as if all were done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": _NEVER,
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Trials may ask for their places together; without it Tune lets those of a searcher come one by one.
    "TUNE_MAX_PENDING_TRIALS_PG": "64",
}
_RAY_SWITCHES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
WORKER_ENVIRONMENT = {
    # Workers stay in their working folder, and none of them brings a pool of threads for every core of the machine.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc keeps up to 256 MiB of what a training step gives back: each step would ask the kernel for the same pages
    # again, and have them zeroed.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}
_HANDED_ON = ("FAIRSWEEP_CACHE", "XDG_CACHE_HOME", "TORCH_HOME")


@contextmanager
def connected(
    address: str | None,
    *,
    again: str = _AGAIN,
    show_workers: bool = False,
    made: Callable[[Path], None] = lambda _: None,
) -> Iterator[bool]:
    """Yield a connection to Ray: the one that exists, a cluster's, or a Ray on this machine that ends with the context.

    Workers get an empty folder as their working folder: without one, Ray puts the folder that the driver was started in
    on their import path, and there `datasets` may be anything.

    Args:
        address: of a cluster; None takes ``RAY_ADDRESS`` or starts Ray here.
        again: how the user goes on if the cluster's head dies.
        show_workers: whether what workers print appears here.
        made: see `private_ray`.

    Yields:
        Whether it is a Ray of this process's own, on this machine alone.

    Raises:
        SweepError: if no cluster answers at the address, it refuses, or a Ray on this machine cannot be private.
    """
    if ray.is_initialized():
        yield False
        return
    where = cluster_of(address)
    if where is not None:
        check_address(where)
    # On a cluster each node's own environment says where its caches are.
    own = {name: os.environ[name] for name in _HANDED_ON if where is None and name in os.environ}
    environment = WORKER_ENVIRONMENT | own
    with (
        tempfile.TemporaryDirectory(prefix="fairsweep-") as empty,
        default_variables(_RAY_SWITCHES),
        _quiet_ray(),
        private_ray(made) if where is None else nullcontext({"address": where}) as options,
    ):
        with starting() if where is None else reaching(where):
            ray.init(
                **options,
                runtime_env=_runtime_environment(empty, environment) | (_interpreter() if where is None else {}),
                log_to_driver=show_workers,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        try:
            if where is None:
                check_loopback()
            with terminable(), ExitStack() as watching:
                if where is not None and not is_client(where):
                    from fairsweep.sweeps.runtime.head_monitor import monitored_head

                    watching.enter_context(monitored_head(_print_line, again))
                yield where is None
        finally:
            ray.shutdown()


def _print_line(line: str) -> None:
    print(f"fairsweep: {line}", file=sys.stderr, flush=True)  # noqa: T201 - from a thread, of a driver that may end at once


def _interpreter() -> dict[str, str]:
    """Name this interpreter to a Ray on this machine, which reads it in a shell: a space in its path would end it."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}


def _runtime_environment(folder: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return what the workers get; a submitted job's own runtime environment stands, for Ray refuses to change it."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}").get("runtime_env") or {}
    said = job.get("env_vars") or {}
    own = {"env_vars": {name: value for name, value in variables.items() if name not in said}}
    return own if "working_dir" in job else own | {"working_dir": folder}


def run_trials(
    take: Callable[[], tuple[str, TrialTask] | None],
    ended: Callable[[str, bool], None],
    *,
    output: Path,
    retries: int,
    max_concurrent: int | None,
    callbacks: Sequence[tune.Callback] = (),
    scheduler: TrialScheduler | None = None,
) -> None:
    """Run trials to their end, each in a Tune trial of its own.

    Args:
        take: gives the hash and task of the next one that shall start, others beside it in the task; None while there
            is none.
        ended: takes the hash of each that has ended, and whether its worker died more often than it may.
        output: the output folder of the sweep, on this machine.
        retries: how often Tune starts a trial again whose worker failed or died.
        max_concurrent: most trials at once; None for as many as fit.
        callbacks: see every start, result, end and error.
        scheduler: sees every result.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the trials that run have their checkpoints.
    """
    folder = output / TUNE_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    trainable = tune.with_resources(SweepTrainable, lambda config: tune.PlacementGroupFactory(_shape(config["task"])))
    with default_variables(_SWITCHES), _quiet_ray(), tune_changed():
        try:
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=_Handover(take, ended),
                    num_samples=-1,
                    scheduler=None if scheduler is None else EachScheduled(scheduler),
                    reuse_actors=True,
                    max_concurrent_trials=max_concurrent,
                    trial_dirname_creator=lambda trial: str(trial.config["trial"]),
                    trial_name_creator=lambda trial: str(trial.config["trial"]),
                ),
                run_config=tune.RunConfig(
                    name="run",
                    storage_path=str(folder),
                    failure_config=tune.FailureConfig(max_failures=retries),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    callbacks=[EachTrial(callback) for callback in callbacks],
                    verbose=0,
                ),
            ).fit()
        except KeyboardInterrupt as error:
            # Tune gives back what it reserves as its objects die, and whoever keeps the traceback keeps those alive.
            traceback.clear_frames(error.__traceback__)
            gc.collect()
            raise


class _Handover(DriverOnly, Searcher):
    """Hands Tune one trial after the other, each with its task.

    A grid search would do for trials that are known, were it not that Tune copies its whole list for each of them.
    """

    def __init__(self, take: Callable[[], tuple[str, TrialTask] | None], ended: Callable[[str, bool], None]) -> None:
        super().__init__(metric=None, mode=None)
        self._take, self._ended = take, ended
        self._running: dict[str, list[str]] = {}
        self._over: list[tuple[str, bool]] = []

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401 - a config, FINISHED, or None: not now
        """Return the next trial; None while one that runs may bring more."""
        # Tune tells a searcher of an end before it tells the callbacks, which say why.
        over, self._over = self._over, []
        for trial, given_up in over:
            self._ended(trial, given_up)
        if (found := self._take()) is not None:
            trial, task = found
            self._running[trial_id] = [one.config.trial for one in (task, *task.others)]
            return {"trial": trial, "task": task}
        return None if self._running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take note that a trial has ended, or that its worker died more often than it may."""
        if trial_id in self._running:
            self._over += [(trial, error) for trial in self._running.pop(trial_id)]

    def save(self, checkpoint_path: str) -> None:
        """Write a file without content: nothing is restored from Tune's files."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


def _shape(task: TrialTask) -> list[dict[str, float]]:
    """Return the bundles of a trial: its own, then one for each of its workers."""
    return [_bundle(task.cpu, task.gpu), *[_bundle(task.worker_cpu, task.worker_gpu)] * task.workers]


def _bundle(cpu: float, gpu: float) -> dict[str, float]:
    return {name: amount for name, amount in (("CPU", cpu), ("GPU", gpu)) if amount > 0}


@contextmanager
def terminable() -> Iterator[None]:
    """For the time of a context, a request to terminate (of a batch system, a container) acts as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet_ray() -> Iterator[None]:
    """Ray's and Tune's own log lines, errors excepted, stay out of the progress display."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
