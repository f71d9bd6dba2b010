"""Reader of the folder of a sweep, local or remote, finished or running, with a list of problems."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from fairsweep.analysis.records.file_names import CONFIG, DATA, STATE, TRIALS
from fairsweep.analysis.records.files import NewerFormatError, RecordError, SweepLocation
from fairsweep.analysis.records.record_cache import LEAST_TRIALS, RecordCache, signature_of
from fairsweep.analysis.records.trial_folder import SMALL, TrialFolder

T = TypeVar("T")
R = TypeVar("R")

_THREADS = 8
_MOST_AT_ONCE = 64
# Reading waits for files where it takes so many times the processor time that it uses.
_WAITING = 4


@dataclass(frozen=True)
class Problem:
    """Something that could not be read, or is missing though the trial says it has ended.

    Attributes:
        trial: name of the trial's folder; empty for the sweep's own files.
        file: the file.
        message: what is wrong, and what to do.
    """

    trial: str
    file: str
    message: str

    @classmethod
    def of_sweep(cls, sweep: SweepLocation, file: str, error: object) -> Problem:
        """Return a file of the sweep itself: its driver writes it anew."""
        return cls("", file, _with_remedy(error, f"to rebuild it: fairsweep resume {shlex.quote(_shown(sweep))}"))

    @classmethod
    def of_trial(cls, trial: TrialFolder, file: str, error: object) -> Problem:
        """Return a file of a trial."""
        sweep = SweepLocation(trial.location.filesystem, trial.location.path.rsplit("/", 2)[0])
        remedy = f"run the trial again with: fairsweep retry-failed {shlex.quote(_shown(sweep))}"
        return cls(trial.name, file, _with_remedy(error, remedy))

    @classmethod
    def missing(cls, trial: TrialFolder, file: str) -> Problem:
        """Return a file that a trial lacks though it says it has ended."""
        return cls.of_trial(trial, file, f"{file} must exist because the trial has ended, but is missing")


def read_trial_folders(
    root: SweepLocation, cache: RecordCache | None = None
) -> tuple[list[TrialFolder], list[Problem]]:
    """Return the trials of a sweep, in the order of the folders' names, with their small records read.

    Args:
        root: the output folder.
        cache: of a local sweep; None reads every file.

    Returns:
        The trials, and what of their small records is damaged or missing; a damaged one counts as not there.
    """
    trials = root / TRIALS
    listed = [TrialFolder(trials / name) for name in trials.folders()]
    if cache is not None and len(listed) >= LEAST_TRIALS:
        # Not in threads: nothing here waits, and threads would wait for one another.
        for trial in listed:
            _take_from(cache, trial)
    others = [trial for trial in listed if not trial.is_cached]
    found = read_all(_read_small, others, is_local=root.is_local)
    return listed, [problem for problems in found for problem in problems]


def left_out(root: SweepLocation) -> list[Problem]:
    """Say how many folders with the records of a trial are not read, for their names begin with a dot."""
    trials = root / TRIALS
    names = [name for name in trials.hidden_folders() if (trials / name / STATE).exists()]
    if not names:
        return []
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return [
        Problem(
            "",
            TRIALS,
            f"{len(names)} trial folders are left out, for their names begin with a dot ({shown}): rename them to have "
            "their results",
        )
    ]


def _take_from(cache: RecordCache, trial: TrialFolder) -> None:
    """Take the small records from the cache if it holds them as they are now."""
    trial.signature = signature_of(trial.location.path)
    small = cache.small(trial.folder_name, trial.signature)
    if small is not None:
        trial.take(small)
        trial.is_cached = True


def _read_small(trial: TrialFolder) -> list[Problem]:
    problems = []
    for file in SMALL:
        try:
            trial.record(file)
        except (RecordError, OSError) as error:
            problems.append(Problem.of_trial(trial, file, error))
            trial.take({file: None})
    if trial.stage == "done":
        said = {problem.file for problem in problems}
        missing = [file for file in (CONFIG, DATA) if trial.record(file) is None and file not in said]
        problems += [Problem.missing(trial, file) for file in missing]
    return problems


def _with_remedy(error: object, remedy: str) -> str:
    """Return what is wrong with a file, and what to do; what a newer fairsweep wrote is not made anew by this one."""
    return str(error) if isinstance(error, NewerFormatError) else f"{error}; {remedy}"


def _shown(sweep: SweepLocation) -> str:
    """Return an output folder as a command takes it."""
    return sweep.path if sweep.is_local else "SWEEP"


def read_each(
    trials: Iterable[TrialFolder], file: str, read: Callable[[TrialFolder], R | None]
) -> tuple[dict[str, R], list[Problem]]:
    """Read one file of each trial.

    Args:
        trials: the trials.
        file: name of the file.
        read: reads it.

    Returns:
        What was read by name of the trial, and the problems: damaged files, and files missing of ended trials.
    """

    def one(trial: TrialFolder) -> R | Problem | None:
        try:
            found = read(trial)
        except (RecordError, OSError) as error:
            return Problem.of_trial(trial, file, error)
        return Problem.missing(trial, file) if found is None and trial.is_whole else found

    listed = list(trials)
    found: dict[str, R] = {}
    problems: list[Problem] = []
    is_local = all(trial.location.is_local for trial in listed)
    for trial, result in zip(listed, read_all(one, listed, is_local=is_local), strict=True):
        if isinstance(result, Problem):
            problems.append(result)
        elif result is not None:
            found[trial.name] = result
    return found, problems


def read_all(function: Callable[[T], R], items: Iterable[T], *, is_local: bool) -> list[R]:
    """Apply a function that reads files to each item; results in the order of the items.

    Files that stand in memory are read one after the other: threads would wait for one another longer than for files.
    As soon as that turns out to be waiting for a disk or a network, the rest is read in threads.

    Args:
        function: reads the files of one item.
        items: the items.
        is_local: whether the files are on this machine's file systems; elsewhere threads are used from the start.
    """
    listed = list(items)
    results: list[R] = []
    waits = not is_local
    while not waits and len(results) < len(listed):
        wall, processor = time.perf_counter(), time.thread_time()
        results += [function(item) for item in listed[len(results) : len(results) + _MOST_AT_ONCE]]
        waits = time.perf_counter() - wall > _WAITING * (time.thread_time() - processor) + 0.01
    rest = listed[len(results) :]
    # Many small files: handing each to a thread by itself would cost as much as reading it.
    size = max(1, min(_MOST_AT_ONCE, len(rest) // (4 * _THREADS)))
    parts = [rest[i : i + size] for i in range(0, len(rest), size)]
    with ThreadPoolExecutor(_THREADS) as pool:
        read = pool.map(lambda part: [function(item) for item in part], parts)
        return [*results, *(result for part in read for result in part)]
