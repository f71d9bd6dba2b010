"""Reader of the folder of a sweep, local or remote, finished or running, with a list of problems."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs as pafs

from fairsweep.analysis.records import columns as records
from fairsweep.analysis.records.columns import RecordError
from fairsweep.analysis.records.files import NewerFormatError
from fairsweep.analysis.records.record_cache import LEAST_TRIALS, RecordCache, signature_of

T = TypeVar("T")
R = TypeVar("R")

_THREADS = 8
_MOST_AT_ONCE = 64
# Reading waits for files where it takes so many times the processor time that it uses.
_WAITING = 4


@dataclass(frozen=True)
class SweepLocation:
    """The folder of a sweep or trial on a pyarrow file system.

    Attributes:
        filesystem: local, S3, GCS…
        path: without scheme.
    """

    filesystem: pafs.FileSystem
    path: str

    @classmethod
    def of(cls, path: str | Path) -> SweepLocation:
        """Return the folder that a local path or a URI (``s3://bucket/folder``) names."""
        if isinstance(path, str) and "://" in path:
            filesystem, inside = pafs.FileSystem.from_uri(path)
            return cls(filesystem, inside.rstrip("/"))
        return cls(pafs.LocalFileSystem(), str(Path(path).expanduser().resolve()))

    @property
    def local(self) -> Path | None:
        """Return the local path; None on another file system."""
        return Path(self.path) if self.is_local else None

    @property
    def is_local(self) -> bool:
        """Return whether it is a folder of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def __truediv__(self, name: str) -> SweepLocation:
        return SweepLocation(self.filesystem, f"{self.path}/{name}")

    def exists(self) -> bool:
        """Return whether there is a file or folder."""
        return bool(self.filesystem.get_file_info(self.path).type != pafs.FileType.NotFound)

    def folders(self) -> list[str]:
        """Return the names of the folders directly inside, sorted; hidden ones are left out."""
        return [name for name in self._all_folders() if not name.startswith(".")]

    def hidden_folders(self) -> list[str]:
        """Return the names of the hidden folders directly inside, sorted."""
        return [name for name in self._all_folders() if name.startswith(".")]

    def _all_folders(self) -> list[str]:
        entries = self.filesystem.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))
        return sorted(entry.base_name for entry in entries if entry.type == pafs.FileType.Directory)

    def content(self) -> bytes:
        """Return the bytes of the file. Raises: OSError if it cannot be read."""
        with self.filesystem.open_input_stream(self.path) as stream:
            content: bytes = stream.read()
        return content

    def json(self) -> dict[str, Any] | None:
        """Return the JSON record; None if there is no such file.

        Raises:
            RecordError: if it is damaged.
        """
        try:
            return records.read_json(self.path, None if self.is_local else self.filesystem)
        except FileNotFoundError:
            return None


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


@dataclass
class TrialFolder:
    """The small records of one trial.

    Attributes:
        name: of the trial: that of its folder, after that of its sweep where two sweeps have a trial of one name.
        location: of the folder.
        config: ``config.json``, or None.
        data: ``data.json``, or None.
        state: ``state.json``, or None.
        privacy: ``privacy.json``, or None (also for learners without privacy).
        problems: what is damaged or missing.
        signature: of its files as they were before they were read, see `record_cache`; empty where there is no cache.
        is_cached: whether the records came from the cache.
        sweep: name of the sweep.
    """

    name: str
    location: SweepLocation
    config: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    privacy: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)
    signature: str = ""
    is_cached: bool = False
    sweep: str = ""

    @property
    def folder_name(self) -> str:
        """Return the name of the folder."""
        return self.location.path.rsplit("/", 1)[-1]

    @property
    def hash(self) -> str | None:
        """Return the trial's hash; None where no record says it."""
        found = (self.config or {}).get("trial") or (self.state or {}).get("trial")
        return None if found is None else str(found)

    @property
    def stage(self) -> str:
        """Return ``queued``, ``running``, ``done``, ``failed``, ``stopped``, or ``unknown`` without a state.

        A trial that a stopper of the sweep file ended is done: that was its training. One that a scheduler ended, since
        others did better, stays stopped.
        """
        stage = str((self.state or {}).get("state", "unknown"))
        return "done" if stage == "stopped" and self.stopped_by == "stopper" else stage

    @property
    def stopped_by(self) -> str:
        """Return ``scheduler``, ``stopper`` or ``user``; empty unless the trial was stopped."""
        return str((self.state or {}).get("by") or "")

    @property
    def is_whole(self) -> bool:
        """Return whether the trial has ended with all of its records: done, or stopped by a scheduler."""
        return self.stage == "done" or (self.stage == "stopped" and self.stopped_by == "scheduler")


def read_trial_folders(root: SweepLocation, cache: RecordCache | None = None) -> list[TrialFolder]:
    """Return the small records of every trial of a sweep, in the order of the folders' names.

    Args:
        root: the output folder.
        cache: of a local sweep; None reads every file.
    """
    trials = root / records.TRIALS
    listed = [TrialFolder(name, trials / name) for name in trials.folders()]
    if cache is not None and len(listed) >= LEAST_TRIALS:
        # Not in threads: nothing here waits, and threads would wait for one another.
        for trial in listed:
            _take_from(cache, trial)
    read_all(_read_trial, [trial for trial in listed if not trial.is_cached], is_local=root.is_local)
    return listed


def left_out(root: SweepLocation) -> list[Problem]:
    """Say how many folders with the records of a trial are not read, for their names begin with a dot."""
    trials = root / records.TRIALS
    names = [name for name in trials.hidden_folders() if (trials / name / records.STATE).exists()]
    if not names:
        return []
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return [
        Problem(
            "",
            records.TRIALS,
            f"{len(names)} trial folders are left out, for their names begin with a dot ({shown}): rename them to have "
            "their results",
        )
    ]


def _take_from(cache: RecordCache, trial: TrialFolder) -> None:
    """Take the small records from the cache if it holds them as they are now."""
    trial.signature = signature_of(trial.location.path)
    small = cache.small(trial.name, trial.signature)
    if small is not None:
        trial.state, trial.config = small[records.STATE], small[records.CONFIG]
        trial.data, trial.privacy = small[records.DATA], small[records.PRIVACY]
        trial.is_cached = True


def _read_trial(trial: TrialFolder) -> None:
    trial.state = _json(trial, records.STATE)
    trial.config = _json(trial, records.CONFIG)
    trial.data = _json(trial, records.DATA)
    trial.privacy = _json(trial, records.PRIVACY)
    if trial.stage == "done":
        for file, content in ((records.CONFIG, trial.config), (records.DATA, trial.data)):
            if content is None and not any(problem.file == file for problem in trial.problems):
                trial.problems.append(Problem.missing(trial, file))


def _json(trial: TrialFolder, file: str) -> dict[str, Any] | None:
    try:
        return (trial.location / file).json()
    except (RecordError, OSError) as error:
        trial.problems.append(Problem.of_trial(trial, file, error))
        return None


def _with_remedy(error: object, remedy: str) -> str:
    """Return what is wrong with a file, and what to do; what a newer fairsweep wrote is not made anew by this one."""
    return str(error) if isinstance(error, NewerFormatError) else f"{error}; {remedy}"


def _shown(sweep: SweepLocation) -> str:
    """Return an output folder as a command takes it."""
    return sweep.path if sweep.is_local else "SWEEP"


def read_each(
    trials: Iterable[TrialFolder], file: str, read: Callable[[str, pafs.FileSystem], R]
) -> tuple[dict[str, R], list[Problem]]:
    """Read one file of each trial.

    Args:
        trials: the trials.
        file: name of the file.
        read: a reader of `fairsweep.analysis.records.columns`.

    Returns:
        What was read by name of the trial, and the problems: damaged files, and files missing of ended trials.
    """

    def one(trial: TrialFolder) -> R | Problem | None:
        try:
            return read((trial.location / file).path, trial.location.filesystem)
        except FileNotFoundError:
            return Problem.missing(trial, file) if trial.is_whole else None
        except (RecordError, OSError) as error:
            return Problem.of_trial(trial, file, error)

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
